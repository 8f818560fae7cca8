//! Volumes on their host: make them from what they are to be made from, remove them.

use tracing::{error, info, warn};

use super::error::{VolumeError, chain};
use super::exports;
use super::host::{Parts, stored};
use crate::domain::place::{BACKUP_QUEUE, SCHEDULER_QUEUE};
use crate::domain::volume::GIB;
use crate::domain::{Operation, Source, Volume, VolumeStatus};
use crate::drivers::{Provided, StoredSnapshot};
use crate::operations::Next;
use crate::store::{Ending, StoreError};

impl Parts {
    /// Makes a volume's storage. Where this backend cannot, the scheduler has the next word.
    pub(super) async fn create_volume(&self, operation: &Operation) -> Result<Next, VolumeError> {
        let id = operation.object_id;
        let _turn = self.locks.lock(id).await;
        let Some(volume) = self.to_be_made(operation).await? else { return Ok(Next::Ended) };
        match self.make(operation, &volume).await {
            Ok(provider) => {
                if let Some(provider) = provider {
                    self.store.set_provider(id, &provider).await?;
                }
                if let Source::Backup(backup) = volume.source() {
                    let wanted = self.store.begin_filling(operation, backup).await?;
                    return Ok(if wanted { Next::HandedTo(BACKUP_QUEUE.into()) } else { Next::Ended });
                }
                let from = self.store.volume(id).await?.status;
                self.store.end_volume_work(operation, from, VolumeStatus::Available, Ending::done()).await?;
                info!(volume = %id, size_gib = volume.size_gib, "volume made");
                Ok(Next::Ended)
            }
            Err(VolumeError::Store(error @ StoreError::Query { .. })) => Err(error.into()),
            // Another place would not make a better image of it.
            Err(error @ VolumeError::Image(_)) => self.end_without_image(operation, &error).await,
            Err(error) => {
                let cause = chain(&error);
                error!(volume = %id, host = volume.host, "{cause}");
                self.remove_what_was_made(&volume, &error).await;
                self.store.give_back(operation, &cause).await?;
                Ok(Next::HandedTo(SCHEDULER_QUEUE.into()))
            }
        }
    }

    async fn make(&self, operation: &Operation, volume: &Volume) -> Result<Option<serde_json::Value>, VolumeError> {
        let driver = self.driver(&volume.host)?;
        let wanted = stored(volume);
        let made: Provided = match volume.source() {
            // A backup's bytes come later: they take long, and a queue of their own.
            Source::Backup(_) => {
                Self::check_storage(volume, driver.as_ref())?;
                driver.create(&wanted).await
            }
            Source::Nothing => return self.make_empty(volume).await,
            Source::Volume(source) => {
                let _turn = self.locks.lock(source).await;
                let source = self.store.volume(source).await?;
                return self.cloned(&wanted, &source).await;
            }
            Source::Snapshot(snapshot) => {
                let snapshot = self.store.snapshot(snapshot).await?;
                let mut origin = stored(&self.store.volume(snapshot.volume_id).await?);
                origin.size_bytes = snapshot.size_gib.saturating_mul(GIB);
                let snapshot = StoredSnapshot { id: snapshot.id, volume: origin, provider: snapshot.provider };
                driver.create_from_snapshot(&wanted, &snapshot).await
            }
            Source::Image(image) => return self.make_from_image(operation, volume, image).await,
        };
        Ok(made?)
    }

    /// What came of it here goes before another place is tried: nobody would look for it here again.
    async fn remove_what_was_made(&self, volume: &Volume, why: &VolumeError) {
        let VolumeError::Driver(why) = why else { return };
        if why.is_about_anothers() {
            return;
        }
        let removed = async { Ok::<_, VolumeError>(self.driver(&volume.host)?.delete(&stored(volume)).await?) };
        if let Err(error) = removed.await {
            warn!(volume = %volume.id, host = volume.host, "cannot remove what was made of it, an audit tells of it: {}", chain(&error));
        }
    }

    /// Removes a volume's storage and forgets it.
    pub(super) async fn delete_volume(&self, operation: &Operation) -> Result<Next, VolumeError> {
        let id = operation.object_id;
        let _turn = self.locks.lock(id).await;
        let Some(volume) = self.in_status(operation, VolumeStatus::Deleting).await? else { return Ok(Next::Ended) };
        match self.remove_storage(&volume).await {
            Ok(()) => {
                self.store.forget_volume(operation).await?;
                info!(volume = %id, "volume removed");
            }
            Err(error) => {
                let cause = chain(&error);
                error!(volume = %id, "{cause}");
                let ending = Ending::failed(cause);
                self.store.end_volume_work(operation, VolumeStatus::Deleting, VolumeStatus::ErrorDeleting, ending).await?;
            }
        }
        Ok(Next::Ended)
    }

    async fn remove_storage(&self, volume: &Volume) -> Result<(), VolumeError> {
        if let Some(export) = exports::of(self, volume, &[])? {
            self.target.remove(&export).await?;
        }
        self.driver(&volume.host)?.delete(&stored(volume)).await?;
        Ok(())
    }

    /// The volume, where it is still to be made: one from an image may have been cut off while its image was being read.
    async fn to_be_made(&self, operation: &Operation) -> Result<Option<Volume>, VolumeError> {
        match self.volume_if_any(operation.object_id).await? {
            Some(volume) if volume.status == VolumeStatus::Downloading => Ok(Some(volume)),
            _ => self.in_status(operation, VolumeStatus::Creating).await,
        }
    }

    /// Gives a volume the bytes of a snapshot again.
    pub(super) async fn revert(&self, operation: &Operation) -> Result<Next, VolumeError> {
        let id = operation.object_id;
        let _turn = self.locks.lock(id).await;
        let Some(volume) = self.in_status(operation, VolumeStatus::Reverting).await? else { return Ok(Next::Ended) };
        let snapshot_id = operation.request.get("snapshot_id").and_then(|id| id.as_str()).and_then(|id| id.parse().ok());
        let snapshot = self.store.snapshot(snapshot_id.unwrap_or_default()).await?;
        let mut origin = stored(&volume);
        origin.size_bytes = snapshot.size_gib.saturating_mul(GIB);
        let kept = StoredSnapshot { id: snapshot.id, volume: origin, provider: snapshot.provider };
        let reverted = match self.driver(&volume.host) {
            Ok(driver) => driver.revert(&stored(&volume), &kept).await.map_err(VolumeError::from),
            Err(error) => Err(error),
        };
        let ending = match reverted {
            Ok(()) => {
                info!(volume = %id, snapshot = %snapshot.id, "volume reverted");
                Ending::done()
            }
            Err(error) => {
                let cause = chain(&error);
                error!(volume = %id, "{cause}");
                Ending::failed(cause)
            }
        };
        self.store.end_revert(operation, snapshot.id, ending).await?;
        Ok(Next::Ended)
    }

    /// The volume, where the work is still to be done; where not, the operation is ended.
    pub(super) async fn in_status(&self, operation: &Operation, status: VolumeStatus) -> Result<Option<Volume>, VolumeError> {
        let cause = match self.volume_if_any(operation.object_id).await? {
            Some(volume) if volume.status == status => return Ok(Some(volume)),
            Some(volume) => format!("the volume is not {status} any more but {}", volume.status),
            None => "the volume is not there any more".to_owned(),
        };
        self.store.end_operation(operation, Ending::failed(cause)).await?;
        Ok(None)
    }
}
