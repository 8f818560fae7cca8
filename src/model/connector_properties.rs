//! What this host tells the volume service about itself.

use serde::{Deserialize, Serialize};

/// The `connector` of an attachment, with the keys Cinder's drivers read. Optional values are sent as `null` or left out
/// just as os-brick does it; `system uuid` really has a space in its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectorProperties {
    /// Host name; the service matches later requests of the same host by it.
    pub host: String,
    /// The address this host reaches storage from.
    pub ip: String,
    /// iSCSI initiator IQN.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub initiator: Option<String>,
    /// Wants several paths.
    pub multipath: bool,
    /// Refuses a single path where several exist.
    pub enforce_multipath: bool,
    /// `x86_64`, `aarch64`, …
    pub platform: String,
    /// `linux`.
    pub os_type: String,
    /// SMBIOS system UUID.
    #[serde(rename = "system uuid", skip_serializing_if = "Option::is_none", default)]
    pub system_uuid: Option<String>,
    /// NVMe qualified name of the host, where it has one.
    pub nqn: Option<String>,
    /// The kernel's native NVMe multipath is on.
    pub nvme_native_multipath: bool,
    /// RBD volumes should be mapped by the kernel instead of handed to QEMU.
    pub do_local_attach: bool,
    /// `rw` or `ro`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mode: Option<String>,
    /// Where the guest will have it, such as `/dev/vdb`; only informative.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mountpoint: Option<String>,
}
