//! Takes operations from a queue and works on them. An operation is claimed in the database before anything is done and its
//! message acknowledged after everything is, so neither a crash nor a message that comes twice loses or repeats work.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, mpsc, watch};
use tracing::{debug, error, warn};
use uuid::Uuid;

use crate::bus::{Bus, BusError, Delivery};
use crate::domain::{Operation, OperationState};
use crate::store::StoreError;

/// Between tries of work whose end cannot be recorded (the disk is full): doubled each time, up to the longest.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What became of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// There was nothing to do: it is done, or somebody else has it.
    Nothing,
    /// There is no such operation.
    Unknown,
    /// It has ended.
    Ended,
    /// It is this queue's turn now.
    HandedTo(String),
}

impl Next {
    /// What a message about this operation means in `queue`, where there is nothing for its worker to do: a worker that died may have
    /// handed it over and not said so.
    pub fn without_work(operation: Option<&Operation>, queue: &str) -> Self {
        match operation {
            None => Self::Unknown,
            Some(elsewhere) if elsewhere.state == OperationState::Queued && elsewhere.queue != queue => {
                Self::HandedTo(elsewhere.queue.clone())
            }
            Some(_) => Self::Nothing,
        }
    }
}

/// One role's work.
pub trait Work: Send + Sync {
    /// Does what an operation asks for and records what came of it. Failing is recorded too, and so an end like another; an error
    /// is a database in which no end could be recorded: the work is then done again. `queue` is where the message came from.
    fn perform<'a>(&'a self, queue: &'a str, operation_id: Uuid) -> BoxFuture<'a, Result<Next, StoreError>>;
}

/// A worker on one queue.
pub struct Runner {
    queue: String,
    work: Arc<dyn Work>,
    bus: Arc<dyn Bus>,
    /// So many at once: they wait for the disk, and more would only wait there.
    at_once: u16,
    stopping: watch::Receiver<bool>,
    /// A clone is held by each piece of work; when all are dropped, nothing is running any more.
    guard: mpsc::Sender<()>,
}

impl Runner {
    /// A worker; it stops taking operations when `stopping` becomes true.
    pub fn new(
        queue: String,
        work: Arc<dyn Work>,
        bus: Arc<dyn Bus>,
        at_once: u16,
        stopping: watch::Receiver<bool>,
        guard: mpsc::Sender<()>,
    ) -> Self {
        Self { queue, work, bus, at_once, stopping, guard }
    }

    /// Opens the queue and works in tasks of its own.
    pub async fn start(self) -> Result<(), BusError> {
        let deliveries = self.bus.consume(&self.queue, self.at_once).await?;
        tokio::spawn(self.run(deliveries));
        Ok(())
    }

    async fn run(mut self, mut deliveries: mpsc::Receiver<Delivery>) {
        let slots = Arc::new(Semaphore::new(self.at_once.into()));
        let queue: Arc<str> = self.queue.as_str().into();
        let at_work = Arc::new(Mutex::new(HashSet::new()));
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let delivery = tokio::select! {
                delivery = deliveries.recv() => delivery,
                // Whoever holds the other end being gone is a stop as well.
                _ = self.stopping.wait_for(|stopping| *stopping) => return,
            };
            let Some(delivery) = delivery else { return };
            let one = One {
                queue: queue.clone(),
                work: self.work.clone(),
                bus: self.bus.clone(),
                at_work: at_work.clone(),
                stopping: self.stopping.clone(),
                _guard: self.guard.clone(),
            };
            tokio::spawn(async move {
                one.handle(delivery, slot).await;
            });
        }
    }
}

struct One {
    queue: Arc<str>,
    work: Arc<dyn Work>,
    bus: Arc<dyn Bus>,
    /// What this worker has just now: the same message may come twice.
    at_work: Arc<Mutex<HashSet<Uuid>>>,
    stopping: watch::Receiver<bool>,
    _guard: mpsc::Sender<()>,
}

impl One {
    async fn handle(mut self, delivery: Delivery, slot: tokio::sync::OwnedSemaphorePermit) {
        let id = delivery.operation_id;
        let mut slot = Some(slot);
        let mut pause = SHORTEST_PAUSE;
        let first = self.at_work.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        let next = loop {
            if !first {
                break Next::Nothing;
            }
            match self.work.perform(&self.queue, id).await {
                Ok(next) => break next,
                Err(error) => {
                    error!(operation = %id, "{}; again in {} s", crate::volume::chain(&error), pause.as_secs());
                }
            }
            // Others need not wait meanwhile.
            slot.take();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // It is taken up at the next start.
                _ = self.stopping.wait_for(|stopping| *stopping) => return,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        if first {
            self.at_work.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        }
        let unknown = next == Next::Unknown;
        self.tell(id, next).await;
        if let Err(error) = if unknown { delivery.bury().await } else { delivery.ack().await } {
            // It comes again, and there is nothing left to do then.
            warn!(operation = %id, "{}", crate::volume::chain(&error));
        }
    }

    /// Sends the operation on, or tells that it ended. What cannot be sent now is sent later from the database.
    async fn tell(&self, id: Uuid, next: Next) {
        let told = match &next {
            Next::Unknown => {
                warn!(operation = %id, "a message about an operation that is not in the database");
                return;
            }
            // Its worker may have died before it could say that it ended.
            Next::Nothing => {
                debug!(operation = %id, "nothing to do");
                self.bus.announce(id).await
            }
            Next::Ended => self.bus.announce(id).await,
            Next::HandedTo(queue) => self.bus.publish(queue, id).await,
        };
        if let Err(error) = told {
            warn!(operation = %id, "{}; it is sent again later", crate::volume::chain(&error));
        }
    }
}
