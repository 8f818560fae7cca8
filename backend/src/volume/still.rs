//! Copies of a volume whose hosts may be writing to it, as it was at one moment.
//!
//! Storage that can does it by itself. For the rest, hosts are held off for the seconds that the copy takes: what they had in hand is
//! done, what they want next waits, so the copy is what a disk has whose host lost power.

use std::os::unix::fs::MetadataExt as _;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tracing::info;

use super::error::VolumeError;
use super::exports;
use super::host::{Parts, stored};
use crate::domain::Volume;
use crate::drivers::{DriverError, Stored};

/// The unit of `st_blocks`, by stat(2).
const BLOCK_BYTES: u64 = 512;

impl Parts {
    /// Makes a volume with another's bytes. Called with the other's turn.
    pub(super) async fn cloned(&self, wanted: &Stored, source: &Volume) -> Result<Option<serde_json::Value>, VolumeError> {
        let driver = self.driver(&source.host)?;
        self.copied(source, |source| async move { driver.clone_volume(wanted, &source).await }.boxed()).await
    }

    /// Has a volume copied by `copy`, which is told how it is stored and whether anybody may be writing. Called with the volume's turn.
    pub(super) async fn copied<'a, T>(
        &self,
        volume: &Volume,
        copy: impl Fn(Stored) -> BoxFuture<'a, Result<T, DriverError>>,
    ) -> Result<T, VolumeError> {
        let mut source = stored(volume);
        let refused = match copy(source.clone()).await {
            Err(refused @ DriverError::Inconsistent { .. }) => refused,
            done => return Ok(done?),
        };
        let attachments = self.store.attachments_of(&[volume.id]).await?;
        let Some(export) = exports::of(self, volume, &attachments)? else { return Err(refused.into()) };
        source.in_use = false;
        if attachments.iter().all(|attachment| attachment.connector.is_none()) {
            // Nobody gets it while this has its turn.
            return Ok(copy(source).await?);
        }
        // A file that cannot be looked at is told by the copy.
        let data_bytes = std::fs::metadata(&export.path).map_or(0, |found| found.blocks() * BLOCK_BYTES);
        if data_bytes > self.copy_held_max_bytes {
            let (data_mib, limit_mib) = (data_bytes >> 20, self.copy_held_max_bytes >> 20);
            return Err(VolumeError::TooMuchToHold { volume_id: volume.id, data_mib, limit_mib });
        }
        if !self.target.hold(&export).await? {
            return Err(refused.into());
        }
        let copied = copy(source).await;
        self.target.release(&export).await?;
        info!(volume = %volume.id, data_bytes, "hosts were held off while it was copied");
        Ok(copied?)
    }
}
