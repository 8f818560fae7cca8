//! Volumes: accepted, and made or deleted afterwards.

use uuid::Uuid;

use super::{Accept, AcceptError};
use crate::domain::{Asker, NewVolume, Volume};

impl Accept {
    /// Accepts a volume; a place is found and its storage made afterwards.
    pub async fn create_volume(&self, new: NewVolume, by: Asker) -> Result<Volume, AcceptError> {
        self.run(move |accept| {
            Box::pin(async move {
                let (volume, operation) = accept.store.insert_volume(new, by, &accept.limits).await?;
                accept.send(&operation).await;
                Ok(volume)
            })
        })
        .await
    }

    /// Accepts the extension of a volume; it is done afterwards. `attached`: one that is in use may be extended.
    pub async fn extend_volume(&self, id: Uuid, size_gib: u64, attached: bool, by: Asker) -> Result<(), AcceptError> {
        self.run(move |accept| {
            Box::pin(async move {
                let operation = accept.store.begin_extend(id, size_gib, attached, by, &accept.limits).await?;
                accept.send(&operation).await;
                Ok(())
            })
        })
        .await
    }

    /// Accepts the deletion of a volume; its storage is removed afterwards.
    pub async fn delete_volume(&self, id: Uuid, by: Asker) -> Result<(), AcceptError> {
        self.run(move |accept| {
            Box::pin(async move {
                let (_, operation) = accept.store.begin_delete(id, by).await?;
                accept.send(&operation).await;
                Ok(())
            })
        })
        .await
    }
}
