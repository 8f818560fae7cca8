//! A connected device, what it says it is, and the proof that it is the volume.
//!
//! ```text
//! ConnectionInfo --connect--> ConnectedDevice --observe--> ObservedIdentity
//!                                   \                            |
//!                                    +------- verify ------------+--> VerifiedDevice --> DiskSpec --> guest
//! ```
//! The only way to a [`VerifiedDevice`] is [`VerifiedDevice::verify`], and a disk can only be described from one.

use super::{DiskFormat, GIB, IscsiPath, NfsExport, Portal, RbdImage, VolumeId};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use uuid::Uuid;

/// A device the connectors have reached. Journalled, so it carries no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectedDevice {
    /// A block device of this host's kernel.
    Block(BlockDevice),
    /// A LUN that QEMU itself will log into; the host's kernel has nothing of it.
    IscsiNetwork(IscsiNetworkDevice),
    /// An image that QEMU itself will open; the host's kernel has nothing of it.
    RbdNetwork(RbdNetworkDevice),
    /// An image that this host's kernel has mapped as a block device.
    RbdBlock(RbdBlockDevice),
    /// A file of a file system that is mounted on this host.
    File(FileDevice),
}

/// An RBD image for QEMU's own client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RbdNetworkDevice {
    /// The image.
    pub image: RbdImage,
    /// Monitors, as they were at the connect.
    pub monitors: Vec<Portal>,
    /// cephx user, where the cluster wants one.
    pub username: Option<String>,
    /// A libvirt secret that is on this host already and holds the user's key.
    pub secret: Option<Uuid>,
    /// Ceph's configuration for QEMU's client; none takes the one of the system.
    #[serde(default)]
    pub conf_file: Option<PathBuf>,
}

/// An RBD image mapped by this host's kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RbdBlockDevice {
    /// What the guest's disk is given: Bowline's own name, as [`BlockDevice::path`] is.
    pub path: PathBuf,
    /// The kernel's name now, such as `rbd0`. Only a hint: it changes from mapping to mapping.
    pub kernel_name: String,
    /// The image.
    pub image: RbdImage,
    /// The cluster's id (`fsid`): the same names in another cluster are another image.
    pub cluster: String,
    /// Monitors, as they were at the connect.
    pub monitors: Vec<Portal>,
}

/// A disk in a file of a mounted file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDevice {
    /// The file, below `mount_point`.
    pub path: PathBuf,
    /// Its format, as the service said.
    pub format: DiskFormat,
    /// What is mounted.
    pub export: NfsExport,
    /// Where.
    pub mount_point: PathBuf,
}

/// A block device that the kernel's initiator brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockDevice {
    /// What the guest's disk is given: a name of Bowline's own that no udev rule takes back, and that points nowhere
    /// once the volume is gone, so that a stale domain definition can never open another volume.
    pub path: PathBuf,
    /// The kernel's name now, such as `sda`. Only a hint: it changes from login to login.
    pub kernel_name: String,
    /// The paths that were connected.
    pub paths: Vec<IscsiPath>,
    /// The multipath map over them, where it was connected through one.
    #[serde(default)]
    pub multipath: Option<MultipathMap>,
}

/// A multipath map of the host's device mapper.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MultipathMap {
    /// The map's own id, as multipathd makes it of page 0x83; its device-mapper UUID is `mpath-` and this. The map's name may be
    /// anything, so it is never asked for.
    pub wwid: String,
}

/// A LUN for QEMU's own initiator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IscsiNetworkDevice {
    /// The one path QEMU is given: it knows no multipath.
    pub path: IscsiPath,
    /// Initiator IQN QEMU logs in with.
    pub initiator: String,
    /// CHAP user; the password goes into a libvirt secret.
    pub chap_username: Option<String>,
}

/// Who logs into storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Initiator {
    /// The host's kernel.
    Kernel,
    /// QEMU's own client, one for each disk.
    Qemu,
}

impl Initiator {
    const fn qemu() -> Self {
        Self::Qemu
    }

    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Qemu => "qemu",
        }
    }
}

/// What a connect is about to do, journalled before it begins, so that it can be undone whatever it got to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectIntent {
    /// Log into iSCSI targets.
    Iscsi {
        /// Who will log in.
        initiator: Initiator,
        /// Where to.
        paths: Vec<IscsiPath>,
    },
    /// Open, or map, an RBD image.
    Rbd {
        /// Who will open it. A record without it is of a version in which QEMU always did.
        #[serde(default = "Initiator::qemu")]
        initiator: Initiator,
        /// Which.
        image: RbdImage,
    },
    /// Mount an NFS export.
    Nfs {
        /// Which.
        export: NfsExport,
        /// Where.
        mount_point: PathBuf,
    },
}

