//! What the journal holds: operations with every step, and what is attached.
//!
//! These types, and those of [`super::tasks`], are written to disk as JSON. A field may be added with a default; anything else wants
//! a new [`super::FORMAT`]. None of them can hold a secret: connection info is asked of the volume service again instead.

use super::tasks::Task;
use crate::agent::api::{Failure, OperationState, StepState};
use crate::model::{
    AttachmentId, BootPlan, BootedDisk, ConnectIntent, ConnectedDevice, DiskBus, DiskEncryption, DiskWishes, GuestRun,
    GuestUuid, ImageId, LocalDisk, ObservedIdentity, OperationId, SnapshotId, Stillness, VolumeId,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An operation, from its request to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationRecord {
    /// Id.
    pub id: OperationId,
    /// What was asked, resolved to ids.
    pub task: Task,
    /// Microseconds since the epoch.
    pub created_at_us: u64,
    /// Where it stands.
    pub state: OperationState,
    /// Its steps in the order of the plan.
    pub steps: Vec<StepRecord>,
    /// What the steps brought.
    pub facts: Facts,
    /// Why it is being undone, once it is.
    #[serde(default)]
    pub cause: Option<Failure>,
    /// What is wrong now: the cause, or what it is stuck on.
    pub failure: Option<Failure>,
    /// From request to end; 0 until then.
    pub duration_us: u64,
}

/// A guest that was booted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootRecord {
    /// The guest.
    pub guest: GuestUuid,
    /// Its name when it was booted.
    pub guest_name: String,
    /// Its disks.
    pub disks: Vec<BootedDisk>,
    /// What it was booted by; those that were booted before format 4 have none.
    #[serde(default)]
    pub plan: Option<BootPlan>,
    /// The mark of its definition, where its boot defined it.
    #[serde(default)]
    pub mark: Option<Uuid>,
    /// The disk that it is rescued by, if it is.
    #[serde(default)]
    pub rescue: Option<LocalDisk>,
}

/// The steps there are. The names are stable: they are in the journal, on the bus and in benchmarks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Step {
    /// Reserve the volume in the service.
    CreateAttachment,
    /// Tell the service who connects, learn how.
    UpdateAttachment,
    /// Log in and find the device.
    ConnectVolume,
    /// Prove that the device is the volume.
    VerifyDevice,
    /// Give it to the guest.
    AttachDisk,
    /// Tell the service that it is in use.
    CompleteAttachment,
    /// Take it from the guest, and wait until the guest has let go.
    DetachDisk,
    /// Flush and remove the device, log out where it was the last.
    DisconnectVolume,
    /// Tell the service that it is free.
    DeleteAttachment,
    /// Ask the service for a larger volume, and wait until it has made it so.
    ExtendVolume,
    /// Have every layer of this host see the new size.
    GrowDevice,
    /// Have the guests see it.
    ResizeDisk,
    /// Define the guest.
    DefineGuest,
    /// Make the ephemeral disks.
    MakeDisks,
    /// Have the service make the volumes.
    CreateVolumes,
    /// Give the guest its disks: ephemeral ones into its definition, each volume by an operation of its own.
    GiveDisks,
    /// Start the guest.
    StartGuest,
    /// Start the guest from the rescue disk.
    StartRescue,
    /// Stop the guest.
    StopGuest,
    /// Detach the volumes, each by an operation of its own.
    DetachVolumes,
    /// Take the ephemeral disks out of the guest's definition.
    UndefineDisks,
    /// Have the service delete the volumes that go with the guest.
    DeleteVolumes,
    /// Remove the ephemeral disks.
    RemoveDisks,
    /// Undefine the guest, if it is as a boot defined it.
    UndefineGuest,
    /// Put the new root disk into the definition in the place of the old one.
    ReplaceRoot,
    /// Ask the service to write an image over the root volume.
    RequestReimage,
    /// See that it is written, and ask again where it may not have been asked, or failed.
    ReimageVolume,
    /// Connect again what of the guest's volumes is not connected, and prove that it is the volumes.
    ConnectVolumes,
    /// Ask the guest to shut down, and wait until it has.
    ShutDownGuest,
    /// Catch an ephemeral disk as it is at one moment.
    CaptureDisk,
    /// Give what was caught to the image service.
    UploadImage,
    /// Remove what was caught from this host.
    RemoveCapture,
    /// Have the service take snapshots of the volumes.
    SnapshotVolumes,
    /// Make the image that names them.
    RegisterImage,
    /// Fetch the rest of the images that a guest runs on, and verify them.
    FetchImage,
    /// Make its disks need the image service no more.
    CompleteDisks,
}

