//! Images of this host: each downloaded once, verified, looked into, and kept for the next guest.
//!
//! ```text
//! absent --bytes--> IMAGE.DIGEST.part --all there, digest right, looked into, synced--> IMAGE.DIGEST --room needed--> absent
//!                     |  the agent dies, the service goes away: the next one goes on from there
//!                     \--digest wrong, or hostile--> absent
//! ```
//! One of a foreign format (`vmdk`, `vhd`, `vhdx`) is converted once, to IMAGE.DIGEST.converted, between being looked into and being there.
//!
//! A disk over an image holds it by a hard link, so an image in use is known by its links, without a count that a crash could
//! falsify; and taking an image out of the cache takes nothing from any disk.

use super::{
    BootSourceError, import, inspect,
    intake::{Written, write},
    turn::{Held, Turn},
};
use crate::model::{DigestAlgorithm, DiskFormat, ErrorKind, ForeignFormat, ImageFile, ImageId};
use async_trait::async_trait;
use std::{
    collections::HashMap,
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::{sync::mpsc, task::spawn_blocking};

/// What has been used by nobody for so long is taken out, room or not.
const UNUSED_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Pieces that may wait for the disk: with reqwest's pieces of at most 16 KiB about half a MiB.
const PIECES: usize = 32;
/// Tries on end that gain nothing, after which a download is given up. One that gets further each time may break off as often as it does.
const FRUITLESS_TRIES: u32 = 5;
/// Pause before a download is taken up again, twice as long after each try that gained nothing.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Ends the name of what an image of a foreign format is being converted to.
const CONVERTED: &str = "converted";
/// Ends the name of an image that comes while guests read of it.
pub(super) const LAZY: &str = "lazy";

/// The image service did not give the bytes.
#[derive(Debug, Clone)]
pub struct SourceError {
    /// Kind.
    pub kind: ErrorKind,
    /// The whole chain of causes, in one line.
    pub message: String,
}

/// What comes of an image.
#[derive(Debug)]
pub enum Piece {
    /// The bytes that follow begin at this offset: the one asked for, or 0 where the service cannot begin elsewhere.
    From(u64),
    /// Some bytes.
    Bytes(Vec<u8>),
}

/// Where images come from.
#[async_trait]
pub trait ImageSource: Send + Sync {
    /// Sends the image's bytes from an offset on. A receiver that is gone ends it.
    async fn fetch(&self, image: ImageId, from: u64, into: mpsc::Sender<Piece>) -> Result<(), SourceError>;
    /// Hears how many bytes of the image that is asked for are here, and how many there are in all, whoever fetches it.
    fn came(&self, _done: u64, _total: u64) {}
}

/// The cache.
pub struct ImageCache {
    folder: PathBuf,
    limit_bytes: u64,
    convert_limit: Duration,
    turns: Mutex<HashMap<ImageId, Arc<Turn>>>,
}

impl ImageCache {
    /// A cache in this folder, of at most so many bytes. `convert_limit`: for an image of a foreign format to be converted. Touches
    /// nothing yet.
    pub fn new(folder: PathBuf, limit_bytes: u64, convert_limit: Duration) -> Self {
        Self { folder, limit_bytes, convert_limit, turns: Mutex::default() }
    }

    /// Makes `link` one file with the image, which is downloaded if it is not here. Whoever asks for the same image meanwhile waits
    /// for the one download, and hears how far it is. Returns the size that a guest sees, bytes.
    ///
    /// # Errors
    /// The image does not come, is not what it should be, or there is no room.
    pub(super) async fn take(&self, image: &ImageFile, source: &dyn ImageSource, link: &Path) -> Result<u64, BootSourceError> {
        let turn = self.turn(image.id);
        let told = |done: u64| source.came(done, image.size_bytes);
        let following = turn.follow(told);
        tokio::select! {
            biased;
            taken = self.take_in_turn(image, source, link, &turn) => taken.inspect(|_| told(image.size_bytes)),
            never = following => never,
        }
    }

    async fn take_in_turn(
        &self,
        image: &ImageFile,
        source: &dyn ImageSource,
        link: &Path,
        turn: &Arc<Turn>,
    ) -> Result<u64, BootSourceError> {
        let held = turn.clone().take().await;
        let path = self.path(image);
        if !path.exists() {
            self.prepare(image).await?;
            self.download(image, source, &path, &held).await?;
        }
        let (image, link) = (image.clone(), link.to_owned());
        blocking(&path.clone(), move || {
            let file = File::open(&path).map_err(BootSourceError::file("open", &path))?;
            // Nobody writes to it, but a host's disk may lie: it costs one read.
            let bytes =
                inspect::inspect(&file, image.format).map_err(|source| BootSourceError::Unfit { image: image.id, source })?;
            // libvirt may have made it QEMU's own, and then only its age tells.
            let _ = file.set_modified(SystemTime::now());
            remove(&link)?;
            fs::hard_link(&path, &link).map_err(BootSourceError::file("link to the cached image", &link))?;
            Ok(bytes)
        })
        .await
    }

    fn turn(&self, image: ImageId) -> Arc<Turn> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(image).or_default().clone()
    }

    /// What its images take, and the most that they may, bytes.
    pub(super) fn held_bytes(&self) -> (u64, u64) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let held = entries.filter_map(|entry| entry.metadata().ok()).map(|about| about.blocks().saturating_mul(512)).sum();
        (held, self.limit_bytes)
    }

    /// The file of an image that is whole.
    pub(super) fn path(&self, image: &ImageFile) -> PathBuf {
        self.folder.join(name(image))
    }

    /// The folder, and room in it.
    pub(super) async fn prepare(&self, image: &ImageFile) -> Result<(), BootSourceError> {
        self.make_room(image.id, image.size_bytes).await
    }

    async fn make_room(&self, image: ImageId, size_bytes: u64) -> Result<(), BootSourceError> {
        // What somebody is about to link to stays; the turn of the one that needs room is not asked for.
        let (folder, limit_bytes, busy) = (self.folder.clone(), self.limit_bytes, self.busy());
        blocking(&folder.clone(), move || {
            make_folder(&folder)?;
            let held = take_out(&folder, limit_bytes.saturating_sub(size_bytes), &busy, Some(image))?;
            if held.saturating_add(size_bytes) > limit_bytes {
                return Err(BootSourceError::NoRoom { image, size_bytes, limit_bytes });
            }
            Ok(())
        })
        .await
    }

    /// Takes out what nobody has used for a week.
    ///
    /// # Errors
    /// A file that cannot be removed, or the folder that cannot be read. One that is not there is fine.
    pub async fn remove_old(&self) -> Result<(), BootSourceError> {
        let (folder, busy) = (self.folder.clone(), self.busy());
        blocking(
            &folder.clone(),
            move || if folder.exists() { take_out(&folder, u64::MAX, &busy, None).map(|_| ()) } else { Ok(()) },
        )
        .await
    }

    /// Images that somebody is about to link to, which stay; their turns are not waited for.
    fn busy(&self) -> Vec<ImageId> {
        let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.iter().filter(|(_, turn)| Arc::strong_count(turn) > 1).map(|(image, _)| *image).collect()
    }

    async fn download(
        &self,
        image: &ImageFile,
        source: &dyn ImageSource,
        path: &Path,
        held: &Arc<Held>,
    ) -> Result<(), BootSourceError> {
        let part = part_of(path);
        let (mut most, mut fruitless) = (0, 0);
        let digest = loop {
            let (pieces, waiting) = mpsc::channel(PIECES);
            let (file, size_bytes, algorithm) = (part.clone(), image.size_bytes, image.digest.algorithm);
            let (begun, begins) = tokio::sync::oneshot::channel();
            // Whoever asked may go away, and the next one writes to the same file: not before this has ended.
            let turn = held.clone();
            let writing =
                spawn_blocking(move || write(&file, size_bytes, algorithm, waiting, begun, |length| turn.came(length)));
            let fetched = match begins.await {
                Ok(from) if from == size_bytes => {
                    drop(pieces);
                    Ok(())
                }
                Ok(from) => {
                    most = most.max(from);
                    source.fetch(image.id, from, pieces).await
                }
                // The file could not be opened: the writer says why.
                Err(_) => Ok(()),
            };
            let written = writing.await.map_err(|_| BootSourceError::Lost { path: part.clone() })?;
            let written = written.map_err(BootSourceError::file("write", &part))?;
            fruitless = if written.length > most { 0 } else { fruitless + 1 };
            most = most.max(written.length);
            match fetched {
                Ok(()) if written.length >= size_bytes || fruitless >= FRUITLESS_TRIES => break written,
                Err(error)
                    if fruitless >= FRUITLESS_TRIES
                        || matches!(error.kind, ErrorKind::NotFound | ErrorKind::PermissionDenied) =>
                {
                    return Err(BootSourceError::Download { image: image.id, problem: error.message, kind: error.kind });
                }
                Err(error) => {
                    tracing::warn!(image = %image.id, error = error.message, "the download broke off: going on with it")
                }
                Ok(()) => tracing::warn!(image = %image.id, "the download ended early: going on with it"),
            }
            tokio::time::sleep(FIRST_PAUSE * 2_u32.pow(fruitless)).await;
        };
        let (checked, from) = (image.clone(), part.clone());
        match image.comes_as {
            None => {
                let path = path.to_owned();
                blocking(&part, move || keep(&checked, &from, &path, &digest)).await
            }
            Some(format) => {
                blocking(&part, move || check_or_remove(&checked, &from, &digest)).await?;
                self.convert(image.id, (&part, format), path).await
            }
        }
    }

    /// Makes an image of the cache of one that came in a foreign format and was looked into. What is cut is begun anew.
    async fn convert(&self, image: ImageId, from: (&Path, ForeignFormat), path: &Path) -> Result<(), BootSourceError> {
        let (part, made) = (from.0.to_owned(), path.with_added_extension(CONVERTED));
        remove(&made)?;
        let converted = import::convert(image, from, &made, self.limit_bytes, self.convert_limit).await;
        let checked = made.clone();
        let sized = match converted {
            Err(error) => Err(error),
            Ok(()) => {
                blocking(&made, move || {
                    let file = File::open(&checked).map_err(BootSourceError::file("open", &checked))?;
                    let looked = inspect::inspect(&file, DiskFormat::Qcow2);
                    looked.map_err(|source| BootSourceError::Unfit { image, source })?;
                    file.sync_all().map_err(BootSourceError::file("sync", &checked))?;
                    remove(&part)?;
                    Ok(file.metadata().map_err(BootSourceError::file("look at", &checked))?.blocks() * 512)
                })
                .await
            }
        };
        let roomy = match sized {
            Ok(bytes) => self.make_room(image, bytes).await,
            Err(error) => Err(error),
        };
        if roomy.is_err() {
            remove(&made)?;
        }
        roomy?;
        let path = path.to_owned();
        blocking(&made.clone(), move || settle(&made, &path)).await
    }
}

