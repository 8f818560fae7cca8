//! What is set rather than worked for: readonly, bootable, statuses that an administrator corrects; and two works that begin
//! with a status of their own, revert and forced deletion.

use serde_json::json;
use uuid::Uuid;

use super::engine::{Sql, Value};
use super::{Ending, Store, StoreError, attachments, now_us, operations, snapshots, volumes};
use crate::domain::place::{SCHEDULER_QUEUE, volume_queue};
use crate::domain::{Asker, NewOperation, Operation, OperationKind, Refusal, SnapshotStatus, VolumeStatus};

impl Store {
    /// Whether one can boot from the volume.
    pub async fn set_bootable(&self, id: Uuid, bootable: bool) -> Result<(), StoreError> {
        self.set_flag(id, "bootable", bootable).await
    }

    /// Whether hosts may only read the volume. Not while one has it.
    pub async fn set_readonly(&self, id: Uuid, readonly: bool) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let volume = volumes::lock(&mut tx, id).await?;
        if volume.status != VolumeStatus::Available {
            let text = format!(
                "Invalid volume: Volume {id} status must be available to update readonly flag, but current status is: {}.",
                volume.status
            );
            return Err(Refusal::Invalid(text).into());
        }
        let update = Sql::update("volumes", [("readonly", readonly.into()), ("updated_at_us", now_us().into())]);
        tx.execute("change a volume", update.filter("id = ", id)).await?;
        tx.commit().await
    }

    async fn set_flag(&self, id: Uuid, column: &'static str, value: bool) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        volumes::lock(&mut tx, id).await?;
        let update = Sql::update("volumes", [(column, value.into()), ("updated_at_us", now_us().into())]);
        tx.execute("change a volume", update.filter("id = ", id)).await?;
        tx.commit().await
    }

    /// Sets a volume's status, its migration's, or both, whatever they are.
    pub async fn reset_volume(
        &self,
        id: Uuid,
        status: Option<VolumeStatus>,
        migration: Option<Option<String>>,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let volume = volumes::lock(&mut tx, id).await?;
        let status = status.unwrap_or(volume.status);
        let update = Sql::update(
            "volumes",
            [
                ("status", status.as_str().into()),
                ("migration_status", migration.unwrap_or(volume.migration_status).into()),
                ("updated_at_us", now_us().into()),
            ],
        );
        tx.execute("correct a volume's status", update.filter("id = ", id)).await?;
        if status != VolumeStatus::AwaitingTransfer {
            tx.execute("forget a transfer", Sql::new("DELETE FROM transfers").filter("volume_id = ", id)).await?;
        }
        tx.commit().await
    }

    /// Sets a snapshot's status, whatever it is.
    pub async fn reset_snapshot(&self, id: Uuid, status: SnapshotStatus) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        snapshots::lock(&mut tx, id).await?;
        snapshots::set_status(&mut tx, id, status).await?;
        tx.commit().await
    }

    /// Records that a volume is to be deleted whatever its status, but not while anything holds it.
    pub async fn force_delete(&self, id: Uuid, by: Asker) -> Result<Operation, StoreError> {
        let mut tx = self.begin().await?;
        let volume = volumes::lock(&mut tx, id).await?;
        let held = !attachments::of_volume(&mut tx, id).await?.is_empty() || snapshots::count_of(&mut tx, id).await? > 0;
        if held || volume.is_migrating() {
            return Err(Refusal::NotDeletable.into());
        }
        tx.execute("forget a transfer", Sql::new("DELETE FROM transfers").filter("volume_id = ", id)).await?;
        volumes::set_status(&mut tx, id, VolumeStatus::Deleting).await?;
        let queue = if volume.host.is_empty() { SCHEDULER_QUEUE.into() } else { volume_queue(&volume.host) };
        let operation = NewOperation { kind: OperationKind::VolumeDelete, object_id: id, queue, request: json!({}), by };
        let operation = operations::accept(&mut tx, operation).await?;
        tx.commit().await?;
        Ok(operation)
    }

    /// Records that a volume is to have its latest snapshot's bytes again, and accepts the operation that does it.
    pub async fn begin_revert(&self, id: Uuid, snapshot_id: Uuid, by: Asker) -> Result<Operation, StoreError> {
        let mut tx = self.begin().await?;
        let volume = volumes::lock(&mut tx, id).await?;
        let mut latest = Sql::new("SELECT id FROM snapshots").filter("volume_id = ", id);
        latest.push(" ORDER BY seq DESC LIMIT 1");
        let latest = tx.optional("look for the latest snapshot", latest).await?.map(|row| row.uuid("id")).transpose()?;
        if latest != Some(snapshot_id) {
            let text = format!(
                "Invalid input received: Can't revert volume {id} to snapshot {snapshot_id}: it is not the volume's latest."
            );
            return Err(Refusal::Invalid(text).into());
        }
        let snapshot = snapshots::lock(&mut tx, snapshot_id).await?;
        if volume.status != VolumeStatus::Available {
            let text = format!(
                "Invalid volume: Can't revert volume {id} to its latest snapshot. Volume's status must be 'available', but it is \
                 {}.",
                volume.status
            );
            return Err(Refusal::Invalid(text).into());
        }
        if snapshot.status != SnapshotStatus::Available {
            let text = format!(
                "Invalid snapshot: Can't revert volume {id} to its latest snapshot. Snapshot's status must be 'available', but it \
                 is {}.",
                snapshot.status
            );
            return Err(Refusal::Invalid(text).into());
        }
        volumes::set_status(&mut tx, id, VolumeStatus::Reverting).await?;
        snapshots::set_status(&mut tx, snapshot_id, SnapshotStatus::Restoring).await?;
        let (queue, request) = (volume_queue(&volume.host), json!({ "snapshot_id": snapshot_id }));
        let operation = NewOperation { kind: OperationKind::VolumeRevert, object_id: id, queue, request, by };
        let operation = operations::accept(&mut tx, operation).await?;
        tx.commit().await?;
        Ok(operation)
    }

    /// Ends a revert: both are available, or the volume is in error and the snapshot, which nothing was written to, available.
    pub async fn end_revert(&self, operation: &Operation, snapshot_id: Uuid, ending: Ending) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let to = if ending.cause.is_some() { VolumeStatus::Error } else { VolumeStatus::Available };
        let update = Sql::update("volumes", [("status", to.as_str().into()), ("updated_at_us", Value::from(now_us()))]);
        let update = update.filter("id = ", operation.object_id).filter("status = ", VolumeStatus::Reverting.as_str());
        tx.execute("end a revert", update).await?;
        let update = Sql::update("snapshots", [("status", SnapshotStatus::Available.as_str().into())]);
        let update = update.filter("id = ", snapshot_id).filter("status = ", SnapshotStatus::Restoring.as_str());
        tx.execute("end a revert", update).await?;
        operations::end(&mut tx, operation, ending).await?;
        tx.commit().await
    }
}
