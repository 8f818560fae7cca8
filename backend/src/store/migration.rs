//! Moving a volume to another place, with another type or without. The new pool and, where there is one, the new type's counters pay
//! from the beginning; the old ones are given back in the transaction that says where the volume is now.

use uuid::Uuid;

use super::engine::{Session, Sql, Value};
use super::placement::{self, Candidates};
use super::{Ending, Limits, Store, StoreError, attachments, now_us, operations, quotas, retype, snapshots, types, volumes};
use crate::domain::migration::NewType;
use crate::domain::place::backup_queue;
use crate::domain::{
    Asker, Migration, NewOperation, Operation, OperationKind, Phase, Refusal, Volume, VolumeStatus, VolumeType, rules,
};

/// What a volume's `migration_status` says, in the field's words.
const UNDER_WAY: &str = "migrating";
const SUCCEEDED: &str = "success";
const FAILED: &str = "error";

impl Store {
    /// Records that a volume is to be moved, where it may be; `new_type` is the type it is to have, where it is another. `choose` is
    /// asked inside the transaction for the pool.
    pub async fn begin_migration(
        &self,
        id: Uuid,
        new_type: Option<&VolumeType>,
        by: Asker,
        limits: &Limits,
        choose: impl FnOnce(&Candidates) -> Result<String, Refusal> + Send,
    ) -> Result<Operation, StoreError> {
        let mut tx = self.begin().await?;
        let volume = volumes::lock(&mut tx, id).await?;
        if let Some(new) = new_type {
            retype::check(&mut tx, &volume, new).await?;
        }
        let held = attachments::of_volume(&mut tx, id).await?;
        rules::migrate(&volume, &held, snapshots::count_of(&mut tx, id).await?)?;
        let to = choose(&elsewhere(&mut tx, &volume, new_type).await?)?;
        quotas::charge_pool(&mut tx, &to, volume.size_gib).await?;
        if let Some(new) = new_type.filter(|_| volume.consumes_quota) {
            quotas::charge(&mut tx, &volume.project_id, &quotas::of_type(&new.name, volume.size_gib, 1), limits).await?;
        }
        let (kind, status) = match new_type {
            Some(_) => (OperationKind::VolumeRetype, VolumeStatus::Retyping),
            None => (OperationKind::VolumeMigrate, VolumeStatus::Maintenance),
        };
        set(&mut tx, id, status, UNDER_WAY).await?;
        let migration = Migration {
            from: volume.host.clone(),
            to,
            from_id: volume.storage_id(),
            to_id: Uuid::new_v4(),
            size_gib: volume.size_gib,
            project_id: volume.project_id.clone(),
            consumes_quota: volume.consumes_quota,
            new_type: new_type.map(|new| NewType {
                id: new.id.clone(),
                name: new.name.clone(),
                multiattach: new.multiattach(),
            }),
            phase: Phase::Copy,
        };
        // It takes long, and must not hold up what does not.
        let (queue, request) = (backup_queue(&volume.host), serde_json::json!(migration));
        let operation = operations::accept(&mut tx, NewOperation { kind, object_id: id, queue, request, by }).await?;
        tx.commit().await?;
        Ok(operation)
    }

    /// Hands a migration to the host whose turn is next.
    pub async fn go_on_with_migration(
        &self,
        operation: &Operation,
        migration: &Migration,
        phase: Phase,
    ) -> Result<String, StoreError> {
        let at = if matches!(phase, Phase::Take { .. }) { &migration.to } else { &migration.from };
        let queue = backup_queue(at);
        let mut tx = self.begin().await?;
        operations::hand_over(&mut tx, operation.id, &queue, &migration.in_phase(phase)).await?;
        tx.commit().await?;
        Ok(queue)
    }

