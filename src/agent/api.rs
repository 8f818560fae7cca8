//! What the agent can be asked, free of any bus: the D-Bus objects are a thin coat over this trait.

use crate::model::{
    AttachmentId, BootRequest, DeviceIdentity, Difference, DiskBus, DiskWishes, ErrorKind, Finding, GuestUuid, Health, ImageId,
    NewVolume, OperationId, SnapshotRequest, Volume, VolumeId,
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{fmt, time::SystemTime};
use tokio::sync::broadcast;

/// Everything an operator can ask of the agent.
#[async_trait]
pub trait AgentApi: Send + Sync + 'static {
    /// Takes a request up. Returns at once with the operation's id; a request equal to one that is not finished yet gets
    /// that one's id.
    async fn submit(&self, request: Request) -> Result<OperationId, ApiError>;

    /// The plan that [`AgentApi::submit`] would follow now, without touching anything.
    async fn dry_run(&self, request: Request) -> Result<Plan, ApiError>;

    /// Asks an operation to stop. It ends `Cancelled` once it is undone; a step that is under way is finished first.
    async fn cancel(&self, operation: OperationId) -> Result<(), ApiError>;

    /// Gives up an operation that is stuck. Returns once it is `Abandoned`: nothing of it is tried any more, its failure tells
    /// what is left behind, and other operations on its volume go on.
    async fn abandon(&self, operation: OperationId) -> Result<(), ApiError>;

    /// Operations that are not finished, and the latest finished ones, oldest first.
    fn operations(&self) -> Vec<OperationView>;

    /// One operation.
    fn operation(&self, operation: OperationId) -> Option<OperationView>;

    /// What is attached through this agent.
    fn attachments(&self) -> Vec<AttachmentView>;

    /// Changes of operations and attachments, from now on. A receiver that lags must read everything anew.
    fn events(&self) -> broadcast::Receiver<AgentEvent>;

    /// Volumes of the service that this agent's credentials can see.
    async fn volumes(&self) -> Result<Vec<Volume>, ApiError>;

    /// One volume, by id or by unique name.
    async fn volume(&self, name_or_id: &str) -> Result<Volume, ApiError>;

    /// Makes a volume and waits until it is `available`.
    async fn create_volume(&self, volume: NewVolume) -> Result<Volume, ApiError>;

    /// Deletes a volume and waits until it is gone.
    async fn delete_volume(&self, name_or_id: &str) -> Result<(), ApiError>;

    /// Looks at all that attaching needs here. Changes nothing.
    async fn examine(&self) -> Vec<Finding>;

    /// Holds the journal against libvirt, this host and the volume service; mends what can be mended without harm where that is
    /// asked for.
    async fn check(&self, repair: bool) -> Result<Vec<Difference>, ApiError>;

    /// Takes over a volume that somebody else attached to a guest of this host, once it is proved that the guest has it.
    async fn adopt(&self, volume: &str, guest: &str) -> Result<Adopted, ApiError>;
}

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
    /// Start a guest, its volumes connected before.
    Start(StartRequest),
    /// Stop a guest.
    Stop(StopRequest),
    /// Make an image of a guest.
    Snapshot(SnapshotRequest),
}

impl Request {
    /// `attach`, `detach`, `extend`, `boot`, `delete`, `rebuild`, `start`, `stop` or `snapshot`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Attach(_) => "attach",
            Self::Detach(_) => "detach",
            Self::Extend(_) => "extend",
            Self::Boot(_) => "boot",
            Self::Delete(_) => "delete",
            Self::Rebuild(_) => "rebuild",
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
    /// Image, by id or unique name.
    pub image: String,
    /// Size of the disk, GiB; `None` takes the image's own.
    pub size_gib: Option<u64>,
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
    /// `attach`, `detach`, `extend`, `boot`, `delete`, `rebuild`, `start`, `stop` or `snapshot`.
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

/// Where an operation stands.
///
/// ```text
/// Queued -> Running -> Succeeded
///              |  \--> Unwinding -> Failed | Cancelled | Stuck
///              \-----> Stuck -> Abandoned
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperationState {
    /// Waits for another operation on the same volume.
    Queued,
    /// Steps are being done.
    Running,
    /// Steps are being undone after a failure or a cancellation.
    Unwinding,
    /// Done.
    Succeeded,
    /// Failed and fully undone.
    Failed,
    /// Cancelled and fully undone.
    Cancelled,
    /// Could be neither finished nor undone yet; `failure` says what is left and what to do. The agent goes on trying by
    /// itself, ever more seldom, and at every start.
    Stuck,
    /// Given up by an operator while it was stuck; `failure` says what is left behind. Nothing of it is tried any more.
    Abandoned,
}

impl OperationState {
    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Unwinding => "unwinding",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Stuck => "stuck",
            Self::Abandoned => "abandoned",
        }
    }

    /// Nothing of it is tried any more. What is stuck is not over: the agent goes on with it.
    pub const fn is_over(self) -> bool {
        self.is_final() && !matches!(self, Self::Stuck)
    }

    /// What whoever waits for the operation can take as its end.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::Stuck | Self::Abandoned)
    }
}

impl fmt::Display for OperationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where one step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// Not begun.
    Pending,
    /// Under way.
    Started,
    /// Done.
    Succeeded,
    /// Failed.
    Failed,
    /// Done and undone again.
    Undone,
}

impl StepState {
    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Started => "started",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Undone => "undone",
        }
    }
}

/// A step as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepView {
    /// Name such as `ConnectVolume`.
    pub name: String,
    /// Where it stands.
    pub state: StepState,
    /// How long it took, in microseconds; 0 until it ended.
    pub duration_us: u64,
}

