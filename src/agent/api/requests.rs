//! What is asked for, and what would be done.

use crate::model::{BootRequest, DiskBus, DiskWishes, GuestUuid, SnapshotRequest, VolumeId};
use serde::{Deserialize, Serialize};

/// A request for an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Attach a volume to a guest.
    Attach(AttachRequest),
    /// Detach a volume from a guest.
    Detach(DetachRequest),
    /// Extend a volume, and what guests of this host have of it.
    Extend(ExtendRequest),
    /// Boot a guest.
    Boot(BootRequest),
    /// Delete what a boot made of a guest.
    Delete(DeleteRequest),
    /// Make a guest's root disk anew.
    Rebuild(RebuildRequest),
    /// Start a guest from a rescue disk.
    Rescue(RescueRequest),
    /// Start it from its own disks again.
    Unrescue(UnrescueRequest),
    /// Start a guest, its volumes connected before.
    Start(StartRequest),
    /// Stop a guest.
    Stop(StopRequest),
    /// Make an image of a guest.
    Snapshot(SnapshotRequest),
}

impl Request {
    /// `attach`, `detach`, `extend`, `boot`, `delete`, `rebuild`, `rescue`, `unrescue`, `start`, `stop` or `snapshot`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Attach(_) => "attach",
            Self::Detach(_) => "detach",
            Self::Extend(_) => "extend",
            Self::Boot(_) => "boot",
            Self::Delete(_) => "delete",
            Self::Rebuild(_) => "rebuild",
            Self::Rescue(_) => "rescue",
            Self::Unrescue(_) => "unrescue",
            Self::Start(_) => "start",
            Self::Stop(_) => "stop",
            Self::Snapshot(_) => "snapshot",
        }
    }
}

/// Attach a volume to a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachRequest {
    /// Volume id, or its unique name.
    pub volume: String,
    /// Guest name or UUID.
    pub guest: String,
    /// Bus; `None` takes the configured default.
    pub bus: Option<DiskBus>,
    /// Target name such as `vdc`; `None` takes the first free one.
    pub target: Option<String>,
    /// The guest may only read.
    pub read_only: bool,
    /// What else is asked for the disk.
    #[serde(default)]
    pub wishes: DiskWishes,
}

/// Detach a volume from a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetachRequest {
    /// Volume id, or its unique name.
    pub volume: String,
    /// Guest name or UUID; `None` when the volume has one guest on this host.
    pub guest: Option<String>,
}

/// Extend a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtendRequest {
    /// Volume id, or its unique name.
    pub volume: String,
    /// Size it is to have, GiB.
    pub size_gib: u64,
}

/// Delete what a boot made of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRequest {
    /// Guest name or UUID.
    pub guest: String,
}

/// Make a guest's root disk anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebuildRequest {
    /// Guest name or UUID. It was booted by Bowline, and is off.
    pub guest: String,
    /// Image, by id or unique name; empty for the one that its root disk was made of.
    pub image: String,
    /// Size of an ephemeral disk, GiB; `None` takes the one that was asked for the disk it has, else the image's own. A volume keeps its
    /// size.
    pub size_gib: Option<u64>,
}

/// Start a guest from a disk made of an image, with its own disks behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescueRequest {
    /// Guest name or UUID. It was booted by Bowline.
    pub guest: String,
    /// Image, by id or unique name; empty for the one that its root disk was made of.
    pub image: String,
    /// Size of the rescue disk, GiB; `None` takes the image's own.
    pub size_gib: Option<u64>,
    /// Cut its power at once, instead of asking it to shut down first.
    pub force: bool,
}

/// Start a rescued guest from its own disks again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnrescueRequest {
    /// Guest name or UUID.
    pub guest: String,
    /// Cut its power at once, instead of asking it to shut down first.
    pub force: bool,
}

/// Start a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRequest {
    /// Guest name or UUID.
    pub guest: String,
}

/// Stop a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRequest {
    /// Guest name or UUID.
    pub guest: String,
    /// Cut its power at once, instead of asking it to shut down.
    pub force: bool,
}

/// What an operation would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// `attach`, `detach`, `extend`, `boot`, `delete`, `rebuild`, `rescue`, `unrescue`, `start`, `stop` or `snapshot`.
    pub kind: String,
    /// The volume; nil where it is a guest's as a whole.
    pub volume: VolumeId,
    /// The guest. Of an extend the first of those that have the volume, nil where none has it.
    pub guest: GuestUuid,
    /// The guest's name. Of an extend all their names.
    pub guest_name: String,
    /// The steps, in order.
    pub steps: Vec<PlannedStep>,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// Name such as `ConnectVolume`.
    pub name: String,
    /// One sentence: what it will do, with the names of what it touches.
    pub description: String,
}
