//! Volumes: accepted, and made or deleted afterwards.

use uuid::Uuid;

use super::{Accept, AcceptError};
use crate::domain::place::backend_of;
use crate::domain::{Asker, NewKey, NewVolume, Refusal, Transfer, Volume, VolumeType};
use crate::scheduler::{best, judge};
use crate::store::{Candidates, NewImage, StoreError};

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

    /// Accepts that an image is written over what a volume has; that happens afterwards. See [`crate::store::Store::begin_reimage`].
    pub async fn reimage_volume(
        &self,
        id: Uuid,
        image_id: Uuid,
        reserved: bool,
        key: Option<NewKey>,
        by: Asker,
    ) -> Result<(), AcceptError> {
        self.run(move |accept| {
            Box::pin(async move {
                let operation = accept.store.begin_reimage(id, image_id, reserved, key.as_ref(), by).await?;
                accept.send(&operation).await;
                Ok(())
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

    /// Accepts the deletion of a volume; its storage is removed afterwards, by the operation whose id is given.
    pub async fn delete_volume(&self, id: Uuid, by: Asker) -> Result<Uuid, AcceptError> {
        self.run(move |accept| {
            Box::pin(async move {
                let (_, operation) = accept.store.begin_delete(id, by).await?;
                accept.send(&operation).await;
                Ok(operation.id)
            })
        })
        .await
    }
}

/// Work that begins with a status of its own.
impl Accept {
    /// Accepts the deletion of a volume whatever its status; gives the operation that does it.
    pub async fn force_delete_volume(&self, id: Uuid, by: Asker) -> Result<Uuid, AcceptError> {
        self.run(move |accept| {
            Box::pin(async move {
                let operation = accept.store.force_delete(id, by).await?;
                accept.send(&operation).await;
                Ok(operation.id)
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

    /// Gives a volume another type where it is. Where its place does not do for the type, it is refused, or, where it `may_move`, it is
    /// moved to one that does, afterwards.
    pub async fn retype_volume(&self, id: Uuid, new: VolumeType, may_move: bool, by: Asker) -> Result<(), AcceptError> {
        self.run(move |accept| {
            Box::pin(async move {
                let mut must_move = false;
                let may_stay = |candidates: &Candidates| {
                    let verdicts = judge(candidates);
                    if !verdicts.fit.is_empty() {
                        return Ok(());
                    }
                    must_move = true;
                    let why = verdicts.why_not.first().map_or("its host has told of no pool", |why| why.reason.as_str());
                    Err(Refusal::Invalid(format!(
                        "Volume migration failed: Retype requires migration but is not allowed: the volume cannot have this type where \
                         it is: {why}."
                    )))
                };
                match accept.store.retype(id, &new, &accept.limits, may_stay).await {
                    Err(StoreError::Refused(_)) if must_move && may_move => {}
                    done => return Ok(done?),
                }
                let operation = accept.store.begin_migration(id, Some(&new), by, &accept.limits, anywhere).await?;
                accept.send(&operation).await;
                Ok(())
            })
        })
        .await
    }

    /// Accepts that a volume moves to a pool, `host@backend#pool`, or to the only one of a `host@backend`.
    pub async fn migrate_volume(&self, id: Uuid, to: String, by: Asker) -> Result<(), AcceptError> {
        self.run(move |accept| {
            Box::pin(async move {
                let there = move |candidates: &Candidates| only_at(candidates, &to);
                let operation = accept.store.begin_migration(id, None, by, &accept.limits, there).await?;
                accept.send(&operation).await;
                Ok(())
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

/// The best place for a volume that has to move.
fn anywhere(candidates: &Candidates) -> Result<String, Refusal> {
    let verdicts = judge(candidates);
    let why = || {
        let each = verdicts.why_not.iter().map(|why| format!(" {}: {}.", why.pool, why.reason));
        Refusal::Invalid(format!(
            "No valid backend was found. The volume has to move for this type:{}",
            each.collect::<String>()
        ))
    };
    best(&verdicts.fit, &candidates.allocated_gib).map(|pool| pool.name.clone()).ok_or_else(why)
}

/// One place, where it would do.
fn only_at(candidates: &Candidates, to: &str) -> Result<String, Refusal> {
    let verdicts = judge(candidates);
    let is_meant = |pool: &str| pool == to || backend_of(pool) == to;
    if let Some(pool) = verdicts.fit.iter().find(|pool| is_meant(&pool.name)) {
        return Ok(pool.name.clone());
    }
    Err(match verdicts.why_not.iter().find(|why| is_meant(&why.pool)) {
        Some(_) if is_meant(&candidates.volume.host) => Refusal::Invalid(format!(
            "Invalid volume: Volume {} is at {to} already: destination host/cluster must be different than the current one.",
            candidates.volume.id
        )),
        Some(why) => Refusal::Invalid(format!("No valid backend was found. {}: {} ({}).", why.pool, why.reason, why.filter)),
        None => Refusal::Invalid(format!("Invalid host: No available service named '{to}'")),
    })
}
