//! Who asks, and what they may do.
//!
//! ```text
//! context.rs  who asks: user, project, roles, request
//! tokens.rs   from a token to a context
//! policy.rs   what a context may do: a pure function that every handler asks
//! ```

mod context;
mod policy;
mod tokens;

pub use context::{Context, Role, Roles};
pub use policy::{Action, Decision, Rule, decide};
pub use tokens::{AuthError, Identity, LocalTokens, TokenDigest, Validator};
