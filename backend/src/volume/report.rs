//! What a volume host has room for, told again and again: the scheduler knows pools from this alone, and a host that falls silent is
//! known to be down.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tracing::warn;

use super::error::{VolumeError, chain};
use super::host::VolumeHost;
use crate::domain::Pool;
use crate::domain::place::{STORAGE_PROTOCOL, VOLUME_SERVICE};
use crate::drivers::Capacity;

/// Between reports, as in the field.
const PERIOD: Duration = Duration::from_secs(10);

/// Bytes in a GiB, for numbers that need not be whole.
const GIB: f64 = (1u64 << 30) as f64;

impl VolumeHost {
    /// Tells once what every backend has. One that cannot be measured is told as down, so nothing new is put there.
    pub async fn report(&self) -> Result<(), VolumeError> {
        let parts = &self.parts;
        // Side by side, so that one whose storage is silent does not make the others look dead.
        let reports =
            parts.backends.iter().zip(parts.readiness.values()).map(|((host, (backend, driver)), readiness)| async move {
                let (measured, is_new) = readiness.measure(host, driver).await;
                let capacity = measured.as_ref().copied().unwrap_or(Capacity { total_bytes: 0, free_bytes: 0 });
                let pool = Pool {
                    name: format!("{host}#{}", backend.backend_name),
                    backend_name: backend.backend_name.clone(),
                    availability_zone: parts.availability_zone.clone(),
                    total_gib: capacity.total_bytes as f64 / GIB,
                    free_gib: capacity.free_bytes as f64 / GIB,
                    thin: true,
                    max_over_subscription_ratio: backend.max_over_subscription_ratio,
                    reserved_percentage: backend.reserved_percentage,
                    multiattach: true,
                    capabilities: BTreeMap::from([(STORAGE_PROTOCOL.to_owned(), backend.driver.storage_protocol().into())]),
                };
                let problem = measured.as_ref().err().map(String::as_str);
                let zone = &parts.availability_zone;
                if parts.store.heartbeat(VOLUME_SERVICE, host, zone, &[pool], problem).await? {
                    warn!(backend = host, "it was declared gone: what hosts may see of it is looked at again");
                    parts.returned.add(host);
                }
                if is_new || parts.returned.is_some() {
                    parts.recovered.notify_one();
                }
                Ok::<_, VolumeError>(())
            });
        futures_util::future::try_join_all(reports).await?;
        Ok(())
    }

    /// Tells again and again, until told to stop.
    pub async fn keep_reporting(self, mut stopping: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.tick().await;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
            if let Err(error) = self.report().await {
                warn!("cannot report what there is room for: {}", chain(&error));
            }
        }
    }
}
