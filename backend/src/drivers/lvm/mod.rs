//! Volumes in an LVM thin pool. Snapshots, clones and volumes from snapshots are thin snapshots: made at once, whatever their
//! size, and sharing what neither has changed; each stands on its own, so any can be removed first.
//!
//! ```text
//! tool.rs     LVM's commands, names and tags
//! report.rs   what LVM reports
//! devices.rs  which devices LVM may look at
//! revert.rs   a volume that gets a snapshot's bytes again
//! check.rs    what must be so at the start, and what mends it
//! bytes.rs    a volume's bytes in and out
//! found.rs    what there is, for an audit
//! ```
//!
//! Only the pool's free space is real: everything new is refused while its data or its metadata is nearly full, whatever may
//! still be promised.

mod bytes;
mod check;
mod devices;
mod error;
mod found;
mod report;
mod revert;
mod tool;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _, TryFutureExt as _, TryStreamExt as _, stream};

use super::{Capacity, Chunk, DriverError, Found, Provided, Reach, Stored, StoredSnapshot, VolumeDriver};
use crate::config::Lvm;
pub use error::LvmError;
use report::LogicalVolume;
use tool::{FULL_PERCENT, SNAPSHOT, Tool, VOLUME, snapshot_name, volume_name};

/// The driver.
#[derive(Clone, Debug)]
pub struct LvmDriver {
    tool: Arc<Tool>,
    /// `/dev/GROUP`.
    directory: PathBuf,
}

/// A thin volume that is to be there.
struct Wanted<'a> {
    name: &'a str,
    tag: &'static str,
    size_bytes: u64,
    /// The name and the tag of what it is made from.
    from: Option<(&'a str, &'static str)>,
}

impl LvmDriver {
    /// Keeps volumes in this pool.
    pub fn new(settings: Lvm) -> Self {
        let directory = Path::new("/dev").join(&settings.volume_group);
        Self { tool: Arc::new(Tool::new(settings)), directory }
    }

    fn device(&self, volume: &Stored) -> PathBuf {
        self.directory.join(volume_name(volume.id))
    }

    /// Makes sure that a thin volume is there with its size. A try before may have come as far as a copy that is still as large
    /// as what it was made from.
    async fn make(&self, wanted: Wanted<'_>) -> Provided {
        let Wanted { name, tag, size_bytes, from } = wanted;
        let found = self.tool.look(&[Some(name), from.map(|from| from.0)].into_iter().flatten().collect::<Vec<_>>()).await?;
        let has_bytes = match (found.own(name, tag)?, from) {
            (Some(made), _) => made.size_bytes,
            (None, None) => {
                found.room()?;
                self.make_empty(name, tag, size_bytes).await?;
                size_bytes
            }
            (None, Some((source, source_tag))) => {
                let source = found.existing(source, source_tag)?;
                found.room()?;
                self.make_copy(name, tag, source).await?;
                source.size_bytes
            }
        };
        if has_bytes < size_bytes && from.is_some() && tag == VOLUME {
            self.resize(name, size_bytes).await?;
        } else if has_bytes != size_bytes {
            let problem = format!("it has {has_bytes} bytes instead of {size_bytes}");
            return Err(LvmError::Foreign { name: self.tool.full(name), problem }.into());
        }
        if tag == VOLUME && found.own(name, tag)?.is_some_and(|made| !made.is_active) {
            self.activate(&[&self.tool.full(name)]).await?;
        }
        Ok(None)
    }

    async fn make_empty(&self, name: &str, tag: &str, size_bytes: u64) -> Result<(), LvmError> {
        let (size, pool) = (format!("{size_bytes}b"), self.tool.pool_name());
        let options = ["--yes", "--type", "thin", "--virtualsize", &size, "--name", name, "--addtag", tag];
        self.tool.change("lvcreate", format!("make {}", self.tool.full(name)), options, &[&pool]).await
    }

    async fn make_copy(&self, name: &str, tag: &str, source: &LogicalVolume) -> Result<(), LvmError> {
        let source = self.tool.full(&source.name);
        // A snapshot has no device and is left out when all is activated: nobody but a copy of it is ever opened.
        let skipped = if tag == SNAPSHOT { "y" } else { "n" };
        let options = ["--yes", "--snapshot", "--name", name, "--addtag", tag, "--setactivationskip", skipped];
        self.tool.change("lvcreate", format!("make {} of {source}", self.tool.full(name)), options, &[&source]).await
    }

    async fn resize(&self, name: &str, size_bytes: u64) -> Result<(), LvmError> {
        let (full, size) = (self.tool.full(name), format!("{size_bytes}b"));
        self.tool.change("lvextend", format!("extend {full}"), ["--size", &size], &[&full]).await
    }

    async fn activate(&self, names: &[&str]) -> Result<(), LvmError> {
        self.tool.change("lvchange", format!("activate {}", names.join(", ")), ["--activate", "y"], names).await
    }

    /// Removes those of these that are there.
    async fn remove(&self, names: &[&str], tag: &str) -> Result<(), LvmError> {
        let found = self.tool.look(names).await?;
        for name in names {
            if found.own(name, tag)?.is_some() {
                let full = self.tool.full(name);
                self.tool.change("lvremove", format!("remove {full}"), ["--yes"], &[&full]).await?;
            }
        }
        Ok(())
    }

