//! Objects to bytes. A store may have lost them, damaged them, or be lying: nothing is believed that does not have the digest that
//! whoever names it tells, and nothing is unpacked beyond the length it must have.

use futures_util::TryStreamExt as _;
use futures_util::stream;
use serde::de::DeserializeOwned;

use super::manifest::{ChunkRef, LONGEST_MANIFEST, Page, PageRef};
use super::object::{ObjectName, Part, Place};
use super::{BackupError, Digest, Manifest, ObjectStore};

/// So many pages are looked at, at once.
const PAGES_AT_ONCE: usize = 4;

/// The manifest of a backup, where it has this digest.
pub async fn open(store: &dyn ObjectStore, place: &Place, digest: &str) -> Result<Manifest, BackupError> {
    let name = place.object(Part::Manifest);
    let bytes = get(store, &name, LONGEST_MANIFEST).await?;
    if Digest::parse(digest) != Some(Digest::of(&bytes)) {
        return Err(damaged(&name, "its SHA-256 is another"));
    }
    let manifest: Manifest = parse(&name, &bytes)?;
    manifest.check(name.as_str(), place.backup())?;
    Ok(manifest)
}

/// Looks at all pages of a backup: they are there and whole. Chunks are looked at when they are read.
pub async fn verify_pages(store: &dyn ObjectStore, place: &Place, manifest: &Manifest) -> Result<(), BackupError> {
    let pages = stream::iter(manifest.pages.iter().map(Ok));
    pages.try_for_each_concurrent(PAGES_AT_ONCE, |one| async move { page(store, place, manifest, one).await.map(drop) }).await
}

/// A page of a backup, its own or an ancestor's.
pub(super) async fn page(
    store: &dyn ObjectStore,
    place: &Place,
    manifest: &Manifest,
    at: &PageRef,
) -> Result<Page, BackupError> {
    let name = place.of(at.owner).object(Part::Page(at.page));
    let bytes = get_exactly(store, &name, at.bytes).await?;
    if Digest::of(&bytes) != at.sha256 {
        return Err(damaged(&name, "its SHA-256 is another"));
    }
    let page: Page = parse(&name, &bytes)?;
    page.check(name.as_str(), at.page, manifest)?;
    Ok(page)
}

/// The bytes of a chunk, as they are in the volume.
pub(super) async fn chunk(store: &dyn ObjectStore, place: &Place, at: &ChunkRef, length: u64) -> Result<Vec<u8>, BackupError> {
    let name = place.of(at.owner).object(Part::Chunk(at.object));
    let stored = get_exactly(store, &name, at.bytes).await?;
    let digest = at.sha256;
    let unpacked = tokio::task::spawn_blocking(move || {
        // No more room than it must have: what unpacks to more is refused, however little it is now.
        let bytes = zstd::bulk::decompress(&stored, usize::try_from(length).unwrap_or(0))
            .map_err(|error| damaged(&name, &format!("it does not unpack to {length} bytes: {error}")))?;
        if bytes.len() as u64 != length {
            return Err(damaged(&name, &format!("it unpacks to {} bytes instead of {length}", bytes.len())));
        }
        if Digest::of(&bytes) != digest {
            return Err(damaged(&name, "the SHA-256 of its bytes is another"));
        }
        Ok(bytes)
    });
    unpacked.await.map_err(|_| BackupError::Stopping)?
}

async fn get_exactly(store: &dyn ObjectStore, name: &ObjectName, bytes: u64) -> Result<Vec<u8>, BackupError> {
    let found = get(store, name, bytes).await?;
    if found.len() as u64 != bytes {
        return Err(damaged(name, &format!("it has {} bytes instead of {bytes}", found.len())));
    }
    Ok(found)
}

async fn get(store: &dyn ObjectStore, name: &ObjectName, most: u64) -> Result<Vec<u8>, BackupError> {
    match store.get(name, most).await? {
        None => Err(BackupError::Missing { object: name.to_string() }),
        Some(bytes) if bytes.len() as u64 > most => Err(damaged(name, &format!("it has more than {most} bytes"))),
        Some(bytes) => Ok(bytes),
    }
}

fn parse<T: DeserializeOwned>(name: &ObjectName, bytes: &[u8]) -> Result<T, BackupError> {
    serde_json::from_slice(bytes).map_err(|error| BackupError::Nonsense { object: name.to_string(), why: error.to_string() })
}

fn damaged(name: &ObjectName, why: &str) -> BackupError {
    BackupError::Damaged { object: name.to_string(), why: why.to_owned() }
}
