//! Operations as an operator sees them.

use crate::model::{ErrorKind, GuestUuid, ImageId, OperationId, VolumeId};
use serde::{Deserialize, Serialize};
use std::{fmt, time::SystemTime};

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
    /// What its end left otherwise than may be expected, in words.
    pub remarks: Vec<String>,
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
