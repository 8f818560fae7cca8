//! Backups: accepted, and made, restored, deleted or taken over afterwards.

use uuid::Uuid;

use super::{Accept, AcceptError};
use crate::domain::{Asker, Backup, ImportedBackup, NewBackup, NewVolume, Refusal, Volume, backup};

/// Where a backup is to be written to.
#[derive(Clone, Debug)]
pub enum RestoreTo {
    /// A volume that is there.
    Volume(Uuid),
    /// One that is made for it.
    New(Box<NewVolume>),
}

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

    /// Accepts the deletion of a backup; it is removed afterwards.
    pub async fn delete_backup(&self, id: Uuid, force: bool, by: Asker) -> Result<(), AcceptError> {
        self.run(move |accept| {
            Box::pin(async move {
                let operation = accept.store.begin_delete_backup(id, force, by).await?;
                accept.send(&operation).await;
                Ok(())
            })
        })
        .await
    }

    /// Accepts that a backup is written into a volume; that happens afterwards. A new volume is there when this returns.
    pub async fn restore_backup(&self, id: Uuid, to: RestoreTo, by: Asker) -> Result<Volume, AcceptError> {
        self.run(move |accept| {
            Box::pin(async move {
                let volume_id = match to {
                    RestoreTo::Volume(id) => id,
                    RestoreTo::New(new) => accept.volume_for(id, *new, by.clone()).await?,
                };
                let (volume, operation) = accept.store.begin_restore(id, volume_id, by).await?;
                accept.send(&operation).await;
                Ok(volume)
            })
        })
        .await
    }

    /// Makes a volume for a backup to be written into.
    async fn volume_for(&self, id: Uuid, new: NewVolume, by: Asker) -> Result<Uuid, AcceptError> {
        let refused = |refusal: Refusal| AcceptError::Store(refusal.into());
        backup::may_restore(&self.store.backup(id).await?).map_err(refused)?;
        let (volume, operation) = self.store.insert_volume(new, by, &self.limits).await?;
        match self.send_and_wait(&operation).await {
            Err(AcceptError::Failed { cause, .. }) => Err(refused(Refusal::Invalid(format!(
                "Invalid volume: Error while creating volume {} for restoring backup {id}: {cause}",
                volume.id
            )))),
            made => made.map(|()| volume.id),
        }
    }
}