impl Step {
    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CreateAttachment => "CreateAttachment",
            Self::UpdateAttachment => "UpdateAttachment",
            Self::ConnectVolume => "ConnectVolume",
            Self::VerifyDevice => "VerifyDevice",
            Self::AttachDisk => "AttachDisk",
            Self::CompleteAttachment => "CompleteAttachment",
            Self::DetachDisk => "DetachDisk",
            Self::DisconnectVolume => "DisconnectVolume",
            Self::DeleteAttachment => "DeleteAttachment",
            Self::ExtendVolume => "ExtendVolume",
            Self::GrowDevice => "GrowDevice",
            Self::ResizeDisk => "ResizeDisk",
            Self::DefineGuest => "DefineGuest",
            Self::MakeDisks => "MakeDisks",
            Self::CreateVolumes => "CreateVolumes",
            Self::GiveDisks => "GiveDisks",
            Self::StartGuest => "StartGuest",
            Self::StartRescue => "StartRescue",
            Self::StopGuest => "StopGuest",
            Self::DetachVolumes => "DetachVolumes",
            Self::UndefineDisks => "UndefineDisks",
            Self::DeleteVolumes => "DeleteVolumes",
            Self::RemoveDisks => "RemoveDisks",
            Self::UndefineGuest => "UndefineGuest",
            Self::ReplaceRoot => "ReplaceRoot",
            Self::RequestReimage => "RequestReimage",
            Self::ReimageVolume => "ReimageVolume",
            Self::ConnectVolumes => "ConnectVolumes",
            Self::ShutDownGuest => "ShutDownGuest",
            Self::CaptureDisk => "CaptureDisk",
            Self::UploadImage => "UploadImage",
            Self::RemoveCapture => "RemoveCapture",
            Self::SnapshotVolumes => "SnapshotVolumes",
            Self::RegisterImage => "RegisterImage",
            Self::FetchImage => "FetchImage",
            Self::CompleteDisks => "CompleteDisks",
        }
    }
}

/// One step of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Which.
    pub step: Step,
    /// Where it stands.
    pub state: StepState,
    /// How long it took; 0 until it ended.
    pub duration_us: u64,
}

/// What the steps of an operation brought, each known once its step succeeded, but for `intent`, which is known before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The attachment in the service.
    pub attachment: Option<AttachmentId>,
    /// The service's word for the protocol.
    pub protocol: Option<String>,
    /// What the connect is about to log into: enough to undo a connect that was cut midway.
    pub intent: Option<ConnectIntent>,
    /// The connected device.
    pub device: Option<ConnectedDevice>,
    /// Who it proved to be.
    pub observed: Option<ObservedIdentity>,
    /// Target name in the guest.
    pub target: Option<String>,
    /// The libvirt secret that holds the CHAP password, where one is needed.
    pub secret: Option<Uuid>,
    /// How QEMU decrypts the disk, and the second secret, which holds the passphrase.
    #[serde(default)]
    pub encryption: Option<DiskEncryption>,
    /// Size of an extended volume in the service, GiB.
    #[serde(default)]
    pub size_gib: Option<u64>,
    /// Size of an extended device, bytes; every layer of this host agreed on it.
    #[serde(default)]
    pub size_bytes: Option<u64>,
    /// Of a boot, a rebuild or a rescue: the ephemeral disks that were made. Of a fill: those that were filled, as they are now.
    #[serde(default)]
    pub disks: Vec<LocalDisk>,
    /// Of a boot: its volumes by target name, those that were there and those that were made.
    #[serde(default)]
    pub volumes: Vec<(String, VolumeId)>,
    /// Of a boot: volumes of it that the guest had from somebody else by the time it was to be given its disks.
    #[serde(default)]
    pub foreign: Vec<VolumeId>,
    /// Of a snapshot: those that the service took, by target name.
    #[serde(default)]
    pub snapshots: Vec<(String, SnapshotId)>,
    /// Of a snapshot: how the guest was.
    #[serde(default)]
    pub stillness: Option<Stillness>,
    /// Of a fill: images that proved to be damaged.
    #[serde(default)]
    pub damaged: Vec<ImageId>,
    /// Of a delete: volumes that were to go with the guest and are kept, for they have snapshots.
    #[serde(default)]
    pub kept: Vec<VolumeId>,
    /// Of a detach: the run of the guest that is asked to let the disk go.
    #[serde(default)]
    pub asked_run: Option<GuestRun>,
    /// Of a rebuild on a volume: the service has said that it writes the image.
    #[serde(default)]
    pub reimage_accepted: bool,
}

/// A volume that a guest of this host has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentRecord {
    /// The attachment in the service.
    pub id: AttachmentId,
    /// The volume.
    pub volume: VolumeId,
    /// The guest.
    pub guest: GuestUuid,
    /// Its name when it was attached.
    pub guest_name: String,
    /// Bus.
    pub bus: DiskBus,
    /// Target name in the guest.
    pub target: String,
    /// The guest may only read.
    pub read_only: bool,
    /// The service's word for the protocol.
    pub protocol: String,
    /// The device.
    pub device: ConnectedDevice,
    /// Who it proved to be.
    pub observed: ObservedIdentity,
    /// The libvirt secret that holds the CHAP password, where one is needed.
    pub secret: Option<Uuid>,
    /// How QEMU decrypts the disk, and the second secret, which holds the passphrase.
    #[serde(default)]
    pub encryption: Option<DiskEncryption>,
    /// What was asked for the disk.
    #[serde(default)]
    pub wishes: DiskWishes,
    /// The size in the service, GiB, to which an operator gave up growing it: the watch leaves it at that.
    #[serde(default)]
    pub given_up_gib: Option<u64>,
    /// A detach was asked for, and this run of the guest, which was asked to let the disk go, had not by the end of its time: as long as
    /// it lasts, it still may.
    #[serde(default)]
    pub asked_run: Option<GuestRun>,
    /// Somebody attached it, and no boot of the guest: it stays when the guest is deleted, whatever the boot was asked for.
    #[serde(default)]
    pub by_hand: bool,
    /// Microseconds since the epoch.
    pub attached_at_us: u64,
}
