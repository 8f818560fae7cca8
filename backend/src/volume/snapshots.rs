//! Snapshots on their volume's host: make them, remove them.

use futures_util::FutureExt as _;
use tracing::{error, info};

use super::error::{VolumeError, chain};
use super::host::{Parts, stored};
use crate::domain::volume::GIB;
use crate::domain::{NewMessage, Operation, Snapshot, SnapshotStatus, Volume};
use crate::drivers::{Stored, StoredSnapshot};
use crate::operations::Next;
use crate::store::Ending;

/// The field's number for "the snapshot could not be made".
const EVENT_NOT_MADE: &str = "VOLUME_SNAPSHOT_002_015";

impl Parts {
    /// Makes a snapshot.
    pub(super) async fn create_snapshot(&self, operation: &Operation) -> Result<Next, VolumeError> {
        let snapshot = self.store.snapshot(operation.object_id).await?;
        let _turn = self.locks.lock(snapshot.volume_id).await;
        let volume = self.store.volume(snapshot.volume_id).await?;
        let made = match self.driver(&volume.host) {
            Ok(driver) => {
                let copy = |source: Stored| {
                    let mut wanted = stored_snapshot(&snapshot, &volume);
                    wanted.volume.in_use = source.in_use;
                    async move { driver.create_snapshot(&wanted).await }.boxed()
                };
                self.copied(&volume, copy).await
            }
            Err(error) => Err(error),
        };
        let (status, ending) = match made {
            Ok(provider) => {
                if let Some(provider) = provider {
                    self.store.set_snapshot_provider(snapshot.id, &provider).await?;
                }
                info!(snapshot = %snapshot.id, volume = %volume.id, "snapshot made");
                (SnapshotStatus::Available, Ending::done())
            }
            Err(error) => {
                let cause = chain(&error);
                error!(snapshot = %snapshot.id, "{cause}");
                let message = NewMessage {
                    resource_type: "VOLUME_SNAPSHOT",
                    resource_id: snapshot.id,
                    event_id: EVENT_NOT_MADE.into(),
                    user_message: format!("create snapshot:{error}"),
                    why_not: None,
                };
                (SnapshotStatus::Error, Ending::failed(cause).telling(message))
            }
        };
        self.store.end_snapshot_work(operation, status, ending).await?;
        Ok(Next::Ended)
    }

    /// Removes a snapshot and forgets it.
    pub(super) async fn delete_snapshot(&self, operation: &Operation) -> Result<Next, VolumeError> {
        let snapshot = self.store.snapshot(operation.object_id).await?;
        let _turn = self.locks.lock(snapshot.volume_id).await;
        let volume = self.store.volume(snapshot.volume_id).await?;
        let removed = match self.driver(&volume.host) {
            Ok(driver) => driver.delete_snapshot(&stored_snapshot(&snapshot, &volume)).await.map_err(VolumeError::from),
            Err(error) => Err(error),
        };
        match removed {
            Ok(()) => {
                self.store.forget_snapshot(operation).await?;
                info!(snapshot = %snapshot.id, "snapshot removed");
            }
            Err(error) => {
                let cause = chain(&error);
                error!(snapshot = %snapshot.id, "{cause}");
                self.store.end_snapshot_work(operation, SnapshotStatus::ErrorDeleting, Ending::failed(cause)).await?;
            }
        }
        Ok(Next::Ended)
    }
}

/// A snapshot as its storage knows it.
pub(super) fn stored_snapshot(snapshot: &Snapshot, volume: &Volume) -> StoredSnapshot {
    let mut volume = stored(volume);
    // The volume may have grown since.
    volume.size_bytes = snapshot.size_gib.saturating_mul(GIB);
    StoredSnapshot { id: snapshot.id, volume, provider: snapshot.provider.clone() }
}
