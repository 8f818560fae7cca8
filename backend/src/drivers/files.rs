//! Volumes as sparse files, `volume-<id>`, and snapshots as `snapshot-<id>`, in one directory. A file costs what was written to it.
//!
//! Making one is atomic: a temporary file gets its bytes and its size, is synced and linked into place, and the directory is
//! synced. So a file of a volume's name is always whole, whenever the power went.
//!
//! A copy shares blocks with its source where the file system can (XFS, Btrfs), also while the source is written to. Elsewhere it
//! copies the data, and refuses where a host may be writing meanwhile: `volume/still.rs` then holds the hosts off.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _, TryFutureExt as _, stream};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::place::{self, Copied, UNFINISHED, Unfinished, blocking, file_error, sync_directory};
use super::{Capacity, Chunk, DriverError, Found, FoundKind, Provided, Reach, Stored, StoredSnapshot, VolumeDriver, sparse};

/// Bytes after which the disk is told to begin, so that little is left to wait for at the end.
const SYNC_BYTES: u64 = 32 << 20;

/// The driver.
#[derive(Clone, Debug)]
pub struct FilesDriver {
    directory: PathBuf,
}

impl FilesDriver {
    /// Keeps volumes in `directory`, which must exist.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// A volume's file.
    pub fn path(&self, id: Uuid) -> PathBuf {
        self.directory.join(format!("volume-{id}"))
    }

    /// A snapshot's file.
    pub(super) fn snapshot_path(&self, id: Uuid) -> PathBuf {
        self.directory.join(format!("snapshot-{id}"))
    }

    /// Makes a file of this size, with another's bytes where there is one.
    fn make(&self, id: Uuid, path: PathBuf, size_bytes: u64, from: Option<Copied>) -> BoxFuture<'static, Provided> {
        let directory = self.directory.clone();
        blocking(id, path.clone(), "make", move || match fs::metadata(&path) {
            Ok(found) if found.len() == size_bytes => Ok(None),
            Ok(found) => Err(DriverError::Occupied { volume_id: id, path, found_bytes: found.len(), wanted_bytes: size_bytes }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                place(&directory, &path, id, size_bytes, from).map(|()| None)
            }
            Err(error) => Err(file_error(id, "look at", &path)(error)),
        })
    }

    fn remove(&self, id: Uuid, path: PathBuf) -> BoxFuture<'static, Result<(), DriverError>> {
        let directory = self.directory.clone();
        blocking(id, path.clone(), "remove", move || place::remove(&directory, &path, id))
    }
}

