//! The backup service: takes what was accepted, looks whether the store has what it needs, and orders the work where the bytes are;
//! deletes and imports by itself. It keeps no state, so any number of them may run.
//!
//! ```text
//! api ──▶ backup ──▶ backup.<host@backend> ──▶ (end)      create: read there; restore: written there
//!            └─────▶ (end)                                delete, import
//! ```

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tracing::{error, info};
use uuid::Uuid;

use super::{BackupError, ObjectStore, Place, open, remove_all, verify_pages};
use crate::domain::place::backup_queue;
use crate::domain::{Backup, BackupStatus, NewMessage, Operation, OperationKind};
use crate::operations::{Next, Work};
use crate::store::{Ending, Store, StoreError};
use crate::volume::chain;

/// The field's number for "a backup could not be restored".
const EVENT_NOT_RESTORED: &str = "VOLUME_VOLUME_BACKUP_015_001";

/// The end of a restore that failed; its owner is told.
pub fn not_restored(operation: &Operation, cause: String) -> Ending {
    let message = NewMessage {
        resource_type: "VOLUME_BACKUP",
        resource_id: operation.restores().map_or(operation.object_id, |(backup, _)| backup),
        event_id: EVENT_NOT_RESTORED.into(),
        user_message: format!("restore backup:{cause}"),
        why_not: None,
    };
    Ending::failed(cause).telling(message)
}

/// The backup service.
pub struct BackupService {
    store: Store,
    objects: Arc<dyn ObjectStore>,
    /// Under which name this process claims operations.
    owner: String,
}

/// What could not be done: the database, or all else.
enum Failed {
    Store(StoreError),
    Backup(BackupError),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl<E: Into<BackupError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Backup(error.into())
    }
}

impl BackupService {
    /// Over this database and store of objects.
    pub fn new(store: Store, objects: Arc<dyn ObjectStore>, owner: String) -> Self {
        Self { store, objects, owner }
    }

    async fn act(&self, operation: &Operation) -> Result<Next, Failed> {
        let restores = operation.restores();
        let backup = self.store.backup(restores.map_or(operation.object_id, |(backup, _)| backup)).await?;
        match operation.kind {
            OperationKind::BackupDelete => self.delete(operation, &backup).await,
            OperationKind::BackupImport => self.import(operation, &backup).await,
            // What the work needs is looked at before anything is written to the volume, and read again there.
            OperationKind::BackupRestore | OperationKind::VolumeCreate => {
                self.look_at(&backup).await?;
                let volume = self.store.volume(restores.map_or_else(Uuid::nil, |(_, volume)| volume)).await?;
                self.order(operation, &volume.host).await
            }
            _ => {
                if let Some(parent) = backup.parent_id {
                    self.look_at(&self.store.backup(parent).await?).await?;
                }
                let volume = self.store.volume(backup.volume_id).await?;
                self.order(operation, &volume.host).await
            }
        }
    }

    async fn order(&self, operation: &Operation, host: &str) -> Result<Next, Failed> {
        let queue = backup_queue(host);
        self.store.pass_on(operation, &queue).await?;
        Ok(Next::HandedTo(queue))
    }

    /// Looks whether a backup is there, but for its chunks.
    async fn look_at(&self, backup: &Backup) -> Result<(), BackupError> {
        let place = Place::new(&backup.container, backup.id)?;
        let digest = backup.manifest.as_deref().ok_or(BackupError::Unfinished(backup.id))?;
        let manifest = open(self.objects.as_ref(), &place, digest).await?;
        if manifest.size_bytes >> 30 != backup.size_gib || manifest.parent_id != backup.parent_id {
            let why = format!("it has another size or parent than what is known of backup {}", backup.id);
            return Err(BackupError::Nonsense { object: "the manifest".into(), why });
        }
        verify_pages(self.objects.as_ref(), &place, &manifest).await
    }

    async fn delete(&self, operation: &Operation, backup: &Backup) -> Result<Next, Failed> {
        // Decided anew since: nothing of it may go.
        if backup.status == BackupStatus::Deleting {
            let place = Place::new(&backup.container, backup.id)?;
            remove_all(self.objects.as_ref(), &place).await?;
            self.store.forget_backup(operation).await?;
            info!(backup = %backup.id, "backup removed");
        } else {
            let ending = Ending::failed(format!("the backup is not deleting any more but {}", backup.status));
            self.store.end_operation(operation, ending).await?;
        }
        Ok(Next::Ended)
    }

    async fn import(&self, operation: &Operation, backup: &Backup) -> Result<Next, Failed> {
        self.look_at(backup).await?;
        let (from, to) = (BackupStatus::Creating, BackupStatus::Available);
        self.store.end_backup_work(operation, from, to, Ending::done()).await?;
        info!(backup = %backup.id, "backup imported");
        Ok(Next::Ended)
    }

    /// Ends what cannot be done; what it was about is in a true status then.
    async fn fail(&self, operation: &Operation, cause: String) -> Result<Next, StoreError> {
        error!(operation = %operation.id, kind = %operation.kind, backup = %operation.object_id, "{cause}");
        let ending = Ending::failed(cause.clone());
        let error = BackupStatus::Error;
        match operation.kind {
            OperationKind::BackupDelete => {
                self.store.end_backup_work(operation, BackupStatus::Deleting, error, ending).await?;
            }
            OperationKind::BackupImport => {
                self.store.end_backup_work(operation, BackupStatus::Creating, error, ending).await?;
            }
            OperationKind::BackupRestore | OperationKind::VolumeCreate => {
                self.store.end_restore(operation, not_restored(operation, cause)).await?;
            }
            _ => {
                self.store.end_backup(operation, None, ending).await?;
            }
        }
        Ok(Next::Ended)
    }
}

impl Work for BackupService {
    fn perform<'a>(&'a self, queue: &'a str, operation_id: Uuid) -> BoxFuture<'a, Result<Next, StoreError>> {
        Box::pin(async move {
            let Some(operation) = self.store.claim(operation_id, queue, &self.owner).await? else {
                return Ok(Next::without_work(self.store.operation_if_any(operation_id).await?.as_ref(), queue));
            };
            match self.act(&operation).await {
                Ok(next) => Ok(next),
                // What it was about is gone: an end like another.
                Err(Failed::Store(StoreError::Refused(refusal))) => self.fail(&operation, chain(&refusal)).await,
                Err(Failed::Store(error)) => Err(error),
                Err(Failed::Backup(error)) => self.fail(&operation, chain(&error)).await,
            }
        })
    }
}
