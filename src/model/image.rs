//! Images of the image service, as much of them as booting needs.

use super::{DiskBus, DiskFormat, ImageId};
use serde::{Deserialize, Serialize};

/// An image as the service describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its id.
    pub id: ImageId,
    /// Its name; empty when it has none.
    pub name: String,
    /// The service's word: `active`, `queued`, `deactivated`, …
    pub status: String,
    /// The service's word: `raw`, `qcow2`, …; empty when it has none.
    pub disk_format: String,
    /// The service's word: `bare`, …; empty when it has none.
    pub container_format: String,
    /// Bytes of its data.
    pub size_bytes: u64,
    /// Smallest disk it may be put on, GiB; 0 for any.
    pub min_disk_gib: u64,
    /// Least memory of a guest that boots it, MiB; 0 for any.
    pub min_ram_mib: u64,
    /// Bytes of the disk that is in it; `None` where the service does not know.
    pub virtual_bytes: Option<u64>,
    /// What its data must digest to; `None` where the service has no digest.
    pub digest: Option<ImageDigest>,
    /// `block_device_mapping` as it is written: the disks of an instance that the image was made of.
    pub mapping: Option<String>,
    /// `bdm_v2`: the mapping has today's form.
    pub is_mapping_v2: bool,
    /// `root_device_name`, or else the root of `mappings`, such as `/dev/vda`.
    pub root_device_name: Option<String>,
    /// `hw_disk_bus`, where it is one that is known here.
    pub disk_bus: Option<DiskBus>,
}

/// What an image's data digests to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageDigest {
    /// By which algorithm.
    pub algorithm: DigestAlgorithm,
    /// In lower-case hexadecimal.
    pub hex: String,
}

/// Digests that image services give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DigestAlgorithm {
    /// What every service gives since the Image API 2.7 (`os_hash_algo`).
    Sha512,
    /// Where the service's administrator chose it.
    Sha256,
    /// The older `checksum`, only where there is no other: it tells damage, and not malice.
    Md5,
}

/// An image whose bytes can be a disk of this host: everything the cache must know of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFile {
    /// Which image.
    pub id: ImageId,
    /// What disks are made over: its format as the record says, or, where it comes as another, what that is converted to. What the bytes
    /// are is compared with the record before anything opens them.
    pub format: DiskFormat,
    /// The format that its bytes come in, where it is one that no disk of this host is over.
    #[serde(default)]
    pub comes_as: Option<ForeignFormat>,
    /// Bytes of its data.
    pub size_bytes: u64,
    /// What its data must digest to.
    pub digest: ImageDigest,
}

impl ImageFile {
    /// The record's word for its format.
    pub const fn declared(&self) -> &'static str {
        match self.comes_as {
            Some(format) => format.as_str(),
            None => self.format.as_str(),
        }
    }
}

/// Formats that images come in and no disk of this host is over: such an image is converted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForeignFormat {
    /// VMware's.
    Vmdk,
    /// Microsoft's older one.
    Vhd,
    /// Microsoft's newer one.
    Vhdx,
}

impl ForeignFormat {
    /// The image service's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vmdk => "vmdk",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
        }
    }

    /// QEMU's.
    pub const fn qemu_name(self) -> &'static str {
        match self {
            Self::Vhd => "vpc",
            other => other.as_str(),
        }
    }
}