impl VolumeDriver for FilesDriver {
    fn prepare(&self) -> BoxFuture<'_, Result<(), DriverError>> {
        self.capacity().map_ok(drop).boxed()
    }

    fn create<'a>(&'a self, volume: &'a Stored) -> BoxFuture<'a, Provided> {
        self.make(volume.id, self.path(volume.id), volume.size_bytes, None)
    }

    fn delete<'a>(&'a self, volume: &'a Stored) -> BoxFuture<'a, Result<(), DriverError>> {
        self.remove(volume.id, self.path(volume.id))
    }

    fn extend<'a>(&'a self, volume: &'a Stored, size_bytes: u64) -> BoxFuture<'a, Result<(), DriverError>> {
        let (id, path) = (volume.id, self.path(volume.id));
        blocking(id, path.clone(), "extend", move || {
            let failed = |operation| file_error(id, operation, &path);
            let file = OpenOptions::new().write(true).open(&path).map_err(failed("open"))?;
            // Never smaller: the bytes beyond would be gone.
            if file.metadata().map_err(failed("look at"))?.len() < size_bytes {
                file.set_len(size_bytes).and_then(|()| file.sync_all()).map_err(failed("extend"))?;
            }
            Ok(())
        })
    }

    fn size_bytes<'a>(&'a self, volume: &'a Stored) -> BoxFuture<'a, Result<u64, DriverError>> {
        let (id, path) = (volume.id, self.path(volume.id));
        blocking(id, path.clone(), "look at", move || {
            fs::metadata(&path).map(|found| found.len()).map_err(file_error(id, "look at", &path))
        })
    }

    fn create_snapshot<'a>(&'a self, snapshot: &'a StoredSnapshot) -> BoxFuture<'a, Provided> {
        let volume = &snapshot.volume;
        let from = Copied { path: self.path(volume.id), in_use: volume.in_use };
        self.make(volume.id, self.snapshot_path(snapshot.id), volume.size_bytes, Some(from))
    }

    fn delete_snapshot<'a>(&'a self, snapshot: &'a StoredSnapshot) -> BoxFuture<'a, Result<(), DriverError>> {
        self.remove(snapshot.volume.id, self.snapshot_path(snapshot.id))
    }

    fn create_from_snapshot<'a>(&'a self, volume: &'a Stored, snapshot: &'a StoredSnapshot) -> BoxFuture<'a, Provided> {
        let from = Copied { path: self.snapshot_path(snapshot.id), in_use: false };
        self.make(volume.id, self.path(volume.id), volume.size_bytes, Some(from))
    }

    fn clone_volume<'a>(&'a self, volume: &'a Stored, source: &'a Stored) -> BoxFuture<'a, Provided> {
        let from = Copied { path: self.path(source.id), in_use: source.in_use };
        self.make(volume.id, self.path(volume.id), volume.size_bytes, Some(from))
    }

    fn revert<'a>(&'a self, volume: &'a Stored, snapshot: &'a StoredSnapshot) -> BoxFuture<'a, Result<(), DriverError>> {
        let (id, size_bytes, path, directory) = (volume.id, volume.size_bytes, self.path(volume.id), self.directory.clone());
        let from = Copied { path: self.snapshot_path(snapshot.id), in_use: false };
        blocking(id, path.clone(), "revert", move || place(&directory, &path, id, size_bytes, Some(from)))
    }

    fn copy_in<'a>(
        &'a self,
        volume: &'a Stored,
        pieces: BoxStream<'a, Result<Chunk, io::Error>>,
    ) -> BoxFuture<'a, Result<u64, DriverError>> {
        write_pieces(volume.id, self.path(volume.id), volume.size_bytes, pieces).boxed()
    }

    fn copy_out(&self, volume: &Stored) -> BoxStream<'static, Result<Chunk, DriverError>> {
        read_pieces(volume.id, self.path(volume.id), None)
    }

    fn capacity(&self) -> BoxFuture<'_, Result<Capacity, DriverError>> {
        let path = self.directory.clone();
        blocking(Uuid::nil(), path.clone(), "measure", move || {
            let found = rustix::fs::statvfs(&path).map_err(|error| DriverError::Unready {
                problem: format!("the directory {} cannot be used: {error}; make it, or mount what it is on", path.display()),
                source: None,
            })?;
            let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
            Ok(Capacity { total_bytes: bytes(found.f_blocks), free_bytes: bytes(found.f_bavail) })
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Found>, DriverError>> {
        let directory = self.directory.clone();
        blocking(Uuid::nil(), directory.clone(), "list", move || {
            let failed = || file_error(Uuid::nil(), "list", &directory);
            let mut all = Vec::new();
            for entry in fs::read_dir(&directory).map_err(failed())? {
                let entry = entry.map_err(failed())?;
                // One that is gone by now is being removed.
                let Ok(metadata) = entry.metadata() else { continue };
                let name = entry.file_name().to_string_lossy().into_owned();
                if let Some((kind, id)) = named(&name).filter(|_| metadata.is_file()) {
                    all.push(Found { kind, id, name, size_bytes: metadata.len() });
                }
            }
            Ok(all)
        })
    }

    fn set_aside<'a>(&'a self, found: &'a Found) -> BoxFuture<'a, Result<String, DriverError>> {
        let (id, from) = (found.id, self.directory.join(&found.name));
        let quarantine = self.directory.join("quarantine");
        blocking(id, from.clone(), "set aside", move || {
            let failed = || file_error(id, "set aside", &from);
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&quarantine);
            made.map_err(file_error(id, "make", &quarantine))?;
            let to = quarantine.join(from.file_name().unwrap_or_default());
            // What was set aside before stays.
            fs::hard_link(&from, &to).and_then(|()| fs::remove_file(&from)).map_err(failed())?;
            let directory = from.parent().unwrap_or(&quarantine);
            sync_directory(&quarantine).and_then(|()| sync_directory(directory)).map_err(failed())?;
            Ok(to.display().to_string())
        })
    }

    fn reach(&self, volume: &Stored) -> Reach {
        Reach::Local(self.path(volume.id))
    }
}

/// What a file of this name is, where it is one of ours.
fn named(name: &str) -> Option<(FoundKind, Uuid)> {
    let id_of = |name: &str| {
        let (kind, id) = name.split_once('-')?;
        let kind = match kind {
            "volume" => FoundKind::Volume,
            "snapshot" => FoundKind::Snapshot,
            _ => return None,
        };
        Some((kind, Uuid::parse_str(id).ok()?))
    };
    match name.strip_prefix(UNFINISHED) {
        Some(rest) => id_of(rest.split('.').next().unwrap_or(rest)).map(|(_, id)| (FoundKind::Unfinished, id)),
        None => id_of(name),
    }
}

