//! Backups in the database: asked for, read, changed, deleted, taken over. What work makes of them is in `backup_work.rs`.

use std::collections::BTreeMap;

use serde_json::json;
use uuid::Uuid;

use super::engine::{Row, Session, Sql, Value};
use super::page::{self, SortKey};
use super::{Limits, Store, StoreError, keys, now_us, operations, quotas, snapshots, volumes};
use crate::domain::place::BACKUP_QUEUE;
use crate::domain::{
    Asker, Backup, BackupStatus, ImportedBackup, NewBackup, NewOperation, Operation, OperationKind, Refusal, SnapshotStatus,
    Volume, VolumeStatus, backup,
};

/// Where in the store a backup is that asks for no place.
const DEFAULT_CONTAINER: &str = "backups";

/// What the owner may change; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct BackupChange {
    /// A new name, or none any more.
    pub name: Option<Option<String>>,
    /// A new description, or none any more.
    pub description: Option<Option<String>>,
    /// The whole metadata, in place of what was there.
    pub metadata: Option<BTreeMap<String, String>>,
}

/// Which backups to list, in which order; `None` is any.
#[derive(Clone, Debug, Default)]
pub struct BackupFilter {
    /// Those of this project.
    pub project_id: Option<String>,
    /// Those whose name contains this.
    pub name_contains: Option<String>,
    /// Those where these columns have these values.
    pub equal: Vec<(&'static str, String)>,
    /// Ordered by this, then by age; by age where it is none.
    pub sort_key: Option<SortKey>,
    /// Oldest or smallest first.
    pub ascending: bool,
    /// After this one.
    pub marker: Option<Uuid>,
    /// At most so many.
    pub limit: u32,
    /// Skip so many.
    pub offset: u32,
}

/// All of a backup, with whether others hold the differences from it.
const SELECT: &str =
    "SELECT backups.*, (SELECT COUNT(*) FROM backups c WHERE c.parent_id = backups.id) AS dependents FROM backups";

impl Store {
    /// Records a backup as `creating` and its volume, or snapshot, as being backed up; charges the asker's quota and accepts the
    /// operation that makes it.
    pub async fn insert_backup(&self, new: NewBackup, by: Asker, limits: &Limits) -> Result<(Backup, Operation), StoreError> {
        let mut tx = self.begin().await?;
        let volume = volumes::lock(&mut tx, new.volume_id).await?;
        let now = now_us();
        let mut data_at_us = now;
        let mut before_us = None;
        match new.snapshot_id {
            None => {
                backup::may_back_up(&volume, new.force)?;
                volumes::set_status(&mut tx, volume.id, VolumeStatus::BackingUp).await?;
            }
            Some(id) => {
                let snapshot = snapshots::lock(&mut tx, id).await?;
                backup::may_back_up_snapshot(&volume, &snapshot)?;
                snapshots::set_status(&mut tx, id, SnapshotStatus::BackingUp).await?;
                data_at_us = snapshot.created_at_us;
                before_us = Some(data_at_us);
            }
        }
        let parent = match new.incremental {
            true => Some(backup::parent(of_volume(&mut tx, &volume, &by.project_id).await?, before_us)?),
            false => None,
        };
        let parent_id = parent.as_ref().map(|parent| parent.id);
        // The differences are where the whole is.
        let container = parent.map(|parent| parent.container).or(new.container).unwrap_or_else(|| DEFAULT_CONTAINER.into());
        // What is to be put right at the end, also where the backup is gone by then.
        let request = json!({ "volume_id": volume.id, "snapshot_id": new.snapshot_id, "container": container });
        quotas::charge(&mut tx, &by.project_id, &quotas::of_backup(volume.size_gib, 1), limits).await?;
        let id = Uuid::new_v4();
        let insert = Sql::insert(
            "backups",
            [
                ("id", id.into()),
                ("volume_id", volume.id.into()),
                ("snapshot_id", new.snapshot_id.into()),
                ("parent_id", parent_id.into()),
                ("is_incremental", parent_id.is_some().into()),
                ("project_id", by.project_id.as_str().into()),
                ("user_id", by.user_id.as_str().into()),
                ("name", new.name.into()),
                ("description", new.description.into()),
                ("size_gib", volume.size_gib.into()),
                ("status", BackupStatus::Creating.as_str().into()),
                ("container", container.into()),
                ("availability_zone", new.availability_zone.into()),
                ("metadata", Value::from(&new.metadata)),
                ("encryption_key_id", new.key.as_ref().map(|key| key.id).into()),
                ("volume_type_id", volume.volume_type_id.clone().into()),
                ("data_at_us", data_at_us.into()),
                ("created_at_us", now.into()),
            ],
        );
        tx.execute("record a new backup", insert).await?;
        // Who copies encrypted bytes needs no key, so one that somebody else keeps has nothing to do here.
        if let Some(key) = new.key.as_ref().filter(|key| key.is_kept) {
            keys::insert(&mut tx, key, id).await?;
        }
        let operation = accept(&mut tx, OperationKind::BackupCreate, id, request, by).await?;
        let backup = find(&mut tx, id).await?;
        tx.commit().await?;
        Ok((backup, operation))
    }

