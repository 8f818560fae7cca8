//! The volume host: what was accepted becomes true on storage and target.
//!
//! ```text
//! host.rs             the parts together; which operation is whose
//! volumes.rs          volumes: make, remove
//! extend.rs           a larger volume, also while hosts have it
//! encryption.rs       encrypted volumes: the container that one is
//! snapshots.rs        snapshots: make, remove
//! still.rs            copies of what hosts may be writing to, as it was at one moment
//! migration.rs        volumes: to another place
//! backups.rs          backups: read and written where the bytes are
//! attachments.rs      attachments: show to a host, take away
//! exports.rs          what hosts may see, rebuilt whenever the target daemon begins anew
//! readiness.rs        backends whose storage was seen to work, and those that are tried again
//! report.rs           what it has room for, told again and again
//! connection_info.rs  what a host is told
//! locks.rs            one thing at a time per volume
//! ```

mod attachments;
mod backups;
mod connection_info;
mod encryption;
mod error;
mod exports;
mod extend;
mod host;
mod images;
mod locks;
mod migration;
mod readiness;
mod report;
mod snapshots;
mod still;
mod volumes;

pub use connection_info::connection_info;
pub use error::VolumeError;
pub(crate) use error::chain;
pub use host::{HostParts, VolumeHost};
