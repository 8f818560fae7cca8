//! A snapshot of a guest: an image made of its ephemeral root disk, or one that names snapshots of its volumes.

use super::{DiskBus, Filesystem, ImageId, LocalDisk, VolumeId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Make an image of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRequest {
    /// Guest name or UUID. It was booted from disks that were made, or taken, for it.
    pub guest: String,
    /// The image's name.
    pub name: String,
    /// Its filesystems are held still while its disks are caught, if its agent answers.
    pub freeze: bool,
}

/// What an image is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotSource {
    /// The bytes of the ephemeral root disk.
    Disk(LocalDisk),
    /// Snapshots of volumes, the root disk's first; and what other disks there were.
    Volumes(Vec<InstanceDisk>),
}

/// A disk of a guest as the mapping of an image tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceDisk {
    /// Target name.
    pub target: String,
    /// Bus.
    pub bus: DiskBus,
    /// It is deleted with the guest.
    pub delete_on_termination: bool,
    /// What it is for.
    pub tag: Option<String>,
    /// What it is.
    pub content: InstanceContent,
}

/// What is caught of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceContent {
    /// A snapshot of a volume.
    Volume {
        /// Of which.
        volume: VolumeId,
        /// Its size, GiB.
        size_gib: u64,
        /// The snapshot's name, which no other has: by it a snapshot is found again whose creation's answer was lost.
        snapshot_name: String,
    },
    /// Nothing but that there was such a disk: it is blank again.
    Blank {
        /// Its size, GiB.
        size_gib: u64,
        /// The size of swap space, MiB.
        #[serde(default)]
        swap_mib: Option<u64>,
        /// What it was formatted with.
        filesystem: Option<Filesystem>,
    },
}

/// What is asked of the image service for a new image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewImage {
    /// Its id, chosen here: an image is found again by it whose creation's answer was lost.
    pub id: ImageId,
    /// Its name.
    pub name: String,
    /// The service's word: `qcow2`, …
    pub disk_format: String,
    /// Smallest disk it may be put on, GiB.
    pub min_disk_gib: u64,
    /// Further properties.
    pub properties: BTreeMap<String, String>,
}

/// How a guest was while its disks were caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stillness {
    /// Its filesystems were frozen: they are as after an unmount.
    Frozen,
    /// It ran on: they are as after a power cut.
    Running,
    /// It was off.
    Off,
}

impl Stillness {
    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Frozen => "frozen",
            Self::Running => "running",
            Self::Off => "off",
        }
    }
}