/// Why an operation did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Kind.
    pub kind: ErrorKind,
    /// What went wrong, with the chain of causes.
    pub message: String,
    /// What the operator can do about it; empty when nothing is to be done.
    pub remedy: String,
}

/// An operation as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationView {
    /// Id.
    pub id: OperationId,
    /// `attach`, `detach`, `extend`, `boot`, `delete` or `snapshot`.
    pub kind: String,
    /// The volume; nil for what is done with a guest as a whole.
    pub volume: VolumeId,
    /// The guest. Of an extend the first of those that have the volume, nil where none has it.
    pub guest: GuestUuid,
    /// The guest's name. Of an extend all their names.
    pub guest_name: String,
    /// Where it stands.
    pub state: OperationState,
    /// Its steps in order.
    pub steps: Vec<StepView>,
    /// When it was asked for.
    pub created_at: SystemTime,
    /// From request to end, in microseconds; 0 until it ended.
    pub duration_us: u64,
    /// Why it failed, or what it is stuck on.
    pub failure: Option<Failure>,
    /// Of a snapshot: the image that it makes.
    pub image: Option<ImageId>,
    /// How far the step under way is with each disk, where that is known.
    pub disks: Vec<DiskProgress>,
}

/// How far a step is with one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskProgress {
    /// Target name, or `image` for what is uploaded.
    pub disk: String,
    /// What is done: bytes, or of what is one piece 0 or 1.
    pub done: u64,
    /// What there is in all.
    pub total: u64,
}

/// A volume that a guest of this host has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachmentView {
    /// The volume service's attachment id.
    pub id: AttachmentId,
    /// The volume.
    pub volume: VolumeId,
    /// The guest.
    pub guest: GuestUuid,
    /// The guest's name when it was attached.
    pub guest_name: String,
    /// Target name in the guest's definition, such as `vdb`.
    pub target: String,
    /// `iscsi`, …
    pub protocol: String,
    /// `kernel` or `qemu`: who is the initiator.
    pub initiator: String,
    /// The host's block device; empty where QEMU is the initiator.
    pub device: String,
    /// Who the device proved to be.
    pub identity: DeviceIdentity,
    /// Capacity in bytes, as read from the device.
    pub size_bytes: u64,
    /// What the disk is for, as the request named it; empty if it did not.
    pub tag: String,
    /// How QEMU decrypts it: `luks`, `luks2`, or empty.
    pub encryption: String,
    /// When it was attached.
    pub attached_at: SystemTime,
    /// How it is doing.
    pub health: HealthView,
}

/// How an attachment's ways to its storage are doing, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthView {
    /// In one word.
    pub state: HealthState,
    /// Since when it is so.
    pub since: SystemTime,
    /// What is wrong; empty where it is healthy or unknown.
    pub faults: Vec<FaultView>,
}

impl Default for HealthView {
    /// Not looked at yet.
    fn default() -> Self {
        Self { state: HealthState::Unknown, since: SystemTime::UNIX_EPOCH, faults: vec![] }
    }
}

/// Health in one word.
///
/// ```text
/// Unknown --first look--> Healthy <--> Degraded <--> Lost      (and Healthy <--> Lost)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HealthState {
    /// Not looked at yet.
    Unknown,
    /// All of it works.
    Healthy,
    /// I/O gets through, but not all is as it was connected.
    Degraded,
    /// Nothing gets through.
    Lost,
}

impl HealthState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Unknown, Self::Healthy, Self::Degraded, Self::Lost];

    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Lost => "lost",
        }
    }
}

impl From<&Health> for HealthState {
    fn from(health: &Health) -> Self {
        match health {
            Health::Healthy => Self::Healthy,
            Health::Degraded(_) => Self::Degraded,
            Health::Lost(_) => Self::Lost,
        }
    }
}

/// One part of an attachment that does not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultView {
    /// Which part: a path, a mount, a monitor.
    pub part: String,
    /// What is wrong with it.
    pub problem: String,
    /// Since when this part has been broken.
    pub since: SystemTime,
}

/// A volume that was taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// Its attachment.
    pub attachment: AttachmentId,
    /// What to know, or to do; empty where there is nothing.
    pub remark: String,
}

/// Something changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentEvent {
    /// An operation was taken up or moved on; read it with [`AgentApi::operation`].
    Operation(OperationId),
    /// A finished operation is no longer kept.
    OperationForgotten(OperationId),
    /// An attachment came, or changed.
    Attachment(AttachmentId),
    /// An attachment is gone.
    AttachmentGone(AttachmentId),
    /// A guest that has storage of Bowline's came or went, whoever saw to it. Its storage stays as it is.
    Guest {
        /// Which guest.
        guest: GuestUuid,
        /// Its name.
        name: String,
        /// What happened.
        change: GuestChange,
    },
}

/// What happened to a guest as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestChange {
    /// It runs.
    Started,
    /// It was shut down, or its power was cut.
    Stopped,
    /// Its QEMU ended by itself or was killed, or its kernel panicked.
    Crashed,
    /// It is gone, and libvirt has no definition of it any more.
    Undefined,
    /// It is defined again.
    Defined,
}

impl GuestChange {
    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Crashed => "crashed",
            Self::Undefined => "undefined",
            Self::Defined => "defined",
        }
    }
}

/// A request that was refused, or failed before it became an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// Kind.
    pub kind: ErrorKind,
    /// What was wrong and what to do.
    pub message: String,
}

impl ApiError {
    /// Makes one.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}
