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
//!
//!   extend:  ExtendVolume fails ---------------------------> Failed (nothing was extended)
//!            a later step fails: as for a detach, but the volume is let go between two tries
//!
//!   boot, snapshot: as an attach, and so is a rebuild until RemoveDisks, or until the service is asked to write over its volume: what comes
//!   then is tried until it works; delete: as a detach, with StopGuest for
//!            DetachDisk. A cancellation cuts MakeDisks and CreateVolumes, and comes between the other steps.
//!   fill:    a step fails: tried again, as for a detach; an image that is damaged, or deleted disks --> Failed | Cancelled
//!   rescue: as an attach; unrescue: a step fails -----------> Failed (it stays rescued), but for RemoveDisks, tried until it works
//!
//!   start, stop: a step fails ----------------------------> Failed (what was connected stays so, as it belongs to the guest)
//!
//!   Stuck, and given up by an operator --------------------> Abandoned
//! ```

use super::{
    Shared, extend, faults, fill, now_us, plan,
    ports::{PortError, PortResult},
    remedy,
    rules::{self, Hears},
    steps::{self, Context},
};
use crate::agent::api::{Failure, OperationState, StepState};
use crate::agent::journal::{Change, Facts, OperationRecord, Step, Task};
use crate::model::ErrorKind;
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

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
    pub(super) shared: Arc<Shared>,
    pub(super) record: OperationRecord,
    context: Context,
    cancel: CancellationToken,
    abandoned: CancellationToken,
    busy: Option<Busy>,
    /// The volume's lock, while it is held.
    volume: Option<OwnedMutexGuard<()>>,
}

/// An operator has given the operation up.
pub(super) struct Abandoned;

impl Run {
    /// Takes an operation in hand that is in the journal already.
    pub(super) fn new(shared: Arc<Shared>, record: OperationRecord) -> Self {
        let cancel = shared.registry.put_operation(&record);
        let abandoned = shared.registry.abandonment(record.id);
        let busy = Some(Busy::new(&shared));
        Self { shared, record, context: Context::default(), cancel, abandoned, busy, volume: None }
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
        self.take_volume().await;
        match (&self.record.task, self.record.cause.clone()) {
            (task, Some(cause)) if rules::is_undone(task) => self.unwind(cause).await,
            (
                Task::Detach(_)
                | Task::Extend(_)
                | Task::Delete(_)
                | Task::Unrescue(_)
                | Task::Start(_)
                | Task::Stop(_)
                | Task::Fill(_),
                _,
            ) => {
                self.record.state = OperationState::Running;
                self.fill_detach_facts();
                // What was connected may have gone with a reboot of the host.
                for step in self.record.steps.iter_mut().filter(|step| step.step == Step::ConnectVolumes) {
                    step.state = StepState::Pending;
                }
                self.forward().await;
            }
            (Task::Rescue(_), _) => self.resume_rescue().await,
            (Task::Rebuild(_), _) => self.resume_rebuild().await,
            (Task::Reimage(_), _) => self.resume_reimage().await,
            (Task::Attach(_), _) => self.resume_attach().await,
            (Task::Boot(_), _) => self.resume_boot().await,
            (Task::Snapshot(_), _) => self.resume_snapshot().await,
        }
    }

    /// Takes the volume if nobody has it.
    pub(super) fn try_volume(&mut self) {
        self.volume = self.volume.take().or_else(|| self.shared.locks.try_lock(rules::lock_key(&self.record.task)));
    }

    /// Waits for the volume; while it waits the operation is not at work. Tells whether it had to.
    async fn take_volume(&mut self) -> bool {
        self.try_volume();
        if self.volume.is_some() {
            return false;
        }
        self.busy = None;
        self.volume = Some(self.shared.locks.lock(rules::lock_key(&self.record.task)).await);
        self.busy = Some(Busy::new(&self.shared));
        true
    }

