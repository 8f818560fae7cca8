//! Extending: the file first, then the target, then the word that it is done. Done twice it ends alike.

use tracing::{error, info};
use uuid::Uuid;

use super::error::{ManagerError, chain};
use super::exports;
use super::manager::{Manager, Parts};
use super::worker::{Job, Queued};
use crate::domain::volume::GIB;
use crate::domain::{Volume, VolumeStatus};
use crate::store::StoreError;

impl Manager {
    /// Accepts the extension of a volume; it is done afterwards. `attached`: one that is in use may be extended.
    pub async fn extend_volume(&self, id: Uuid, size_gib: u64, attached: bool) -> Result<(), ManagerError> {
        self.run(move |parts| {
            Box::pin(async move {
                parts.store.begin_extend(id, size_gib, attached).await?;
                parts.enqueue(Queued::new(Job::Extend(id)));
                Ok(())
            })
        })
        .await
    }
}

/// Does an accepted extension.
pub(super) async fn extend(parts: &Parts, id: Uuid) -> Result<(), StoreError> {
    let _turn = parts.locks.lock(id).await;
    let Some(volume) = super::worker::in_status(parts, id, VolumeStatus::Extending).await? else { return Ok(()) };
    match enlarge(parts, &volume).await {
        Ok(()) => {
            parts.store.end_extend(id, volume.size_gib, false).await?;
            info!(volume = %id, size_gib = volume.size_gib, "volume extended");
            Ok(())
        }
        Err(failure) => {
            error!("{}", chain(&failure));
            // What the storage has is what is true.
            let has = parts.driver.size_bytes(id).await.unwrap_or(volume.size_gib * GIB);
            parts.store.end_extend(id, (has / GIB).max(1), true).await
        }
    }
}

async fn enlarge(parts: &Parts, volume: &Volume) -> Result<(), ManagerError> {
    parts.driver.extend(volume.id, volume.size_bytes().unwrap_or(u64::MAX)).await?;
    let attachments = parts.store.attachments_of(&[volume.id]).await?;
    let export = exports::of(parts, volume, &attachments);
    if !export.accesses.is_empty() {
        parts.target.grow(&export).await?;
    }
    Ok(())
}
