//! Extending: the storage first, then the target, then the word that it is done. Done twice it ends alike.

use tracing::{error, info};

use super::error::{VolumeError, chain};
use super::exports;
use super::host::{Parts, stored};
use crate::domain::volume::GIB;
use crate::domain::{Operation, Volume, VolumeStatus};
use crate::operations::Next;
use crate::store::{Ending, Extension, StoreError};

impl Parts {
    /// Makes a volume larger.
    pub(super) async fn extend_volume(&self, operation: &Operation) -> Result<Next, VolumeError> {
        let id = operation.object_id;
        let _turn = self.locks.lock(id).await;
        let Some(extension) = Extension::of(operation) else {
            return Ok(self.fail(operation, "the operation does not say how large".into()).await?);
        };
        let volume = match self.volume_if_any(id).await? {
            Some(volume) if volume.status == VolumeStatus::Extending => volume,
            other => {
                let cause = match &other {
                    Some(volume) => format!("the volume is not extending any more but {}", volume.status),
                    None => "the volume is not there any more".to_owned(),
                };
                let has_gib = other.map_or(extension.old_gib, |volume| volume.size_gib);
                self.store.end_extend(operation, &extension, has_gib, Ending::failed(cause)).await?;
                return Ok(Next::Ended);
            }
        };
        let (has_gib, ending) = match self.enlarge(&volume, extension.new_gib).await {
            Ok(()) => (extension.new_gib, Ending::done()),
            Err(VolumeError::Store(error @ StoreError::Query { .. })) => return Err(error.into()),
            Err(failure) => {
                let cause = chain(&failure);
                error!(volume = %id, "{cause}");
                // What the storage has is what is true.
                (self.size_gib(&volume).await.unwrap_or(extension.old_gib), Ending::failed(cause))
            }
        };
        if ending.cause.is_none() {
            info!(volume = %id, size_gib = has_gib, "volume extended");
        }
        self.store.end_extend(operation, &extension, has_gib, ending).await?;
        Ok(Next::Ended)
    }

    async fn enlarge(&self, volume: &Volume, new_gib: u64) -> Result<(), VolumeError> {
        let attachments = self.store.attachments_of(&[volume.id]).await?;
        let mut storage = stored(volume);
        storage.in_use = attachments.iter().any(|attachment| attachment.connector.is_some());
        self.driver(&volume.host)?.extend(&storage, new_gib.saturating_mul(GIB)).await?;
        if let Some(export) = exports::of(self, volume, &attachments)?.filter(|export| !export.accesses.is_empty()) {
            self.target.grow(&export).await?;
        }
        Ok(())
    }

    async fn size_gib(&self, volume: &Volume) -> Result<u64, VolumeError> {
        Ok(self.driver(&volume.host)?.size_bytes(&stored(volume)).await? / GIB)
    }
}
