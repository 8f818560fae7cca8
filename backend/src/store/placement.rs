//! Where a volume is put. The choice, what it takes of the pool and the operation's way to that pool's host are one transaction,
//! so two schedulers never give out the same room twice.

use std::collections::BTreeMap;

use serde_json::json;
use uuid::Uuid;

use super::engine::{Session, Sql};
use super::{Ending, Store, StoreError, now_us, operations, quotas, services, volumes};
use crate::domain::place::{SCHEDULER_QUEUE, VOLUME_SERVICE, volume_queue};
use crate::domain::{NewMessage, Operation, ServiceRow, Volume, VolumeStatus, VolumeType};

/// What a choice is made from.
#[derive(Clone, Debug)]
pub struct Candidates {
    /// The volume to place.
    pub volume: Volume,
    /// Its type, where it has one.
    pub volume_type: Option<VolumeType>,
    /// Where its source is; it must be made there.
    pub source_host: Option<String>,
    /// Places that were tried already and failed.
    pub tried: Vec<String>,
    /// All volume services.
    pub services: Vec<ServiceRow>,
    /// What each pool has given out, GiB by `host@backend#pool`.
    pub allocated_gib: BTreeMap<String, i64>,
    /// The time of the choice, microseconds since the epoch.
    pub now_us: i64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum Choice {
    /// This pool, `host@backend#pool`.
    Pool(String),
    /// None; the owner is told why.
    None(NewMessage),
}

impl Store {
    /// Places the volume of an operation that waits for the scheduler. `choose` is asked inside the transaction. Gives the queue
    /// that is next, where there is one.
    pub async fn place(
        &self,
        operation_id: Uuid,
        choose: impl FnOnce(&Candidates) -> Choice + Send,
    ) -> Result<Option<String>, StoreError> {
        let mut tx = self.begin().await?;
        let Some(operation) = operations::lock_queued(&mut tx, operation_id, SCHEDULER_QUEUE).await? else { return Ok(None) };
        let volume = volumes::find_locked(&mut tx, operation.object_id).await?;
        let Some(volume) = volume.filter(|volume| volume.status == VolumeStatus::Creating) else {
            operations::end(&mut tx, &operation, Ending::failed("the volume is not there any more")).await?;
            tx.commit().await?;
            return Ok(None);
        };
        let candidates = candidates(&mut tx, tried(&operation), volume).await?;
        let volume = &candidates.volume;
        let next = match choose(&candidates) {
            Choice::Pool(pool) => {
                quotas::charge_pool(&mut tx, &pool, volume.size_gib).await?;
                let update = Sql::update("volumes", [("host", pool.as_str().into()), ("updated_at_us", now_us().into())]);
                tx.execute("place a volume", update.filter("id = ", volume.id)).await?;
                let queue = volume_queue(&pool);
                operations::hand_over(&mut tx, operation.id, &queue, &operation.request).await?;
                Some(queue)
            }
            Choice::None(message) => {
                volumes::set_status(&mut tx, volume.id, VolumeStatus::Error).await?;
                let cause = message.user_message.clone();
                operations::end(&mut tx, &operation, Ending::failed(cause).telling(message)).await?;
                None
            }
        };
        tx.commit().await?;
        Ok(next)
    }

