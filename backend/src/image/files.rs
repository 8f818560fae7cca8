//! The directory of images: one file an image, named by its id. Bytes on their way in are in a file of another name until they are
//! whole, looked at and on the disk.
//!
//! ```text
//! <image id>              the bytes of an active image
//! .part-<who>-<image id>  bytes on their way in, or a raw disk being made; worthless once `who` has died
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::config::Images;

/// What images may be at most.
#[derive(Clone, Copy, Debug)]
pub struct ImageLimits {
    /// Bytes of an image.
    pub largest_bytes: u64,
    /// Bytes of a disk made from one.
    pub largest_disk_bytes: u64,
}

/// The directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("images: cannot {operation} {}", path.display())]
pub struct ImageFilesError {
    /// What was tried.
    pub operation: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// The directory of images, for one role of one machine.
#[derive(Clone, Debug)]
pub struct ImageFiles {
    directory: PathBuf,
    who: String,
    limits: ImageLimits,
}

impl ImageFiles {
    /// Uses `directory`, made where it is missing. What `who` left unfinished in another life is removed: `who` names a role of a
    /// machine, which lives once at a time.
    pub fn open(directory: PathBuf, who: &str, settings: &Images) -> Result<Self, ImageFilesError> {
        let gib = |number: u64| number.saturating_mul(crate::domain::volume::GIB);
        let limits =
            ImageLimits { largest_bytes: gib(settings.largest_gib), largest_disk_bytes: gib(settings.largest_disk_gib) };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.map_err(failed("make the directory", &directory))?;
        let who = who.replace(|char: char| !char.is_ascii_alphanumeric(), "_");
        let files = Self { directory, who, limits };
        files.remove_matching(|name| name.starts_with(&files.part_prefix()))?;
        Ok(files)
    }

    /// Removes the bytes of images that are no more.
    pub fn keep_only(&self, images: &BTreeSet<Uuid>) -> Result<(), ImageFilesError> {
        self.remove_matching(|name| Uuid::parse_str(name).is_ok_and(|id| !images.contains(&id)))
    }

    /// The bytes there are, by image: how many.
    pub fn list(&self) -> Result<BTreeMap<Uuid, u64>, ImageFilesError> {
        let listed = || failed("look into", &self.directory);
        let mut all = BTreeMap::new();
        for entry in fs::read_dir(&self.directory).map_err(listed())? {
            let entry = entry.map_err(listed())?;
            let id = entry.file_name().to_str().and_then(|name| Uuid::parse_str(name).ok());
            // One that is gone by now is being removed.
            if let (Some(id), Ok(metadata)) = (id, entry.metadata()) {
                all.insert(id, metadata.len());
            }
        }
        Ok(all)
    }

    fn remove_matching(&self, is_worthless: impl Fn(&str) -> bool) -> Result<(), ImageFilesError> {
        let listed = failed("look into", &self.directory);
        for entry in fs::read_dir(&self.directory).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(listed)? {
            if entry.file_name().to_str().is_some_and(&is_worthless) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Which role of which machine this is, as a word.
    pub fn who(&self) -> &str {
        &self.who
    }

    /// What images may be at most.
    pub fn limits(&self) -> &ImageLimits {
        &self.limits
    }

    /// The bytes of an active image.
    pub fn path(&self, id: Uuid) -> PathBuf {
        self.directory.join(id.to_string())
    }

    fn part_prefix(&self) -> String {
        format!(".part-{}-", self.who)
    }

    /// Where something is made; `kind` tells things about the same id apart.
    pub(super) fn part(&self, id: Uuid, kind: &str) -> PathBuf {
        self.directory.join(format!("{}{id}{kind}", self.part_prefix()))
    }

    /// A new file there, in place of what a try before left.
    pub(super) fn make_part(&self, id: Uuid, kind: &str) -> Result<Part, ImageFilesError> {
        let path = self.part(id, kind);
        remove(&path)?;
        let opened = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = opened.map_err(failed("make", &path))?;
        Ok(Part { path, file, placed: false })
    }

    /// Puts whole bytes in place, on the disk for good.
    pub(super) fn place(&self, mut part: Part, id: Uuid) -> Result<(), ImageFilesError> {
        part.file.sync_all().map_err(failed("sync", &part.path))?;
        fs::rename(&part.path, self.path(id)).map_err(failed("put in place", &part.path))?;
        part.placed = true;
        File::open(&self.directory).and_then(|directory| directory.sync_all()).map_err(failed("sync", &self.directory))
    }

    /// Removes the bytes of an image. Where there are none, nothing happens.
    pub fn remove(&self, id: Uuid) -> Result<(), ImageFilesError> {
        remove(&self.path(id))
    }

    /// Opens the bytes of an image.
    pub fn open_image(&self, id: Uuid) -> Result<File, ImageFilesError> {
        let path = self.path(id);
        File::open(&path).map_err(failed("open", &path))
    }
}

/// A file that is being made; removed with this, unless it was put in place.
pub(super) struct Part {
    pub(super) path: PathBuf,
    pub(super) file: File,
    placed: bool,
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.placed {
            // What cannot be removed now is removed at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn remove(path: &Path) -> Result<(), ImageFilesError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// For `map_err`.
pub(super) fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ImageFilesError + use<> {
    let path = path.to_owned();
    move |source| ImageFilesError { operation, path, source }
}
