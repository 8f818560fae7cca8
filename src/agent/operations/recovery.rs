//! After a start: every unfinished operation is compared with what is real, and finished or undone.

use super::{Shared, executor::Run};
use crate::agent::api::OperationState;
use crate::agent::journal::OperationRecord;
use std::sync::Arc;
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
