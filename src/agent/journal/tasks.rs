//! What operations are asked to do, resolved to ids: part of what the journal holds ([`super::records`]).

use crate::model::{
    AttachmentId, BootPlan, BootRequest, DiskBus, DiskWishes, GuestUuid, ImageId, LocalContent, LocalDisk, NewGuest, NewImage,
    SnapshotRequest, SnapshotSource, VolumeId,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Attach.
    Attach(AttachTask),
    /// Detach.
    Detach(DetachTask),
    /// Extend.
    Extend(ExtendTask),
    /// Boot.
    Boot(BootTask),
    /// Delete.
    Delete(DeleteTask),
    /// Rebuild.
    Rebuild(RebuildTask),
    /// Rebuild, on the volume that is the root disk.
    Reimage(ReimageTask),
    /// Rescue.
    Rescue(RescueTask),
    /// Unrescue.
    Unrescue(UnrescueTask),
    /// Start.
    Start(StartTask),
    /// Stop.
    Stop(StopTask),
    /// Snapshot.
    Snapshot(SnapshotTask),
    /// Fill.
    Fill(FillTask),
}

impl Task {
    /// `attach`, `detach`, `extend`, `boot`, `delete`, `rebuild`, `rescue`, `unrescue`, `start`, `stop`, `snapshot` or `fill`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Attach(_) => "attach",
            Self::Detach(_) => "detach",
            Self::Extend(_) => "extend",
            Self::Boot(_) => "boot",
            Self::Delete(_) => "delete",
            Self::Rebuild(_) | Self::Reimage(_) => "rebuild",
            Self::Rescue(_) => "rescue",
            Self::Unrescue(_) => "unrescue",
            Self::Start(_) => "start",
            Self::Stop(_) => "stop",
            Self::Snapshot(_) => "snapshot",
            Self::Fill(_) => "fill",
        }
    }

    /// The volume; the nil UUID where it is a guest's as a whole.
    pub const fn volume(&self) -> VolumeId {
        match self {
            Self::Attach(task) => task.volume,
            Self::Detach(task) => task.volume,
            Self::Extend(task) => task.volume,
            Self::Reimage(task) => task.volume,
            Self::Boot(_)
            | Self::Delete(_)
            | Self::Rebuild(_)
            | Self::Rescue(_)
            | Self::Unrescue(_)
            | Self::Start(_)
            | Self::Stop(_)
            | Self::Snapshot(_)
            | Self::Fill(_) => VolumeId(Uuid::nil()),
        }
    }

    /// The guest. Of an extend the first of the guests that have the volume, or the nil UUID where none has it.
    pub fn guest(&self) -> GuestUuid {
        match self {
            Self::Attach(task) => task.guest,
            Self::Detach(task) => task.guest,
            Self::Extend(task) => task.guests.first().copied().unwrap_or(GuestUuid(Uuid::nil())),
            Self::Boot(task) => task.guest,
            Self::Delete(task) => task.guest,
            Self::Rebuild(task) => task.guest,
            Self::Reimage(task) => task.guest,
            Self::Rescue(task) => task.guest,
            Self::Unrescue(task) => task.guest,
            Self::Start(task) => task.guest,
            Self::Stop(task) => task.guest,
            Self::Snapshot(task) => task.guest,
            Self::Fill(task) => task.guest,
        }
    }

    /// The guest's name when it was asked for. Of an extend the names of all guests, joined by commas.
    pub fn guest_name(&self) -> &str {
        match self {
            Self::Attach(task) => &task.guest_name,
            Self::Detach(task) => &task.guest_name,
            Self::Extend(task) => &task.guest_names,
            Self::Boot(task) => &task.guest_name,
            Self::Delete(task) => &task.guest_name,
            Self::Rebuild(task) => &task.guest_name,
            Self::Reimage(task) => &task.guest_name,
            Self::Rescue(task) => &task.guest_name,
            Self::Unrescue(task) => &task.guest_name,
            Self::Start(task) => &task.guest_name,
            Self::Stop(task) => &task.guest_name,
            Self::Snapshot(task) => &task.guest_name,
            Self::Fill(task) => &task.guest_name,
        }
    }
}

/// Attach a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachTask {
    /// Volume.
    pub volume: VolumeId,
    /// Guest.
    pub guest: GuestUuid,
    /// Its name.
    pub guest_name: String,
    /// Size in the service, GiB; the device must have it.
    pub size_gib: u64,
    /// Bus.
    pub bus: DiskBus,
    /// Target name, where the request named one.
    pub target: Option<String>,
    /// The guest may only read.
    pub read_only: bool,
    /// Several guests may have the volume.
    #[serde(default)]
    pub multiattach: bool,
    /// The attachments that the volume had when this was planned: they are others', whatever becomes of this one.
    #[serde(default)]
    pub others: Vec<AttachmentId>,
    /// The service says that the volume is encrypted.
    #[serde(default)]
    pub encrypted: bool,
    /// What else was asked for the disk.
    #[serde(default)]
    pub wishes: DiskWishes,
    /// The attachment that reserves the volume for this guest already, where one does.
    #[serde(default)]
    pub reservation: Option<AttachmentId>,
    /// Somebody asked for it, and no boot of the guest.
    #[serde(default)]
    pub by_hand: bool,
}

