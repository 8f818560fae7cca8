//! The volume manager: what is accepted becomes true on storage and target.
//!
//! ```text
//! manager.rs          the parts together; volumes: accept, change, delete
//! worker.rs           the work behind a 202, and taking it up again after a crash
//! attach.rs           attachments: reserve, tell the host, complete, let go
//! extend.rs           a larger volume, also while hosts have it
//! exports.rs          what hosts may see, rebuilt whenever the target daemon begins anew
//! connection_info.rs  what a host is told
//! locks.rs            one thing at a time per volume
//! ```

mod attach;
mod connection_info;
mod error;
mod exports;
mod extend;
mod locks;
mod manager;
mod worker;

pub use connection_info::connection_info;
pub use error::ManagerError;
pub(crate) use error::chain;
pub use manager::{Backends, Manager};
