//! The bus within one process. It forgets everything when the process ends; what was under way is in the database and put into
//! the queues again at the next start.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures_util::future::BoxFuture;
use tokio::sync::{broadcast, mpsc, watch};
use uuid::Uuid;

use super::{Bus, BusError, Delivery, ENDED_REMEMBERED, Receipt};

/// The bus.
pub struct LocalBus {
    queues: Mutex<HashMap<String, Queue>>,
    ended: broadcast::Sender<Uuid>,
    changed: broadcast::Sender<Uuid>,
    /// Never lost, so never found again.
    restored: watch::Sender<u64>,
}

struct Queue {
    sender: mpsc::UnboundedSender<Uuid>,
    /// Until a worker takes it.
    receiver: Option<mpsc::UnboundedReceiver<Uuid>>,
}

impl Default for LocalBus {
    fn default() -> Self {
        let [ended, changed] = [(); 2].map(|()| broadcast::channel(ENDED_REMEMBERED).0);
        Self { queues: Mutex::default(), ended, changed, restored: watch::channel(0).0 }
    }
}

impl LocalBus {
    fn with_queue<T>(&self, name: &str, work: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        work(queues.entry(name.to_owned()).or_insert_with(|| {
            let (sender, receiver) = mpsc::unbounded_channel();
            Queue { sender, receiver: Some(receiver) }
        }))
    }
}

impl Bus for LocalBus {
    fn publish<'a>(&'a self, queue: &'a str, operation_id: Uuid) -> BoxFuture<'a, Result<(), BusError>> {
        // The receiver goes only when the process stops; then the operation is taken up at the next start.
        let _ = self.with_queue(queue, |queue| queue.sender.send(operation_id));
        Box::pin(async { Ok(()) })
    }

    fn consume<'a>(&'a self, queue: &'a str, _at_once: u16) -> BoxFuture<'a, Result<mpsc::Receiver<Delivery>, BusError>> {
        let receiver = self.with_queue(queue, |queue| queue.receiver.take());
        Box::pin(async move {
            let Some(mut receiver) = receiver else { return Err(BusError::Taken(queue.to_owned())) };
            // One at a time: who takes them limits how many are worked on.
            let (sender, deliveries) = mpsc::channel(1);
            tokio::spawn(async move {
                while let Some(operation_id) = receiver.recv().await {
                    if sender.send(Delivery { operation_id, receipt: Receipt::Local }).await.is_err() {
                        return;
                    }
                }
            });
            Ok(deliveries)
        })
    }

    fn announce(&self, operation_id: Uuid) -> BoxFuture<'_, Result<(), BusError>> {
        // Nobody may be listening.
        let _ = self.ended.send(operation_id);
        Box::pin(async { Ok(()) })
    }

    fn tell(&self, operation_id: Uuid) -> BoxFuture<'_, Result<(), BusError>> {
        // Nobody may be watching.
        let _ = self.changed.send(operation_id);
        Box::pin(async { Ok(()) })
    }

    fn changed(&self) -> broadcast::Receiver<Uuid> {
        self.changed.subscribe()
    }

    fn ended(&self) -> broadcast::Receiver<Uuid> {
        self.ended.subscribe()
    }

    fn restored(&self) -> watch::Receiver<u64> {
        self.restored.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_put_in_before_a_worker_comes_waits_for_it_in_order() {
        let bus = LocalBus::default();
        let ids = [Uuid::new_v4(), Uuid::new_v4()];
        for id in ids {
            bus.publish("q", id).await.unwrap();
        }
        let mut deliveries = bus.consume("q", 1).await.unwrap();
        for id in ids {
            let delivery = deliveries.recv().await.unwrap();
            assert_eq!(delivery.operation_id, id);
            delivery.ack().await.unwrap();
        }
        assert!(matches!(bus.consume("q", 1).await, Err(BusError::Taken(_))), "a queue has one worker");
    }
}
