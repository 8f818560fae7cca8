//! A guest's disk, described so that libvirt can be told of it.

use super::{ConnectedDevice, DiskEncryption, DiskFormat, DiskTuning, IscsiPath, Portal, RbdImage, VerifiedDevice, VolumeId};
use serde::{Deserialize, Serialize};
use std::{fmt, path::PathBuf, str::FromStr};
use uuid::Uuid;

/// The bus a disk sits on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskBus {
    /// virtio-blk: one PCI device a disk, target `vdX`.
    #[default]
    Virtio,
    /// virtio-scsi: one controller for many disks, target `sdX`.
    Scsi,
}

impl DiskBus {
    /// libvirt's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Virtio => "virtio",
            Self::Scsi => "scsi",
        }
    }

    /// What target names of this bus begin with.
    pub const fn target_prefix(self) -> &'static str {
        match self {
            Self::Virtio => "vd",
            Self::Scsi => "sd",
        }
    }
}

impl fmt::Display for DiskBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DiskBus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "virtio" => Ok(Self::Virtio),
            "scsi" => Ok(Self::Scsi),
            _ => Err(format!("{text:?} is not a disk bus: expected virtio or scsi")),
        }
    }
}

/// The alias of a volume's disk, as Nova gives it, so that each finds the other's disks.
pub fn disk_alias(volume: VolumeId) -> String {
    format!("ua-{volume}")
}

/// Where a disk's data comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskSource {
    /// A block device of the host.
    Block {
        /// Its path.
        path: PathBuf,
    },
    /// A LUN that QEMU logs into itself.
    Iscsi {
        /// Target and LUN.
        path: IscsiPath,
        /// Initiator IQN to log in with.
        initiator: String,
        /// CHAP, if the target wants it.
        auth: Option<DiskAuth>,
    },
    /// An RBD image that QEMU opens itself.
    Rbd {
        /// The image.
        image: RbdImage,
        /// The cluster's monitors.
        monitors: Vec<Portal>,
        /// cephx, if the cluster wants it.
        auth: Option<DiskAuth>,
        /// Ceph's configuration for QEMU's client; none takes the one of the system.
        conf_file: Option<PathBuf>,
    },
    /// A file.
    File {
        /// Its path.
        path: PathBuf,
        /// Its format; libvirt must never guess it.
        format: DiskFormat,
    },
}

/// A user, and its secret by reference: libvirt holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskAuth {
    /// CHAP or cephx user.
    pub username: String,
    /// UUID of the libvirt secret that holds the password or key.
    pub secret: Uuid,
}

/// A disk for a guest. It can only be made from a [`VerifiedDevice`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskSpec {
    /// The volume; gives alias and serial.
    pub volume: VolumeId,
    /// Where the data is.
    pub source: DiskSource,
    /// Bus.
    pub bus: DiskBus,
    /// Target name such as `vdb`.
    pub target: String,
    /// The guest may only read.
    pub read_only: bool,
    /// Several guests share it.
    pub shareable: bool,
    /// Pass discards through.
    pub discard: bool,
    /// How it is driven.
    pub tuning: DiskTuning,
    /// QEMU decrypts it.
    pub encryption: Option<DiskEncryption>,
    /// Its place among the devices that the guest boots from, counted from 1.
    pub boot_order: Option<u32>,
}

impl DiskSpec {
    /// Describes a disk for a device that was proved to be `volume`. `secret`: the libvirt secret with the password or key,
    /// needed where the device [wants one](ConnectedDevice::wants_secret).
    pub fn new(device: &VerifiedDevice, volume: VolumeId, bus: DiskBus, target: String, secret: Option<Uuid>) -> Self {
        let auth = |username: &Option<String>, secret: Option<Uuid>| {
            username.clone().zip(secret).map(|(username, secret)| DiskAuth { username, secret })
        };
        let source = match device.device() {
            ConnectedDevice::Block(block) => DiskSource::Block { path: block.path.clone() },
            ConnectedDevice::RbdBlock(block) => DiskSource::Block { path: block.path.clone() },
            ConnectedDevice::IscsiNetwork(network) => DiskSource::Iscsi {
                path: network.path.clone(),
                initiator: network.initiator.clone(),
                auth: auth(&network.chap_username, secret),
            },
            ConnectedDevice::RbdNetwork(network) => DiskSource::Rbd {
                image: network.image.clone(),
                monitors: network.monitors.clone(),
                auth: auth(&network.username, network.secret.or(secret)),
                conf_file: network.conf_file.clone(),
            },
            ConnectedDevice::File(file) => DiskSource::File { path: file.path.clone(), format: file.format },
        };
        Self {
            volume,
            source,
            bus,
            target,
            read_only: false,
            shareable: false,
            discard: false,
            tuning: DiskTuning::default(),
            encryption: None,
            boot_order: None,
        }
    }

    /// `ua-<volume id>`.
    pub fn alias(&self) -> String {
        disk_alias(self.volume)
    }

    /// The serial the guest reads: the volume's id. virtio-blk shows its first 20 characters.
    pub fn serial(&self) -> String {
        self.volume.to_string()
    }
}
