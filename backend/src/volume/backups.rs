//! Backups on the host that has the volume: its bytes are read into the store of backups, and written from there.
//!
//! What hosts may be writing to is not read: a clone of one moment is, where the driver can make one, and so is a snapshot.

use serde_json::Value;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::error::{VolumeError, chain};
use super::host::{Parts, stored};
use super::snapshots::stored_snapshot;
use crate::backup::{self, BackupError, Parent, Place};
use crate::domain::{Backup, BackupStatus, NewMessage, Operation, OperationKind, Volume, VolumeStatus};
use crate::drivers::Stored;
use crate::image::Progress;
use crate::operations::Next;
use crate::store::{Ending, StoreError, WrittenBackup};

/// The field's number for "a backup could not be made".
const EVENT_NOT_MADE: &str = "VOLUME_VOLUME_BACKUP_013_001";

impl Parts {
    /// Makes a backup.
    pub(super) async fn create_backup(&self, operation: &Operation) -> Result<Next, VolumeError> {
        let done = tokio::select! {
            done = self.back_up(operation) => done,
            () = self.is_stopping() => return self.leave(operation).await,
        };
        let id = operation.object_id;
        let (written, ending) = match done {
            Ok(written) => {
                info!(backup = %id, objects = written.object_count, "backup made");
                (Some(written), Ending::done())
            }
            Err(VolumeError::Store(error @ StoreError::Query { .. })) => return Err(error.into()),
            Err(error) => {
                let cause = chain(&error);
                error!(backup = %id, "{cause}");
                let message = not_made(operation, &cause);
                (None, Ending::failed(cause).telling(message))
            }
        };
        self.forget_clone(operation).await;
        if !self.store.end_backup(operation, written.as_ref(), ending).await? {
            // It was deleted by force meanwhile, and what was written after that would be nobody's.
            let container = operation.request.get("container").and_then(Value::as_str).unwrap_or_default();
            backup::remove_all(self.backups.as_ref(), &Place::new(container, id)?).await?;
        }
        Ok(Next::Ended)
    }

    async fn back_up(&self, operation: &Operation) -> Result<WrittenBackup, VolumeError> {
        let backup = self.store.backup(operation.object_id).await?;
        let volume = self.store.volume(backup.volume_id).await?;
        let place = Place::new(&backup.container, backup.id)?;
        let parent = match backup.parent_id {
            Some(id) => Some(self.parent(&self.store.backup(id).await?).await?),
            None => None,
        };
        let source = self.still_source(&backup, &volume).await?;
        let progress = Progress::default();
        let written = async {
            let pieces = self.driver(&volume.host)?.copy_out(&source);
            let store = self.backups.as_ref();
            Ok(backup::write(store, &place, parent.as_ref(), source.size_bytes, pieces, &progress).await?)
        };
        self.noting(operation, "backing up", &progress, written).await
    }

    async fn parent(&self, parent: &Backup) -> Result<Parent, VolumeError> {
        let place = Place::new(&parent.container, parent.id)?;
        let digest = parent.manifest.as_deref().ok_or(BackupError::Unfinished(parent.id))?;
        let manifest = backup::open(self.backups.as_ref(), &place, digest).await?;
        Ok(Parent { place, manifest })
    }

    /// What holds the bytes that are to be read and does not change: the volume, or a clone that is nobody's. After a crash the clone is
    /// found again, with the bytes of the moment it was made.
    async fn still_source(&self, backup: &Backup, volume: &Volume) -> Result<Stored, VolumeError> {
        let driver = self.driver(&volume.host)?;
        let mut clone = clone_of(volume, backup.id);
        let _turn = self.locks.lock(volume.id).await;
        if let Some(snapshot) = backup.snapshot_id {
            let snapshot = self.store.snapshot(snapshot).await?;
            let snapshot = stored_snapshot(&snapshot, volume);
            clone.size_bytes = backup.size_gib.saturating_mul(crate::domain::volume::GIB);
            clone.provider = driver.create_from_snapshot(&clone, &snapshot).await?;
            return Ok(clone);
        }
        let mut source = stored(volume);
        if self.store.attachments_of(&[volume.id]).await?.is_empty() {
            source.in_use = false;
            return Ok(source);
        }
        clone.provider = self.cloned(&clone, volume).await?;
        Ok(clone)
    }

