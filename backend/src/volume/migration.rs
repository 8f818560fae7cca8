//! Volumes that change their place: every byte is copied, then the database says where the volume is, then the old bytes go. See
//! [`Phase`] for what is whose turn. Where one process has both places the bytes go straight from one storage to the other; where not, they
//! go by the store of backups, which all hosts share, and are believed by their digests.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;
use tracing::{error, info, warn};

use super::error::{VolumeError, chain};
use super::host::{Parts, stored};
use crate::backup::{self, Place};
use crate::domain::migration::{Migration, Phase};
use crate::domain::place::backend_of;
use crate::domain::volume::GIB;
use crate::domain::{Operation, Refusal, Volume, VolumeStatus};
use crate::drivers::Stored;
use crate::image::Progress;
use crate::operations::Next;
use crate::store::{Ending, StoreError};

/// Where in the store of backups the bytes of such volumes are.
const CONTAINER: &str = "migrations";

impl Parts {
    /// Does what is this host's turn.
    pub(super) async fn migrate_volume(&self, operation: &Operation) -> Result<Next, VolumeError> {
        let Some(migration) = Migration::of(operation) else {
            return Ok(self.fail(operation, "the operation does not say from where to where".into()).await?);
        };
        let work = async {
            match &migration.phase {
                Phase::Copy if self.has(&migration.to) => self.copy_over(operation, &migration).await,
                Phase::Copy => self.hand_over(operation, &migration).await,
                Phase::Take { manifest } => self.take_in(operation, &migration, manifest).await,
                Phase::Clear => self.clear(operation, &migration).await,
                Phase::Undo { cause } => self.undo(operation, &migration, cause.clone()).await,
            }
        };
        let done = tokio::select! {
            done = work => done,
            () = self.is_stopping() => return self.leave(operation).await,
        };
        let failure = match done {
            Err(VolumeError::Store(StoreError::Refused(refusal))) => VolumeError::Store(refusal.into()),
            // What was recorded is not known, so nothing may go.
            Err(VolumeError::Store(error)) => return Err(error.into()),
            Err(failure) => failure,
            done => return done,
        };
        let cause = chain(&failure);
        error!(volume = %operation.object_id, from = migration.from, to = migration.to, "{cause}");
        if self.has(&migration.to) && migration.phase != Phase::Clear {
            self.forget_bytes(&migration.to, &new_storage(&migration)).await;
        }
        if matches!(migration.phase, Phase::Take { .. }) {
            let queue = self.store.go_on_with_migration(operation, &migration, Phase::Undo { cause }).await?;
            return Ok(Next::HandedTo(queue));
        }
        self.undo(operation, &migration, cause).await
    }

    /// From storage to storage.
    async fn copy_over(&self, operation: &Operation, migration: &Migration) -> Result<Next, VolumeError> {
        let volume = self.on_its_way(operation, migration).await?;
        let (source, to) = (stored(&volume), self.room_for(&volume, migration).await?);
        let progress = Progress::default();
        let (heard, size_bytes) = (progress.clone(), to.size_bytes);
        let pieces = self.driver(&migration.from)?.copy_out(&source).inspect_ok(move |piece| {
            heard.set_share(piece.offset_bytes, size_bytes, 0, 100);
        });
        let written = async {
            let pieces = pieces.map_err(std::io::Error::other).boxed();
            Ok(self.driver(&migration.to)?.copy_in(&to, pieces).await?)
        };
        self.noting(operation, "copying", &progress, written).await?;
        self.switch(operation, migration, &to).await
    }

    /// From storage into the store of backups, for the host that has the new place.
    async fn hand_over(&self, operation: &Operation, migration: &Migration) -> Result<Next, VolumeError> {
        let source = stored(&self.on_its_way(operation, migration).await?);
        let (place, store) = (Place::new(CONTAINER, operation.id)?, self.backups.as_ref());
        let progress = Progress::default();
        let written = async {
            // What a try before left is of no use: nobody knows how far it came.
            backup::remove_all(store, &place).await?;
            let pieces = self.driver(&migration.from)?.copy_out(&source);
            Ok(backup::write(store, &place, None, source.size_bytes, pieces, &progress).await?)
        };
        let manifest = self.noting(operation, "reading", &progress, written).await?.manifest;
        let queue = self.store.go_on_with_migration(operation, migration, Phase::Take { manifest }).await?;
        Ok(Next::HandedTo(queue))
    }

