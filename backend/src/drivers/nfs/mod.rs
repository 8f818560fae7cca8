//! Volumes as files of an NFS server, `volume-<id>`, raw or qcow2, and snapshots as whole copies, `snapshot-<id>`. Hosts mount the
//! share themselves.
//!
//! Raw files are those of the files driver. A copy shares blocks where the server can clone files (NFS 4.2 over XFS or Btrfs), also
//! while a guest writes; elsewhere a volume that is in use cannot be copied at one moment, and that is refused. A qcow2 file that a
//! guest has open is QEMU's alone: it is not extended from here.
//!
//! ```text
//! mount.rs  the share, where the service sees it, and whether its server answers
//! qcow2.rs  qcow2 files, by qemu-img
//! ```

mod mount;
mod qcow2;

use std::fs::File;
use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _, TryFutureExt as _, TryStreamExt as _, stream};
use rustix::fs::{Advice, fadvise};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::place::{Copied, blocking, file_error};
use super::{
    Admitted, Capacity, Chunk, DriverError, FilesDriver, Found, Guest, Provided, Reach, Stored, StoredSnapshot, VolumeDriver,
};
use crate::config::{FileFormat, Nfs};
use mount::Share;

/// The driver.
#[derive(Debug)]
pub struct NfsDriver {
    settings: Nfs,
    share: std::sync::Arc<Share>,
    files: FilesDriver,
}

impl NfsDriver {
    /// Keeps volumes on the share that `settings` name. It is `mounted_at` already, or this service mounts it below `mounts` when
    /// something is first wanted of it.
    pub fn new(settings: Nfs, mounted_at: Option<PathBuf>, mounts: &Path) -> Self {
        let share = Share::new(settings.clone(), mounted_at, mounts);
        let files = FilesDriver::new(share.directory().to_owned());
        Self { settings, share: share.into(), files }
    }

    fn directory(&self) -> PathBuf {
        self.share.directory().to_owned()
    }

    /// Has a volume's file read from the server. What a guest of this very machine wrote went by another mount of the share, and a server
    /// that has delegated the file to a client tells it nothing of its own writes: this mount's cache would go on with what was before.
    async fn read_anew(share: &Share, files: &FilesDriver, volume: &Stored) -> Result<(), DriverError> {
        share.ready().await?;
        let (id, path) = (volume.id, files.path(volume.id));
        let opened = path.clone();
        blocking(id, path, "read", move || {
            let file = File::open(&opened).map_err(file_error(id, "open", &opened))?;
            let forgotten = fadvise(&file, 0, None, Advice::DontNeed).map_err(std::io::Error::from);
            forgotten.map_err(file_error(id, "read anew", &opened))
        })
        .await
    }

    /// Makes a qcow2 file with another's bytes, unless it is there.
    async fn copy(&self, volume: &Stored, path: PathBuf, from: Copied) -> Result<(), DriverError> {
        if qcow2::is_there(volume.id, path.clone()).await? {
            return Ok(());
        }
        qcow2::make(volume.id, self.directory(), path, volume.size_bytes, Some(from)).await
    }
}

/// What is kept of a volume or a snapshot: settings may change, files do not.
fn provided(format: FileFormat) -> Option<Value> {
    Some(json!({ "format": format.as_str() }))
}

/// Its file's format. A guest could write any header into a raw file, so the file is never asked.
fn format_of(provider: Option<&Value>) -> FileFormat {
    match provider.and_then(|kept| kept.get("format")).and_then(Value::as_str) {
        Some("qcow2") => FileFormat::Qcow2,
        _ => FileFormat::Raw,
    }
}

fn is_raw(volume: &Stored) -> bool {
    format_of(volume.provider.as_ref()) == FileFormat::Raw
}

