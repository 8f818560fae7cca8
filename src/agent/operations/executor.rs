//! Carrying an operation out, step by step, each journalled before it begins.
//!
//! ```text
//!   attach:  step 1 .. step n ----------------------------> Succeeded
//!               | fails, or is cancelled
//!               v
//!            undo in reverse, tried until it works --------> Failed | Cancelled
//!               | takes too long
//!               v
//!            shown as Stuck, still tried ------------------> Failed | Cancelled
//!
//!   detach:  DetachDisk fails -----------------------------> Failed (host and service were not touched)
//!            a later step fails: tried again, shown as Stuck meanwhile, until it works -> Succeeded
//! ```

use super::{
    Shared, faults,
    locks::Key,
    now_us, plan,
    ports::{PortError, PortResult},
    remedy,
    steps::{self, Context},
};
use crate::agent::api::{Failure, OperationState, StepState};
use crate::agent::journal::{AttachmentRecord, Change, Facts, OperationRecord, Step, Task};
use crate::model::{ErrorKind, GuestUuid, VolumeId};
use backon::{BackoffBuilder, ExponentialBuilder};
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

/// How what must be done is tried again.
#[derive(Debug, Clone, Copy)]
pub(super) struct RetryPolicy {
    /// First delay: short, since most troubles pass.
    pub(super) first_delay: Duration,
    /// Longest delay.
    pub(super) longest_delay: Duration,
    /// How long it is tried quietly before it is shown as stuck.
    pub(super) patience: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first_delay: Duration::from_millis(250),
            longest_delay: Duration::from_secs(300),
            patience: Duration::from_secs(20),
        }
    }
}

impl RetryPolicy {
    /// Jitter keeps many operations from knocking at the same moment.
    fn delays(&self) -> impl Iterator<Item = Duration> + use<> {
        ExponentialBuilder::default()
            .with_min_delay(self.first_delay)
            .with_max_delay(self.longest_delay)
            .with_jitter()
            .without_max_times()
            .build()
    }
}

/// Counts an operation as at work as long as it lives.
struct Busy(Arc<Shared>);

