//! Volumes as images of a Ceph cluster, `volume-<id>`, and snapshots as theirs, `snapshot-<id>`, by the names that the field's services
//! give them. Hosts open them themselves, as the service's own user or each attachment as one of its own.
//!
//! ```text
//! cluster.rs  the cluster and its tools: capacity, monitors, what is amiss
//! image.rs    what an image is and what it was cloned from
//! clones.rs   new images, of nothing or of a snapshot
//! trash.rs    removing images, also those that others were cloned from
//! diff.rs     an image's bytes as a stream
//! keys.rs     a Ceph user for each attachment
//! found.rs    what there is, for an audit
//! ```

mod clones;
mod cluster;
mod diff;
mod found;
mod image;
mod keys;
mod trash;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::{Admitted, Capacity, Chunk, DriverError, Found, Guest, Provided, Reach, Stored, StoredSnapshot, VolumeDriver};
use crate::command::CommandError;
use crate::config::Rbd;
use cluster::Cluster;

/// The driver.
#[derive(Debug)]
pub struct RbdDriver {
    cluster: Arc<Cluster>,
    checked: OnceCell<()>,
}

impl RbdDriver {
    /// Keeps volumes in the pool that `settings` name. The cluster is first asked when something is wanted of it.
    pub fn new(settings: Rbd) -> Self {
        Self { cluster: Arc::new(Cluster::new(settings)), checked: OnceCell::new() }
    }

    /// Sees to it, once, that all of it works.
    async fn checked(&self) -> Result<(), DriverError> {
        let check = async || {
            self.cluster.check().await?;
            if self.cluster.settings.attachment_keys {
                self.cluster.check_keys().await?;
            }
            Ok(())
        };
        self.checked.get_or_try_init(check).await.copied()
    }
}

/// A volume's image.
fn image(id: Uuid) -> String {
    format!("volume-{id}")
}

/// A volume's snapshot.
fn snapshot_of(snapshot: &StoredSnapshot) -> String {
    format!("{}@snapshot-{}", image(snapshot.volume.id), snapshot.id)
}

fn failed(volume_id: Uuid, operation: &'static str) -> impl FnOnce(CommandError) -> DriverError {
    move |source| DriverError::Tool { volume_id, operation, source }
}

