//! Snapshots in the database.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::engine::{Session, Sql, Value};
use super::page::{self, SortKey, TimeFilter};
use super::{Ending, Limits, Store, StoreError, now_us, operations, quotas, rows, volumes};
use crate::domain::place::volume_queue;
use crate::domain::{Asker, NewOperation, NewSnapshot, Operation, OperationKind, Refusal, Snapshot, SnapshotStatus, rules};

/// What the owner may change; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct SnapshotChange {
    /// A new name, or none any more.
    pub name: Option<Option<String>>,
    /// A new description, or none any more.
    pub description: Option<Option<String>>,
    /// The whole metadata, in place of what was there.
    pub metadata: Option<BTreeMap<String, String>>,
}

/// Which snapshots to list, in which order; `None` is any.
#[derive(Clone, Debug, Default)]
pub struct SnapshotFilter {
    /// Those of this project.
    pub project_id: Option<String>,
    /// Those of this volume.
    pub volume_id: Option<String>,
    /// Those of this name.
    pub name: Option<String>,
    /// Those whose name contains this.
    pub name_contains: Option<String>,
    /// Those in this status.
    pub status: Option<String>,
    /// The one of this id.
    pub id: Option<String>,
    /// Those that have all of these pairs.
    pub metadata: BTreeMap<String, String>,
    /// Those made then.
    pub times: Vec<TimeFilter>,
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

impl Store {
    /// Records a snapshot as `creating`, charges its owner's quota and accepts the operation that makes it.
    pub async fn insert_snapshot(
        &self,
        new: NewSnapshot,
        by: Asker,
        limits: &Limits,
    ) -> Result<(Snapshot, Operation), StoreError> {
        let mut tx = self.begin().await?;
        let volume = volumes::lock(&mut tx, new.volume_id).await?;
        rules::snapshot(&volume, new.force)?;
        let type_name = volume.volume_type.as_deref().unwrap_or_default();
        quotas::charge(&mut tx, &volume.project_id, &quotas::of_snapshot(type_name, volume.size_gib, 1), limits).await?;
        let id = Uuid::new_v4();
        let insert = Sql::insert(
            "snapshots",
            [
                ("id", id.into()),
                ("volume_id", volume.id.into()),
                ("project_id", volume.project_id.as_str().into()),
                ("user_id", by.user_id.as_str().into()),
                ("name", new.name.into()),
                ("description", new.description.into()),
                ("size_gib", volume.size_gib.into()),
                ("status", SnapshotStatus::Creating.as_str().into()),
                ("metadata", Value::from(&new.metadata)),
                ("volume_type_id", volume.volume_type_id.clone().into()),
                ("created_at_us", now_us().into()),
            ],
        );
        tx.execute("record a new snapshot", insert).await?;
        let queue = volume_queue(&volume.host);
        let request = serde_json::json!({});
        let operation = NewOperation { kind: OperationKind::SnapshotCreate, object_id: id, queue, request, by };
        let operation = operations::accept(&mut tx, operation).await?;
        let snapshot = find(&mut tx, id).await?;
        tx.commit().await?;
        Ok((snapshot, operation))
    }

    /// Reads one snapshot; refused as "not found" where there is none.
    pub async fn snapshot(&self, id: Uuid) -> Result<Snapshot, StoreError> {
        find(&mut self.read().await?, id).await
    }

    /// Lists snapshots, newest first unless asked otherwise.
    pub async fn snapshots(&self, filter: &SnapshotFilter) -> Result<Vec<Snapshot>, StoreError> {
        let mut session = self.read().await?;
        let mut query = Sql::new("SELECT * FROM snapshots WHERE 1 = 1");
        conditions(&mut query, filter, session.is_postgres());
        let key = filter.sort_key.unwrap_or(SortKey::CreatedAt).expression();
        let (order, beyond) = if filter.ascending { ("ASC", ">") } else { ("DESC", "<") };
        if let Some(marker) = filter.marker {
            find(&mut session, marker).await?;
            let after = format!(" AND ({key}, seq) {beyond} (SELECT {key}, seq FROM snapshots WHERE id = ");
            query.push_bind(&after, marker).push(")");
        }
        query.push_bind(&format!(" ORDER BY {key} {order}, seq {order} LIMIT "), filter.limit);
        query.push_bind(" OFFSET ", filter.offset);
        session.all("list snapshots", query).await?.iter().map(rows::snapshot).collect()
    }

    /// How many snapshots match, whatever the page.
    pub async fn count_snapshots(&self, filter: &SnapshotFilter) -> Result<i64, StoreError> {
        let mut session = self.read().await?;
        let mut query = Sql::new("SELECT COUNT(*) FROM snapshots WHERE 1 = 1");
        conditions(&mut query, filter, session.is_postgres());
        session.number("count snapshots", query).await
    }

    /// Changes what the owner may change. `change` sees the snapshot as it is.
    pub async fn change_snapshot(
        &self,
        id: Uuid,
        change: impl FnOnce(&Snapshot) -> Result<SnapshotChange, Refusal> + Send,
    ) -> Result<Snapshot, StoreError> {
        let mut tx = self.begin().await?;
        let snapshot = lock(&mut tx, id).await?;
        let change = change(&snapshot)?;
        let update = Sql::update(
            "snapshots",
            [
                ("name", change.name.unwrap_or(snapshot.name).into()),
                ("description", change.description.unwrap_or(snapshot.description).into()),
                ("metadata", Value::from(&change.metadata.unwrap_or(snapshot.metadata))),
                ("updated_at_us", now_us().into()),
            ],
        );
        tx.execute("change a snapshot", update.filter("id = ", id)).await?;
        let snapshot = find(&mut tx, id).await?;
        tx.commit().await?;
        Ok(snapshot)
    }