/// Detach a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetachTask {
    /// Volume.
    pub volume: VolumeId,
    /// Guest.
    pub guest: GuestUuid,
    /// Its name.
    pub guest_name: String,
}

/// Extend a volume, and what guests of this host have of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtendTask {
    /// Volume.
    pub volume: VolumeId,
    /// Size it is to have, GiB.
    pub size_gib: u64,
    /// The service must be asked for it; not where it has extended the volume already.
    pub ask_service: bool,
    /// Guests of this host that have the volume. Only to tell of them: who has it is looked up at each step.
    pub guests: Vec<GuestUuid>,
    /// Their names, joined by commas.
    pub guest_names: String,
}

/// Boot a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootTask {
    /// Guest.
    pub guest: GuestUuid,
    /// Its name.
    pub guest_name: String,
    /// What was asked for, to know it again.
    pub request: BootRequest,
    /// What was made of that.
    pub plan: BootPlan,
    /// The guest, where this boot defines it.
    #[serde(default)]
    pub new_guest: Option<NewGuest>,
}

/// Delete what a boot made of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteTask {
    /// Guest.
    pub guest: GuestUuid,
    /// Its name.
    pub guest_name: String,
    /// Its ephemeral disks.
    pub disks: Vec<LocalDisk>,
    /// Its volumes that it still has, and whether each is deleted.
    pub volumes: Vec<(VolumeId, bool)>,
    /// The mark of its definition, where a boot defined it: it goes, too.
    #[serde(default)]
    pub mark: Option<Uuid>,
}

/// Make an image of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotTask {
    /// Guest.
    pub guest: GuestUuid,
    /// Its name.
    pub guest_name: String,
    /// What was asked for, to know it again.
    pub request: SnapshotRequest,
    /// The image, as far as it was known then.
    pub image: NewImage,
    /// What it is made of.
    pub source: SnapshotSource,
}

/// Make a guest's root disk anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebuildTask {
    /// Guest.
    pub guest: GuestUuid,
    /// Its name.
    pub guest_name: String,
    /// What is to be in the new disk.
    pub content: LocalContent,
    /// The root disk that it has.
    pub root: LocalDisk,
    /// What the new one's file is called.
    pub name: String,
}

/// Write an image over the volume that is a guest's root disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReimageTask {
    /// Guest.
    pub guest: GuestUuid,
    /// Its name.
    pub guest_name: String,
    /// The volume.
    pub volume: VolumeId,
    /// The image.
    pub image: ImageId,
    /// The target name that its disk has, and is to have again.
    pub target: String,
    /// Its bus.
    pub bus: DiskBus,
    /// What was asked for it.
    pub wishes: DiskWishes,
    /// The attachments that the volume had when this was planned.
    pub others: Vec<AttachmentId>,
}

/// Start a guest from a rescue disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescueTask {
    /// Guest.
    pub guest: GuestUuid,
    /// Its name.
    pub guest_name: String,
    /// What is to be in the rescue disk.
    pub content: LocalContent,
    /// Its target name.
    pub target: String,
    /// Its bus.
    pub bus: DiskBus,
    /// The guest's power is cut; else it is asked to shut down first.
    pub force: bool,
    /// It ran: an undoing starts it again.
    pub was_active: bool,
}

/// Start a rescued guest from its own disks again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnrescueTask {
    /// Guest.
    pub guest: GuestUuid,
    /// Its name.
    pub guest_name: String,
    /// The rescue disk.
    pub disk: LocalDisk,
    /// The guest's power is cut; else it is asked to shut down first.
    pub force: bool,
}

/// Start a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartTask {
    /// Guest.
    pub guest: GuestUuid,
    /// Its name.
    pub guest_name: String,
}

/// Stop a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopTask {
    /// Guest.
    pub guest: GuestUuid,
    /// Its name.
    pub guest_name: String,
    /// Its power is cut; else it is asked to shut down.
    pub force: bool,
}

/// Fill the disks of a guest that was booted before its images were here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FillTask {
    /// Guest.
    pub guest: GuestUuid,
    /// Its name.
    pub guest_name: String,
    /// The disks.
    pub disks: Vec<LocalDisk>,
}
