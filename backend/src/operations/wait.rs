//! Waiting for an operation's end, for the few requests that answer with what came of it.

use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use uuid::Uuid;

use crate::bus::SOME_MISSED;
use crate::domain::Operation;
use crate::store::{Store, StoreError};

/// The end did not come, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It takes too long. The operation goes on.
    #[error("operation {operation_id} did not end within {} s", within.as_secs())]
    TooLong {
        /// Which.
        operation_id: Uuid,
        /// What it was given.
        within: Duration,
    },
}

/// Waits for an operation to end. `ended` must have been opened before the operation was sent, so that its end is not missed.
pub async fn wait(
    store: &Store,
    mut ended: broadcast::Receiver<Uuid>,
    operation_id: Uuid,
    within: Duration,
) -> Result<Operation, WaitError> {
    let deadline = Instant::now() + within;
    loop {
        let last = match tokio::time::timeout_at(deadline, ended.recv()).await {
            Ok(Ok(id)) if id != operation_id && id != SOME_MISSED => continue,
            // It may be among those that were missed; and what is announced may have ended for one worker only.
            Ok(Ok(_) | Err(RecvError::Lagged(_))) => false,
            Ok(Err(RecvError::Closed)) | Err(_) => true,
        };
        // Not having heard of it is no proof: the database has the last word.
        let operation = store.operation(operation_id).await?;
        if operation.state.is_end() {
            return Ok(operation);
        }
        if last {
            return Err(WaitError::TooLong { operation_id, within });
        }
    }
}
