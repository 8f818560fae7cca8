//! Volumes in the database: make, read, change, forget.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::engine::{Session, Sql, Value};
use super::rows::{self, SELECT_VOLUMES};
use super::{Limits, Store, StoreError, attachments, backups, keys, now_us, operations, quotas, snapshots, types};
use crate::domain::place::{SCHEDULER_QUEUE, volume_queue};
use crate::domain::{
    Asker, NewOperation, NewVolume, Operation, OperationKind, Refusal, SnapshotStatus, Source, Volume, VolumeStatus, backup,
    rules,
};

/// What the owner may change; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct VolumeChange {
    /// A new name, or none any more.
    pub name: Option<Option<String>>,
    /// A new description, or none any more.
    pub description: Option<Option<String>>,
    /// The whole metadata, in place of what was there.
    pub metadata: Option<BTreeMap<String, String>>,
}

impl Store {
    /// Records a volume as `creating`, charges its owner's quota and accepts the operation that makes it, together.
    /// `size_gib` of 0 is the size of what it is made from.
    pub async fn insert_volume(
        &self,
        mut new: NewVolume,
        by: Asker,
        limits: &Limits,
    ) -> Result<(Volume, Operation), StoreError> {
        let mut tx = self.begin().await?;
        may_have_key(&mut tx, &new).await?;
        let from = match new.source {
            Source::Nothing => None,
            Source::Snapshot(id) => Some(("snapshot_id", id)),
            Source::Volume(id) => Some(("source_volume_id", id)),
            Source::Image(id) => Some(("image_id", id)),
            Source::Backup(id) => Some(("backup_id", id)),
        };
        let mut bootable = false;
        let asked = Some(new.size_gib).filter(|size| *size > 0);
        if let Some(source) = source_of(&mut tx, new.source).await? {
            new.size_gib = rules::size_from_source(source.size_gib, asked, source.kind)?;
            bootable = source.bootable;
        }
        quotas::check_size(&mut tx, &new.project_id, new.size_gib, limits).await?;
        quotas::charge(&mut tx, &new.project_id, &quotas::of_volume(&new.volume_type.name, new.size_gib, 1), limits).await?;
        let made_from = |wanted: &str| from.filter(|(column, _)| *column == wanted).map(|(_, id)| id);
        let insert = Sql::insert(
            "volumes",
            [
                ("id", new.id.into()),
                ("project_id", Value::from(&new.project_id)),
                ("user_id", new.user_id.into()),
                ("name", new.name.into()),
                ("description", new.description.into()),
                ("size_gib", new.size_gib.into()),
                ("status", VolumeStatus::Creating.as_str().into()),
                ("multiattach", new.multiattach.into()),
                ("availability_zone", new.availability_zone.into()),
                ("metadata", Value::from(&new.metadata)),
                ("volume_type_id", new.volume_type.id.into()),
                ("bootable", bootable.into()),
                ("snapshot_id", made_from("snapshot_id").into()),
                ("source_volume_id", made_from("source_volume_id").into()),
                ("image_id", made_from("image_id").into()),
                ("backup_id", made_from("backup_id").into()),
                ("encryption_key_id", new.key.as_ref().map(|key| key.id).into()),
                ("created_at_us", now_us().into()),
            ],
        );
        tx.execute("record a new volume", insert).await?;
        if let Some(key) = &new.key {
            keys::insert(&mut tx, key, new.id).await?;
        }
        let operation = NewOperation {
            kind: OperationKind::VolumeCreate,
            object_id: new.id,
            queue: SCHEDULER_QUEUE.into(),
            request: serde_json::json!({}),
            by,
        };
        let operation = operations::accept(&mut tx, operation).await?;
        let volume = find(&mut tx, new.id).await?;
        tx.commit().await?;
        Ok((volume, operation))
    }

    /// Reads one volume; refused as "not found" where there is none.
    pub async fn volume(&self, id: Uuid) -> Result<Volume, StoreError> {
        find(&mut self.read().await?, id).await
    }

    /// Changes what the owner may change. `change` sees the volume as it is.
    pub async fn change_volume(
        &self,
        id: Uuid,
        change: impl FnOnce(&Volume) -> Result<VolumeChange, Refusal> + Send,
    ) -> Result<Volume, StoreError> {
        let mut tx = self.begin().await?;
        let volume = lock(&mut tx, id).await?;
        let change = change(&volume)?;
        let update = Sql::update(
            "volumes",
            [
                ("name", change.name.unwrap_or(volume.name).into()),
                ("description", change.description.unwrap_or(volume.description).into()),
                ("metadata", Value::from(&change.metadata.unwrap_or(volume.metadata))),
                ("updated_at_us", now_us().into()),
            ],
        );
        tx.execute("change a volume", update.filter("id = ", id)).await?;
        let volume = find(&mut tx, id).await?;
        tx.commit().await?;
        Ok(volume)
    }