    /// Records that the snapshot is to be deleted, where it may be, and accepts the operation that does it.
    pub async fn begin_delete_snapshot(&self, id: Uuid, by: Asker) -> Result<Operation, StoreError> {
        self.delete_snapshot_if(id, by, rules::delete_snapshot).await
    }

    /// The same whatever its status.
    pub async fn force_delete_snapshot(&self, id: Uuid, by: Asker) -> Result<Operation, StoreError> {
        self.delete_snapshot_if(id, by, |_| Ok(())).await
    }

    async fn delete_snapshot_if(
        &self,
        id: Uuid,
        by: Asker,
        allowed: impl FnOnce(&Snapshot) -> Result<(), Refusal> + Send,
    ) -> Result<Operation, StoreError> {
        let mut tx = self.begin().await?;
        let snapshot = lock(&mut tx, id).await?;
        allowed(&snapshot)?;
        // A volume that is just being made reads it.
        let busy = Sql::new("SELECT COUNT(*) FROM volumes").filter("snapshot_id = ", id).filter("status = ", "creating");
        if tx.number("look for a snapshot's readers", busy).await? > 0 {
            return Err(Refusal::SnapshotNotDeletable.into());
        }
        let volume = volumes::find(&mut tx, snapshot.volume_id).await?;
        set_status(&mut tx, id, SnapshotStatus::Deleting).await?;
        let queue = volume_queue(&volume.host);
        let request = serde_json::json!({});
        let operation = NewOperation { kind: OperationKind::SnapshotDelete, object_id: id, queue, request, by };
        let operation = operations::accept(&mut tx, operation).await?;
        tx.commit().await?;
        Ok(operation)
    }

    /// Records what the driver wants to find again of a snapshot.
    pub async fn set_snapshot_provider(&self, id: Uuid, provider: &serde_json::Value) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let update = Sql::update("snapshots", [("provider", provider.into())]).filter("id = ", id);
        tx.execute("record where a snapshot is", update).await?;
        tx.commit().await
    }

    /// Ends a snapshot's work and its operation.
    pub async fn end_snapshot_work(&self, operation: &Operation, to: SnapshotStatus, ending: Ending) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let progress = if to == SnapshotStatus::Available { 100i64 } else { 0 };
        let update = Sql::update(
            "snapshots",
            [("status", to.as_str().into()), ("progress", progress.into()), ("updated_at_us", now_us().into())],
        );
        tx.execute("end a snapshot's work", update.filter("id = ", operation.object_id)).await?;
        operations::end(&mut tx, operation, ending).await?;
        tx.commit().await
    }

    /// Forgets a snapshot whose storage is gone, gives back its quota, ends the operation.
    pub async fn forget_snapshot(&self, operation: &Operation) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        if let Some(snapshot) = find_locked(&mut tx, operation.object_id).await? {
            let volume = volumes::find(&mut tx, snapshot.volume_id).await?;
            let type_name = volume.volume_type.as_deref().unwrap_or_default();
            tx.execute("forget a snapshot", Sql::new("DELETE FROM snapshots").filter("id = ", snapshot.id)).await?;
            quotas::release(&mut tx, &snapshot.project_id, &quotas::of_snapshot(type_name, snapshot.size_gib, -1)).await?;
        }
        operations::end(&mut tx, operation, Ending::done()).await?;
        tx.commit().await
    }
}

fn conditions(query: &mut Sql, filter: &SnapshotFilter, postgres: bool) {
    for (column, value) in [
        (" AND project_id = ", &filter.project_id),
        (" AND volume_id = ", &filter.volume_id),
        (" AND name = ", &filter.name),
        (" AND status = ", &filter.status),
        (" AND id = ", &filter.id),
    ] {
        if let Some(value) = value {
            query.push_bind(column, value);
        }
    }
    page::contains(query, "name", filter.name_contains.as_ref(), postgres);
    page::has_pairs(query, &filter.metadata, postgres);
    page::at_times(query, &filter.times);
}

/// How many snapshots a volume has.
pub(super) async fn count_of(session: &mut Session, volume_id: Uuid) -> Result<i64, StoreError> {
    session.number("count snapshots", Sql::new("SELECT COUNT(*) FROM snapshots").filter("volume_id = ", volume_id)).await
}

/// Reads one snapshot and keeps others from changing it until the transaction ends.
pub(super) async fn lock(tx: &mut Session, id: Uuid) -> Result<Snapshot, StoreError> {
    find_locked(tx, id).await?.ok_or_else(|| Refusal::SnapshotNotFound(id.to_string()).into())
}

async fn find_locked(tx: &mut Session, id: Uuid) -> Result<Option<Snapshot>, StoreError> {
    let query = Sql::new("SELECT * FROM snapshots").filter("id = ", id).for_update();
    tx.optional("read a snapshot", query).await?.as_ref().map(rows::snapshot).transpose()
}

async fn find(session: &mut Session, id: Uuid) -> Result<Snapshot, StoreError> {
    let query = Sql::new("SELECT * FROM snapshots").filter("id = ", id);
    match session.optional("read a snapshot", query).await? {
        Some(row) => rows::snapshot(&row),
        None => Err(Refusal::SnapshotNotFound(id.to_string()).into()),
    }
}

pub(super) async fn set_status(tx: &mut Session, id: Uuid, status: SnapshotStatus) -> Result<(), StoreError> {
    let update = Sql::update("snapshots", [("status", status.as_str().into()), ("updated_at_us", now_us().into())]);
    tx.execute("change a snapshot's status", update.filter("id = ", id)).await?;
    Ok(())
}