impl ConnectedDevice {
    /// QEMU logs in itself, and needs a secret that is not on this host yet.
    pub fn wants_secret(&self) -> bool {
        match self {
            Self::Block(_) | Self::RbdBlock(_) | Self::File(_) => false,
            Self::IscsiNetwork(device) => device.chap_username.is_some(),
            Self::RbdNetwork(device) => device.username.is_some() && device.secret.is_none(),
        }
    }

    /// What the host has of it: a path; none where QEMU logs in itself.
    pub fn host_path(&self) -> Option<&std::path::Path> {
        match self {
            Self::Block(device) => Some(&device.path),
            Self::RbdBlock(device) => Some(&device.path),
            Self::File(device) => Some(&device.path),
            Self::IscsiNetwork(_) | Self::RbdNetwork(_) => None,
        }
    }

    /// Who is logged in.
    pub const fn initiator(&self) -> Initiator {
        match self {
            Self::Block(_) | Self::RbdBlock(_) | Self::File(_) => Initiator::Kernel,
            Self::IscsiNetwork(_) | Self::RbdNetwork(_) => Initiator::Qemu,
        }
    }
}

/// What a device says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceIdentity {
    /// Unit serial number, SCSI VPD page 0x80, trimmed.
    pub serial: Option<String>,
    /// Logical-unit designators of SCSI VPD page 0x83 as `naa.…`, `eui.…`, `t10.…` or `name.…`, in the page's order.
    pub wwids: Vec<String>,
}

impl DeviceIdentity {
    /// It says nothing of itself: nothing can be proved with it.
    pub fn is_empty(&self) -> bool {
        self.serial.is_none() && self.wwids.is_empty()
    }
}

/// Identity and size, read from the device itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedIdentity {
    /// Who it says it is.
    pub identity: DeviceIdentity,
    /// Capacity in bytes.
    pub size_bytes: u64,
}

/// What the device must turn out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedIdentity {
    /// The volume's size in the service, GiB.
    pub size_gib: u64,
    /// The serial the service vouches for, if it does.
    pub serial: Option<String>,
    /// The identity journalled when this volume was attached here before.
    pub journalled: Option<DeviceIdentity>,
    /// Identities of the other volumes attached here: no two volumes are one device.
    pub others: Vec<(VolumeId, DeviceIdentity)>,
}

/// Why a device is not the volume.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityMismatch {
    /// The serial the service vouched for is another.
    #[error("the device's serial number is {found:?}, the volume's is {expected:?}")]
    Serial {
        /// What the service said.
        expected: String,
        /// What the device says.
        found: String,
    },
    /// It is not the device that was journalled.
    #[error("the device is {found:?}, but this volume was recorded as {expected:?}")]
    Changed {
        /// What was journalled.
        expected: DeviceIdentity,
        /// What the device says.
        found: DeviceIdentity,
    },
    /// It is the device of another volume that is attached here.
    #[error("the device is {found:?}, and so is that of volume {volume}, which is attached to this host")]
    OfAnother {
        /// The other volume.
        volume: VolumeId,
        /// What both say.
        found: DeviceIdentity,
    },
    /// The capacity does not fit.
    #[error("the device has {found} bytes, the volume service says {expected_gib} GiB ({} bytes)", expected_gib * GIB)]
    Size {
        /// GiB in the service.
        expected_gib: u64,
        /// Bytes of the device.
        found: u64,
    },
    /// The device gives no identity at all, so nothing can be proved.
    #[error("the device answers neither SCSI page 0x80 nor 0x83: its identity cannot be proved")]
    Anonymous,
}

/// A device that was proved to be the volume. Only [`VerifiedDevice::verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedDevice {
    device: ConnectedDevice,
    observed: ObservedIdentity,
}

