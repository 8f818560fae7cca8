//! A volume's pieces to objects, page by page. What the parent has in the same page, or the page has already, is not written again.
//! The manifest comes last: before it there is no backup.

use std::collections::HashMap;

use futures_util::stream::{BoxStream, FuturesUnordered};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use uuid::Uuid;

use super::manifest::{CHUNK_BYTES, ChunkRef, PAGE_CHUNKS, Page, PageRef};
use super::object::{Part, Place};
use super::{BackupError, Digest, Manifest, ObjectStore, StoreFault, read};
use crate::drivers::{Chunk, DriverError, sparse};
use crate::image::Progress;
use crate::store::WrittenBackup;

/// So many chunks are compressed and sent at once; each takes twice its length in memory at most.
const AT_ONCE: usize = 4;

/// How much is compressed for how much time: zstd's own default.
const LEVEL: i32 = 3;

/// The backup that another holds the differences from.
pub struct Parent {
    /// Where it is.
    pub place: Place,
    /// What it consists of.
    pub manifest: Manifest,
}

/// Puts a volume of `size_bytes` into the store: `pieces` in order, zeros between them.
pub async fn write(
    store: &dyn ObjectStore,
    place: &Place,
    parent: Option<&Parent>,
    size_bytes: u64,
    pieces: BoxStream<'static, Result<Chunk, DriverError>>,
    progress: &Progress,
) -> Result<WrittenBackup, BackupError> {
    let mut chunks = Chunks { pieces, left: None, size_bytes };
    let (mut pages, mut object_count) = (Vec::new(), 0);
    let mut next = chunks.next().await?;
    while let Some((chunk, _)) = &next {
        let number = chunk / PAGE_CHUNKS;
        let old = match parent {
            Some(parent) => old_page(store, parent, number).await?,
            None => None,
        };
        let known = old.iter().flat_map(|(_, page)| &page.chunks);
        let mut page = PageWriter::new(store, place, known);
        while let Some((chunk, bytes)) = next.take() {
            if chunk / PAGE_CHUNKS != number {
                next = Some((chunk, bytes));
                break;
            }
            page.add(chunk, bytes).await?;
            progress.set_share(chunk.saturating_mul(CHUNK_BYTES), size_bytes, 0, 100);
            next = chunks.next().await?;
        }
        let (page, written) = page.finish().await?;
        object_count += written;
        match old {
            // Nothing has changed in it: the page of the ancestor will do.
            Some((at, same)) if same == page => pages.push(at),
            _ => pages.push(put_page(store, place, number, &page).await?),
        }
    }
    let parent_id = parent.map(|parent| parent.place.backup());
    let bytes = json(&Manifest::new(place.backup(), parent_id, size_bytes, pages))?;
    let manifest = Digest::of(&bytes).hex();
    store.put(&place.object(Part::Manifest), bytes).await?;
    Ok(WrittenBackup { manifest, object_count })
}

async fn old_page(store: &dyn ObjectStore, parent: &Parent, number: u64) -> Result<Option<(PageRef, Page)>, BackupError> {
    let pages = &parent.manifest.pages;
    let Some(at) = pages.binary_search_by_key(&number, |page| page.page).ok().and_then(|at| pages.get(at)) else {
        return Ok(None);
    };
    let page = read::page(store, &parent.place, &parent.manifest, at).await?;
    Ok(Some((at.clone(), page)))
}

async fn put_page(store: &dyn ObjectStore, place: &Place, number: u64, page: &Page) -> Result<PageRef, BackupError> {
    let bytes = json(page)?;
    let at = PageRef { page: number, owner: place.backup(), sha256: Digest::of(&bytes), bytes: bytes.len() as u64 };
    store.put(&place.object(Part::Page(number)), bytes).await?;
    Ok(at)
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, BackupError> {
    let problem = |error: serde_json::Error| StoreFault::Answer { operation: "write a manifest", problem: error.to_string() };
    Ok(serde_json::to_vec(value).map_err(problem)?)
}

/// A page that is being written.
struct PageWriter<'a> {
    store: &'a dyn ObjectStore,
    place: &'a Place,
    /// What need not be written: which backup has it by which number, and how long it is there.
    known: HashMap<Digest, (Uuid, u64, u64)>,
    /// Each chunk, and who has it by which number.
    chunks: Vec<(u64, Digest, Uuid, u64)>,
    /// Those that are on their way: number and length.
    sending: FuturesUnordered<futures_util::future::BoxFuture<'a, Result<(u64, u64), BackupError>>>,
    /// The length of each object that is named.
    lengths: HashMap<(Uuid, u64), u64>,
    written: u64,
}