    async fn capacity_now(&self) -> Result<Capacity, LvmError> {
        let found = self.tool.look(&[]).await?;
        let total_bytes = found.pool.size_bytes;
        // By the worse of data and metadata, and as if it were full where it takes nothing new.
        let used_percent = found.pool.data_percent.max(found.pool.metadata_percent);
        let free_percent = if found.room().is_ok() { FULL_PERCENT - used_percent } else { 0.0 };
        Ok(Capacity { total_bytes, free_bytes: (total_bytes as f64 / 100.0 * free_percent) as u64 })
    }
}

impl VolumeDriver for LvmDriver {
    fn prepare(&self) -> BoxFuture<'_, Result<(), DriverError>> {
        async { Ok(self.check().await?) }.boxed()
    }

    fn create<'a>(&'a self, volume: &'a Stored) -> BoxFuture<'a, Provided> {
        async move {
            let name = volume_name(volume.id);
            self.make(Wanted { name: &name, tag: VOLUME, size_bytes: volume.size_bytes, from: None }).await
        }
        .boxed()
    }

    fn delete<'a>(&'a self, volume: &'a Stored) -> BoxFuture<'a, Result<(), DriverError>> {
        async move {
            let [new, old] = revert::names(volume.id);
            Ok(self.remove(&[&volume_name(volume.id), &new, &old], VOLUME).await?)
        }
        .boxed()
    }

    fn extend<'a>(&'a self, volume: &'a Stored, size_bytes: u64) -> BoxFuture<'a, Result<(), DriverError>> {
        async move {
            let name = volume_name(volume.id);
            let found = self.tool.look(&[&name]).await?;
            // Never smaller: the bytes beyond would be gone.
            if found.existing(&name, VOLUME)?.size_bytes < size_bytes {
                found.room()?;
                self.resize(&name, size_bytes).await?;
            }
            Ok(())
        }
        .boxed()
    }

    fn size_bytes<'a>(&'a self, volume: &'a Stored) -> BoxFuture<'a, Result<u64, DriverError>> {
        async move {
            let name = volume_name(volume.id);
            Ok(self.tool.look(&[&name]).await?.existing(&name, VOLUME)?.size_bytes)
        }
        .boxed()
    }

    fn create_snapshot<'a>(&'a self, snapshot: &'a StoredSnapshot) -> BoxFuture<'a, Provided> {
        async move {
            let (name, from) = (snapshot_name(snapshot.id), volume_name(snapshot.volume.id));
            let size_bytes = snapshot.volume.size_bytes;
            self.make(Wanted { name: &name, tag: SNAPSHOT, size_bytes, from: Some((&from, VOLUME)) }).await
        }
        .boxed()
    }

    fn delete_snapshot<'a>(&'a self, snapshot: &'a StoredSnapshot) -> BoxFuture<'a, Result<(), DriverError>> {
        async move { Ok(self.remove(&[&snapshot_name(snapshot.id)], SNAPSHOT).await?) }.boxed()
    }

    fn create_from_snapshot<'a>(&'a self, volume: &'a Stored, snapshot: &'a StoredSnapshot) -> BoxFuture<'a, Provided> {
        async move {
            let (name, from) = (volume_name(volume.id), snapshot_name(snapshot.id));
            let size_bytes = volume.size_bytes;
            self.make(Wanted { name: &name, tag: VOLUME, size_bytes, from: Some((&from, SNAPSHOT)) }).await
        }
        .boxed()
    }

    fn clone_volume<'a>(&'a self, volume: &'a Stored, source: &'a Stored) -> BoxFuture<'a, Provided> {
        async move {
            let (name, from) = (volume_name(volume.id), volume_name(source.id));
            let size_bytes = volume.size_bytes;
            self.make(Wanted { name: &name, tag: VOLUME, size_bytes, from: Some((&from, VOLUME)) }).await
        }
        .boxed()
    }

    fn revert<'a>(&'a self, volume: &'a Stored, snapshot: &'a StoredSnapshot) -> BoxFuture<'a, Result<(), DriverError>> {
        self.revert_to(volume, snapshot).boxed()
    }

    fn copy_in<'a>(
        &'a self,
        volume: &'a Stored,
        pieces: BoxStream<'a, Result<Chunk, std::io::Error>>,
    ) -> BoxFuture<'a, Result<u64, DriverError>> {
        async move {
            let name = volume_name(volume.id);
            self.tool.look(&[&name]).await?.existing(&name, VOLUME)?;
            bytes::write(volume, self.device(volume), pieces).await
        }
        .boxed()
    }

    fn copy_out(&self, volume: &Stored) -> BoxStream<'static, Result<Chunk, DriverError>> {
        let (driver, name, path) = (self.clone(), volume_name(volume.id), self.device(volume));
        let opened = async move {
            let size_bytes = driver.tool.look(&[&name]).await?.existing(&name, VOLUME)?.size_bytes;
            let reader = bytes::Reader::open(path, size_bytes).await?;
            Ok::<_, LvmError>(stream::try_unfold(reader, bytes::Reader::next))
        };
        opened.try_flatten_stream().map_err(DriverError::from).boxed()
    }

    fn capacity(&self) -> BoxFuture<'_, Result<Capacity, DriverError>> {
        async { Ok(self.capacity_now().await?) }.boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Found>, DriverError>> {
        async { Ok(self.found().await?) }.boxed()
    }

    fn set_aside<'a>(&'a self, found: &'a Found) -> BoxFuture<'a, Result<String, DriverError>> {
        async move { Ok(self.put_aside(found).await?) }.boxed()
    }

    fn reach(&self, volume: &Stored) -> Reach {
        Reach::Local(self.device(volume))
    }
}
