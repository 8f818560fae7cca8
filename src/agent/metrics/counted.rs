//! What happened since the start, counted as the agent tells its events.
//!
//! An event says only that something changed, so what was counted is remembered for as long as the operation or attachment is
//! there. A listener that fell behind reads everything anew and misses nothing that is still kept.

use crate::agent::api::{AgentApi, AgentEvent, AttachmentView, HealthState, OperationView, StepState};
use crate::model::{AttachmentId, OperationId};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::broadcast::error::RecvError;

/// Upper bounds of buckets, seconds: from a step that reads sysfs to a guest that does not let go.
const BUCKETS_S: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 160.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    kind: String,
    outcome: &'static str,
    /// Empty where it went well.
    error_kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    kind: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepEnded {
    kind: String,
    step: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Became {
    protocol: String,
    health: &'static str,
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS_S)
}

/// The counters.
pub(super) struct Counted {
    operations: Family<Outcome, Counter>,
    durations: Family<Ended, Histogram, fn() -> Histogram>,
    steps: Family<StepEnded, Histogram, fn() -> Histogram>,
    health_changes: Family<Became, Counter>,
    seen: Mutex<Seen>,
}

/// What was counted of what is still there.
#[derive(Default)]
struct Seen {
    operations: HashMap<OperationId, SeenOperation>,
    health: HashMap<AttachmentId, HealthState>,
}

#[derive(Default)]
struct SeenOperation {
    ended: bool,
    steps: Vec<(StepState, u64)>,
}

impl Default for Counted {
    fn default() -> Self {
        Self {
            operations: Family::default(),
            durations: Family::new_with_constructor(histogram),
            steps: Family::new_with_constructor(histogram),
            health_changes: Family::default(),
            seen: Mutex::default(),
        }
    }
}

impl Counted {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("operations", "Operations that ended, by what they came to", self.operations.clone());
        registry.register("operation_duration_seconds", "From the request for an operation to its end", self.durations.clone());
        registry.register("step_duration_seconds", "How long the steps of operations took", self.steps.clone());
        registry.register(
            "health_changes",
            "How often an attachment became healthy, degraded or lost",
            self.health_changes.clone(),
        );
    }

    pub(super) async fn follow(&self, api: &dyn AgentApi) {
        let mut events = api.events();
        // What ended in an earlier life is not counted in this one.
        for operation in api.operations() {
            self.remember(&operation);
        }
        for attachment in api.attachments() {
            self.attachment(&attachment);
        }
        loop {
            match events.recv().await {
                Ok(AgentEvent::Operation(id)) => {
                    if let Some(operation) = api.operation(id) {
                        self.operation(&operation);
                    }
                }
                Ok(AgentEvent::OperationForgotten(id)) => {
                    self.seen().operations.remove(&id);
                }
                Ok(AgentEvent::Attachment(_)) => api.attachments().iter().for_each(|attachment| self.attachment(attachment)),
                Ok(AgentEvent::AttachmentGone(id)) => {
                    self.seen().health.remove(&id);
                }
                Ok(AgentEvent::Guest { .. }) => {}
                Err(RecvError::Lagged(_)) => {
                    api.operations().iter().for_each(|operation| self.operation(operation));
                    api.attachments().iter().for_each(|attachment| self.attachment(attachment));
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, operation: &OperationView) {
        let steps = operation.steps.iter().map(|step| (step.state, step.duration_us)).collect();
        let known = SeenOperation { ended: operation.state.is_over(), steps };
        self.seen().operations.insert(operation.id, known);
    }

    fn operation(&self, operation: &OperationView) {
        let mut seen = self.seen();
        let known = seen.operations.entry(operation.id).or_default();
        for (index, step) in operation.steps.iter().enumerate() {
            let now = (step.state, step.duration_us);
            let before = known.steps.get(index).copied();
            let outcome = match step.state {
                StepState::Succeeded => "succeeded",
                StepState::Failed => "failed",
                StepState::Pending | StepState::Started | StepState::Undone => continue,
            };
            if before != Some(now) {
                let label = StepEnded { kind: operation.kind.clone(), step: step.name.clone(), outcome };
                self.steps.get_or_create(&label).observe(seconds(step.duration_us));
            }
        }
        known.steps = operation.steps.iter().map(|step| (step.state, step.duration_us)).collect();
        // What is stuck has ended for whoever waited, but it goes on and ends once more.
        let ended = operation.state.is_over();
        if ended && !known.ended {
            let (kind, outcome) = (operation.kind.clone(), operation.state.as_str());
            let error_kind = operation.failure.as_ref().map_or("", |failure| failure.kind.as_str());
            self.operations.get_or_create(&Outcome { kind: kind.clone(), outcome, error_kind }).inc();
            self.durations.get_or_create(&Ended { kind, outcome }).observe(seconds(operation.duration_us));
        }
        known.ended = ended;
    }

    fn attachment(&self, attachment: &AttachmentView) {
        let now = attachment.health.state;
        let before = self.seen().health.insert(attachment.id, now);
        if before != Some(now) && now != HealthState::Unknown {
            let label = Became { protocol: attachment.protocol.clone(), health: now.as_str() };
            self.health_changes.get_or_create(&label).inc();
        }
    }
}

fn seconds(duration_us: u64) -> f64 {
    Duration::from_micros(duration_us).as_secs_f64()
}