impl VolumeDriver for NfsDriver {
    fn prepare(&self) -> BoxFuture<'_, Result<(), DriverError>> {
        self.share.ready().map_ok(drop).boxed()
    }

    fn create<'a>(&'a self, volume: &'a Stored) -> BoxFuture<'a, Provided> {
        async move {
            self.share.ready().await?;
            let path = self.files.path(volume.id);
            match self.settings.format {
                FileFormat::Raw => drop(self.files.create(volume).await?),
                FileFormat::Qcow2 if qcow2::is_there(volume.id, path.clone()).await? => {
                    let (found_bytes, wanted_bytes) = (qcow2::size_bytes(volume.id, &path).await?, volume.size_bytes);
                    if found_bytes != wanted_bytes {
                        return Err(DriverError::Occupied { volume_id: volume.id, path, found_bytes, wanted_bytes });
                    }
                }
                FileFormat::Qcow2 => qcow2::make(volume.id, self.directory(), path, volume.size_bytes, None).await?,
            }
            Ok(provided(self.settings.format))
        }
        .boxed()
    }

    fn delete<'a>(&'a self, volume: &'a Stored) -> BoxFuture<'a, Result<(), DriverError>> {
        async move {
            self.share.ready().await?;
            self.files.delete(volume).await
        }
        .boxed()
    }

    fn extend<'a>(&'a self, volume: &'a Stored, size_bytes: u64) -> BoxFuture<'a, Result<(), DriverError>> {
        async move {
            self.share.ready().await?;
            if is_raw(volume) {
                return self.files.extend(volume, size_bytes).await;
            }
            // What a guest wrote of its metadata must not be written over by what this mount remembers.
            Self::read_anew(&self.share, &self.files, volume).await?;
            let path = self.files.path(volume.id);
            if qcow2::size_bytes(volume.id, &path).await? >= size_bytes {
                return Ok(());
            }
            if volume.in_use {
                let operation = "extend a qcow2 file that a guest has open; detach it first";
                return Err(DriverError::Unsupported { volume_id: volume.id, operation });
            }
            qcow2::resize(volume.id, &path, size_bytes).await
        }
        .boxed()
    }

    fn size_bytes<'a>(&'a self, volume: &'a Stored) -> BoxFuture<'a, Result<u64, DriverError>> {
        async move {
            self.share.ready().await?;
            if is_raw(volume) {
                return self.files.size_bytes(volume).await;
            }
            qcow2::size_bytes(volume.id, &self.files.path(volume.id)).await
        }
        .boxed()
    }

    fn create_snapshot<'a>(&'a self, snapshot: &'a StoredSnapshot) -> BoxFuture<'a, Provided> {
        async move {
            let volume = &snapshot.volume;
            Self::read_anew(&self.share, &self.files, volume).await?;
            if is_raw(volume) {
                self.files.create_snapshot(snapshot).await?;
            } else {
                let from = Copied { path: self.files.path(volume.id), in_use: volume.in_use };
                // The disk in it has its size already.
                let as_is = Stored { size_bytes: 0, ..volume.clone() };
                self.copy(&as_is, self.files.snapshot_path(snapshot.id), from).await?;
            }
            Ok(provided(format_of(volume.provider.as_ref())))
        }
        .boxed()
    }

    fn delete_snapshot<'a>(&'a self, snapshot: &'a StoredSnapshot) -> BoxFuture<'a, Result<(), DriverError>> {
        async move {
            self.share.ready().await?;
            self.files.delete_snapshot(snapshot).await
        }
        .boxed()
    }

    fn create_from_snapshot<'a>(&'a self, volume: &'a Stored, snapshot: &'a StoredSnapshot) -> BoxFuture<'a, Provided> {
        async move {
            self.share.ready().await?;
            let format = format_of(snapshot.provider.as_ref());
            if format == FileFormat::Raw {
                self.files.create_from_snapshot(volume, snapshot).await?;
            } else {
                let from = Copied { path: self.files.snapshot_path(snapshot.id), in_use: false };
                self.copy(volume, self.files.path(volume.id), from).await?;
            }
            Ok(provided(format))
        }
        .boxed()
    }

    fn clone_volume<'a>(&'a self, volume: &'a Stored, source: &'a Stored) -> BoxFuture<'a, Provided> {
        async move {
            Self::read_anew(&self.share, &self.files, source).await?;
            if is_raw(source) {
                self.files.clone_volume(volume, source).await?;
            } else {
                let from = Copied { path: self.files.path(source.id), in_use: source.in_use };
                self.copy(volume, self.files.path(volume.id), from).await?;
            }
            Ok(provided(format_of(source.provider.as_ref())))
        }
        .boxed()
    }

    fn revert<'a>(&'a self, volume: &'a Stored, snapshot: &'a StoredSnapshot) -> BoxFuture<'a, Result<(), DriverError>> {
        async move {
            self.share.ready().await?;
            if is_raw(volume) {
                return self.files.revert(volume, snapshot).await;
            }
            let from = Copied { path: self.files.snapshot_path(snapshot.id), in_use: false };
            let path = self.files.path(volume.id);
            qcow2::make(volume.id, self.directory(), path, volume.size_bytes, Some(from)).await
        }
        .boxed()
    }

    fn copy_in<'a>(
        &'a self,
        volume: &'a Stored,
        pieces: BoxStream<'a, Result<Chunk, std::io::Error>>,
    ) -> BoxFuture<'a, Result<u64, DriverError>> {
        async move {
            self.share.ready().await?;
            if is_raw(volume) {
                return self.files.copy_in(volume, pieces).await;
            }
            qcow2::copy_in(volume.id, self.directory(), self.files.path(volume.id), volume.size_bytes, pieces).await
        }
        .boxed()
    }

    fn copy_out(&self, volume: &Stored) -> BoxStream<'static, Result<Chunk, DriverError>> {
        let (share, files, volume) = (self.share.clone(), self.files.clone(), volume.clone());
        let opened = async move {
            Self::read_anew(&share, &files, &volume).await?;
            if is_raw(&volume) {
                return Ok(files.copy_out(&volume));
            }
            qcow2::copy_out(volume.id, share.directory().to_owned(), files.path(volume.id)).await
        };
        stream::once(opened).try_flatten().boxed()
    }

    fn capacity(&self) -> BoxFuture<'_, Result<Capacity, DriverError>> {
        self.share.ready().boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Found>, DriverError>> {
        async move {
            self.share.ready().await?;
            self.files.list().await
        }
        .boxed()
    }

    fn size_of_found<'a>(&'a self, found: &'a Found, provider: Option<&'a Value>) -> BoxFuture<'a, Result<u64, DriverError>> {
        async move {
            match format_of(provider) {
                FileFormat::Raw => Ok(found.size_bytes),
                FileFormat::Qcow2 => qcow2::size_bytes(found.id, &self.share.directory().join(&found.name)).await,
            }
        }
        .boxed()
    }

    fn set_aside<'a>(&'a self, found: &'a Found) -> BoxFuture<'a, Result<String, DriverError>> {
        async move {
            found.is_surely_ours()?;
            self.share.ready().await?;
            self.files.set_aside(found).await
        }
        .boxed()
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        self.share.leave().boxed()
    }

    /// Hosts decrypt what is in a raw file, not what is within a format of its own.
    fn may_encrypt(&self, volume_id: Uuid) -> Result<(), DriverError> {
        match self.settings.format {
            FileFormat::Raw => Ok(()),
            FileFormat::Qcow2 => Err(DriverError::Unsupported {
                volume_id,
                operation: "encrypt volumes while nfs.format is qcow2; it must be raw",
            }),
        }
    }

    fn reach(&self, _volume: &Stored) -> Reach {
        Reach::Direct
    }

    fn admit<'a>(&'a self, volume: &'a Stored, _guest: Guest<'a>) -> BoxFuture<'a, Result<Admitted, DriverError>> {
        let options = match self.settings.mount_options.as_str() {
            "" => None,
            options => Some(format!("-o {options}")),
        };
        let info = json!({
            "driver_volume_type": "nfs",
            "export": self.settings.share,
            "name": name(volume.id),
            "options": options,
            "format": format_of(volume.provider.as_ref()).as_str(),
            "mount_point_base": self.share.directory(),
            "cacheable": false,
        });
        let info = if let Value::Object(info) = info { info } else { Map::new() };
        async { Ok(Admitted { info, account: None }) }.boxed()
    }
}

fn name(id: Uuid) -> String {
    format!("volume-{id}")
}
