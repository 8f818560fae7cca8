//! The parts of a volume host together, and which operation is whose.
//!
//! One process may have several backends; each has a queue of its own, `volume.<host@backend>`, and they share one target daemon.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, watch};
use tracing::error;
use uuid::Uuid;

use super::error::{VolumeError, chain};
use super::exports::{self, Returned};
use super::locks::Locks;
use super::readiness::Readiness;
use crate::backup::ObjectStore;
use crate::config::Backend;
use crate::domain::place::{backend_of, backup_queue, volume_queue};
use crate::domain::{Operation, OperationKind, Refusal, Volume, VolumeStatus};
use crate::drivers::{Stored, VolumeDriver};
use crate::image::{Glance, ImageFiles};
use crate::keys::Vault;
use crate::nova::Nova;
use crate::operations::{Next, Work};
use crate::store::{Ending, Store, StoreError};
use crate::targets::Target;

/// What a volume host is made of.
pub struct HostParts {
    /// The database.
    pub store: Store,
    /// Its backends, by `host@backend`.
    pub backends: BTreeMap<String, (Backend, Arc<dyn VolumeDriver>)>,
    /// Who shows volumes to hosts.
    pub target: Arc<dyn Target>,
    /// The zone of its pools.
    pub availability_zone: String,
    /// Under which name this process claims operations.
    pub owner: String,
    /// The bytes of images.
    pub images: ImageFiles,
    /// The Glance that has the images in their place, where one does.
    pub glance: Option<Arc<Glance>>,
    /// Who is told of what it waits for, where Keystone is configured.
    pub nova: Option<Nova>,
    /// Of so many images a backend keeps a volume to clone.
    pub cached_images: u32,
    /// The most that is copied of a volume while its hosts are held off, bytes.
    pub copy_held_max_bytes: u64,
    /// Where backups are.
    pub backups: Arc<dyn ObjectStore>,
    /// Opens the keys of volumes that are to be made.
    pub vault: Vault,
    /// Becomes true when this process stops: what takes long is left to the next.
    pub stopping: watch::Receiver<bool>,
}

/// The volume host. Cheap to clone.
#[derive(Clone)]
pub struct VolumeHost {
    pub(super) parts: Arc<Parts>,
}

/// What every piece of work needs.
pub(super) struct Parts {
    pub(super) store: Store,
    pub(super) backends: BTreeMap<String, (Backend, Arc<dyn VolumeDriver>)>,
    /// Whether the storage of each was seen to work.
    pub(super) readiness: BTreeMap<String, Readiness>,
    /// Told when one's was that had not been before.
    pub(super) recovered: Arc<Notify>,
    /// Backends that were declared gone and are back.
    pub(super) returned: Returned,
    pub(super) target: Arc<dyn Target>,
    pub(super) locks: Locks,
    pub(super) availability_zone: String,
    pub(super) owner: String,
    pub(super) images: ImageFiles,
    pub(super) glance: Option<Arc<Glance>>,
    pub(super) nova: Option<Nova>,
    pub(super) cached_images: u32,
    pub(super) copy_held_max_bytes: u64,
    pub(super) backups: Arc<dyn ObjectStore>,
    pub(super) vault: Vault,
    pub(super) stopping: watch::Receiver<bool>,
}

impl VolumeHost {
    /// Looks at the storage of each backend, shows again what was shown and lets hosts in. When this returns, hosts reach what they could before, but for volumes that
    /// cannot be shown just now: those are tried again.
    pub async fn start(parts: HostParts) -> Result<Self, VolumeError> {
        let HostParts {
            store,
            backends,
            target,
            availability_zone,
            owner,
            images,
            glance,
            nova,
            cached_images,
            copy_held_max_bytes,
            backups,
            vault,
            stopping,
        } = parts;
        let locks = Locks::default();
        let readiness = backends.keys().map(|name| (name.clone(), Readiness::default())).collect();
        let recovered = Arc::new(Notify::new());
        let parts = Parts {
            store,
            backends,
            readiness,
            recovered: recovered.clone(),
            returned: Returned::default(),
            target,
            locks,
            availability_zone,
            owner,
            images,
            glance,
            nova,
            cached_images,
            copy_held_max_bytes,
            backups,
            vault,
            stopping,
        };
        let parts = Arc::new(parts);
        let mut generation = parts.target.generation();
        generation.mark_unchanged();
        for name in parts.backends.keys() {
            for queue in [volume_queue(name), backup_queue(name)] {
                parts.store.release_queue(&queue).await?;
            }
        }
        let host = Self { parts: parts.clone() };
        host.report().await?;
        let failed = exports::restore(&parts).await?;
        exports::forget_others(&parts).await?;
        tokio::spawn(exports::keep(Arc::downgrade(&parts), generation, recovered, failed));
        Ok(host)
    }

