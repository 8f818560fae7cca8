//! Several paths to one LUN, put together by the host's multipathd.
//!
//! | file | knows |
//! | --- | --- |
//! | `daemon` | multipathd's own socket, so that no tool is started |
//! | `maps` | which maps there are and over which disks, by sysfs |
//! | `assemble` | the way in: from disks to one map that is ready |
//! | `dismantle` | the way out: flushed, no longer queueing, gone |
//! | `members` | that a map's disks are all the same device |
//! | `error` | what can go wrong with it |
//!
//! A map is known by its device-mapper UUID (`mpath-` and the WWID) and by the disks it holds, never by its name, which an
//! administrator may change or have made friendly.

pub(super) mod assemble;
pub(super) mod daemon;
mod dismantle;
mod error;
pub(super) mod maps;
pub(super) mod members;

use serde::{Deserialize, Serialize};

pub use error::MultipathError;

/// `[iscsi] multipath`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MultipathChoice {
    /// One path, the first that works.
    Off,
    /// All paths through one map, where the service names several and multipathd runs; else the first path that works.
    #[default]
    Preferred,
    /// Always through a map, or an error.
    Required,
}
