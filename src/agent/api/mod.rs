//! What the agent can be asked, free of any bus: the D-Bus objects are a thin coat over this trait.

mod attachment;
mod operation;
mod requests;

pub use attachment::{AttachmentView, FaultView, HealthState, HealthView};
pub use operation::{DiskProgress, Failure, OperationState, OperationView, StepState, StepView};
pub use requests::{
    AttachRequest, DeleteRequest, DetachRequest, ExtendRequest, Plan, PlannedStep, RebuildRequest, Request, RescueRequest,
    StartRequest, StopRequest, UnrescueRequest,
};

use crate::model::{AttachmentId, Difference, ErrorKind, Finding, GuestUuid, NewVolume, OperationId, Volume};
use async_trait::async_trait;
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
    /// It stands still: its I/O could not be done, or it was paused for a disk that proved to be damaged.
    Paused,
    /// It goes on, after that.
    Resumed,
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
            Self::Paused => "paused",
            Self::Resumed => "resumed",
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
