//! The scheduler's role: takes volumes that wait for a place. It keeps no state, so any number of schedulers may run.

use futures_util::future::BoxFuture;
use tracing::{info, warn};
use uuid::Uuid;

use super::{best, judge};
use crate::domain::{NewMessage, Operation, OperationKind, OperationState};
use crate::operations::{Next, Work};
use crate::store::{Candidates, Choice, Store, StoreError};

/// The field's number for "no place was found for a volume".
const EVENT_NO_PLACE: &str = "VOLUME_VOLUME_001_002";

/// The scheduler.
pub struct Scheduler {
    store: Store,
}

impl Scheduler {
    /// Over this database.
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

impl Work for Scheduler {
    fn perform<'a>(&'a self, queue: &'a str, operation_id: Uuid) -> BoxFuture<'a, Result<Next, StoreError>> {
        Box::pin(async move {
            let operation = self.store.operation_if_any(operation_id).await?;
            let waits = |operation: &&Operation| operation.queue == queue && operation.state == OperationState::Queued;
            let Some(waiting) = operation.as_ref().filter(waits) else {
                return Ok(Next::without_work(operation.as_ref(), queue));
            };
            if waiting.kind == OperationKind::VolumeDelete {
                // It was never placed, so there is nothing but its row.
                self.store.forget_unplaced(operation_id).await?;
                return Ok(Next::Ended);
            }
            let next = self.store.place(operation_id, choose).await?;
            Ok(next.map_or(Next::Ended, Next::HandedTo))
        })
    }
}

/// The choice itself.
pub(super) fn choose(candidates: &Candidates) -> Choice {
    let verdicts = judge(candidates);
    let volume = &candidates.volume;
    match best(&verdicts.fit, &candidates.allocated_gib) {
        Some(pool) => {
            info!(volume = %volume.id, pool = %pool.name, "placed");
            Choice::Pool(pool.name.clone())
        }
        None => {
            let mut text = "schedule allocate volume:Could not find any available weighted backend.".to_owned();
            for why in &verdicts.why_not {
                text.push_str(&format!(" {}: {} ({}).", why.pool, why.reason, why.filter));
            }
            if verdicts.why_not.is_empty() {
                text.push_str(" No volume service has told of a pool.");
            }
            warn!(volume = %volume.id, "no place: {text}");
            Choice::None(NewMessage {
                resource_type: "VOLUME",
                resource_id: volume.id,
                event_id: EVENT_NO_PLACE.into(),
                user_message: text,
                why_not: Some(verdicts.why_not),
            })
        }
    }
}
