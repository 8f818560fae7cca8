//! Volumes: accepted, and made or deleted afterwards.

use uuid::Uuid;

use super::{Accept, AcceptError};
use crate::domain::{Asker, Image, NewVolume, Volume};
use crate::store::NewImage;

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

    /// Accepts that a volume is read into a new image; that happens afterwards.
    pub async fn upload_volume(&self, volume_id: Uuid, new: NewImage, by: Asker) -> Result<(Volume, Image), AcceptError> {
        self.run(move |accept| {
            Box::pin(async move {
                let (volume, image, operation) = accept.store.begin_volume_upload(volume_id, new, by).await?;
                accept.send(&operation).await;
                Ok((volume, image))
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