    /// Its backends, `host@backend` each.
    pub fn backends(&self) -> impl Iterator<Item = &str> {
        self.parts.backends.keys().map(String::as_str)
    }

    /// What becomes true when a backend's storage works, where it does not yet.
    pub fn waits_for_storage(&self, backend: &str) -> Option<watch::Receiver<bool>> {
        self.parts.readiness.get(backend).filter(|readiness| !readiness.is_ready()).map(Readiness::watch)
    }

    /// Where hosts connect to.
    pub fn portals(&self) -> &[String] {
        self.parts.target.portals()
    }
}

impl Work for VolumeHost {
    fn perform<'a>(&'a self, queue: &'a str, operation_id: Uuid) -> BoxFuture<'a, Result<Next, StoreError>> {
        Box::pin(async move {
            let parts = &self.parts;
            let Some(operation) = parts.store.claim(operation_id, queue, &parts.owner).await? else {
                return Ok(Next::without_work(parts.store.operation_if_any(operation_id).await?.as_ref(), queue));
            };
            let done = match operation.kind {
                OperationKind::VolumeCreate if operation.restores().is_some() => parts.restore_backup(&operation).await,
                OperationKind::VolumeCreate => parts.create_volume(&operation).await,
                OperationKind::VolumeDelete => parts.delete_volume(&operation).await,
                OperationKind::VolumeUpload => parts.upload_volume(&operation).await,
                OperationKind::VolumeReimage => parts.reimage_volume(&operation).await,
                OperationKind::VolumeExtend => parts.extend_volume(&operation).await,
                OperationKind::SnapshotCreate => parts.create_snapshot(&operation).await,
                OperationKind::SnapshotDelete => parts.delete_snapshot(&operation).await,
                OperationKind::AttachmentConnect => parts.connect(&operation).await,
                OperationKind::AttachmentDelete => parts.disconnect(&operation).await,
                OperationKind::AttachmentRevoke => parts.revoke(&operation).await,
                OperationKind::VolumeRevert => parts.revert(&operation).await,
                OperationKind::VolumeMigrate | OperationKind::VolumeRetype => parts.migrate_volume(&operation).await,
                OperationKind::BackupCreate => parts.create_backup(&operation).await,
                OperationKind::BackupRestore => parts.restore_backup(&operation).await,
                // The backup service's own, which never come here.
                OperationKind::BackupDelete | OperationKind::BackupImport => {
                    Err(VolumeError::NoBackend { host: operation.queue.clone() })
                }
            };
            match done {
                Ok(next) => Ok(next),
                // What it was about is gone, or is not in a state for it any more: an end like another.
                Err(VolumeError::Store(StoreError::Refused(refusal))) => parts.fail(&operation, chain(&refusal)).await,
                Err(VolumeError::Store(error)) => Err(error),
                Err(other) => parts.fail(&operation, chain(&other)).await,
            }
        })
    }
}

impl Parts {
    /// Ends an operation that failed.
    pub(super) async fn fail(&self, operation: &Operation, cause: String) -> Result<Next, StoreError> {
        error!(operation = %operation.id, kind = %operation.kind, object = %operation.object_id, "{cause}");
        self.store.end_operation(operation, Ending::failed(cause)).await?;
        Ok(Next::Ended)
    }

    /// Whether a backend's storage was seen to work.
    pub(super) fn is_ready(&self, backend: &str) -> bool {
        self.readiness.get(backend).is_some_and(Readiness::is_ready)
    }

    /// The driver of the backend where something is.
    pub(super) fn driver(&self, host: &str) -> Result<&Arc<dyn VolumeDriver>, VolumeError> {
        let backend = self.backends.get(backend_of(host)).ok_or_else(|| VolumeError::NoBackend { host: host.to_owned() })?;
        Ok(&backend.1)
    }

    /// A volume, where there still is one.
    pub(super) async fn volume_if_any(&self, id: Uuid) -> Result<Option<Volume>, StoreError> {
        match self.store.volume(id).await {
            Ok(volume) => Ok(Some(volume)),
            Err(StoreError::Refused(Refusal::VolumeNotFound(_))) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A volume as its storage knows it.
pub(super) fn stored(volume: &Volume) -> Stored {
    Stored {
        id: volume.storage_id(),
        // A size that is no number of bytes fails in the driver like any that the disk cannot take.
        size_bytes: volume.size_bytes().unwrap_or(u64::MAX),
        in_use: !matches!(volume.status, VolumeStatus::Available | VolumeStatus::Creating | VolumeStatus::Deleting),
        provider: volume.provider.clone(),
    }
}
