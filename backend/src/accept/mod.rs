//! Accepting what clients ask for: recorded together with the operation that will do it, sent to whoever does it, and, where the
//! answer says what came of it, waited for.
//!
//! What a client asked for is not undone because the client went away: everything that changes something runs in a task of its
//! own, which the request only waits for.
//!
//! ```text
//! volumes.rs      make, extend, delete
//! snapshots.rs    make, delete
//! backups.rs      make, restore, delete, take over
//! attachments.rs  reserve, tell the host, complete, let go
//! ```

mod attachments;
mod backups;
mod snapshots;
mod volumes;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::broadcast;
use tracing::warn;
use uuid::Uuid;

use crate::bus::Bus;
use crate::domain::{Operation, OperationState};
use crate::operations::{self, WaitError};
use crate::store::{Limits, Store, StoreError, carried};
use crate::volume::chain;

/// How long a request waits for a volume's host: the field's time for a call to another service.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Something could not be accepted, or what was waited for did not come.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The database, or a rule asked in it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The volume's host was given the work and could not do it.
    #[error("operation {operation_id} failed: {cause}")]
    Failed {
        /// Which.
        operation_id: Uuid,
        /// What the host said.
        cause: String,
    },
    /// The volume's host did not answer in time.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// The work was cut off because the service is stopping.
    #[error("the service is stopping")]
    Stopping,
}

/// Accepts what clients ask for. Cheap to clone.
#[derive(Clone)]
pub struct Accept {
    store: Store,
    bus: Arc<dyn Bus>,
    limits: Arc<Limits>,
}

impl Accept {
    /// Over this database and bus; `limits` are the configured quotas.
    pub fn new(store: Store, bus: Arc<dyn Bus>, limits: Limits) -> Self {
        Self { store, bus, limits: Arc::new(limits) }
    }

    /// The configured quotas.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The operations that change from now on, in whatever process.
    pub fn changed(&self) -> broadcast::Receiver<Uuid> {
        self.bus.changed()
    }

    /// Runs something to its end whether or not somebody waits for it.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(Self) -> BoxFuture<'static, Result<T, AcceptError>> + Send + 'static,
    ) -> Result<T, AcceptError> {
        tokio::spawn(carried(work(self.clone()))).await.unwrap_or(Err(AcceptError::Stopping))
    }

    /// Sends an operation to whoever does it. It is in the database already, so what cannot be sent now is sent later.
    async fn send(&self, operation: &Operation) {
        if let Err(error) = self.bus.publish(&operation.queue, operation.id).await {
            warn!(operation = %operation.id, "{}; it is sent again later", chain(&error));
        }
    }

    /// Sends an operation and waits for its end.
    async fn send_and_wait(&self, operation: &Operation) -> Result<(), AcceptError> {
        let ended = self.bus.ended();
        self.send(operation).await;
        outcome(operations::wait(&self.store, ended, operation.id, ANSWER_WITHIN).await?)
    }

    /// Waits for the end of an operation that was sent before.
    pub async fn end_of(&self, operation_id: Uuid) -> Result<(), AcceptError> {
        let ended = self.bus.ended();
        let operation = self.store.operation(operation_id).await?;
        if operation.state.is_end() {
            return outcome(operation);
        }
        outcome(operations::wait(&self.store, ended, operation_id, ANSWER_WITHIN).await?)
    }
}

fn outcome(end: Operation) -> Result<(), AcceptError> {
    match end.state {
        OperationState::Failed => Err(AcceptError::Failed { operation_id: end.id, cause: end.cause.unwrap_or_default() }),
        _ => Ok(()),
    }
}