impl VolumeDriver for RbdDriver {
    fn prepare(&self) -> BoxFuture<'_, Result<(), DriverError>> {
        self.checked().boxed()
    }

    fn create<'a>(&'a self, volume: &'a Stored) -> BoxFuture<'a, Provided> {
        self.cluster.create(volume.id, volume.size_bytes).boxed()
    }

    fn delete<'a>(&'a self, volume: &'a Stored) -> BoxFuture<'a, Result<(), DriverError>> {
        self.cluster.delete(volume.id).boxed()
    }

    fn extend<'a>(&'a self, volume: &'a Stored, size_bytes: u64) -> BoxFuture<'a, Result<(), DriverError>> {
        async move { self.cluster.enlarge(&image(volume.id), size_bytes).await.map_err(failed(volume.id, "extend its image")) }
            .boxed()
    }

    fn size_bytes<'a>(&'a self, volume: &'a Stored) -> BoxFuture<'a, Result<u64, DriverError>> {
        async move {
            let found = self.cluster.find(&image(volume.id)).await.map_err(failed(volume.id, "look at its image"))?;
            let missing = || DriverError::Stream { volume_id: volume.id, what: "its image is not there" };
            Ok(found.ok_or_else(missing)?.size)
        }
        .boxed()
    }

    fn create_snapshot<'a>(&'a self, snapshot: &'a StoredSnapshot) -> BoxFuture<'a, Provided> {
        async move {
            let made = self.cluster.snapshot(&snapshot_of(snapshot)).await;
            made.map(|()| None).map_err(failed(snapshot.volume.id, "make a snapshot"))
        }
        .boxed()
    }

    fn delete_snapshot<'a>(&'a self, snapshot: &'a StoredSnapshot) -> BoxFuture<'a, Result<(), DriverError>> {
        async move {
            let removed = self.cluster.remove_snapshot(&snapshot_of(snapshot)).await;
            removed.map_err(failed(snapshot.volume.id, "remove a snapshot"))
        }
        .boxed()
    }

    fn create_from_snapshot<'a>(&'a self, volume: &'a Stored, snapshot: &'a StoredSnapshot) -> BoxFuture<'a, Provided> {
        async move {
            let alone = self.cluster.settings.flatten_from_snapshot;
            self.cluster.clone_of(&snapshot_of(snapshot), volume.id, volume.size_bytes, alone).await.map(|()| None)
        }
        .boxed()
    }

    fn clone_volume<'a>(&'a self, volume: &'a Stored, source: &'a Stored) -> BoxFuture<'a, Provided> {
        async move {
            let moment = clones::moment(source.id, volume.id);
            if !self.cluster.whole(volume.id, volume.size_bytes).await? {
                self.cluster.snapshot(&moment).await.map_err(failed(source.id, "make a snapshot to clone"))?;
                self.cluster.clone_of(&moment, volume.id, volume.size_bytes, false).await?;
            }
            let removed = self.cluster.remove_snapshot(&moment).await;
            removed.map(|()| None).map_err(failed(source.id, "remove the snapshot that was cloned"))
        }
        .boxed()
    }

    fn revert<'a>(&'a self, volume: &'a Stored, snapshot: &'a StoredSnapshot) -> BoxFuture<'a, Result<(), DriverError>> {
        async move {
            let spec = self.cluster.spec(&snapshot_of(snapshot));
            let reverted = self.cluster.rbd_long(["snap", "rollback", "--no-progress", &spec]).await;
            reverted.map_err(failed(volume.id, "revert its image"))?;
            // Ceph takes the size back, too.
            self.cluster.enlarge(&image(volume.id), volume.size_bytes).await.map_err(failed(volume.id, "size its image"))
        }
        .boxed()
    }

    fn copy_in<'a>(
        &'a self,
        volume: &'a Stored,
        pieces: BoxStream<'a, Result<Chunk, std::io::Error>>,
    ) -> BoxFuture<'a, Result<u64, DriverError>> {
        self.cluster.copy_in(volume.id, volume.size_bytes, pieces).boxed()
    }

    fn copy_out(&self, volume: &Stored) -> BoxStream<'static, Result<Chunk, DriverError>> {
        self.cluster.clone().copy_out(volume.id).boxed()
    }

    fn capacity(&self) -> BoxFuture<'_, Result<Capacity, DriverError>> {
        async move {
            // Nothing is placed here before all of it was seen to work.
            self.checked().await?;
            self.cluster.capacity().await
        }
        .boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Found>, DriverError>> {
        self.cluster.found().boxed()
    }

    fn set_aside<'a>(&'a self, found: &'a Found) -> BoxFuture<'a, Result<String, DriverError>> {
        self.cluster.set_aside(found).boxed()
    }

    fn reach(&self, _volume: &Stored) -> Reach {
        Reach::Direct
    }

    fn admit<'a>(&'a self, volume: &'a Stored, guest: Guest<'a>) -> BoxFuture<'a, Result<Admitted, DriverError>> {
        async move {
            let settings = &self.cluster.settings;
            let monitors = self.cluster.monitors().await?;
            let account = match guest.account {
                _ if !settings.attachment_keys => None,
                Some(known) if known.username == keys::user(guest.attachment_id) => Some(known.clone()),
                _ => Some(self.cluster.make_key(volume.id, guest.attachment_id, guest.read_only).await?),
            };
            let username = account.as_ref().map_or(&settings.user, |account| &account.username);
            // The operator's secret has the key of the operator's user.
            let secret_uuid = settings.secret_uuid.filter(|_| account.is_none());
            let info = json!({
                "driver_volume_type": "rbd",
                "name": self.cluster.spec(&image(volume.id)),
                "hosts": monitors.hosts,
                "ports": monitors.ports,
                "cluster_name": settings.cluster_name,
                "auth_enabled": true,
                "auth_username": username,
                "secret_type": "ceph",
                "secret_uuid": secret_uuid,
                "discard": true,
                "cacheable": false,
            });
            let info = if let Value::Object(info) = info { info } else { Map::new() };
            Ok(Admitted { info, account })
        }
        .boxed()
    }

    fn dismiss<'a>(&'a self, volume: &'a Stored, guest: Guest<'a>) -> BoxFuture<'a, Result<(), DriverError>> {
        async move {
            let user = keys::user(guest.attachment_id);
            let has_one = guest.account.is_some_and(|account| account.username == user);
            // One may have been made and not recorded; or the setting have been another then.
            if !has_one && !self.cluster.settings.attachment_keys {
                return Ok(());
            }
            let removed = self.cluster.remove_key(&user).await;
            removed.map_err(failed(volume.id, "remove an attachment's key"))
        }
        .boxed()
    }
}
