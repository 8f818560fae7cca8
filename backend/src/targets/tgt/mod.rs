//! iSCSI targets by `tgtd`, the SCSI target daemon of Debian's package `tgt`.
//!
//! The service talks to it by its own control socket, not by `tgtadm`: no process is started for an attach, and CHAP
//! passwords are never on an argument list.
//!
//! ```text
//! protocol.rs  the bytes on the control socket
//! client.rs    one request, one answer, with a deadline
//! daemon.rs    the tgtd that is used: a child, or one that somebody else runs
//! process.rs   a tgtd as a child process: started, ready, its words kept
//! accounts.rs  CHAP accounts, and a flaw of tgtd that they must be kept from
//! exports.rs   the trait: exports in terms of requests
//! grow.rs      a LUN whose file has grown
//! hold.rs      a target that nobody gets at for a moment
//! sessions.rs  who is logged in, and waiting for them to leave
//! ```

mod accounts;
mod client;
mod daemon;
mod error;
mod exports;
mod grow;
mod hold;
mod process;
mod protocol;
mod sessions;

pub use client::Client;
pub use daemon::{Daemon, ManagedTgtd};
pub use error::{TgtError, TgtRefusal};
pub use exports::TgtTarget;