    /// From the store of backups to storage.
    async fn take_in(&self, operation: &Operation, migration: &Migration, digest: &str) -> Result<Next, VolumeError> {
        let volume = self.on_its_way(operation, migration).await?;
        let place = Place::new(CONTAINER, operation.id)?;
        let manifest = backup::open(self.backups.as_ref(), &place, digest).await?;
        let to = self.room_for(&volume, migration).await?;
        let progress = Progress::default();
        let pieces = backup::pieces(self.backups.clone(), place, manifest, stream::empty().boxed(), progress.clone());
        let written = async { Ok(self.driver(&migration.to)?.copy_in(&to, pieces).await?) };
        self.noting(operation, "writing", &progress, written).await?;
        self.switch(operation, migration, &to).await
    }

    /// The volume, where it is still the one to be moved.
    async fn on_its_way(&self, operation: &Operation, migration: &Migration) -> Result<Volume, VolumeError> {
        let volume = self.store.volume(operation.object_id).await?;
        let moving = matches!(volume.status, VolumeStatus::Maintenance | VolumeStatus::Retyping);
        if !moving || volume.host != migration.from || volume.storage_id() != migration.from_id {
            let text = format!("Invalid volume: Volume {} is not migrating any more but {}.", volume.id, volume.status);
            return Err(StoreError::Refused(Refusal::Invalid(text)).into());
        }
        Ok(volume)
    }

    /// An empty volume in the new place.
    async fn room_for(&self, volume: &Volume, migration: &Migration) -> Result<Stored, VolumeError> {
        let (driver, new) = (self.driver(&migration.to)?, new_storage(migration));
        Self::check_storage(volume, driver.as_ref())?;
        // What a try before left is of no use: nobody knows how far it came. The id was never another's.
        driver.delete(&new).await?;
        let provider: Option<Value> = driver.create(&new).await?;
        Ok(Stored { provider, ..new })
    }

    async fn switch(&self, operation: &Operation, migration: &Migration, to: &Stored) -> Result<Next, VolumeError> {
        let _turn = self.locks.lock(operation.object_id).await;
        let queue = self.store.switch_place(operation, migration, to.provider.as_ref()).await?;
        info!(volume = %operation.object_id, from = migration.from, to = migration.to, "volume moved");
        Ok(Next::HandedTo(queue))
    }

    /// Removes what is left of the volume in its old place.
    async fn clear(&self, operation: &Operation, migration: &Migration) -> Result<Next, VolumeError> {
        let old = Stored { id: migration.from_id, ..new_storage(migration) };
        self.forget_bytes(&migration.from, &old).await;
        self.forget_carried(operation, migration).await;
        self.store.end_migration(operation, migration, Ending::done()).await?;
        Ok(Next::Ended)
    }

    /// Leaves the volume where it is.
    async fn undo(&self, operation: &Operation, migration: &Migration, cause: String) -> Result<Next, VolumeError> {
        self.forget_carried(operation, migration).await;
        self.store.end_migration(operation, migration, Ending::failed(cause)).await?;
        Ok(Next::Ended)
    }

    async fn forget_bytes(&self, host: &str, storage: &Stored) {
        let removed = async { Ok::<_, VolumeError>(self.driver(host)?.delete(storage).await?) };
        if let Err(error) = removed.await {
            warn!(host, storage = %storage.id, "cannot remove bytes that are nobody's any more, an audit tells of them: {}", chain(&error));
        }
    }

    async fn forget_carried(&self, operation: &Operation, migration: &Migration) {
        if self.has(&migration.from) && self.has(&migration.to) {
            return;
        }
        let removed = async {
            Ok::<_, VolumeError>(backup::remove_all(self.backups.as_ref(), &Place::new(CONTAINER, operation.id)?).await?)
        };
        if let Err(error) = removed.await {
            warn!(operation = %operation.id, "cannot remove {CONTAINER}/{} from the store of backups: {}", operation.id, chain(&error));
        }
    }

    fn has(&self, host: &str) -> bool {
        self.backends.contains_key(backend_of(host))
    }
}

/// The volume as its new storage is to know it.
fn new_storage(migration: &Migration) -> Stored {
    Stored { id: migration.to_id, size_bytes: migration.size_gib.saturating_mul(GIB), in_use: false, provider: None }
}
