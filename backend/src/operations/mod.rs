//! Carrying operations out, whichever role they belong to.
//!
//! ```text
//! runner.rs  takes operations from a queue, works on them, acknowledges after the work
//! relay.rs   sends again what may be lost: the database is the truth, the bus only its messenger
//! herald.rs  tells who watches what this process changed
//! wait.rs    waits for an operation's end
//! ```

mod herald;
mod relay;
mod runner;
mod wait;

pub use herald::keep_telling;
pub use relay::Relay;
pub use runner::{Next, Runner, Work};
pub use wait::{WaitError, wait};
