//! Settings of the RBD connector, checked where it is made.

use crate::model::Initiator;
use std::path::PathBuf;

/// Settings of the RBD connector.
#[derive(Debug, Clone)]
pub struct RbdConfig {
    /// Who opens images: QEMU, or the kernel as block devices.
    pub client: Initiator,
    /// Where Ceph's configuration and keyrings are.
    pub ceph_dir: PathBuf,
    /// Ceph's configuration, for QEMU's client too; `None` takes the one of the system, by the cluster's name.
    pub conf_file: Option<PathBuf>,
    /// cephx user instead of the one that the service names, without `client.`; its key is then this host's.
    pub user: Option<String>,
    /// The keyring with the user's key; `None` takes `<ceph_dir>/<cluster>.client.<user>.keyring`.
    pub keyring_file: Option<PathBuf>,
    /// Options of a mapping by the kernel, as rbd(8) has them.
    pub map_options: Option<String>,
    /// Attach an image that another host has open, with no more than a warning in the log.
    pub allow_open_elsewhere: bool,
    /// Deadline for asking the cluster about an image, seconds.
    pub info_timeout_s: u64,
    /// Deadline for mapping an image, and for unmapping one, seconds each.
    pub map_timeout_s: u64,
}

impl Default for RbdConfig {
    fn default() -> Self {
        Self {
            client: Initiator::Qemu,
            ceph_dir: "/etc/ceph".into(),
            conf_file: None,
            user: None,
            keyring_file: None,
            map_options: None,
            allow_open_elsewhere: false,
            info_timeout_s: 30,
            map_timeout_s: 30,
        }
    }
}
