//! Leases that ran out: the host of an attachment said that it would be heard of, and was not.

use std::sync::Arc;

use tracing::{info, warn};

use crate::bus::Bus;
use crate::store::{LeaseEnd, Store, StoreError};
use crate::volume::chain;

/// Looks once after leases that ran out.
pub async fn end_expired_leases(store: &Store, bus: &Arc<dyn Bus>) -> Result<(), StoreError> {
    for id in store.expired_leases().await? {
        match store.end_lease(id).await {
            Ok(LeaseEnd::Nothing) => {}
            Ok(LeaseEnd::Removed) => info!(attachment = %id, "removed: its host fell silent before it was let in"),
            Ok(LeaseEnd::Removing(operation)) => {
                info!(attachment = %id, operation = %operation.id, "its host fell silent: taken away");
                if let Err(error) = bus.publish(&operation.queue, operation.id).await {
                    warn!(operation = %operation.id, "{}; it is sent again later", chain(&error));
                }
            }
            Ok(LeaseEnd::Lost) => {
                warn!(attachment = %id, "its host fell silent, and a guest may have the volume: left as it is")
            }
            Err(error) => warn!(attachment = %id, "its lease ran out and cannot be ended: {}", chain(&error)),
        }
    }
    Ok(())
}
