//! Objects as files in a directory, which may be on a file server that all roles have mounted.
//!
//! A file is written under another name, synced, renamed, and its directory synced: one of an object's name is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::super::object::{ObjectName, Place};
use super::{ObjectStore, StoreFault};

/// So many are listed at once.
const LISTED: usize = 1000;

/// What names of files that are not whole begin with.
const UNFINISHED: &str = ".making-";

/// The store.
pub(super) struct DirectoryStore {
    directory: PathBuf,
}

impl DirectoryStore {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    fn path(&self, name: &ObjectName) -> PathBuf {
        self.directory.join(name.as_str())
    }
}

impl ObjectStore for DirectoryStore {
    fn put<'a>(&'a self, name: &'a ObjectName, bytes: Vec<u8>) -> BoxFuture<'a, Result<(), StoreFault>> {
        let path = self.path(name);
        blocking(path.clone(), "write", move || put(&path, &bytes))
    }

    fn get<'a>(&'a self, name: &'a ObjectName, most: u64) -> BoxFuture<'a, Result<Option<Vec<u8>>, StoreFault>> {
        let path = self.path(name);
        blocking(path.clone(), "read", move || match File::open(&path) {
            Ok(file) => {
                let mut bytes = Vec::new();
                file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
    }

    fn remove<'a>(&'a self, name: &'a ObjectName) -> BoxFuture<'a, Result<(), StoreFault>> {
        let path = self.path(name);
        blocking(path.clone(), "remove", move || not_there_is_well(fs::remove_file(&path)))
    }

    fn list<'a>(
        &'a self,
        place: &'a Place,
        _after: Option<&'a ObjectName>,
    ) -> BoxFuture<'a, Result<Vec<ObjectName>, StoreFault>> {
        let place = place.clone();
        let directory = self.directory.join(place.prefix());
        blocking(directory.clone(), "list", move || {
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(error),
            };
            let mut names = Vec::new();
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.starts_with(UNFINISHED) {
                    // What a crash has left. A writer of it would be the backup's own, and that is being removed.
                    not_there_is_well(fs::remove_file(entry.path()))?;
                    continue;
                }
                names.extend(place.named(&format!("{}{name}", place.prefix())));
                if names.len() == LISTED {
                    break;
                }
            }
            if names.is_empty() {
                // The last is gone; a directory with somebody else's files in it stays.
                let _ = fs::remove_dir(&directory);
            }
            Ok(names)
        })
    }
}

fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    if !directory.is_dir() {
        // Whoever may read this may read every volume.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        for made in directory.ancestors().skip(1).take(2) {
            File::open(made)?.sync_all()?;
        }
    }
    // Its own name: two processes may be at it, where one is only thought dead.
    let unfinished = directory.join(format!("{UNFINISHED}{}", Uuid::new_v4()));
    let written = (|| {
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    })();
    if written.is_err() {
        // The first error is the telling one.
        let _ = fs::remove_file(&unfinished);
    }
    written?;
    File::open(directory)?.sync_all()
}

fn not_there_is_well(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// File systems may block for long, so this happens off the runtime's threads.
fn blocking<T: Send + 'static>(
    path: PathBuf,
    operation: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> BoxFuture<'static, Result<T, StoreFault>> {
    Box::pin(async move {
        let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)));
        done.map_err(|source| StoreFault::File { operation, path: path.display().to_string(), source })
    })
}
