//! After a start: every unfinished operation is compared with what is real, and finished or undone.

use super::{
    Shared,
    executor::{Abandoned, Run, interrupted},
};
use crate::agent::api::{OperationState, StepState};
use crate::agent::journal::{OperationRecord, Step};
use crate::model::{ErrorKind, GuestUuid, VolumeId};
use std::{sync::Arc, time::Instant};
use tokio_util::task::TaskTracker;

/// Takes all operations of the journal in, resumes the unfinished ones side by side, and waits for them as long as the
/// start of the service may be held back; not for those that failed and will be tried again later.
pub(super) async fn recover(shared: &Arc<Shared>, running: &TaskTracker, operations: Vec<OperationRecord>) {
    // All are known before any goes on: a boot waits for the attaches that were begun for it.
    for record in &operations {
        shared.registry.put_operation(record);
    }
    // What has begun comes first at its volume, whichever task runs first: those that waited for it planned on its end.
    let (waited, begun): (Vec<_>, Vec<_>) = operations
        .into_iter()
        .filter(|record| !record.state.is_over())
        .partition(|record| record.state == OperationState::Queued);
    for record in begun.into_iter().chain(waited) {
        tracing::info!(operation = %record.id, kind = record.task.kind(), volume = %record.task.volume(), state = %record.state, "going on with it");
        let mut run = Run::new(shared.clone(), record);
        run.try_volume();
        running.spawn(run.resume());
    }
    if !shared.quiet_within(shared.recovery_timeout).await {
        tracing::warn!("recovery is not done yet and goes on beside the service");
    }
}

impl Run {
    /// An attach that was cut: if the guest has the disk, the rest is done; if not, it is all undone.
    pub(super) async fn resume_attach(&mut self) {
        let (guest, volume) = (self.record.task.guest(), self.record.task.volume());
        let attach_disk = self.record.steps.iter().position(|step| step.step == Step::AttachDisk);
        let reached = attach_disk
            .and_then(|index| self.record.steps.get(index))
            .is_some_and(|step| matches!(step.state, StepState::Started | StepState::Succeeded));
        let has_it = match reached {
            true => self.guest_has_disk(guest, volume).await,
            false => Ok(false),
        };
        let Ok(has_it) = has_it else { return self.give_up().await };
        if has_it && let Some(index) = attach_disk {
            self.set_step(index, StepState::Succeeded, None);
            self.record.state = OperationState::Running;
            self.record.failure = None;
            tracing::info!(operation = %self.record.id, %volume, %guest, "the guest has the disk: finishing the attach");
            self.forward().await;
        } else {
            tracing::info!(operation = %self.record.id, %volume, %guest, "the attach was cut midway: undoing it");
            self.unwind(interrupted()).await;
        }
    }

    /// Asks until there is an answer.
    async fn guest_has_disk(&mut self, guest: GuestUuid, volume: VolumeId) -> Result<bool, Abandoned> {
        let mut delays = self.shared.retry.delays();
        let begun = Instant::now();
        loop {
            match self.shared.hypervisor.guest(&guest.to_string()).await {
                Ok(facts) => return Ok(facts.has_everywhere(volume)),
                Err(error) if error.kind == ErrorKind::NotFound => return Ok(false),
                Err(error) => self.trouble(&error, Step::AttachDisk, begun, &mut delays).await?,
            }
        }
    }
}
