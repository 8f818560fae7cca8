//! Snapshots of guests: an image of the ephemeral root disk, or an image that names snapshots of the volumes.
//!
//! ```text
//! ephemeral root:  CaptureDisk -> UploadImage -> RemoveCapture     undone in reverse
//! volume as root:  SnapshotVolumes -> RegisterImage                undone in reverse
//! ```
//! A running guest is frozen, if its agent answers, only for the moment in which the disks are caught ([`freeze`]). An ephemeral disk is
//! caught by a backup job of QEMU, so the chain of files that the guest writes to is never changed; volumes by the service. The image's id
//! and the snapshots' names are chosen when it is planned, so whatever was made is known, whatever answers were lost.

mod capture;
mod freeze;
mod plan;
mod volumes;

pub(super) use plan::{check_still, describe, plan_snapshot};

use super::{
    Shared,
    executor::{Run, interrupted},
    ports::PortResult,
    steps::missing,
};
use crate::agent::api::{OperationState, StepState};
use crate::agent::journal::{Facts, OperationRecord, SnapshotTask, Step, Task};
use crate::model::{NewImage, OperationId, SnapshotSource};
use std::sync::Arc;

/// The steps of a snapshot.
pub(super) fn snapshot_steps(task: &SnapshotTask) -> Vec<Step> {
    match task.source {
        SnapshotSource::Disk(_) => vec![Step::CaptureDisk, Step::UploadImage, Step::RemoveCapture],
        SnapshotSource::Volumes(_) => vec![Step::SnapshotVolumes, Step::RegisterImage],
    }
}

/// Does a step of a snapshot. The guest is ours.
pub(super) async fn snapshot_step(
    shared: &Arc<Shared>,
    id: OperationId,
    task: &SnapshotTask,
    facts: &mut Facts,
    step: Step,
) -> PortResult<()> {
    match (step, &task.source) {
        (Step::CaptureDisk, SnapshotSource::Disk(disk)) => capture::capture(shared, id, task, disk, facts).await,
        (Step::UploadImage, _) => capture::upload(shared, id, task, facts).await,
        (Step::RemoveCapture, _) => shared.boot_sources.remove_capture(task.image.id).await,
        (Step::SnapshotVolumes, SnapshotSource::Volumes(disks)) => volumes::take(shared, id, task, disks, facts).await,
        (Step::RegisterImage, SnapshotSource::Volumes(disks)) => volumes::register(shared, task, disks, facts).await,
        (other, _) => Err(missing(other.name())),
    }
}

/// Undoes a step of a snapshot, from wherever it got to.
pub(super) async fn undo_snapshot_step(
    shared: &Arc<Shared>,
    record: &OperationRecord,
    task: &SnapshotTask,
    step: Step,
) -> PortResult<()> {
    // One that has ended has thawed what it froze.
    let may_be_frozen = record.steps.iter().any(|one| one.step == step && one.state != StepState::Succeeded);
    match (step, &task.source) {
        (Step::CaptureDisk, _) => {
            if may_be_frozen {
                shared.hypervisor.thaw(task.guest).await?;
            }
            capture::discard(shared, task).await
        }
        (Step::SnapshotVolumes, SnapshotSource::Volumes(disks)) => {
            if may_be_frozen {
                shared.hypervisor.thaw(task.guest).await?;
            }
            volumes::delete(shared, disks, &record.facts).await
        }
        (Step::UploadImage | Step::RegisterImage, _) => shared.boot_sources.delete_image(task.image.id).await,
        _ => Ok(()),
    }
}

/// The record of the image, with what only the catching told.
fn image(task: &SnapshotTask, facts: &Facts) -> NewImage {
    let mut image = task.image.clone();
    image.properties.extend(facts.stillness.map(|how| ("bowline_guest".to_owned(), how.as_str().to_owned())));
    image
}

impl Run {
    /// A snapshot that was cut: the image is whole once the service has it; anything before that is taken back.
    pub(super) async fn resume_snapshot(&mut self) {
        let is_done = |step: Step| self.record.steps.iter().any(|one| one.step == step && one.state == StepState::Succeeded);
        if is_done(Step::UploadImage) || is_done(Step::RegisterImage) {
            self.record.state = OperationState::Running;
            self.record.failure = None;
            return self.forward().await;
        }
        if let Task::Snapshot(task) = &self.record.task {
            tracing::info!(operation = %self.record.id, guest = %task.guest, "the snapshot was cut midway: undoing it");
        }
        self.unwind(interrupted()).await;
    }
}
