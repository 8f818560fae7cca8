//! What work makes of backups: each end is one transaction for the backup, the volume or snapshot it has to do with, and the operation.

use serde_json::json;
use uuid::Uuid;

use super::engine::{Session, Sql};
use super::{Ending, Store, StoreError, attachments, backups, keys, now_us, operations, quotas, volumes};
use crate::domain::place::BACKUP_QUEUE;
use crate::domain::{BackupStatus, Operation, OperationKind, SnapshotStatus, VolumeStatus, rules};

/// What was put into the store for a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenBackup {
    /// The SHA-256 of its manifest, in hexadecimal.
    pub manifest: String,
    /// How many chunks it has put into the store.
    pub object_count: u64,
}

impl Store {
    /// Ends the making of a backup; `written` is none where it failed. Its volume is what its attachments make of it. False where
    /// the backup was given up meanwhile: what was written is nobody's.
    pub async fn end_backup(
        &self,
        operation: &Operation,
        written: Option<&WrittenBackup>,
        ending: Ending,
    ) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let id = operation.object_id;
        // The operation knows them: the backup may be gone.
        match (operation.id_in("snapshot_id"), operation.id_in("volume_id")) {
            (Some(snapshot), _) => free_snapshot(&mut tx, snapshot).await?,
            (None, Some(volume)) => free_volume(&mut tx, volume, VolumeStatus::BackingUp, None).await?,
            (None, None) => {}
        }
        let wanted = backups::find_locked(&mut tx, id).await?.is_some_and(|backup| backup.status == BackupStatus::Creating);
        if wanted {
            let status = if written.is_some() { BackupStatus::Available } else { BackupStatus::Error };
            backups::set_status(&mut tx, id, status, ending.cause.as_deref()).await?;
            if let Some(written) = written {
                let update = Sql::update(
                    "backups",
                    [("manifest", written.manifest.as_str().into()), ("object_count", written.object_count.into())],
                );
                tx.execute("record what a backup wrote", update.filter("id = ", id)).await?;
            }
        }
        operations::end(&mut tx, operation, ending).await?;
        tx.commit().await?;
        Ok(wanted)
    }

    /// A new volume has its storage and waits for its backup's bytes: hands its operation to the backup services. False where nobody
    /// wants it any more; then the operation has ended.
    pub async fn begin_filling(&self, operation: &Operation, backup_id: Uuid) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let wanted = volumes::find_locked(&mut tx, operation.object_id).await?;
        let wanted = wanted.is_some_and(|volume| volume.status == VolumeStatus::Creating);
        if wanted {
            volumes::set_status(&mut tx, operation.object_id, VolumeStatus::RestoringBackup).await?;
            operations::hand_over(&mut tx, operation.id, BACKUP_QUEUE, &json!({ "backup_id": backup_id })).await?;
        } else {
            operations::end(&mut tx, operation, Ending::failed("the volume is not creating any more")).await?;
        }
        tx.commit().await?;
        Ok(wanted)
    }

    /// Ends a restore: the backup is available whatever came of it, the volume is available, or `error_restoring`; one that was made
    /// for it, `error`.
    pub async fn end_restore(&self, operation: &Operation, ending: Ending) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        if let Some((id, volume)) = operation.restores() {
            let is_new = operation.kind == OperationKind::VolumeCreate;
            let failed = if is_new { VolumeStatus::Error } else { VolumeStatus::ErrorRestoring };
            free_volume(&mut tx, volume, VolumeStatus::RestoringBackup, ending.cause.as_ref().map(|_| failed)).await?;
            // For a volume of its own a backup is not held: several may be made from it at once.
            let held = if is_new { BackupStatus::Available } else { BackupStatus::Restoring };
            if backups::find_locked(&mut tx, id).await?.is_some_and(|backup| backup.status == held) {
                backups::set_status(&mut tx, id, BackupStatus::Available, ending.cause.as_deref()).await?;
            }
        }
        operations::end(&mut tx, operation, ending).await?;
        tx.commit().await
    }

    /// Ends what concerns the backup alone: an import, or a deletion that failed.
    pub async fn end_backup_work(
        &self,
        operation: &Operation,
        from: BackupStatus,
        to: BackupStatus,
        ending: Ending,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        if backups::find_locked(&mut tx, operation.object_id).await?.is_some_and(|backup| backup.status == from) {
            backups::set_status(&mut tx, operation.object_id, to, ending.cause.as_deref()).await?;
        }
        operations::end(&mut tx, operation, ending).await?;
        tx.commit().await
    }

    /// Forgets a backup that is in the store no more, gives back its quota, ends the operation.
    pub async fn forget_backup(&self, operation: &Operation) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        if let Some(backup) = backups::find_locked(&mut tx, operation.object_id).await? {
            tx.execute("forget a backup", Sql::new("DELETE FROM backups").filter("id = ", backup.id)).await?;
            if backup.encryption_key_id.is_some() {
                keys::forget(&mut tx, backup.id).await?;
            }
            quotas::release(&mut tx, &backup.project_id, &quotas::of_backup(backup.size_gib, -1)).await?;
        }
        operations::end(&mut tx, operation, Ending::done()).await?;
        tx.commit().await
    }

    /// Passes an operation on as it is: to whom has the bytes, or back into its own queue when this process stops.
    pub async fn pass_on(&self, operation: &Operation, queue: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        operations::hand_over(&mut tx, operation.id, queue, &operation.request).await?;
        tx.commit().await
    }
}

/// Gives a volume that was kept for work on its bytes the status it is to have: by its attachments, unless told otherwise.
pub(super) async fn free_volume(
    tx: &mut Session,
    id: Uuid,
    from: VolumeStatus,
    failed: Option<VolumeStatus>,
) -> Result<(), StoreError> {
    let Some(volume) = volumes::find_locked(tx, id).await?.filter(|volume| volume.status == from) else { return Ok(()) };
    let held = rules::status_held_by(&attachments::of_volume(tx, volume.id).await?);
    volumes::set_status(tx, id, failed.unwrap_or(held)).await
}

async fn free_snapshot(tx: &mut Session, id: Uuid) -> Result<(), StoreError> {
    let update =
        Sql::update("snapshots", [("status", SnapshotStatus::Available.as_str().into()), ("updated_at_us", now_us().into())]);
    let update = update.filter("id = ", id).filter("status = ", SnapshotStatus::BackingUp.as_str());
    tx.execute("free a snapshot", update).await?;
    Ok(())
}
