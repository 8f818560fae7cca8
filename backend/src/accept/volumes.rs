//! Volumes: accepted, and made or deleted afterwards.

use uuid::Uuid;

use super::{Accept, AcceptError};
use crate::domain::{Asker, NewVolume, Refusal, Transfer, Volume, VolumeType};
use crate::scheduler::judge;
use crate::store::{Candidates, NewImage};

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

    /// Accepts that a volume is read into an image; that happens afterwards. `own`: what to record of it, where it is one of the
    /// service's own.
    pub async fn upload_volume(
        &self,
        volume_id: Uuid,
        image_id: Uuid,
        own: Option<NewImage>,
        by: Asker,
    ) -> Result<Volume, AcceptError> {
        self.run(move |accept| {
            Box::pin(async move {
                let (volume, operation) = accept.store.begin_volume_upload(volume_id, image_id, own, by).await?;
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

/// Work that begins with a status of its own.
impl Accept {
    /// Accepts the deletion of a volume whatever its status.
    pub async fn force_delete_volume(&self, id: Uuid, by: Asker) -> Result<(), AcceptError> {
        self.run(move |accept| {
            Box::pin(async move {
                let operation = accept.store.force_delete(id, by).await?;
                accept.send(&operation).await;
                Ok(())
            })
        })
        .await
    }

    /// Accepts that a volume goes back to its latest snapshot.
    pub async fn revert_volume(&self, id: Uuid, snapshot_id: Uuid, by: Asker) -> Result<(), AcceptError> {
        self.run(move |accept| {
            Box::pin(async move {
                let operation = accept.store.begin_revert(id, snapshot_id, by).await?;
                accept.send(&operation).await;
                Ok(())
            })
        })
        .await
    }

    /// Gives a volume another type where it is; a place that does not do for the type is refused.
    pub async fn retype_volume(&self, id: Uuid, new: VolumeType) -> Result<(), AcceptError> {
        self.run(move |accept| {
            Box::pin(async move {
                let may_stay = |candidates: &Candidates| {
                    let verdicts = judge(candidates);
                    if !verdicts.fit.is_empty() {
                        return Ok(());
                    }
                    let why = verdicts.why_not.first().map_or("its host has told of no pool", |why| why.reason.as_str());
                    Err(Refusal::Invalid(format!(
                        "Invalid input received: the volume cannot have this type where it is: {why}. This service does not move \
                         volumes between backends."
                    )))
                };
                Ok(accept.store.retype(id, &new, &accept.limits, may_stay).await?)
            })
        })
        .await
    }

    /// Gives a volume that was offered to whoever brings its key.
    pub async fn accept_transfer(&self, id: Uuid, key: String, by: Asker) -> Result<Transfer, AcceptError> {
        self.run(move |accept| {
            Box::pin(
                async move { Ok(accept.store.accept_transfer(id, &key, &by.project_id, &by.user_id, &accept.limits).await?) },
            )
        })
        .await
    }
}