impl VerifiedDevice {
    /// Compares what the device says with what the volume must be.
    ///
    /// The size may exceed the service's by less than one GiB, since arrays round up to their own unit; it may never be
    /// smaller.
    pub fn verify(
        device: ConnectedDevice,
        observed: ObservedIdentity,
        expected: &ExpectedIdentity,
    ) -> Result<Self, IdentityMismatch> {
        let found = &observed.identity;
        if found.is_empty() {
            return Err(IdentityMismatch::Anonymous);
        }
        if let Some(serial) = &expected.serial
            && found.serial.as_ref() != Some(serial)
        {
            return Err(IdentityMismatch::Serial { expected: serial.clone(), found: found.serial.clone().unwrap_or_default() });
        }
        if let Some(journalled) = &expected.journalled
            && journalled != found
        {
            return Err(IdentityMismatch::Changed { expected: journalled.clone(), found: found.clone() });
        }
        if let Some((volume, _)) = expected.others.iter().find(|(_, identity)| identity == found) {
            return Err(IdentityMismatch::OfAnother { volume: *volume, found: found.clone() });
        }
        if observed.size_bytes / GIB != expected.size_gib {
            return Err(IdentityMismatch::Size { expected_gib: expected.size_gib, found: observed.size_bytes });
        }
        Ok(Self { device, observed })
    }

    /// The device.
    pub fn device(&self) -> &ConnectedDevice {
        &self.device
    }

    /// What it said of itself.
    pub fn observed(&self) -> &ObservedIdentity {
        &self.observed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> ConnectedDevice {
        ConnectedDevice::Block(BlockDevice { path: "/run/x".into(), kernel_name: "sda".into(), paths: vec![], multipath: None })
    }

    fn observed(serial: Option<&str>, size_bytes: u64) -> ObservedIdentity {
        ObservedIdentity { identity: DeviceIdentity { serial: serial.map(str::to_owned), wwids: vec![] }, size_bytes }
    }

    fn expected(serial: Option<&str>) -> ExpectedIdentity {
        ExpectedIdentity { size_gib: 2, serial: serial.map(str::to_owned), journalled: None, others: vec![] }
    }

    #[test]
    fn records_of_versions_that_could_not_map_images_are_still_read() {
        let intent = r#"{"rbd":{"image":{"pool":"p","namespace":null,"name":"n"}}}"#;
        let intent: ConnectIntent = serde_json::from_str(intent).unwrap();
        assert!(matches!(intent, ConnectIntent::Rbd { initiator: Initiator::Qemu, .. }), "{intent:?}");
        let device =
            r#"{"rbd-network":{"image":{"pool":"p","namespace":null,"name":"n"},"monitors":[],"username":null,"secret":null}}"#;
        let device: ConnectedDevice = serde_json::from_str(device).unwrap();
        assert_eq!(device.initiator(), Initiator::Qemu);
    }

    #[test]
    fn the_right_device_is_verified() {
        assert!(VerifiedDevice::verify(device(), observed(Some("a"), 2 * GIB), &expected(Some("a"))).is_ok());
        assert!(VerifiedDevice::verify(device(), observed(Some("a"), 2 * GIB + 4096), &expected(None)).is_ok());
    }

    #[test]
    fn another_serial_is_refused() {
        let error = VerifiedDevice::verify(device(), observed(Some("b"), 2 * GIB), &expected(Some("a"))).unwrap_err();
        assert!(matches!(error, IdentityMismatch::Serial { .. }), "{error}");
    }

    #[test]
    fn another_size_is_refused_either_way() {
        for size in [2 * GIB - 512, 3 * GIB, 0] {
            let error = VerifiedDevice::verify(device(), observed(Some("a"), size), &expected(Some("a"))).unwrap_err();
            assert!(matches!(error, IdentityMismatch::Size { .. }), "{error}");
        }
    }

    #[test]
    fn a_device_that_changed_since_it_was_journalled_is_refused() {
        let mut expected = expected(None);
        expected.journalled = Some(DeviceIdentity { serial: Some("old".into()), wwids: vec![] });
        let error = VerifiedDevice::verify(device(), observed(Some("new"), 2 * GIB), &expected).unwrap_err();
        assert!(matches!(error, IdentityMismatch::Changed { .. }), "{error}");
    }

    #[test]
    fn the_device_of_another_volume_is_refused() {
        let other: VolumeId = "94333fbd-2aab-4a5a-befd-e30c2f7377fd".parse().unwrap();
        let mut expected = expected(None);
        expected.others = vec![(other, observed(Some("twin"), 0).identity)];
        assert!(VerifiedDevice::verify(device(), observed(Some("own"), 2 * GIB), &expected).is_ok());
        let error = VerifiedDevice::verify(device(), observed(Some("twin"), 2 * GIB), &expected).unwrap_err();
        assert!(error.to_string().contains(&other.to_string()), "{error}");
    }

    #[test]
    fn a_device_without_identity_is_refused() {
        let error = VerifiedDevice::verify(device(), observed(None, 2 * GIB), &expected(None)).unwrap_err();
        assert_eq!(error, IdentityMismatch::Anonymous);
    }
}