    /// Records a backup that another instance has made and accepts the operation that looks whether it is there.
    pub async fn insert_imported_backup(
        &self,
        new: ImportedBackup,
        zone: &str,
        by: Asker,
        limits: &Limits,
    ) -> Result<(Backup, Operation), StoreError> {
        let mut tx = self.begin().await?;
        let query = Sql::new("SELECT id FROM backups").filter("id = ", new.id);
        if tx.optional("look for a backup", query).await?.is_some() {
            return Err(Refusal::Invalid("Invalid backup: Backup already exists in database.".into()).into());
        }
        quotas::charge(&mut tx, &by.project_id, &quotas::of_backup(new.size_gib, 1), limits).await?;
        let insert = Sql::insert(
            "backups",
            [
                ("id", new.id.into()),
                ("volume_id", Uuid::nil().into()),
                ("parent_id", new.parent_id.into()),
                ("is_incremental", new.parent_id.is_some().into()),
                ("project_id", by.project_id.as_str().into()),
                ("user_id", by.user_id.as_str().into()),
                ("name", new.name.into()),
                ("description", new.description.into()),
                ("size_gib", new.size_gib.into()),
                ("status", BackupStatus::Creating.as_str().into()),
                ("container", new.container.into()),
                ("object_count", new.object_count.into()),
                ("availability_zone", zone.into()),
                ("manifest", new.manifest.into()),
                ("data_at_us", new.data_at_us.into()),
                ("created_at_us", now_us().into()),
            ],
        );
        tx.execute("record an imported backup", insert).await?;
        let operation = accept(&mut tx, OperationKind::BackupImport, new.id, json!({}), by).await?;
        let backup = find(&mut tx, new.id).await?;
        tx.commit().await?;
        Ok((backup, operation))
    }

    /// Reads one backup; refused as "not found" where there is none.
    pub async fn backup(&self, id: Uuid) -> Result<Backup, StoreError> {
        find(&mut self.read().await?, id).await
    }

    /// Lists backups, newest first unless asked otherwise.
    pub async fn backups(&self, filter: &BackupFilter) -> Result<Vec<Backup>, StoreError> {
        let mut session = self.read().await?;
        let mut query = Sql::new(SELECT);
        query.push(" WHERE 1 = 1");
        conditions(&mut query, filter, session.is_postgres());
        let key = filter.sort_key.unwrap_or(SortKey::CreatedAt).expression();
        let (order, beyond) = if filter.ascending { ("ASC", ">") } else { ("DESC", "<") };
        if let Some(marker) = filter.marker {
            find(&mut session, marker).await?;
            let after = format!(" AND ({key}, seq) {beyond} (SELECT {key}, seq FROM backups WHERE id = ");
            query.push_bind(&after, marker).push(")");
        }
        query.push_bind(&format!(" ORDER BY {key} {order}, seq {order} LIMIT "), filter.limit);
        query.push_bind(" OFFSET ", filter.offset);
        session.all("list backups", query).await?.iter().map(backup_of).collect()
    }