/// Puts a whole new raw file in place, in one step that is done or not.
fn place(directory: &Path, path: &Path, id: Uuid, size_bytes: u64, from: Option<Copied>) -> Result<(), DriverError> {
    let unfinished = Unfinished::begin(directory, path, id, from)?;
    unfinished.file.set_len(size_bytes).map_err(file_error(id, "make", path))?;
    unfinished.finish()
}

/// Writes pieces into a file that is there, up to `size_bytes`. Gives the bytes that were written.
pub(super) async fn write_pieces(
    id: Uuid,
    path: PathBuf,
    size_bytes: u64,
    mut pieces: BoxStream<'_, Result<Chunk, io::Error>>,
) -> Result<u64, DriverError> {
    let opened = path.clone();
    let file = blocking(id, path.clone(), "open", move || {
        OpenOptions::new().write(true).open(&opened).map(Arc::new).map_err(file_error(id, "open", &opened))
    })
    .await?;
    let sync = || {
        let (file, path) = (file.clone(), path.clone());
        blocking(id, path.clone(), "sync", move || file.sync_all().map_err(file_error(id, "sync", &path)))
    };
    let (mut written, mut unsynced) = (0, 0);
    let mut syncing: Option<JoinHandle<Result<(), DriverError>>> = None;
    let mut next = pieces.next().await;
    while let Some(piece) = next {
        let piece = piece.map_err(|source| DriverError::Source { volume_id: id, source })?;
        let length = piece.data.len() as u64;
        if piece.offset_bytes.checked_add(length).is_none_or(|end| end > size_bytes) {
            return Err(DriverError::too_large(id));
        }
        let (to, path) = (file.clone(), path.clone());
        let writing = blocking(id, path.clone(), "write", move || {
            to.write_all_at(&piece.data, piece.offset_bytes).map_err(file_error(id, "write", &path))
        });
        // The next one is read meanwhile.
        let (done, following) = tokio::join!(writing, pieces.next());
        done?;
        next = following;
        written += length;
        unsynced += length;
        if unsynced >= SYNC_BYTES && syncing.as_ref().is_none_or(JoinHandle::is_finished) {
            ended(id, syncing.take()).await?;
            syncing = Some(tokio::spawn(sync()));
            unsynced = 0;
        }
    }
    ended(id, syncing).await?;
    sync().await?;
    Ok(written)
}

/// The end of a sync that may be under way. An error of the disk is told once only, to whoever synced.
async fn ended(id: Uuid, syncing: Option<JoinHandle<Result<(), DriverError>>>) -> Result<(), DriverError> {
    let Some(syncing) = syncing else { return Ok(()) };
    syncing.await.unwrap_or_else(|error| Err(DriverError::Source { volume_id: id, source: io::Error::other(error) }))
}

