//! What a guest boots from: the request, and the plan that is made of it.

use super::{DiskBus, DiskFormat, GuestUuid, ImageFile, ImageId, RbdNetworkDevice, SnapshotId, VolumeId};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use uuid::Uuid;

/// Boot a guest with disks that are made, or taken, for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootRequest {
    /// Guest name or UUID. It is defined and off; of one that is defined by this boot the name it is to have.
    pub guest: String,
    /// Image to boot, by id or unique name: its disks are those of its own mapping, or one ephemeral disk made of it.
    pub image: Option<String>,
    /// Size of that one disk, GiB; `None` takes the image's own.
    pub image_size_gib: Option<u64>,
    /// Block device mapping, a JSON list in the form of Nova's `block_device_mapping_v2`; empty for none.
    pub mapping: String,
    /// More of it, each as an `openstack server create --block-device` has it.
    pub clauses: Vec<String>,
    /// Start the guest at once: the images of its ephemeral disks come while it runs.
    #[serde(default)]
    pub lazy: bool,
    /// By what the guest is defined first; `None` for one that is.
    #[serde(default)]
    pub definition: Option<GuestDefinition>,
}

/// By what a guest is defined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestDefinition {
    /// A domain XML, as libvirt reads it.
    Xml(String),
    /// What Bowline makes of a few numbers.
    Template(GuestTemplate),
}

/// A plain guest: no more than it needs to boot from its disks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestTemplate {
    /// Memory, MiB.
    pub memory_mib: u64,
    /// Virtual processors.
    pub vcpus: u32,
    /// libvirt's networks, an interface each.
    pub networks: Vec<String>,
    /// `kvm`, or `qemu` to do without the processor's help; `None` takes libvirt's choice.
    #[serde(default)]
    pub virt_type: Option<String>,
    /// Architecture in libvirt's word; `None` takes the host's.
    pub arch: Option<String>,
    /// Machine type in QEMU's word; `None` takes libvirt's default.
    pub machine: Option<String>,
}

/// A guest that is to be defined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewGuest {
    /// Its UUID.
    pub guest: GuestUuid,
    /// What its definition is marked with, and no other: by it Bowline knows what it has defined.
    pub mark: Uuid,
    /// Its name.
    pub name: String,
    /// Its definition.
    pub xml: String,
    /// Target names of disks that it brings along.
    pub targets: Vec<String>,
    /// Its memory, MiB; `None` where the definition does not say.
    #[serde(default)]
    pub memory_mib: Option<u64>,
}

/// The disks a guest is to have, in the order of the mapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootPlan {
    /// Each with a target name of its own.
    pub disks: Vec<PlannedDisk>,
    /// What of the mapping has no effect, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

/// One disk of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedDisk {
    /// Target name, such as `vda`.
    pub target: String,
    /// Bus.
    pub bus: DiskBus,
    /// It is deleted with the guest.
    pub delete_on_termination: bool,
    /// What it is for.
    pub tag: Option<String>,
    /// Where its bytes are.
    pub storage: PlannedStorage,
}

/// Where the bytes of a planned disk are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlannedStorage {
    /// A volume that is there.
    Volume(VolumeId),
    /// A volume that is made for this boot.
    NewVolume {
        /// Its name, which no other volume has: by it a volume is found again whose creation's answer was lost.
        name: String,
        /// Size, GiB.
        size_gib: u64,
        /// Volume type; `None` takes the service's default.
        volume_type: Option<String>,
        /// What is in it at first.
        origin: VolumeOrigin,
    },
    /// An ephemeral disk on this host.
    Local(LocalContent),
}

/// What a new volume is made from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeOrigin {
    /// Nothing.
    #[default]
    Blank,
    /// An image.
    Image(ImageId),
    /// A snapshot of a volume.
    Snapshot(SnapshotId),
}

/// What is in an ephemeral disk at first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LocalContent {
    /// An image.
    Image {
        /// Which.
        image: ImageFile,
        /// Size, bytes; `None` takes the image's own.
        size_bytes: Option<u64>,
    },
    /// Nothing but a file system.
    Blank {
        /// Size, bytes.
        size_bytes: u64,
        /// Which file system; `None` leaves it all zero.
        filesystem: Option<Filesystem>,
    },
}

/// What a blank disk is formatted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filesystem {
    /// ext4.
    Ext4,
    /// XFS.
    Xfs,
    /// FAT.
    Vfat,
    /// Swap space.
    Swap,
}

impl Filesystem {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ext4, Self::Xfs, Self::Vfat, Self::Swap];

    /// Its word in a mapping's `guest_format`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Vfat => "vfat",
            Self::Swap => "swap",
        }
    }
}

