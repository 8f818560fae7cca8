//! Who asks, and what they may do.
//!
//! ```text
//! context.rs       who asks: user, project, roles, request
//! tokens.rs        from a token to a context
//! keystone.rs      the same by a Keystone's word
//! service_user.rs  as whom this service asks that Keystone, and other services beside it
//! policy.rs        what a context may do: a pure function that every handler asks
//! ```

mod context;
mod keystone;
mod policy;
mod service_user;
mod tokens;

pub use context::{Context, Role, Roles};
pub use keystone::KeystoneTokens;
pub use policy::{Action, Decision, Rule, decide};
pub use service_user::ServiceUser;
pub use tokens::{AuthError, Identity, LocalTokens, TokenDigest, Validator};
