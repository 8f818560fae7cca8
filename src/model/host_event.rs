//! What this host's kernel tells of storage without being asked.

/// Something happened to a part of the host that a volume may come by. It says where to look, never what is true now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostEvent {
    /// A block device changed, came or went.
    Block {
        /// The kernel's name, such as `sda` or `dm-0`.
        kernel_name: String,
    },
    /// A session to an iSCSI target, or a LUN on it, changed.
    IscsiTarget {
        /// The target's name.
        iqn: String,
    },
    /// A session failed, but not which one was told.
    IscsiSessions,
    /// A file system was mounted or unmounted.
    Mounts,
    /// Events were lost, or one could not be told apart: anything may have changed.
    Missed,
}