impl Busy {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.busy.send_modify(|count| *count += 1);
        Self(shared.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// One operation under way.
pub(super) struct Run {
    shared: Arc<Shared>,
    record: OperationRecord,
    context: Context,
    cancel: CancellationToken,
    busy: Option<Busy>,
}

impl Run {
    /// Takes an operation in hand that is in the journal already.
    pub(super) fn new(shared: Arc<Shared>, record: OperationRecord) -> Self {
        let cancel = shared.registry.put_operation(&record);
        let busy = Some(Busy::new(&shared));
        Self { shared, record, context: Context::default(), cancel, busy }
    }

    /// Runs a new one from the queue to its end.
    pub(super) async fn run(self) {
        self.take_up(false).await;
    }

    /// Goes on with one that an earlier life of the agent left unfinished.
    pub(super) async fn resume(mut self) {
        if self.record.state == OperationState::Queued {
            return self.take_up(true).await;
        }
        // What has begun is ended one way or the other.
        self.shared.registry.commit_to(self.record.id);
        let (_guard, _) = self.take_volume().await;
        match (&self.record.task, self.record.cause.clone()) {
            (Task::Detach(_), _) => {
                self.record.state = OperationState::Running;
                self.fill_detach_facts();
                self.forward().await;
            }
            (Task::Attach(_), Some(cause)) => self.unwind(cause).await,
            (Task::Attach(_), None) => self.resume_attach().await,
        }
    }

    /// Waits for the volume; while it waits the operation is not at work. The second value tells whether it had to.
    async fn take_volume(&mut self) -> (OwnedMutexGuard<()>, bool) {
        let key = Key::Volume(self.record.task.volume());
        if let Some(guard) = self.shared.locks.try_lock(key) {
            return (guard, false);
        }
        self.busy = None;
        let guard = self.shared.locks.lock(key).await;
        self.busy = Some(Busy::new(&self.shared));
        (guard, true)
    }

    async fn take_up(mut self, resumed: bool) {
        let cancel = self.cancel.clone();
        let taken = tokio::select! {
            biased;
            taken = self.take_volume() => Some(taken),
            () = cancel.cancelled() => None,
        };
        let Some((_guard, waited)) = taken else {
            self.busy = Some(Busy::new(&self.shared));
            return self.end(OperationState::Cancelled, Some(cancelled())).await;
        };
        let shared = self.shared.clone();
        // The world may have moved since it was planned.
        if let Err(error) = shared.check_again(&self.record.task, resumed || waited).await {
            let failure = Failure { kind: error.kind, message: error.message, remedy: String::new() };
            return self.end(OperationState::Failed, Some(failure)).await;
        }
        // A guest that was asked to let a disk go cannot be told otherwise: a detach is cancelled now or never.
        let may_begin = match self.record.task {
            Task::Attach(_) => !self.cancel.is_cancelled(),
            Task::Detach(_) => shared.registry.commit_to(self.record.id),
        };
        if !may_begin {
            return self.end(OperationState::Cancelled, Some(cancelled())).await;
        }
        self.record.state = OperationState::Running;
        self.fill_detach_facts();
        self.forward().await;
    }

    /// An attach that was cut: if the guest has the disk, the rest is done; if not, it is all undone.
    async fn resume_attach(&mut self) {
        let (guest, volume) = (self.record.task.guest(), self.record.task.volume());
        let attach_disk = self.record.steps.iter().position(|step| step.step == Step::AttachDisk);
        let reached = attach_disk
            .and_then(|index| self.record.steps.get(index))
            .is_some_and(|step| matches!(step.state, StepState::Started | StepState::Succeeded));
        let has_it = reached && self.guest_has_disk(guest, volume).await;
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
    async fn guest_has_disk(&mut self, guest: GuestUuid, volume: VolumeId) -> bool {
        let mut delays = self.shared.retry.delays();
        let begun = Instant::now();
        loop {
            match self.shared.hypervisor.guest(&guest.to_string()).await {
                Ok(facts) => return facts.has_everywhere(volume),
                Err(error) if error.kind == ErrorKind::NotFound => return false,
                Err(error) => self.trouble(&error, Step::AttachDisk, begun, &mut delays).await,
            }
        }
    }

    /// A detach works from what was journalled when the volume was attached.
    fn fill_detach_facts(&mut self) {
        let Task::Detach(task) = &self.record.task else { return };
        if self.record.facts.attachment.is_none()
            && let Some(attached) = self.shared.registry.attachment(task.volume, task.guest)
        {
            self.record.facts = Facts {
                attachment: Some(attached.id),
                intent: None,
                device: Some(attached.device),
                observed: Some(attached.observed),
                target: Some(attached.target),
                secret: attached.secret,
                protocol: Some(attached.protocol),
            };
        }
    }

    async fn forward(&mut self) {
        for index in 0..self.record.steps.len() {
            let Some(step) = self.record.steps.get(index).cloned() else { break };
            if step.state == StepState::Succeeded {
                continue;
            }
            // The last step of an attach ends it: from there on it is a detach that takes it back.
            let is_last = index + 1 == self.record.steps.len();
            let cancelled_now = match self.record.task {
                Task::Attach(_) if is_last => !self.shared.registry.commit_to(self.record.id),
                Task::Attach(_) => self.cancel.is_cancelled(),
                Task::Detach(_) => false,
            };
            if cancelled_now {
                return self.unwind(cancelled()).await;
            }
            let outcome = if index == 0 || matches!(self.record.task, Task::Attach(_)) {
                self.step(index, step.step).await
            } else {
                self.insist(index, step.step).await;
                Ok(())
            };
            if let Err(error) = outcome {
                return self.step_failed(index, step.step, error).await;
            }
        }
        self.succeed().await;
    }

    /// One step: prepared, journalled as started, done.
    async fn step(&mut self, index: usize, step: Step) -> PortResult<()> {
        let started = Instant::now();
        let limit = Duration::from_secs(self.shared.step_timeout_s);
        let result = tokio::time::timeout(limit, async {
            steps::prepare(&self.shared, &mut self.record, &mut self.context, step).await?;
            self.set_step(index, StepState::Started, None);
            // Looking at a device changes nothing outside: the next step's commit tells of it as well.
            if step == Step::VerifyDevice {
                self.publish();
            } else {
                self.commit().await?;
            }
            faults::crash_point(step, "started");
            steps::perform(&self.shared, &mut self.record, &mut self.context, step).await
        })
        .await
        .unwrap_or_else(|_| {
            Err(PortError {
                kind: ErrorKind::Timeout,
                message: format!("{} did not end within {} s (operations.step_timeout_s)", step.name(), limit.as_secs()),
                outcome_unknown: true,
            })
        });
        faults::crash_point(step, if result.is_ok() { "succeeded" } else { "failed" });
        let state = if result.is_ok() { StepState::Succeeded } else { StepState::Failed };
        self.set_step(index, state, Some(started.elapsed()));
        result
    }

    async fn step_failed(&mut self, index: usize, step: Step, error: PortError) {
        let failure = Failure {
            kind: error.kind,
            remedy: remedy::of(error.kind, step),
            message: format!("{}: {}", step.name(), error.message),
        };
        match self.record.task {
            Task::Attach(_) => {
                // A request that was refused outright left nothing to look for.
                if step == Step::CreateAttachment && self.record.facts.attachment.is_none() && !error.outcome_unknown {
                    self.set_step(index, StepState::Undone, None);
                }
                self.unwind(failure).await;
            }
            Task::Detach(_) => self.end(OperationState::Failed, Some(failure)).await,
        }
    }

    /// Does a step of a detach that cannot be taken back any more, however often it takes.
    async fn insist(&mut self, index: usize, step: Step) {
        let mut delays = self.shared.retry.delays();
        let begun = Instant::now();
        while let Err(error) = self.step(index, step).await {
            self.trouble(&error, step, begun, &mut delays).await;
        }
        self.record.failure = None;
        self.record.state = OperationState::Running;
    }

    /// Undoes in reverse what was begun, however often it takes, and ends the operation with `failure`.
    async fn unwind(&mut self, failure: Failure) {
        self.context = Context::default();
        self.record.cause = Some(failure.clone());
        self.record.state = OperationState::Unwinding;
        self.record.failure = Some(failure.clone());
        self.commit_or_log().await;
        for index in (0..self.record.steps.len()).rev() {
            let Some(step) = self.record.steps.get(index).cloned() else { continue };
            if matches!(step.state, StepState::Pending | StepState::Undone) {
                continue;
            }
            let mut delays = self.shared.retry.delays();
            let begun = Instant::now();
            while let Err(error) = steps::undo(&self.shared, &self.record, step.step).await {
                self.trouble(&error, step.step, begun, &mut delays).await;
            }
            self.record.state = OperationState::Unwinding;
            self.record.failure = Some(failure.clone());
            faults::crash_point(step.step, "undone");
            self.set_step(index, StepState::Undone, None);
            if matches!(step.step, Step::CompleteAttachment | Step::VerifyDevice | Step::UpdateAttachment) {
                self.publish();
            } else {
                self.commit_or_log().await;
            }
        }
        let state = if failure.kind == ErrorKind::Cancelled { OperationState::Cancelled } else { OperationState::Failed };
        self.end(state, Some(failure)).await;
    }

    /// Something must be done and does not work: told in the log at once, shown as `Stuck` when it will not pass or has lasted
    /// too long, and waited out until the next try.
    async fn trouble(&mut self, error: &PortError, step: Step, since: Instant, delays: &mut impl Iterator<Item = Duration>) {
        tracing::warn!(operation = %self.record.id, step = step.name(), %error, "will be tried again");
        self.shared.retries.fetch_add(1, Ordering::Relaxed);
        let stuck = self.record.state == OperationState::Stuck;
        if stuck || !error.is_passing() || since.elapsed() >= self.shared.retry.patience {
            let left = remedy::left_behind(step, &self.record);
            let message = match &self.record.cause {
                Some(cause) => format!("{}; and {left}: {}", cause.message, error.message),
                None => format!("{left}: {}", error.message),
            };
            let shown = Failure { kind: ErrorKind::Stuck, message, remedy: remedy::of(error.kind, step) };
            if !stuck || self.record.failure.as_ref() != Some(&shown) {
                self.record.state = OperationState::Stuck;
                self.record.failure = Some(shown);
                self.record.duration_us = now_us().saturating_sub(self.record.created_at_us);
                self.commit_or_log().await;
            }
        }
        self.busy = None;
        tokio::time::sleep(delays.next().unwrap_or(self.shared.retry.longest_delay)).await;
        self.busy = Some(Busy::new(&self.shared));
    }

    async fn succeed(&mut self) {
        let change = match &self.record.task {
            Task::Attach(_) => match self.attachment_record() {
                Some(attachment) => Change::PutAttachment(Box::new(attachment)),
                None => {
                    let failure = Failure {
                        kind: ErrorKind::Internal,
                        message: "the finished attach lacks a part of its record".to_owned(),
                        remedy: String::new(),
                    };
                    return self.unwind(failure).await;
                }
            },
            Task::Detach(task) => Change::DropAttachment(task.volume, task.guest),
        };
        self.record.state = OperationState::Succeeded;
        self.record.failure = None;
        self.record.duration_us = now_us().saturating_sub(self.record.created_at_us);
        // What is true outside must be known here even if the journal fails: recovery finds the rest.
        let both = vec![change.clone(), Change::PutOperation(Box::new(self.record.clone()))];
        if let Err(error) = self.shared.journal.commit(both).await {
            tracing::error!(operation = %self.record.id, %error, "not journalled");
        }
        // First the attachment, then the end: whoever hears of the end finds the attachment as it is.
        match change {
            Change::PutAttachment(attachment) => self.shared.registry.put_attachment(*attachment),
            Change::DropAttachment(volume, guest) => self.shared.registry.forget_attachment(volume, guest),
            Change::PutOperation(_) | Change::DropOperation(_) => {}
        }
        self.publish();
        self.shared.forget_old_operations().await;
    }

    fn attachment_record(&self) -> Option<AttachmentRecord> {
        let Task::Attach(task) = &self.record.task else { return None };
        let facts = &self.record.facts;
        Some(AttachmentRecord {
            id: facts.attachment?,
            volume: task.volume,
            guest: task.guest,
            guest_name: task.guest_name.clone(),
            bus: task.bus,
            target: facts.target.clone()?,
            read_only: task.read_only,
            protocol: facts.protocol.clone()?,
            device: facts.device.clone()?,
            observed: facts.observed.clone()?,
            secret: facts.secret,
            attached_at_us: now_us(),
        })
    }

    async fn end(&mut self, state: OperationState, failure: Option<Failure>) {
        self.record.state = state;
        self.record.failure = failure;
        self.record.duration_us = now_us().saturating_sub(self.record.created_at_us);
        self.commit_or_log().await;
        self.shared.forget_old_operations().await;
    }

    fn set_step(&mut self, index: usize, state: StepState, took: Option<Duration>) {
        if let Some(step) = self.record.steps.get_mut(index) {
            step.state = state;
            if let Some(took) = took {
                step.duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            }
        }
    }

    fn publish(&self) {
        self.shared.registry.put_operation(&self.record);
    }

    async fn commit(&self) -> PortResult<()> {
        let change = Change::PutOperation(Box::new(self.record.clone()));
        self.shared.journal.commit(vec![change]).await.map_err(|error| PortError::new(error.kind(), error.to_string()))?;
        self.publish();
        Ok(())
    }

    /// For what goes on whether it can be journalled or not: undoing, and telling the end. Recovery starts from what the
    /// journal has, and every step can be run or undone twice.
    async fn commit_or_log(&self) {
        if let Err(error) = self.commit().await {
            tracing::error!(operation = %self.record.id, %error, "not journalled");
            self.publish();
        }
    }
}

fn cancelled() -> Failure {
    Failure { kind: ErrorKind::Cancelled, message: "cancelled by request".to_owned(), remedy: String::new() }
}

fn interrupted() -> Failure {
    Failure {
        kind: ErrorKind::Unavailable,
        message: "the agent was stopped in the middle of it".to_owned(),
        remedy: "ask for it again".to_owned(),
    }
}

/// The record of a new operation.
pub(super) fn new_record(task: Task) -> OperationRecord {
    let steps = plan::steps(&task)
        .iter()
        .map(|step| crate::agent::journal::StepRecord { step: *step, state: StepState::Pending, duration_us: 0 })
        .collect();
    OperationRecord {
        id: crate::model::OperationId::random(),
        task,
        created_at_us: now_us(),
        state: OperationState::Queued,
        steps,
        facts: Facts::default(),
        cause: None,
        failure: None,
        duration_us: 0,
    }
}