    /// Places a volume again whose host is down: where it was not begun, or, with `begun_too`, in any case. None where no other place would
    /// do, or the operation is not as it was given any more: that host's, and queued or running. Gives the queue that is next.
    pub async fn place_elsewhere(
        &self,
        operation: &Operation,
        begun_too: bool,
        choose: impl FnOnce(&Candidates) -> Choice + Send,
    ) -> Result<Option<String>, StoreError> {
        let mut tx = self.begin().await?;
        let mut query = Sql::new("SELECT * FROM operations").filter("id = ", operation.id).filter("queue = ", &operation.queue);
        query.push_bind(" AND state = ", operation.state.as_str());
        if !begun_too {
            query.push(" AND state = 'queued' AND step = 'placed'");
        }
        let still = tx.optional("read an operation", query.for_update()).await?.is_some();
        let volume = volumes::find_locked(&mut tx, operation.object_id).await?;
        let to_be_made = |volume: &Volume| matches!(volume.status, VolumeStatus::Creating | VolumeStatus::Downloading);
        let Some(volume) = volume.filter(to_be_made).filter(|_| still) else { return Ok(None) };
        let (old_host, size_gib, id) = (volume.host.clone(), volume.size_gib, volume.id);
        let mut candidates = candidates(&mut tx, tried(operation), volume).await?;
        candidates.tried.push(old_host.clone());
        let Choice::Pool(pool) = choose(&candidates) else { return Ok(None) };
        quotas::release_pool(&mut tx, &old_host, size_gib).await?;
        quotas::charge_pool(&mut tx, &pool, size_gib).await?;
        let update = Sql::update(
            "volumes",
            [
                ("host", pool.as_str().into()),
                ("status", VolumeStatus::Creating.as_str().into()),
                ("updated_at_us", now_us().into()),
            ],
        );
        tx.execute("place a volume elsewhere", update.filter("id = ", id)).await?;
        let queue = volume_queue(&pool);
        let request = json!({ "tried": candidates.tried, "last_cause": format!("{old_host} is down") });
        operations::hand_over(&mut tx, operation.id, &queue, &request).await?;
        tx.commit().await?;
        Ok(Some(queue))
    }

    /// Forgets a volume that is to be deleted and never had a place, and ends the operation that waits for the scheduler.
    pub async fn forget_unplaced(&self, operation_id: Uuid) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        if let Some(operation) = operations::lock_queued(&mut tx, operation_id, SCHEDULER_QUEUE).await? {
            volumes::forget(&mut tx, &operation).await?;
        }
        tx.commit().await
    }

    /// Gives a volume that its place could not make back to the scheduler, for the next candidate.
    pub async fn give_back(&self, operation: &Operation, cause: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        if let Some(volume) = volumes::find_locked(&mut tx, operation.object_id).await? {
            quotas::release_pool(&mut tx, &volume.host, volume.size_gib).await?;
            let update = Sql::update(
                "volumes",
                [("host", "".into()), ("status", VolumeStatus::Creating.as_str().into()), ("updated_at_us", now_us().into())],
            );
            tx.execute("give a volume back", update.filter("id = ", volume.id)).await?;
            let mut tried = tried(operation);
            tried.push(volume.host);
            let request = json!({ "tried": tried, "last_cause": cause });
            operations::hand_over(&mut tx, operation.id, SCHEDULER_QUEUE, &request).await?;
        }
        tx.commit().await
    }
}

fn tried(operation: &Operation) -> Vec<String> {
    let list = operation.request.get("tried").and_then(|tried| tried.as_array());
    list.into_iter().flatten().filter_map(|host| host.as_str().map(str::to_owned)).collect()
}

/// What the choice of a place for a volume is made from, `tried` being out of the question.
pub(super) async fn candidates(tx: &mut Session, tried: Vec<String>, volume: Volume) -> Result<Candidates, StoreError> {
    let volume_type = match &volume.volume_type_id {
        Some(id) => super::types::find(tx, id).await?,
        None => None,
    };
    let source_id = match (volume.source_volume_id, volume.snapshot_id) {
        (Some(id), _) => Some(id),
        (None, Some(id)) => Some(super::snapshots::lock(tx, id).await?.volume_id),
        (None, None) => None,
    };
    let source_host = match source_id {
        Some(id) => Some(volumes::find(tx, id).await?.host),
        None => None,
    };
    let mut allocated_gib = BTreeMap::new();
    for row in tx
        .all("read usage", Sql::new("SELECT owner, in_use FROM usages WHERE owner LIKE 'pool:%' ORDER BY owner").for_update())
        .await?
    {
        if let Some(pool) = row.text("owner")?.strip_prefix("pool:") {
            allocated_gib.insert(pool.to_owned(), row.int("in_use")?);
        }
    }
    let services = services::all(tx).await?.into_iter().filter(|service| service.name == VOLUME_SERVICE).collect();
    Ok(Candidates { volume_type, source_host, tried, services, allocated_gib, now_us: now_us(), volume })
}
