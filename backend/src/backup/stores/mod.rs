//! Where the objects of backups are: one trait, a file a store.
//!
//! A new store is a file here that implements [`ObjectStore`], a [`crate::config::BackupStore`] and a line in [`open`].
//!
//! ```text
//! directory.rs  files, each synced and put in place whole; the directory may be a file server's
//! http.rs       requests to a server, tried again where that helps
//! s3.rs         what speaks Amazon's S3; signature.rs signs for it
//! swift.rs      OpenStack's object store
//! ```

mod directory;
mod http;
mod s3;
mod signature;
mod swift;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{TryStreamExt as _, stream};

use super::object::{ObjectName, Place};
use super::{BackupError, StoreFault};
use crate::config::{BackupConfig, BackupStore};
use crate::secret::Secret;

/// So many objects are removed at once.
const REMOVED_AT_ONCE: usize = 8;

/// Keeps objects. Every operation can be repeated.
pub trait ObjectStore: Send + Sync {
    /// Keeps an object, in place of what was there of its name. When this returns it is kept for good.
    fn put<'a>(&'a self, name: &'a ObjectName, bytes: Vec<u8>) -> BoxFuture<'a, Result<(), StoreFault>>;

    /// An object, where there is one. Of what is longer than `most` bytes, a little more than that is given.
    fn get<'a>(&'a self, name: &'a ObjectName, most: u64) -> BoxFuture<'a, Result<Option<Vec<u8>>, StoreFault>>;

    /// Removes an object; nothing where there is none.
    fn remove<'a>(&'a self, name: &'a ObjectName) -> BoxFuture<'a, Result<(), StoreFault>>;

    /// Some of a backup's objects; none where there are no more. `after` is the last of those before: a store may go on listing for a
    /// while what was removed.
    fn list<'a>(
        &'a self,
        place: &'a Place,
        after: Option<&'a ObjectName>,
    ) -> BoxFuture<'a, Result<Vec<ObjectName>, StoreFault>>;
}

/// The store of an installation; `directory` is for the one that is told none.
pub fn open(config: &BackupConfig, directory: PathBuf) -> Result<Arc<dyn ObjectStore>, StoreFault> {
    Ok(match config.store {
        BackupStore::Directory => Arc::new(directory::DirectoryStore::new(config.directory.clone().unwrap_or(directory))),
        BackupStore::S3 => Arc::new(s3::S3Store::new(&config.s3)?),
        BackupStore::Swift => Arc::new(swift::SwiftStore::new(&config.swift)?),
    })
}

/// Removes all that a backup has put into a store: its manifest first, so that what is left is no backup.
pub async fn remove_all(store: &dyn ObjectStore, place: &Place) -> Result<(), BackupError> {
    store.remove(&place.object(super::object::Part::Manifest)).await?;
    let mut after: Option<ObjectName> = None;
    loop {
        let some = store.list(place, after.as_ref()).await?;
        let Some(last) = some.last().cloned() else { return Ok(()) };
        let names = stream::iter(some.iter().map(Ok::<_, StoreFault>));
        names.try_for_each_concurrent(REMOVED_AT_ONCE, |name| store.remove(name)).await?;
        after = Some(last);
    }
}

/// A secret from a file, without the line's end.
fn read_secret(path: &Path) -> Result<Secret, StoreFault> {
    let failed = |source| StoreFault::SecretFile { path: path.display().to_string(), source };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}