    /// How many backups match, whatever the page.
    pub async fn count_backups(&self, filter: &BackupFilter) -> Result<i64, StoreError> {
        let mut session = self.read().await?;
        let mut query = Sql::new("SELECT COUNT(*) FROM backups WHERE 1 = 1");
        conditions(&mut query, filter, session.is_postgres());
        session.number("count backups", query).await
    }

    /// Changes what the owner may change.
    pub async fn change_backup(&self, id: Uuid, change: BackupChange) -> Result<Backup, StoreError> {
        let mut tx = self.begin().await?;
        let backup = lock(&mut tx, id).await?;
        let update = Sql::update(
            "backups",
            [
                ("name", change.name.unwrap_or(backup.name).into()),
                ("description", change.description.unwrap_or(backup.description).into()),
                ("metadata", Value::from(&change.metadata.unwrap_or(backup.metadata))),
                ("updated_at_us", now_us().into()),
            ],
        );
        tx.execute("change a backup", update.filter("id = ", id)).await?;
        let backup = find(&mut tx, id).await?;
        tx.commit().await?;
        Ok(backup)
    }

    /// Sets a backup's status, where that can be true.
    pub async fn reset_backup(&self, id: Uuid, status: BackupStatus) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        backup::may_be_set_to(&lock(&mut tx, id).await?, status)?;
        set_status(&mut tx, id, status, None).await?;
        tx.commit().await
    }

    /// Records that the backup is to be deleted, where it may be, and accepts the operation that does it.
    pub async fn begin_delete_backup(&self, id: Uuid, force: bool, by: Asker) -> Result<Operation, StoreError> {
        let mut tx = self.begin().await?;
        let mut backup = lock(&mut tx, id).await?;
        // Counted anew: one may have come while this waited for the row.
        let dependents = Sql::new("SELECT COUNT(*) FROM backups").filter("parent_id = ", id);
        backup.has_dependents = tx.number("count a backup's dependents", dependents).await? > 0;
        let making = Sql::new("SELECT COUNT(*) FROM volumes WHERE backup_id = ? AND status IN (?, ?)").bind(id);
        let making = making.bind(VolumeStatus::Creating.as_str()).bind(VolumeStatus::RestoringBackup.as_str());
        let is_read = tx.number("count the volumes made from a backup", making).await? > 0;
        backup::may_delete(&backup, is_read, force)?;
        set_status(&mut tx, id, BackupStatus::Deleting, None).await?;
        let operation = accept(&mut tx, OperationKind::BackupDelete, id, json!({}), by).await?;
        tx.commit().await?;
        Ok(operation)
    }

    /// Records that the backup is to be written into a volume, where it may be, and accepts the operation that does it.
    pub async fn begin_restore(&self, id: Uuid, volume_id: Uuid, by: Asker) -> Result<(Volume, Operation), StoreError> {
        let mut tx = self.begin().await?;
        let volume = volumes::lock(&mut tx, volume_id).await?;
        let backup = lock(&mut tx, id).await?;
        backup::may_restore_to(&backup, &volume)?;
        volumes::set_status(&mut tx, volume_id, VolumeStatus::RestoringBackup).await?;
        set_status(&mut tx, id, BackupStatus::Restoring, None).await?;
        let update = Sql::update("backups", [("restore_volume_id", volume_id.into())]).filter("id = ", id);
        tx.execute("record where a backup is restored to", update).await?;
        let request = json!({ "volume_id": volume_id });
        let operation = accept(&mut tx, OperationKind::BackupRestore, id, request, by).await?;
        tx.commit().await?;
        Ok((volume, operation))
    }
}

