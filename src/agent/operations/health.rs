//! What looking after attachments needs of the agent: the records, a look by the connectors, and mending under the volume's lock.

use super::{
    Agent, Shared,
    locks::Key,
    ports::{PortError, PortResult},
    reconnect,
};
use crate::agent::api::{AgentEvent, HealthView};
use crate::agent::health::{Repair, Wards, Watched};
use crate::agent::journal::AttachmentRecord;
use crate::model::{AttachmentId, ErrorKind, Health};
use async_trait::async_trait;
use tokio::sync::broadcast;

impl Agent {
    fn ward(&self, id: AttachmentId) -> PortResult<AttachmentRecord> {
        let record = self.shared.registry.attachments().into_iter().find(|record| record.id == id);
        record.ok_or_else(|| PortError::new(ErrorKind::NotFound, "it is not attached any more"))
    }
}

async fn mend(shared: &Shared, seen: &AttachmentRecord) -> PortResult<Repair> {
    if !shared.connectors.is_repairable(&seen.device) {
        return Ok(Repair::NothingToDo);
    }
    // An operation that has the volume knows better what is to become of it.
    let Some(_held) = shared.locks.try_lock(Key::Volume(seen.volume)) else { return Ok(Repair::Busy) };
    // What was seen before the lock may have been detached, and attached anew, since.
    let Some(record) = shared.registry.still_attached(seen) else { return Ok(Repair::NothingToDo) };
    let info = reconnect::connection(shared, &record).await?;
    reconnect::put_paths(shared, &record, &info).await?;
    let identity = &record.observed.identity;
    let device = shared.connectors.repair(record.volume, &record.device, identity, &info).await?;
    reconnect::put_device(shared, &record, &device, None).await?;
    Ok(Repair::Tried)
}

#[async_trait]
impl Wards for Agent {
    fn watched(&self) -> Vec<Watched> {
        let watched = |record: AttachmentRecord| Watched {
            id: record.id,
            volume: record.volume,
            guest: record.guest,
            device: record.device,
        };
        self.shared.registry.attachments().into_iter().map(watched).collect()
    }

    async fn look(&self, id: AttachmentId) -> Result<Health, String> {
        let record = self.ward(id).map_err(|error| error.message)?;
        let identity = &record.observed.identity;
        let found = self.shared.connectors.health(record.volume, &record.device, identity).await;
        let found = found.map_err(|error| error.message)?;
        // A detach takes the storage away piece by piece: that is no news, and what an operation leaves behind is looked at after it.
        if found != Health::Healthy && self.shared.locks.try_lock(Key::Volume(record.volume)).is_none() {
            return Err("an operation has the volume".to_owned());
        }
        Ok(found)
    }

    async fn repair(&self, id: AttachmentId) -> Result<Repair, String> {
        let record = self.ward(id).map_err(|error| error.message)?;
        let limit = self.shared.step_timeout;
        // Never cut midway: what takes too long goes on, with the volume's lock, and only is not waited for.
        let shared = self.shared.clone();
        let mending = tokio::spawn(async move { mend(&shared, &record).await });
        tokio::time::timeout(limit, mending)
            .await
            .map_err(|_| format!("it takes longer than {} s (operations.step_timeout_s)", limit.as_secs()))?
            .map_err(|error| error.to_string())?
            .map_err(|error| error.message)
    }

    fn publish(&self, id: AttachmentId, health: HealthView) {
        self.shared.registry.put_health(id, health);
    }

    fn changes(&self) -> broadcast::Receiver<AgentEvent> {
        self.shared.registry.events()
    }
}
