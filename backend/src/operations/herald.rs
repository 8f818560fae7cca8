//! Tells who watches which operations this process changed: every change is heard of from the database's own transactions, so no piece
//! of work has to think of it. Only news: who watches looks for itself now and then.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tracing::debug;

use crate::bus::{Bus, SOME_MISSED};
use crate::store::Store;
use crate::volume::chain;

/// Tells until told to stop.
pub async fn keep_telling(store: Store, bus: Arc<dyn Bus>, mut stopping: watch::Receiver<bool>) {
    let mut changes = store.changes();
    loop {
        let first = tokio::select! {
            change = changes.recv() => match change {
                Ok(id) => id,
                Err(RecvError::Lagged(_)) => SOME_MISSED,
                Err(RecvError::Closed) => return,
            },
            _ = stopping.wait_for(|stopping| *stopping) => return,
        };
        // An operation that changed twice meanwhile is told of once.
        let mut ids = BTreeSet::from([first]);
        while let Ok(id) = changes.try_recv() {
            ids.insert(id);
        }
        for id in ids {
            if let Err(error) = bus.tell(id).await {
                debug!(operation = %id, "{}; who watches it looks for itself", chain(&error));
            }
        }
    }
}
