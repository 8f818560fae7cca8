//! Backups: accepted, and made, restored, deleted or taken over afterwards.

use uuid::Uuid;

use super::{Accept, AcceptError};
use crate::domain::{Asker, Backup, ImportedBackup, NewBackup, Volume};

impl Accept {
    /// Accepts a backup; it is made afterwards.
    pub async fn create_backup(&self, new: NewBackup, by: Asker) -> Result<Backup, AcceptError> {
        self.run(move |accept| {
            Box::pin(async move {
                let (backup, operation) = accept.store.insert_backup(new, by, &accept.limits).await?;
                accept.send(&operation).await;
                Ok(backup)
            })
        })
        .await
    }

    /// Accepts what another instance exported; whether it is there is looked at afterwards.
    pub async fn import_backup(&self, new: ImportedBackup, zone: String, by: Asker) -> Result<Backup, AcceptError> {
        self.run(move |accept| {
            Box::pin(async move {
                let (backup, operation) = accept.store.insert_imported_backup(new, &zone, by, &accept.limits).await?;
                accept.send(&operation).await;
                Ok(backup)
            })
        })
        .await
    }

    /// Accepts the deletion of a backup; it is removed afterwards, by the operation whose id is given.
    pub async fn delete_backup(&self, id: Uuid, force: bool, by: Asker) -> Result<Uuid, AcceptError> {
        self.run(move |accept| {
            Box::pin(async move {
                let operation = accept.store.begin_delete_backup(id, force, by).await?;
                accept.send(&operation).await;
                Ok(operation.id)
            })
        })
        .await
    }

    /// Accepts that a backup is written into a volume that is there; that happens afterwards.
    pub async fn restore_backup(&self, id: Uuid, volume_id: Uuid, by: Asker) -> Result<Volume, AcceptError> {
        self.run(move |accept| {
            Box::pin(async move {
                let (volume, operation) = accept.store.begin_restore(id, volume_id, by).await?;
                accept.send(&operation).await;
                Ok(volume)
            })
        })
        .await
    }
}
