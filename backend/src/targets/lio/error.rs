//! What can go wrong between the service and the kernel's targets.

use std::path::PathBuf;

use super::configfs::ConfigfsError;

/// An operation on the kernel's targets that failed.
#[derive(Debug, thiserror::Error)]
pub enum LioError {
    /// configfs is not mounted.
    #[error("configfs is not mounted at {}: mount -t configfs none {}", path.display(), path.display())]
    NotMounted {
        /// Where it should be.
        path: PathBuf,
    },
    /// A kernel module is missing.
    #[error("the kernel's targets are not there: modprobe -a target_core_mod iscsi_target_mod")]
    NoModule,
    /// The service may not change them.
    #[error(
        "this service may not write to {}: its unit needs the drop-in \
         /usr/share/bowline/bowline-backend-kernel-storage.conf (copy it to /etc/systemd/system/bowline-backend.service.d/)", path.display()
    )]
    Forbidden {
        /// What.
        path: PathBuf,
    },
    /// The kernel refused something.
    #[error(transparent)]
    Configfs(#[from] ConfigfsError),
    /// A volume's bytes cannot be looked at.
    #[error("cannot look at {}", path.display())]
    Bytes {
        /// The file or device.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A volume's bytes are neither a file nor a block device.
    #[error("{} is neither a file nor a block device", path.display())]
    Kind {
        /// What it is.
        path: PathBuf,
    },
    /// A target of the right name is not this service's.
    #[error("{} is not what this service made: {problem}; remove it (targetcli), or whoever made it must", path.display())]
    Foreign {
        /// The target or backstore.
        path: PathBuf,
        /// What is different.
        problem: String,
    },
    /// An initiator's name cannot be the name of a folder.
    #[error("the initiator name {name} cannot be let in")]
    Initiator {
        /// The name.
        name: String,
    },
    /// Somebody else listens there.
    #[error(
        "{portal} is taken by another program (is tgt.service running? `systemctl disable --now tgt`, or set targets.lio.portal)"
    )]
    PortalTaken {
        /// The address and port.
        portal: String,
    },
    /// The address is not this machine's.
    #[error("{portal} is no address of this machine; set targets.lio.portal and extra_portals to some that are (`ip address`)")]
    PortalAbsent {
        /// The address and port.
        portal: String,
    },
    /// An earlier change of the same target has not come to an end.
    #[error("the kernel has not come to an end with an earlier change of it; try again later")]
    AtWork,
    /// The kernel did not come to an end.
    #[error("the kernel did not answer within {limit_s} s")]
    Deadline {
        /// How long was waited.
        limit_s: u64,
    },
}
