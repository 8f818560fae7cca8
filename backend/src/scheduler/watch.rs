//! What a scheduler looks after beside its queue: that it lives, hosts that do not, and leases that ran out.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::warn;

use super::leases::end_expired_leases;
use super::silent::look_after_silent;
use crate::bus::Bus;
use crate::store::{Store, StoreError};
use crate::volume::chain;

/// Between looks, and between signs of life: the field's.
const PERIOD: Duration = Duration::from_secs(10);

/// The field's name of the scheduler.
const SCHEDULER_SERVICE: &str = "cinder-scheduler";

/// One scheduler, by the host it runs on and its zone.
pub struct Watchman {
    /// The database.
    pub store: Store,
    /// Tells workers what is theirs now.
    pub bus: Arc<dyn Bus>,
    /// The host's name.
    pub host: String,
    /// Its zone.
    pub availability_zone: String,
}

impl Watchman {
    /// Says that the scheduler lives.
    pub async fn live(&self) -> Result<(), StoreError> {
        self.store.heartbeat(SCHEDULER_SERVICE, &self.host, &self.availability_zone, &[], None).await.map(drop)
    }

    /// Looks again and again, until told to stop.
    pub async fn run(self, mut stopping: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.tick().await;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
            if let Err(error) = self.live().await {
                warn!("cannot say that the scheduler lives: {}", chain(&error));
            }
            if let Err(error) = look_after_silent(&self.store, &self.bus).await {
                warn!("cannot look after silent hosts: {}", chain(&error));
            }
            if let Err(error) = end_expired_leases(&self.store, &self.bus).await {
                warn!("cannot look after leases: {}", chain(&error));
            }
        }
    }
}
