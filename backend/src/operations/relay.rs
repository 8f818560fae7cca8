//! Sends again what may be lost. An operation is in the database before its message is on the bus; a process that ends between
//! the two, a broker that is away, a worker that died: each leaves an operation that nobody has heard of, found here.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use crate::bus::Bus;
use crate::store::{Store, StoreError, now_us};
use crate::volume::chain;

/// Between looks.
const PERIOD: Duration = Duration::from_secs(10);

/// An operation that nothing happened to for so long may have lost its message, microseconds. A message too many is harmless.
const QUIET_US: i64 = 30_000_000;

/// Ended operations are kept for a week, microseconds.
const KEPT_US: i64 = 7 * 24 * 3600 * 1_000_000;

/// Sends lost operations again, and says that this process still works on what it has.
pub struct Relay {
    store: Store,
    bus: Arc<dyn Bus>,
    owner: String,
}

impl Relay {
    /// For the process that claims operations as `owner`.
    pub fn new(store: Store, bus: Arc<dyn Bus>, owner: String) -> Self {
        Self { store, bus, owner }
    }

    /// Sends everything that is queued, once: at the start of a process whose bus remembers nothing.
    pub async fn send_all(&self) -> Result<(), StoreError> {
        self.send(0).await
    }

    /// Looks again and again, until told to stop.
    pub async fn run(self, mut stopping: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.tick().await;
        let mut restored = self.bus.restored();
        loop {
            let all = tokio::select! {
                _ = ticks.tick() => false,
                Ok(()) = restored.changed() => true,
                _ = stopping.wait_for(|stopping| *stopping) => return,
            };
            let looked = if all { self.send_all().await } else { self.look().await };
            if let Err(error) = looked {
                warn!("cannot look for lost operations: {}", chain(&error));
            }
        }
    }

    async fn look(&self) -> Result<(), StoreError> {
        self.store.keep_claims(&self.owner).await?;
        self.store.forget_ended(now_us() - KEPT_US).await?;
        self.send(QUIET_US).await
    }

    async fn send(&self, quiet_us: i64) -> Result<(), StoreError> {
        for operation in self.store.unheard_operations(quiet_us).await? {
            info!(operation = %operation.id, kind = %operation.kind, object = %operation.object_id, queue = operation.queue, "sent again");
            if let Err(error) = self.bus.publish(&operation.queue, operation.id).await {
                warn!(operation = %operation.id, "{}", chain(&error));
            }
        }
        Ok(())
    }
}
