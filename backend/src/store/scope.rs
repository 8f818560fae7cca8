//! What a request is to the database while it is answered: the operation it begins is told in its answer, and, where it carries a
//! key, each of its transactions says what it made in the key's row, or is thrown away where the key is somebody else's by now.
//!
//! It follows the task that answers. Who goes on in a task of its own takes it along (`carried`).

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use super::idempotency::Claim;

tokio::task_local! {
    static SCOPE: Arc<RequestScope>;
}

/// One request.
#[derive(Debug, Default)]
pub struct RequestScope {
    claim: Option<Claim>,
    done: Mutex<Done>,
}

#[derive(Debug, Default)]
struct Done {
    changed: bool,
    operation_id: Option<Uuid>,
}

impl RequestScope {
    /// A request, with its key's claim where it has one.
    pub fn new(claim: Option<Claim>) -> Arc<Self> {
        Arc::new(Self { claim, done: Mutex::default() })
    }

    /// Does work as this request.
    pub async fn run<F: Future>(self: &Arc<Self>, work: F) -> F::Output {
        SCOPE.scope(self.clone(), work).await
    }

    /// The operation that the request began, where it did.
    pub fn operation_id(&self) -> Option<Uuid> {
        self.done().operation_id
    }

    /// Whether anything was changed for good.
    pub fn has_changed(&self) -> bool {
        self.done().changed
    }

    pub(super) fn current() -> Option<Arc<Self>> {
        SCOPE.try_with(Arc::clone).ok()
    }

    pub(super) fn claim(&self) -> Option<&Claim> {
        self.claim.as_ref()
    }

    /// A transaction of the request is committed.
    pub(super) fn committed(&self, operation_id: Option<Uuid>) {
        let mut done = self.done();
        done.changed = true;
        done.operation_id = operation_id.or(done.operation_id);
    }

    fn done(&self) -> std::sync::MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same work, still as the request that asks for it when another task does it.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let scope = RequestScope::current();
    async move {
        match scope {
            Some(scope) => scope.run(work).await,
            None => work.await,
        }
    }
}