/// Reads a file's data. `opened` is the file, where it is open already.
pub(super) fn read_pieces(
    id: Uuid,
    path: PathBuf,
    opened: Option<Arc<File>>,
) -> BoxStream<'static, Result<Chunk, DriverError>> {
    stream::try_unfold((opened, 0), move |(file, offset): (Option<Arc<File>>, u64)| {
        let path = path.clone();
        blocking(id, path.clone(), "read", move || {
            let failed = |operation| file_error(id, operation, &path);
            let file = match file {
                Some(file) => file,
                None => Arc::new(File::open(&path).map_err(failed("open"))?),
            };
            let mut offset = offset;
            while let Some((at, length)) = sparse::next_data(&file, offset).map_err(failed("read"))? {
                let mut data = vec![0; length];
                file.read_exact_at(&mut data, at).map_err(failed("read"))?;
                offset = at + length as u64;
                if !sparse::is_zero(&data) {
                    return Ok(Some((Chunk { offset_bytes: at, data }, (Some(file), offset))));
                }
            }
            Ok(None)
        })
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::volume::GIB;
    use std::os::unix::fs::MetadataExt as _;

    fn volume(size_bytes: u64) -> Stored {
        Stored { id: Uuid::new_v4(), size_bytes, in_use: false, provider: None }
    }

    fn snapshot(volume: &Stored) -> StoredSnapshot {
        StoredSnapshot { id: Uuid::new_v4(), volume: volume.clone(), provider: None }
    }

    #[tokio::test]
    async fn a_volume_is_sparse_and_everything_can_be_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let driver = FilesDriver::new(dir.path().into());
        let volume = volume(5 * GIB);
        for _ in 0..2 {
            driver.create(&volume).await.unwrap();
        }
        let file = fs::metadata(driver.path(volume.id)).unwrap();
        assert_eq!(file.len(), 5 * GIB);
        assert!(file.blocks() * 512 < 1 << 20, "sparse");
        assert_eq!(file.mode() & 0o777, 0o600);
        for _ in 0..2 {
            driver.extend(&volume, 6 * GIB).await.unwrap();
        }
        driver.extend(&volume, GIB).await.unwrap();
        assert_eq!(driver.size_bytes(&volume).await.unwrap(), 6 * GIB, "never smaller");
        for _ in 0..2 {
            driver.delete(&volume).await.unwrap();
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_file_of_another_size_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let driver = FilesDriver::new(dir.path().into());
        let volume = volume(GIB);
        fs::write(driver.path(volume.id), b"someone's data").unwrap();
        assert!(matches!(driver.create(&volume).await, Err(DriverError::Occupied { found_bytes: 14, .. })));
        assert_eq!(fs::read(driver.path(volume.id)).unwrap(), b"someone's data");
    }

    #[tokio::test]
    async fn a_snapshot_keeps_the_bytes_as_they_were_and_copies_stay_sparse() {
        let dir = tempfile::tempdir().unwrap();
        let driver = FilesDriver::new(dir.path().into());
        let original = volume(GIB);
        driver.create(&original).await.unwrap();
        let file = OpenOptions::new().write(true).open(driver.path(original.id)).unwrap();
        file.write_all_at(b"before", 700 << 20).unwrap();
        let snapshot = snapshot(&original);
        driver.create_snapshot(&snapshot).await.unwrap();
        file.write_all_at(b"after!", 700 << 20).unwrap();

        let read = |id| {
            let mut bytes = [0; 6];
            File::open(driver.path(id)).unwrap().read_exact_at(&mut bytes, 700 << 20).unwrap();
            bytes
        };
        let larger = volume(2 * GIB);
        driver.create_from_snapshot(&larger, &snapshot).await.unwrap();
        let copy = volume(GIB);
        driver.clone_volume(&copy, &original).await.unwrap();
        assert_eq!((&read(larger.id), &read(copy.id)), (b"before", b"after!"));
        let made = fs::metadata(driver.path(larger.id)).unwrap();
        assert_eq!(made.len(), 2 * GIB);
        assert!(made.blocks() * 512 < 8 << 20, "sparse");

        driver.revert(&original, &snapshot).await.unwrap();
        assert_eq!(&read(original.id), b"before");
        driver.delete_snapshot(&snapshot).await.unwrap();
        driver.delete_snapshot(&snapshot).await.unwrap();
    }

    #[tokio::test]
    async fn while_it_is_written_to_a_volume_is_cloned_at_one_moment_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let driver = FilesDriver::new(dir.path().into());
        let mut source = volume(GIB);
        driver.create(&source).await.unwrap();
        source.in_use = true;
        let probe = |name: &str| {
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(dir.path().join(name)).unwrap()
        };
        let can_share = sparse::share(&probe("a"), &probe("b")).unwrap();
        match driver.clone_volume(&volume(GIB), &source).await {
            Ok(_) => assert!(can_share),
            Err(error) => assert!(!can_share && matches!(error, DriverError::Inconsistent { .. }), "{error}"),
        }
    }

    #[tokio::test]
    async fn pieces_that_are_read_out_make_the_same_volume_and_nothing_beyond_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let driver = FilesDriver::new(dir.path().into());
        let (from, to) = (volume(GIB), volume(GIB));
        driver.create(&from).await.unwrap();
        driver.create(&to).await.unwrap();
        let file = OpenOptions::new().write(true).open(driver.path(from.id)).unwrap();
        file.write_all_at(&vec![7; 3 << 20], 5 << 20).unwrap();
        file.write_all_at(b"end", GIB - 3).unwrap();
        let pieces = driver.copy_out(&from).map(|piece| piece.map_err(io::Error::other)).boxed();
        let written = driver.copy_in(&to, pieces).await.unwrap();
        assert!((3 << 20..5 << 20).contains(&written), "holes are left out: {written}");
        let compared = std::process::Command::new("cmp").arg(driver.path(from.id)).arg(driver.path(to.id)).status();
        assert!(compared.unwrap().success());

        let beyond = stream::iter([Ok(Chunk { offset_bytes: GIB - 1, data: vec![1, 2] })]).boxed();
        assert!(matches!(driver.copy_in(&to, beyond).await, Err(DriverError::Source { .. })));
        let capacity = driver.capacity().await.unwrap();
        assert!(capacity.free_bytes > 0 && capacity.free_bytes <= capacity.total_bytes);
    }
}