impl<'a> PageWriter<'a> {
    fn new(store: &'a dyn ObjectStore, place: &'a Place, known: impl Iterator<Item = &'a ChunkRef>) -> Self {
        let known = known.map(|chunk| (chunk.sha256, (chunk.owner, chunk.object, chunk.bytes))).collect();
        let (sending, lengths) = (FuturesUnordered::new(), HashMap::new());
        Self { store, place, known, chunks: Vec::new(), sending, lengths, written: 0 }
    }

    async fn add(&mut self, chunk: u64, bytes: Vec<u8>) -> Result<(), BackupError> {
        let hashed = tokio::task::spawn_blocking(move || (Digest::of(&bytes), bytes));
        let (digest, bytes) = hashed.await.map_err(|_| BackupError::Stopping)?;
        if let Some((owner, object, length)) = self.known.get(&digest).copied() {
            if owner != self.place.backup() {
                self.lengths.insert((owner, object), length);
            }
            self.chunks.push((chunk, digest, owner, object));
            return Ok(());
        }
        let me = self.place.backup();
        // Its length is told when it is there.
        self.known.insert(digest, (me, chunk, 0));
        self.chunks.push((chunk, digest, me, chunk));
        while self.sending.len() >= AT_ONCE {
            self.sent().await?;
        }
        self.sending.push(send(self.store, self.place, chunk, bytes).boxed());
        Ok(())
    }

    async fn sent(&mut self) -> Result<(), BackupError> {
        if let Some((object, length)) = self.sending.try_next().await? {
            self.lengths.insert((self.place.backup(), object), length);
            self.written += 1;
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<(Page, u64), BackupError> {
        while !self.sending.is_empty() {
            self.sent().await?;
        }
        let lengths = self.lengths;
        let chunks = self.chunks.into_iter().map(|(chunk, sha256, owner, object)| {
            let bytes = lengths.get(&(owner, object)).copied().unwrap_or(0);
            ChunkRef { chunk, sha256, owner, object, bytes }
        });
        Ok((Page { chunks: chunks.collect() }, self.written))
    }
}

async fn send(store: &dyn ObjectStore, place: &Place, chunk: u64, bytes: Vec<u8>) -> Result<(u64, u64), BackupError> {
    let packed = tokio::task::spawn_blocking(move || zstd::bulk::compress(&bytes, LEVEL));
    let packed = packed.await.map_err(|_| BackupError::Stopping)?;
    let packed = packed.map_err(|error| StoreFault::Answer { operation: "compress a chunk", problem: error.to_string() })?;
    let length = packed.len() as u64;
    store.put(&place.object(Part::Chunk(chunk)), packed).await?;
    Ok((chunk, length))
}

/// A volume's pieces put together to chunks.
struct Chunks {
    pieces: BoxStream<'static, Result<Chunk, DriverError>>,
    /// What of a piece is beyond the last chunk.
    left: Option<Chunk>,
    size_bytes: u64,
}

impl Chunks {
    /// The next chunk that is not all zeros.
    async fn next(&mut self) -> Result<Option<(u64, Vec<u8>)>, BackupError> {
        while let Some(first) = self.piece().await? {
            let number = first.offset_bytes / CHUNK_BYTES;
            let start = number * CHUNK_BYTES;
            let length = self.size_bytes.saturating_sub(start).min(CHUNK_BYTES);
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
            let mut piece = Some(first);
            while let Some(mut one) = piece.take() {
                let at = usize::try_from(one.offset_bytes.saturating_sub(start)).unwrap_or(usize::MAX);
                let Some(room) = bytes.get_mut(at..) else {
                    self.left = Some(one);
                    break;
                };
                if room.is_empty() {
                    self.left = Some(one);
                    break;
                }
                let rest = one.data.split_off(room.len().min(one.data.len()));
                if let Some(room) = room.get_mut(..one.data.len()) {
                    room.copy_from_slice(&one.data);
                }
                if !rest.is_empty() {
                    self.left = Some(Chunk { offset_bytes: one.offset_bytes + one.data.len() as u64, data: rest });
                    break;
                }
                piece = self.piece().await?;
            }
            if !sparse::is_zero(&bytes) {
                return Ok(Some((number, bytes)));
            }
        }
        Ok(None)
    }

    async fn piece(&mut self) -> Result<Option<Chunk>, BackupError> {
        let piece = match self.left.take() {
            Some(left) => Some(left),
            None => self.pieces.next().await.transpose()?.filter(|piece| !piece.data.is_empty()),
        };
        let beyond =
            |piece: &Chunk| piece.offset_bytes.checked_add(piece.data.len() as u64).is_none_or(|end| end > self.size_bytes);
        if piece.as_ref().is_some_and(beyond) { Err(BackupError::BeyondEnd) } else { Ok(piece) }
    }
}
