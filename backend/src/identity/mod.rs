//! The service's own users: who they are, what they may be where, and the tokens they are given.
//!
//! ```text
//! roles.rs      the roles there are; each implies the lesser ones
//! passwords.rs  slow, salted hashes, a few at a time
//! attempts.rs   how often a password may be guessed
//! people.rs     logging in: a user, a scope, a token
//! ```

mod attempts;
mod passwords;
mod people;
pub mod roles;

pub use passwords::{PasswordError, Passwords};
pub use people::{LoginError, People, Scope};