/// Makes what came an image of the cache, or throws it away if it is not what it should be.
pub(super) fn keep(image: &ImageFile, part: &Path, path: &Path, written: &Written) -> Result<(), BootSourceError> {
    check_or_remove(image, part, written)?;
    settle(part, path)
}

fn check_or_remove(image: &ImageFile, part: &Path, written: &Written) -> Result<(), BootSourceError> {
    let checked = check(image, part, written);
    if checked.is_err() {
        remove(part)?;
    }
    checked
}

/// From here on it is an image of the cache.
fn settle(part: &Path, path: &Path) -> Result<(), BootSourceError> {
    fs::set_permissions(part, Permissions::from_mode(0o444)).map_err(BootSourceError::file("open to QEMU", part))?;
    fs::rename(part, path).map_err(BootSourceError::file("rename", part))?;
    sync_folder(path)
}

/// It is what the service says, and nothing that harms.
fn check(image: &ImageFile, part: &Path, written: &Written) -> Result<(), BootSourceError> {
    let mismatch =
        |what, found: String, wanted: String| Err(BootSourceError::Mismatch { image: image.id, what, found, wanted });
    if written.length != image.size_bytes {
        return mismatch("length", written.length.to_string(), image.size_bytes.to_string());
    }
    if !written.digest.eq_ignore_ascii_case(&image.digest.hex) {
        let what = match image.digest.algorithm {
            DigestAlgorithm::Sha512 => "sha512",
            DigestAlgorithm::Sha256 => "sha256",
            DigestAlgorithm::Md5 => "md5",
        };
        return mismatch(what, written.digest.clone(), image.digest.hex.clone());
    }
    let file = File::open(part).map_err(BootSourceError::file("open", part))?;
    let looked = match image.comes_as {
        Some(format) => inspect::inspect_foreign(&file, format),
        None => inspect::inspect(&file, image.format),
    };
    looked.map(drop).map_err(|source| BootSourceError::Unfit { image: image.id, source })
}