    async fn take_up(mut self, resumed: bool) {
        let cancel = self.cancel.clone();
        let taken = tokio::select! {
            biased;
            taken = self.take_volume() => Some(taken),
            () = cancel.cancelled() => None,
        };
        let Some(waited) = taken else {
            self.busy = Some(Busy::new(&self.shared));
            return self.end(OperationState::Cancelled, Some(cancelled())).await;
        };
        let shared = self.shared.clone();
        // The world may have moved since it was planned.
        match shared.check_again(&self.record.task, resumed || waited).await {
            Ok(Some(task)) => self.record.task = task,
            Ok(None) => {}
            Err(error) => {
                let failure = Failure { kind: error.kind, message: error.message, remedy: String::new() };
                return self.end(OperationState::Failed, Some(failure)).await;
            }
        }
        // A guest that was asked to let a disk go cannot be told otherwise: a detach is cancelled now or never. Nor can an extension be
        // taken back, nor a guest that was started or stopped.
        let may_begin = match rules::is_undone(&self.record.task) {
            true => !self.cancel.is_cancelled(),
            false => shared.registry.commit_to(self.record.id),
        };
        if !may_begin {
            return self.end(OperationState::Cancelled, Some(cancelled())).await;
        }
        self.record.state = OperationState::Running;
        self.fill_detach_facts();
        extend::refresh(&shared, &mut self.record);
        self.forward().await;
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
                encryption: attached.encryption,
                protocol: Some(attached.protocol),
                ..Facts::default()
            };
        }
    }

    pub(super) async fn forward(&mut self) {
        for index in 0..self.record.steps.len() {
            let Some(step) = self.record.steps.get(index).cloned() else { break };
            if step.state == StepState::Succeeded {
                continue;
            }
            // The last step of an attach ends it: from there on it is a detach that takes it back.
            let is_last = index + 1 == self.record.steps.len();
            let cancelled_now = match rules::hears_cancel(&self.record.task, step.step, is_last) {
                Hears::Yes => self.cancel.is_cancelled(),
                Hears::LastTime => !self.shared.registry.commit_to(self.record.id),
                Hears::No => false,
            };
            if cancelled_now {
                return self.unwind(cancelled()).await;
            }
            let outcome = if rules::may_fail_at(&self.record.task, step.step) {
                self.step(index, step.step).await
            } else {
                let Ok(outcome) = self.insist(index, step.step).await else { return self.give_up().await };
                outcome
            };
            // What was caught is the snapshot's own: the guest may be stopped or deleted while it is uploaded.
            if matches!(step.step, Step::CaptureDisk | Step::SnapshotVolumes) {
                self.volume = None;
            }
            if outcome.is_err() && rules::may_be_cut(&self.record.task, step.step) && self.cancel.is_cancelled() {
                return self.unwind(cancelled()).await;
            }
            if let Err(error) = outcome {
                return self.step_failed(index, step.step, error).await;
            }
        }
        self.succeed().await;
    }

    /// One step: prepared, journalled as started, done.
    async fn step(&mut self, index: usize, step: Step) -> PortResult<()> {
        let started = Instant::now();
        let limit = rules::limit(&self.shared, &self.record.task, step);
        // It may take hours: neither the start nor the end of the agent waits for it.
        let waits = matches!(self.record.task, Task::Fill(_));
        self.busy = self.busy.take().filter(|_| !waits);
        let may_be_cut = rules::may_be_cut(&self.record.task, step);
        let cancel = self.cancel.clone();
        let work = tokio::time::timeout(limit, async {
            steps::prepare(&self.shared, &mut self.record, &mut self.context, step).await?;
            self.set_step(index, StepState::Started, None);
            // Looking at a device changes nothing outside: the next step's commit tells of it as well.
            if step == Step::VerifyDevice {
                self.publish();
            } else {
                self.commit().await?;
            }
            faults::crash_point(step, "started");
            steps::perform(&self.shared, &mut self.record, &mut self.context, step).await?;
            if faults::is_done_twice(step) {
                steps::perform(&self.shared, &mut self.record, &mut self.context, step).await?;
            }
            Ok(())
        });
        let result = tokio::select! {
            biased;
            result = work => result.unwrap_or_else(|_| Err(late(step.name(), limit))),
            () = cancel.cancelled(), if may_be_cut => Err(PortError::new(ErrorKind::Cancelled, cancelled().message)),
        };
        self.busy = self.busy.take().or_else(|| Some(Busy::new(&self.shared)));
        let result = match result {
            Err(error) => steps::look_again(&self.shared, &mut self.record, step, error).await,
            done => done,
        };
        faults::crash_point(step, if result.is_ok() { "succeeded" } else { "failed" });
        let state = if result.is_ok() { StepState::Succeeded } else { StepState::Failed };
        self.set_step(index, state, Some(started.elapsed()));
        result
    }

    async fn step_failed(&mut self, index: usize, step: Step, error: PortError) {
        let failure = Failure {
            kind: error.kind,
            remedy: remedy::of(error.kind, step, self.record.facts.protocol.as_deref()),
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
            Task::Boot(_) | Task::Rebuild(_) | Task::Reimage(_) | Task::Rescue(_) | Task::Snapshot(_) => {
                self.unwind(failure).await
            }
            Task::Fill(_) => self.fill_failed(failure).await,
            Task::Detach(_) if error.outcome_unknown => self.end_unanswered(failure).await,
            Task::Detach(_) | Task::Extend(_) | Task::Delete(_) | Task::Unrescue(_) | Task::Start(_) | Task::Stop(_) => {
                self.end(OperationState::Failed, Some(failure)).await;
            }
        }
    }

    /// Does a step of what cannot be taken back any more, however often it takes; but for what no other try would mend.
    async fn insist(&mut self, index: usize, step: Step) -> Result<PortResult<()>, Abandoned> {
        let mut delays = self.shared.retry.delays();
        let begun = Instant::now();
        while let Err(error) = self.step(index, step).await {
            if fill::is_final(&self.record.task, &error) {
                return Ok(Err(error));
            }
            self.trouble(&error, step, begun, &mut delays).await?;
        }
        self.record.failure = None;
        self.record.state = OperationState::Running;
        Ok(Ok(()))
    }

    /// Undoes in reverse what was begun, however often it takes, and ends the operation with `failure`.
    pub(super) async fn unwind(&mut self, failure: Failure) {
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
            while let Err(error) = self.undo(step.step).await {
                let Ok(()) = self.trouble(&error, step.step, begun, &mut delays).await else { return self.give_up().await };
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

    /// Undoes one step, within the same time as it may take.
    async fn undo(&self, step: Step) -> PortResult<()> {
        let limit = rules::limit(&self.shared, &self.record.task, step);
        let undone = tokio::time::timeout(limit, steps::undo(&self.shared, &self.record, step)).await;
        undone.unwrap_or_else(|_| Err(late(&format!("the undoing of {}", step.name()), limit)))
    }

    /// Something must be done and does not work: told in the log at once, shown as `Stuck` when it will not pass or has lasted
    /// too long, and waited out until the next try.
    pub(super) async fn trouble(
        &mut self,
        error: &PortError,
        step: Step,
        since: Instant,
        delays: &mut impl Iterator<Item = Duration>,
    ) -> Result<(), Abandoned> {
        tracing::warn!(operation = %self.record.id, step = step.name(), %error, "will be tried again");
        self.shared.retries.fetch_add(1, Ordering::Relaxed);
        let stuck = self.record.state == OperationState::Stuck;
        // A guest may stand still until its image comes: that is told at once.
        let is_urgent = matches!(self.record.task, Task::Fill(_));
        if stuck || is_urgent || !error.is_passing() || since.elapsed() >= self.shared.retry.patience {
            let left = remedy::left_behind(step, &self.record);
            let message = match &self.record.cause {
                Some(cause) => format!("{}; and {left}: {}", cause.message, error.message),
                None => format!("{left}: {}", error.message),
            };
            let shown = Failure {
                kind: ErrorKind::Stuck,
                message,
                remedy: remedy::of(error.kind, step, self.record.facts.protocol.as_deref()),
            };
            if !stuck || self.record.failure.as_ref() != Some(&shown) {
                self.record.state = OperationState::Stuck;
                self.record.failure = Some(shown);
                self.record.duration_us = now_us().saturating_sub(self.record.created_at_us);
                self.commit_or_log().await;
            }
        }
        self.busy = None;
        let abandoned = self.abandoned.clone();
        let pause = delays.next().unwrap_or(self.shared.retry.longest_delay);
        let go_on = async {
            // Nothing of an extend needs the volume between two tries: others may have it meanwhile.
            if matches!(self.record.task, Task::Extend(_)) {
                self.volume = None;
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.let_go_of(step) => {}
                }
                self.take_volume().await;
            } else {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.let_go_of(step) => {}
                    () = fill::comes_again(&self.shared, &self.record.task) => {}
                }
            }
        };
        let outcome = tokio::select! {
            biased;
            () = abandoned.cancelled() => Err(Abandoned),
            () = go_on => Ok(()),
        };
        self.busy = Some(Busy::new(&self.shared));
        outcome
    }

    /// The kernel has ended a call that was begun before and held up this step, or one like it.
    async fn let_go_of(&self, step: Step) {
        match step {
            Step::ConnectVolume | Step::DisconnectVolume | Step::GrowDevice => self.shared.connectors.late_call_ended().await,
            _ => std::future::pending().await,
        }
    }

    pub(super) fn set_step(&mut self, index: usize, state: StepState, took: Option<Duration>) {
        if let Some(step) = self.record.steps.get_mut(index) {
            step.state = state;
            if let Some(took) = took {
                step.duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            }
        }
    }

    pub(super) fn publish(&self) {
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
    pub(super) async fn commit_or_log(&self) {
        let change = Change::PutOperation(Box::new(self.record.clone()));
        if let Err(error) = self.shared.journal.commit_or_owe(vec![change]).await {
            tracing::error!(operation = %self.record.id, %error, "not journalled yet");
        }
        self.publish();
    }
}

fn late(what: &str, limit: Duration) -> PortError {
    PortError {
        kind: ErrorKind::Timeout,
        message: format!("{what} did not end within {} s (operations.step_timeout_s)", limit.as_secs()),
        outcome_unknown: true,
    }
}

fn cancelled() -> Failure {
    Failure { kind: ErrorKind::Cancelled, message: "cancelled by request".to_owned(), remedy: String::new() }
}

pub(super) fn interrupted() -> Failure {
    Failure {
        kind: ErrorKind::Unavailable,
        message: "the agent was stopped in the middle of it".to_owned(),
        remedy: "ask for it again".to_owned(),
    }
}

/// The record of a new operation.
pub(super) fn new_record(task: Task) -> OperationRecord {
    let steps = plan::steps(&task)
        .into_iter()
        .map(|step| crate::agent::journal::StepRecord { step, state: StepState::Pending, duration_us: 0 })
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