    /// Records that the bytes are whole in the new place: from now on the volume is there. Refused where it is no longer what was to
    /// be moved. Gives the queue of who removes the old ones.
    pub async fn switch_place(
        &self,
        operation: &Operation,
        migration: &Migration,
        provider: Option<&serde_json::Value>,
    ) -> Result<String, StoreError> {
        let mut tx = self.begin().await?;
        let volume = volumes::lock(&mut tx, operation.object_id).await?;
        if !is_on_its_way(&volume, migration) || !operations::lock_unended(&mut tx, operation.id).await? {
            let text = format!("Invalid volume: Volume {} is not migrating any more but {}.", volume.id, volume.status);
            return Err(Refusal::Invalid(text).into());
        }
        let place = Sql::update(
            "volumes",
            [
                ("host", migration.to.as_str().into()),
                ("name_id", migration.to_id.into()),
                ("provider", provider.map(ToString::to_string).into()),
                ("updated_at_us", now_us().into()),
            ],
        );
        tx.execute("record a volume's new place", place.filter("id = ", volume.id)).await?;
        if let Some(new) = &migration.new_type {
            retype::check_encryption(&mut tx, &volume, &new.id, &new.name).await?;
            let kind = [("volume_type_id", new.id.as_str().into()), ("multiattach", new.multiattach.into())];
            tx.execute("change a volume's type", Sql::update("volumes", kind).filter("id = ", volume.id)).await?;
            if volume.consumes_quota {
                let old = volume.volume_type.as_deref().unwrap_or_default();
                quotas::release(&mut tx, &volume.project_id, &quotas::of_type(old, volume.size_gib, -1)).await?;
            }
        }
        quotas::release_pool(&mut tx, &migration.from, volume.size_gib).await?;
        let queue = backup_queue(&migration.from);
        operations::hand_over(&mut tx, operation.id, &queue, &migration.in_phase(Phase::Clear)).await?;
        tx.commit().await?;
        Ok(queue)
    }

    /// Ends a migration. Where it did not come to the new place, what was charged for that is given back.
    pub async fn end_migration(&self, operation: &Operation, migration: &Migration, ending: Ending) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        // The volume first, as everywhere.
        let volume = volumes::find_locked(&mut tx, operation.object_id).await?;
        if !operations::lock_unended(&mut tx, operation.id).await? {
            return Ok(());
        }
        if migration.phase != Phase::Clear {
            quotas::release_pool(&mut tx, &migration.to, migration.size_gib).await?;
            if let Some(new) = migration.new_type.as_ref().filter(|_| migration.consumes_quota) {
                // It may have been renamed since.
                let name = types::find(&mut tx, &new.id).await?.map_or_else(|| new.name.clone(), |now| now.name);
                quotas::release(&mut tx, &migration.project_id, &quotas::of_type(&name, migration.size_gib, -1)).await?;
            }
        }
        if let Some(volume) = volume.filter(|volume| is_moving(volume) || volume.is_migrating()) {
            let held = rules::status_held_by(&attachments::of_volume(&mut tx, volume.id).await?);
            // Else an administrator decided otherwise.
            let status = if is_moving(&volume) { held } else { volume.status };
            let migration_status = if ending.cause.is_some() { FAILED } else { SUCCEEDED };
            set(&mut tx, volume.id, status, migration_status).await?;
        }
        operations::end(&mut tx, operation, ending).await?;
        tx.commit().await
    }
}

/// Whether a volume is still what was to be moved.
fn is_on_its_way(volume: &Volume, migration: &Migration) -> bool {
    is_moving(volume) && volume.host == migration.from && volume.storage_id() == migration.from_id
}

fn is_moving(volume: &Volume) -> bool {
    matches!(volume.status, VolumeStatus::Maintenance | VolumeStatus::Retyping)
}

async fn set(tx: &mut Session, id: Uuid, status: VolumeStatus, migration_status: &str) -> Result<(), StoreError> {
    let update = Sql::update(
        "volumes",
        [
            ("status", Value::from(status.as_str())),
            ("migration_status", migration_status.into()),
            ("updated_at_us", now_us().into()),
        ],
    );
    tx.execute("record how far a migration is", update.filter("id = ", id)).await?;
    Ok(())
}

/// All places but its own; what it was made from does not tie it, for all its bytes go along.
async fn elsewhere(tx: &mut Session, volume: &Volume, new_type: Option<&VolumeType>) -> Result<Candidates, StoreError> {
    let own = volume.host.clone();
    let free = Volume { source_volume_id: None, snapshot_id: None, ..volume.clone() };
    let mut candidates = placement::candidates(tx, vec![own], free).await?;
    if let Some(new) = new_type {
        candidates.volume.multiattach = new.multiattach();
        candidates.volume_type = Some(new.clone());
    }
    Ok(candidates)
}