/// An image with other bytes is another file.
fn name(image: &ImageFile) -> String {
    let digest: String = image.digest.hex.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    format!("{}.{digest}.{}", image.id, image.format.as_str())
}

fn part_of(path: &Path) -> PathBuf {
    path.with_added_extension("part")
}

/// The image that a file of the cache is of.
fn image_of(path: &Path) -> Option<ImageId> {
    path.file_name()?.to_str()?.split('.').next()?.parse().ok()
}

/// Takes out what nobody has used for long, and then, for as long as it holds more than `most_bytes`, what nobody has used for longest.
/// `wanted`: for which room is made. Returns what it holds then, bytes.
fn take_out(folder: &Path, most_bytes: u64, busy: &[ImageId], wanted: Option<ImageId>) -> Result<u64, BootSourceError> {
    let unreadable = BootSourceError::file("list", folder);
    let mut cached = vec![];
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let Ok(entry) = entry else { continue };
        // One that is gone meanwhile needs no room.
        let Ok(about) = entry.metadata() else { continue };
        let path = entry.path();
        // What is coming will be as large as its file says.
        let is = |suffix| path.extension().is_some_and(|end| end == suffix);
        let bytes = match () {
            // Room is made for it just now, by what it has become.
            () if is(CONVERTED) && wanted.is_some() && image_of(&path) == wanted => 0,
            () if is(LAZY) => about.len(),
            () => about.blocks() * 512,
        };
        cached.push((about.modified().unwrap_or(SystemTime::UNIX_EPOCH), bytes, about.nlink(), path));
    }
    cached.sort();
    let mut held: u64 = cached.iter().map(|(_, bytes, _, _)| bytes).sum();
    for (used, bytes, links, path) in cached {
        let in_use = links > 1 || image_of(&path).is_some_and(|image| busy.contains(&image));
        let is_old = SystemTime::now().duration_since(used).is_ok_and(|age| age > UNUSED_MAX);
        if !in_use && (is_old || held > most_bytes) {
            tracing::info!(image = %path.display(), "taken out of the image cache");
            remove(&path)?;
            held = held.saturating_sub(bytes);
        }
    }
    Ok(held)
}

/// Removes a file; one that is not there is fine.
pub(super) fn remove(path: &Path) -> Result<(), BootSourceError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(BootSourceError::file("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Makes a folder that QEMU, which is another user, may pass through and nobody may list.
pub(super) fn make_folder(folder: &Path) -> Result<(), BootSourceError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(folder)
        .and_then(|()| fs::set_permissions(folder, Permissions::from_mode(0o711)))
        .map_err(BootSourceError::file("make the folder", folder))
}

pub(super) fn sync_folder(path: &Path) -> Result<(), BootSourceError> {
    let folder = path.parent().unwrap_or(path);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(BootSourceError::file("sync the folder of", path))
}

/// Does what waits for a disk on a thread that may wait.
pub(super) async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T, BootSourceError> + Send + 'static,
) -> Result<T, BootSourceError> {
    spawn_blocking(work).await.unwrap_or_else(|_| Err(BootSourceError::Lost { path: path.to_owned() }))
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
