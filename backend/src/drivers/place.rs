//! New files, put in place whole or not at all: made under another name, synced, renamed, and their directory synced.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::{DriverError, sparse};

/// What the name of a file that is being made begins with.
pub(super) const UNFINISHED: &str = ".making-";

/// What a new file is made from.
pub(super) struct Copied {
    pub(super) path: PathBuf,
    pub(super) in_use: bool,
}

/// A file that is being made; removed when dropped unfinished.
pub(super) struct Unfinished {
    pub(super) file: File,
    /// Where it is now.
    pub(super) now: PathBuf,
    directory: PathBuf,
    path: PathBuf,
    id: Uuid,
    placed: bool,
}

impl Unfinished {
    /// Begins a file that is to be at `path`, with another's bytes where there is one. A try before may have left one.
    pub(super) fn begin(directory: &Path, path: &Path, id: Uuid, from: Option<Copied>) -> Result<Self, DriverError> {
        let now = unfinished(directory, path);
        let opened = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&now);
        let file = opened.map_err(file_error(id, "make", path))?;
        let unfinished = Self { file, now, directory: directory.to_owned(), path: path.to_owned(), id, placed: false };
        if let Some(Copied { path: from, in_use }) = from {
            unfinished.copy(&from, in_use)?;
        }
        Ok(unfinished)
    }

    fn copy(&self, from: &Path, in_use: bool) -> Result<(), DriverError> {
        let failed = |operation| file_error(self.id, operation, &self.path);
        let source = File::open(from).map_err(file_error(self.id, "open", from))?;
        if !sparse::share(&source, &self.file).map_err(failed("clone into"))? {
            if in_use {
                return Err(DriverError::Inconsistent { volume_id: self.id });
            }
            sparse::copy(&source, &self.file).map_err(failed("copy into"))?;
        }
        Ok(())
    }

    /// Puts it in place, for good.
    pub(super) fn finish(mut self) -> Result<(), DriverError> {
        let failed = |operation| file_error(self.id, operation, &self.path);
        self.file.sync_all().map_err(failed("make"))?;
        fs::rename(&self.now, &self.path).map_err(failed("put in place"))?;
        let synced = sync_directory(&self.directory).map_err(failed("sync the directory of"));
        self.placed = true;
        synced
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.placed {
            // Nothing more can be done about a file that can neither be made nor removed; the first error is the telling one.
            let _ = fs::remove_file(&self.now);
        }
    }
}

/// What the file that is to be at `path` is called while it is made.
fn unfinished(directory: &Path, path: &Path) -> PathBuf {
    directory.join(format!("{UNFINISHED}{}", path.file_name().unwrap_or_default().to_string_lossy()))
}

/// What the disk in a file is called that is laid out beside it for a while, to be read or to be written: a restore does both at once.
pub(super) const FLAT_OUT: &str = "raw";
pub(super) const FLAT_IN: &str = "new";

/// Removes a file, and what was left of making it. Where there is none, nothing happens.
pub(super) fn remove(directory: &Path, path: &Path, id: Uuid) -> Result<(), DriverError> {
    let flat = |extension| unfinished(directory, &path.with_extension(extension));
    for path in [path, &unfinished(directory, path), &flat(FLAT_OUT), &flat(FLAT_IN)] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file_error(id, "remove", path)(error)),
            _ => {}
        }
    }
    sync_directory(directory).map_err(file_error(id, "sync the directory of", path))
}

/// Makes what was renamed in it last.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// For `map_err`.
pub(super) fn file_error(
    volume_id: Uuid,
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> DriverError + use<> {
    let path = path.to_owned();
    move |source| DriverError::File { volume_id, operation, path, source }
}

/// File systems may block for long, so this happens off the runtime's threads.
pub(super) fn blocking<T: Send + 'static>(
    id: Uuid,
    path: PathBuf,
    operation: &'static str,
    work: impl FnOnce() -> Result<T, DriverError> + Send + 'static,
) -> BoxFuture<'static, Result<T, DriverError>> {
    tokio::task::spawn_blocking(work)
        .map(move |joined| joined.unwrap_or_else(|error| Err(file_error(id, operation, &path)(io::Error::other(error)))))
        .boxed()
}