    /// Removes the clone that was read, where there is one.
    async fn forget_clone(&self, operation: &Operation) {
        let removed = async {
            let volume = self.store.volume(operation.id_in("volume_id").unwrap_or_default()).await?;
            let _turn = self.locks.lock(volume.id).await;
            Ok::<_, VolumeError>(self.driver(&volume.host)?.delete(&clone_of(&volume, operation.object_id)).await?)
        };
        if let Err(error) = removed.await {
            warn!(backup = %operation.object_id, "cannot remove the clone that was read: {}", chain(&error));
        }
    }

    /// Writes a backup into a volume: into one that is there, or one that this host has just made for it.
    pub(super) async fn restore_backup(&self, operation: &Operation) -> Result<Next, VolumeError> {
        let done = tokio::select! {
            done = self.write_back(operation) => done,
            () = self.is_stopping() => return self.leave(operation).await,
        };
        let ending = match done {
            Ok(volume) => {
                info!(operation = %operation.id, volume = %volume, "backup restored");
                Ending::done()
            }
            Err(VolumeError::Store(error @ StoreError::Query { .. })) => return Err(error.into()),
            Err(error) => {
                let cause = chain(&error);
                error!(operation = %operation.id, "{cause}");
                backup::not_restored(operation, cause)
            }
        };
        self.store.end_restore(operation, ending).await?;
        Ok(Next::Ended)
    }

    async fn write_back(&self, operation: &Operation) -> Result<Uuid, VolumeError> {
        let (backup, volume) = operation.restores().unwrap_or_default();
        let (backup, volume) = (self.store.backup(backup).await?, self.store.volume(volume).await?);
        let held = operation.kind == OperationKind::VolumeCreate || backup.status == BackupStatus::Restoring;
        if volume.status != VolumeStatus::RestoringBackup || !held {
            let problem = format!("the volume is {} and the backup {}", volume.status, backup.status);
            return Err(BackupError::Nonsense { object: format!("backup {}", backup.id), why: problem }.into());
        }
        let Parent { place, manifest } = self.parent(&backup).await?;
        let driver = self.driver(&volume.host)?;
        let mut to = stored(&volume);
        to.in_use = false;
        let progress = Progress::default();
        let written = async {
            let existing = driver.copy_out(&to);
            let pieces = backup::pieces(self.backups.clone(), place, manifest, existing, progress.clone());
            Ok(driver.copy_in(&to, pieces).await?)
        };
        self.noting(operation, "restoring", &progress, written).await?;
        Ok(volume.id)
    }

    /// Puts work that takes long back, where this process stops: the next one does it.
    pub(super) async fn leave(&self, operation: &Operation) -> Result<Next, VolumeError> {
        self.store.pass_on(operation, &operation.queue).await?;
        Ok(Next::HandedTo(operation.queue.clone()))
    }

    pub(super) async fn is_stopping(&self) {
        // Whoever holds the other end being gone is a stop as well.
        let _ = self.stopping.clone().wait_for(|stopping| *stopping).await;
    }
}

/// The clone that a backup reads.
fn clone_of(volume: &Volume, backup: Uuid) -> Stored {
    Stored { id: Operation::clone_for_backup(backup), in_use: false, provider: None, ..stored(volume) }
}

fn not_made(operation: &Operation, cause: &str) -> NewMessage {
    NewMessage {
        resource_type: "VOLUME_BACKUP",
        resource_id: operation.object_id,
        event_id: EVENT_NOT_MADE.into(),
        user_message: format!("create backup:{cause}"),
        why_not: None,
    }
}