/// An ephemeral disk that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalDiskPlan {
    /// Whose.
    pub guest: GuestUuid,
    /// Its target name there.
    pub target: String,
    /// What is in it.
    pub content: LocalContent,
}

/// An ephemeral disk that was made. What it is was decided then; its bytes, which the guest writes, are never asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalDisk {
    /// Target name.
    pub target: String,
    /// Bus.
    pub bus: DiskBus,
    /// The file, the logical volume's device, or the RBD image as Ceph writes it, `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`.
    pub path: PathBuf,
    /// Which of them.
    #[serde(default, skip_serializing_if = "LocalPlace::is_file")]
    pub place: LocalPlace,
    /// Its format.
    pub format: DiskFormat,
    /// The file below a copy-on-write one, and its format.
    pub base: Option<(PathBuf, DiskFormat)>,
    /// Instead: the image below it, which is still coming.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lazy: Option<LazyBase>,
}

/// What an ephemeral disk is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LocalPlace {
    /// A file, named as the disk is, in a folder of its guest's.
    #[default]
    File,
    /// A logical volume (LVM), named by [`ephemeral_disk_name`].
    LogicalVolume,
    /// An RBD image, named so too, which QEMU opens. The secret that it names is Bowline's own.
    Rbd(Box<RbdNetworkDevice>),
}

impl LocalPlace {
    fn is_file(&self) -> bool {
        *self == Self::File
    }

    /// The libvirt secret by which QEMU opens it.
    pub fn secret(&self) -> Option<Uuid> {
        match self {
            Self::Rbd(device) => device.secret,
            Self::File | Self::LogicalVolume => None,
        }
    }
}

/// What the logical volume or the RBD image of a guest's ephemeral disk is called: no other disk's ever is.
pub fn ephemeral_disk_name(guest: GuestUuid, name: &str) -> String {
    format!("bowline-{guest}-{name}")
}

/// An image that a disk is over while it comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LazyBase {
    /// Which, and what it must digest to.
    pub image: ImageFile,
    /// The socket by which QEMU reads it (NBD).
    pub socket: PathBuf,
    /// All of it came, and it is not what it should be: the disk is worth nothing, and nobody may start its guest.
    #[serde(default)]
    pub is_damaged: bool,
    /// An operator gave up waiting for it: the disk keeps what came, and reads on of the rest as far as it is here.
    #[serde(default)]
    pub is_given_up: bool,
}

impl LocalDisk {
    /// By what its maker knows it: its target name, or what a rebuild gave it to be made beside another.
    pub fn name(&self) -> &str {
        let called = self.path.file_name().and_then(|name| name.to_str());
        let name = match &self.place {
            LocalPlace::File => called,
            // The name and a UUID have five lines between their words, and then comes the disk's.
            LocalPlace::LogicalVolume | LocalPlace::Rbd(_) => called.and_then(|called| called.splitn(7, '-').nth(6)),
        };
        name.unwrap_or(&self.target)
    }
}

/// A disk that a booted guest has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootedDisk {
    /// An ephemeral one.
    Local(LocalDisk),
    /// A volume.
    Volume {
        /// Which.
        volume: VolumeId,
        /// It is deleted with the guest.
        delete_on_termination: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RbdImage;

    #[test]
    fn a_disk_on_rbd_is_known_by_its_name_and_one_of_an_older_journal_is_a_file() {
        let name = ephemeral_disk_name(GuestUuid(Uuid::from_u128(2)), "vda-0123abcd");
        let image = RbdImage { pool: "vms".into(), namespace: Some("n-s".into()), name };
        let path = PathBuf::from(image.to_string());
        let secret = Some(Uuid::from_u128(7));
        let device = RbdNetworkDevice { image, monitors: vec![], username: Some("nova".into()), secret, conf_file: None };
        let old = r#"{"target": "vda", "bus": "virtio", "path": "/disks/vda", "format": "raw", "base": null}"#;
        let file: LocalDisk = serde_json::from_str(old).unwrap();
        assert_eq!((&file.place, file.name(), file.place.secret()), (&LocalPlace::File, "vda", None));
        let disk = LocalDisk { path, place: LocalPlace::Rbd(Box::new(device)), ..file };
        assert_eq!((disk.name(), disk.place.secret()), ("vda-0123abcd", secret));
        let kept: LocalDisk = serde_json::from_str(&serde_json::to_string(&disk).unwrap()).unwrap();
        assert_eq!(kept, disk);
    }
}