    /// Records that the volume is to be deleted, where it may be, and accepts the operation that does it.
    pub async fn begin_delete(&self, id: Uuid, by: Asker) -> Result<(Volume, Operation), StoreError> {
        let mut tx = self.begin().await?;
        let volume = lock(&mut tx, id).await?;
        let snapshots = snapshots::count_of(&mut tx, id).await?;
        rules::delete_volume(&volume, &attachments::of_volume(&mut tx, id).await?, snapshots)?;
        set_status(&mut tx, id, VolumeStatus::Deleting).await?;
        // What was never placed has nothing on any host; the scheduler's queue, which is always served, forgets it.
        let queue = if volume.host.is_empty() { SCHEDULER_QUEUE.into() } else { volume_queue(&volume.host) };
        let operation =
            NewOperation { kind: OperationKind::VolumeDelete, object_id: id, queue, request: serde_json::json!({}), by };
        let operation = operations::accept(&mut tx, operation).await?;
        tx.commit().await?;
        Ok((volume, operation))
    }

    /// Ends a volume's work and its operation: `from` becomes `ending`'s status. The volume is left where it is no longer `from`.
    pub async fn end_volume_work(
        &self,
        operation: &Operation,
        from: VolumeStatus,
        to: VolumeStatus,
        ending: operations::Ending,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let update = Sql::update("volumes", [("status", to.as_str().into()), ("updated_at_us", now_us().into())]);
        let update = update.filter("id = ", operation.object_id).filter("status = ", from.as_str());
        tx.execute("end a volume's work", update).await?;
        operations::end(&mut tx, operation, ending).await?;
        tx.commit().await
    }

    /// Records what the driver wants to find again of a volume.
    pub async fn set_provider(&self, id: Uuid, provider: &serde_json::Value) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let update = Sql::update("volumes", [("provider", provider.into())]).filter("id = ", id);
        tx.execute("record where a volume is", update).await?;
        tx.commit().await
    }

    /// Forgets a volume whose storage is gone, and gives back what it took of quota and pool; ends the operation.
    pub async fn forget_volume(&self, operation: &Operation) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        forget(&mut tx, operation).await?;
        tx.commit().await
    }

    /// How many volumes there are and how many GiB they have: of a project, or of all.
    pub async fn volume_totals(&self, project_id: Option<&str>) -> Result<(i64, i64), StoreError> {
        let mut query = Sql::new("SELECT COUNT(*) AS volumes, CAST(COALESCE(SUM(size_gib), 0) AS BIGINT) AS gib FROM volumes");
        if let Some(project) = project_id {
            query = query.filter("project_id = ", project);
        }
        match self.read().await?.optional("count the volumes", query).await? {
            Some(row) => Ok((row.int("volumes")?, row.int("gib")?)),
            None => Ok((0, 0)),
        }
    }

    /// Every value that each metadata key has: in the volumes of a project, or in all.
    pub async fn volume_metadata_values(
        &self,
        project_id: Option<&str>,
    ) -> Result<BTreeMap<String, std::collections::BTreeSet<String>>, StoreError> {
        let mut query = Sql::new("SELECT DISTINCT metadata FROM volumes");
        if let Some(project) = project_id {
            query = query.filter("project_id = ", project);
        }
        let mut values: BTreeMap<String, std::collections::BTreeSet<String>> = BTreeMap::new();
        for row in self.read().await?.all("read the volumes' metadata", query).await? {
            for (key, value) in row.json::<BTreeMap<String, String>>("metadata")? {
                values.entry(key).or_default().insert(value);
            }
        }
        Ok(values)
    }

    /// Gives volumes that were made before there was a choice of places to this one.
    pub async fn adopt_volumes(&self, host: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let adopted =
            tx.execute("adopt volumes", Sql::update("volumes", [("host", host.into())]).filter("host = ", "@here")).await?;
        if adopted > 0 {
            quotas::recount(&mut tx).await?;
        }
        tx.commit().await
    }
}

struct SourceFacts {
    kind: &'static str,
    size_gib: u64,
    bootable: bool,
}

