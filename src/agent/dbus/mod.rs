//! The agent on the system bus: `org.bowline.Agent1`.
//!
//! ```text
//! /org/bowline/Agent1                      Manager1, Volumes1, ObjectManager
//! /org/bowline/Agent1/operations/<id>      Operation1      (the id's hyphens are underscores)
//! /org/bowline/Agent1/attachments/<id>     Attachment1
//! ```
//! The objects are a thin coat over [`AgentApi`](super::api::AgentApi): a method asks [`authority`] who is calling, reads
//! its arguments and hands over. What changes in the agent reaches the bus by one task of [`serve`], which keeps the
//! [`objects`] in line, so that a slow bus never holds an operation up. The interfaces are additive only; what they are
//! now is committed in `docs/dbus/` and compared with the live introspection by a test.

mod attachment;
mod authority;
mod error;
mod manager;
mod names;
mod objects;
mod operation;
mod options;
mod polkit;
mod serve;
mod volumes;

pub use error::DbusError;
pub use names::{ROOT_PATH, WELL_KNOWN_NAME};
pub use serve::{Published, Served, publish, serve};