async fn accept(
    tx: &mut Session,
    kind: OperationKind,
    id: Uuid,
    request: serde_json::Value,
    by: Asker,
) -> Result<Operation, StoreError> {
    let operation = NewOperation { kind, object_id: id, queue: BACKUP_QUEUE.into(), request, by };
    operations::accept(tx, operation).await
}

fn conditions(query: &mut Sql, filter: &BackupFilter, postgres: bool) {
    if let Some(project) = &filter.project_id {
        query.push_bind(" AND project_id = ", project);
    }
    for (column, value) in &filter.equal {
        query.push_bind(&format!(" AND {column} = "), value);
    }
    page::contains(query, "name", filter.name_contains.as_ref(), postgres);
}

/// The backups a project has of a volume; none of them is deleted until the transaction ends.
async fn of_volume(session: &mut Session, volume: &Volume, project_id: &str) -> Result<Vec<Backup>, StoreError> {
    let query = Sql::new(SELECT).filter("volume_id = ", volume.id).filter("project_id = ", project_id).for_update();
    session.all("list a volume's backups", query).await?.iter().map(backup_of).collect()
}

pub(super) async fn lock(tx: &mut Session, id: Uuid) -> Result<Backup, StoreError> {
    find_locked(tx, id).await?.ok_or_else(|| Refusal::BackupNotFound(id.to_string()).into())
}

/// Reads one backup, where there is one, and keeps others from changing it until the transaction ends.
pub(super) async fn find_locked(tx: &mut Session, id: Uuid) -> Result<Option<Backup>, StoreError> {
    let query = Sql::new(SELECT).filter("backups.id = ", id).for_update();
    tx.optional("read a backup", query).await?.as_ref().map(backup_of).transpose()
}

async fn find(session: &mut Session, id: Uuid) -> Result<Backup, StoreError> {
    match session.optional("read a backup", Sql::new(SELECT).filter("backups.id = ", id)).await? {
        Some(row) => backup_of(&row),
        None => Err(Refusal::BackupNotFound(id.to_string()).into()),
    }
}

/// Sets a backup's status, and why, within a transaction.
pub(super) async fn set_status(
    tx: &mut Session,
    id: Uuid,
    status: BackupStatus,
    fail_reason: Option<&str>,
) -> Result<(), StoreError> {
    let update = Sql::update(
        "backups",
        [("status", status.as_str().into()), ("fail_reason", fail_reason.into()), ("updated_at_us", now_us().into())],
    );
    tx.execute("change a backup's status", update.filter("id = ", id)).await?;
    Ok(())
}

fn backup_of(row: &Row) -> Result<Backup, StoreError> {
    Ok(Backup {
        id: row.uuid("id")?,
        volume_id: row.uuid("volume_id")?,
        snapshot_id: row.optional_uuid("snapshot_id")?,
        parent_id: row.optional_uuid("parent_id")?,
        project_id: row.text("project_id")?,
        user_id: row.text("user_id")?,
        name: row.optional_text("name")?,
        description: row.optional_text("description")?,
        size_gib: row.size("size_gib")?,
        status: row.word("status", BackupStatus::parse)?,
        fail_reason: row.optional_text("fail_reason")?,
        container: row.text("container")?,
        object_count: row.size("object_count")?,
        availability_zone: row.text("availability_zone")?,
        metadata: row.json("metadata")?,
        manifest: row.optional_text("manifest")?,
        encryption_key_id: row.optional_text("encryption_key_id")?,
        volume_type_id: row.optional_text("volume_type_id")?,
        restore_volume_id: row.optional_uuid("restore_volume_id")?,
        has_dependents: row.flag("dependents")?,
        data_at_us: row.int("data_at_us")?,
        created_at_us: row.int("created_at_us")?,
        updated_at_us: row.optional_int("updated_at_us")?,
    })
}