/// What a volume is to be made from, checked to be there and at rest.
async fn source_of(tx: &mut Session, source: Source) -> Result<Option<SourceFacts>, StoreError> {
    match source {
        // An image's size is known to its store only, and checked where it is read.
        Source::Nothing | Source::Image(_) => Ok(None),
        Source::Snapshot(id) => {
            let snapshot = snapshots::lock(tx, id).await?;
            if snapshot.status != SnapshotStatus::Available {
                return Err(Refusal::SourceNotReady { kind: "snapshot", id, status: snapshot.status.to_string() }.into());
            }
            let volume = find(tx, snapshot.volume_id).await?;
            Ok(Some(SourceFacts { kind: "snapshot", size_gib: snapshot.size_gib, bootable: volume.bootable }))
        }
        Source::Backup(id) => {
            let backup = backups::lock(tx, id).await?;
            backup::may_restore(&backup)?;
            Ok(Some(SourceFacts { kind: "backup", size_gib: backup.size_gib, bootable: false }))
        }
        Source::Volume(id) => {
            let volume = lock(tx, id).await?;
            if !matches!(volume.status, VolumeStatus::Available | VolumeStatus::InUse) {
                return Err(Refusal::SourceNotReady { kind: "volume", id, status: volume.status.to_string() }.into());
            }
            Ok(Some(SourceFacts { kind: "source volume", size_gib: volume.size_gib, bootable: volume.bootable }))
        }
    }
}

/// Refuses a volume that would not be encrypted as its type is now: that may have changed since the key was made, or was not.
async fn may_have_key(tx: &mut Session, new: &NewVolume) -> Result<(), StoreError> {
    let volume_type = types::find_locked(tx, &new.volume_type.id).await?;
    let volume_type = volume_type.ok_or_else(|| Refusal::VolumeTypeNotFound(new.volume_type.name.clone()))?;
    if volume_type.encryption.map(|encryption| encryption.key_size) == new.key.as_ref().map(|key| key.bits) {
        return Ok(());
    }
    let text = format!("Invalid volume_type: the encryption of {} has just been changed; try again.", new.volume_type.name);
    Err(Refusal::Invalid(text).into())
}

/// Reads one volume.
pub(super) async fn find(session: &mut Session, id: Uuid) -> Result<Volume, StoreError> {
    let query = Sql::new(SELECT_VOLUMES).filter("volumes.id = ", id);
    match session.optional("read a volume", query).await? {
        Some(row) => rows::volume(&row),
        None => Err(Refusal::VolumeNotFound(id.to_string()).into()),
    }
}

/// The same within a transaction.
pub(super) async fn forget(tx: &mut Session, operation: &Operation) -> Result<(), StoreError> {
    let id = operation.object_id;
    if let Some(volume) = find_locked(tx, id).await?.filter(|volume| volume.status == VolumeStatus::Deleting) {
        tx.execute("forget a volume", Sql::new("DELETE FROM volumes").filter("id = ", id)).await?;
        if volume.encryption_key_id.is_some() {
            keys::forget(tx, id).await?;
        }
        let type_name = volume.volume_type.as_deref().unwrap_or_default();
        if volume.consumes_quota {
            quotas::release(tx, &volume.project_id, &quotas::of_volume(type_name, volume.size_gib, -1)).await?;
        }
        quotas::release_pool(tx, &volume.host, volume.size_gib).await?;
    }
    operations::end(tx, operation, operations::Ending::done()).await
}

/// Reads one volume and keeps others from changing it until the transaction ends.
pub(super) async fn lock(tx: &mut Session, id: Uuid) -> Result<Volume, StoreError> {
    find_locked(tx, id).await?.ok_or_else(|| Refusal::VolumeNotFound(id.to_string()).into())
}

/// The same, where it may be gone.
pub(super) async fn find_locked(tx: &mut Session, id: Uuid) -> Result<Option<Volume>, StoreError> {
    let query = Sql::new(SELECT_VOLUMES).filter("volumes.id = ", id).for_update();
    tx.optional("read a volume", query).await?.as_ref().map(rows::volume).transpose()
}

/// Sets a volume's status within a transaction.
pub(super) async fn set_status(tx: &mut Session, id: Uuid, status: VolumeStatus) -> Result<(), StoreError> {
    let update = Sql::update("volumes", [("status", status.as_str().into()), ("updated_at_us", now_us().into())]);
    tx.execute("change a volume's status", update.filter("id = ", id)).await?;
    Ok(())
}
