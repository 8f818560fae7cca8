//! A boot after a crash.

use super::super::executor::{Run, interrupted};
use crate::agent::api::{OperationState, StepState};
use crate::agent::journal::Step;
use crate::model::ErrorKind;
use std::time::Instant;

impl Run {
    /// A boot that was cut: a guest that runs is booted; one that does not loses what was made for it.
    pub(in super::super) async fn resume_boot(&mut self) {
        let guest = self.record.task.guest();
        let last = self.record.steps.len().saturating_sub(1);
        let reached = self.record.steps.last().is_some_and(|step| step.state != StepState::Pending);
        let mut delays = self.shared.retry.delays();
        let begun = Instant::now();
        let runs = loop {
            match self.shared.hypervisor.guest(&guest.to_string()).await {
                _ if !reached => break false,
                Ok(facts) => break facts.active,
                Err(error) if error.kind == ErrorKind::NotFound => break false,
                Err(error) => {
                    let Ok(()) = self.trouble(&error, Step::StartGuest, begun, &mut delays).await else {
                        return self.give_up().await;
                    };
                }
            }
        };
        if runs {
            self.set_step(last, StepState::Succeeded, None);
            self.record.state = OperationState::Running;
            self.record.failure = None;
            tracing::info!(operation = %self.record.id, %guest, "the guest runs: the boot is done");
            self.forward().await;
        } else {
            tracing::info!(operation = %self.record.id, %guest, "the boot was cut midway: undoing it");
            self.unwind(interrupted()).await;
        }
    }
}
