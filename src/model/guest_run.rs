//! Which run of a guest something belongs to.

use serde::{Deserialize, Serialize};

/// One run of a guest, from its start to its end. What QEMU was asked and has not done yet ends with it. A reboot from within is the same run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestRun {
    /// libvirt's id of the running guest. libvirtd counts from 1 again when it starts while no guest runs.
    pub id: u32,
    /// When QEMU was started, nanoseconds since the epoch; `None` where that is not known.
    pub started_at_ns: Option<u64>,
}
