//! What has to be written to a volume so that it becomes what was backed up: the backup's bytes, and zeros where the volume has bytes
//! and the backup has none. What is zeros in both is not touched, so a sparse volume stays sparse.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::manifest::CHUNK_BYTES;
use super::object::Place;
use super::{BackupError, Manifest, ObjectStore, read};
use crate::drivers::{self, Chunk, DriverError, sparse};
use crate::image::Progress;

/// So many chunks are fetched ahead.
const AHEAD: usize = 4;

/// What is zeros is left out in pieces of this size.
const BLOCK_BYTES: usize = 64 << 10;

/// What is to be written. `existing` is what the volume has now, in order.
pub fn pieces<'a>(
    store: Arc<dyn ObjectStore>,
    place: Place,
    manifest: Manifest,
    existing: BoxStream<'a, Result<Chunk, DriverError>>,
    progress: Progress,
) -> BoxStream<'a, Result<Chunk, io::Error>> {
    let size_bytes = manifest.size_bytes;
    let merged = merge(chunks(store, place, manifest), existing.map_err(BackupError::from).boxed());
    let noted = merged.inspect_ok(move |piece| progress.set_share(piece.offset_bytes, size_bytes, 0, 100));
    noted.map_err(io::Error::other).boxed()
}

/// The same where what the volume is to become are `pieces`, in order: an image's.
pub fn overwrite<'a>(
    pieces: BoxStream<'a, Result<Chunk, io::Error>>,
    existing: BoxStream<'a, Result<Chunk, DriverError>>,
) -> BoxStream<'a, Result<Chunk, io::Error>> {
    let whole = stream::try_unfold((pieces, None), |(mut pieces, left)| async move {
        Ok(next_chunk(&mut pieces, left).await?.map(|(chunk, left)| (chunk, (pieces, left))))
    });
    merge(whole.boxed(), existing.map_err(io::Error::other).boxed())
}

/// A whole chunk of pieces, with zeros between them; and what of the last piece is beyond it.
async fn next_chunk(
    pieces: &mut BoxStream<'_, Result<Chunk, io::Error>>,
    left: Option<Chunk>,
) -> Result<Option<((u64, Vec<u8>), Option<Chunk>)>, io::Error> {
    let mut next = match left {
        Some(left) => Some(left),
        None => pieces.try_next().await?,
    };
    let Some(number) = next.as_ref().map(|piece| piece.offset_bytes / CHUNK_BYTES) else { return Ok(None) };
    let (start, mut bytes) = (number * CHUNK_BYTES, vec![0; usize::try_from(CHUNK_BYTES).unwrap_or(0)]);
    while let Some(mut piece) = next.take() {
        let at = usize::try_from(piece.offset_bytes.saturating_sub(start)).unwrap_or(usize::MAX);
        let Some(room) = bytes.get_mut(at..).filter(|room| !room.is_empty()) else {
            return Ok(Some(((number, bytes), Some(piece))));
        };
        let beyond = piece.data.split_off(piece.data.len().min(room.len()));
        if let Some(room) = room.get_mut(..piece.data.len()) {
            room.copy_from_slice(&piece.data);
        }
        if !beyond.is_empty() {
            let offset_bytes = piece.offset_bytes + piece.data.len() as u64;
            return Ok(Some(((number, bytes), Some(Chunk { offset_bytes, data: beyond }))));
        }
        next = pieces.try_next().await?;
    }
    Ok(Some(((number, bytes), None)))
}

/// Chunks, by their number and in order, over what is there.
fn merge<'a, E: Send + 'a>(
    wanted: BoxStream<'a, Result<(u64, Vec<u8>), E>>,
    existing: BoxStream<'a, Result<Chunk, E>>,
) -> BoxStream<'a, Result<Chunk, E>> {
    let merge = Merge { wanted, next: None, existing, left: None, ready: VecDeque::new() };
    stream::try_unfold(merge, |mut merge| async move { Ok(merge.next().await?.map(|piece| (piece, merge))) }).boxed()
}

/// The backup's chunks, in order, each verified.
fn chunks(
    store: Arc<dyn ObjectStore>,
    place: Place,
    manifest: Manifest,
) -> BoxStream<'static, Result<(u64, Vec<u8>), BackupError>> {
    let (store_of_pages, place_of_pages) = (store.clone(), place.clone());
    let shared = Arc::new(manifest);
    let of_pages = shared.clone();
    let pages = stream::iter(0..shared.pages.len()).then(move |at| {
        let (store, place, manifest) = (store_of_pages.clone(), place_of_pages.clone(), of_pages.clone());
        async move {
            match manifest.pages.get(at) {
                Some(at) => read::page(store.as_ref(), &place, &manifest, at).await,
                None => Ok(Default::default()),
            }
        }
    });
    let refs = pages.map_ok(|page| stream::iter(page.chunks.into_iter().map(Ok))).try_flatten();
    let fetched = refs.map_ok(move |at| {
        let (store, place, length) = (store.clone(), place.clone(), shared.chunk_length(at.chunk));
        async move { Ok((at.chunk, read::chunk(store.as_ref(), &place, &at, length).await?)) }
    });
    fetched.try_buffered(AHEAD).boxed()
}

struct Merge<'a, E> {
    wanted: BoxStream<'a, Result<(u64, Vec<u8>), E>>,
    /// The next chunk of the backup, where it has come.
    next: Option<(u64, Vec<u8>)>,
    existing: BoxStream<'a, Result<Chunk, E>>,
    /// The next piece of the volume, or what of it is beyond the last chunk: where it begins and ends.
    left: Option<(u64, u64)>,
    /// What is to be written of the chunk that was looked at last.
    ready: VecDeque<Chunk>,
}

impl<E> Merge<'_, E> {
    async fn next(&mut self) -> Result<Option<Chunk>, E> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Ok(Some(piece));
            }
            if self.next.is_none() {
                self.next = self.wanted.try_next().await?;
            }
            self.look_ahead().await?;
            let wanted = self.next.as_ref().map(|(chunk, _)| *chunk);
            let here = self.left.map(|(start, _)| start / CHUNK_BYTES);
            let Some(number) = [wanted, here].into_iter().flatten().min() else { return Ok(None) };
            let start = number.saturating_mul(CHUNK_BYTES);
            let has = self.existing_until(start.saturating_add(CHUNK_BYTES)).await?;
            let bytes = match self.next.take() {
                Some((chunk, bytes)) if chunk == number => bytes,
                other => {
                    self.next = other;
                    // As far as the volume has bytes.
                    let end = has.iter().map(|(_, end)| *end).max().unwrap_or(start);
                    vec![0; usize::try_from(end - start).unwrap_or(0)]
                }
            };
            self.ready = to_write(start, &bytes, &has);
        }
    }

    async fn look_ahead(&mut self) -> Result<(), E> {
        if self.left.is_none() {
            let piece = self.existing.try_next().await?;
            self.left = piece.map(|piece| (piece.offset_bytes, piece.offset_bytes.saturating_add(piece.data.len() as u64)));
        }
        Ok(())
    }

    /// Where the volume has bytes before `end`; what is beyond stays.
    async fn existing_until(&mut self, end: u64) -> Result<Vec<(u64, u64)>, E> {
        let mut found = Vec::new();
        loop {
            self.look_ahead().await?;
            match self.left {
                Some((from, to)) if from < end => {
                    found.push((from, to.min(end)));
                    self.left = (to > end).then_some((end, to));
                    if self.left.is_some() {
                        return Ok(found);
                    }
                }
                _ => return Ok(found),
            }
        }
    }
}

/// Of `bytes`, which belong at `start`, what has to be written to a volume that has other bytes at `has`.
fn to_write(start: u64, bytes: &[u8], has: &[(u64, u64)]) -> VecDeque<Chunk> {
    let mut pieces: VecDeque<Chunk> = VecDeque::new();
    let mut offset = start;
    for block in bytes.chunks(BLOCK_BYTES) {
        let end = offset + block.len() as u64;
        if !sparse::is_zero(block) || has.iter().any(|(from, to)| *from < end && *to > offset) {
            match pieces.back_mut() {
                Some(last)
                    if last.offset_bytes + last.data.len() as u64 == offset
                        && last.data.len() + block.len() <= drivers::CHUNK_BYTES =>
                {
                    last.data.extend_from_slice(block);
                }
                _ => pieces.push_back(Chunk { offset_bytes: offset, data: block.to_vec() }),
            }
        }
        offset = end;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes as pieces of this length, without those that are all zeros.
    fn cut(bytes: &[u8], length: usize) -> Vec<Chunk> {
        let pieces = bytes.chunks(length).enumerate().filter(|(_, data)| !sparse::is_zero(data));
        pieces.map(|(at, data)| Chunk { offset_bytes: (at * length) as u64, data: data.to_vec() }).collect()
    }

    #[tokio::test]
    async fn nothing_of_what_was_there_shines_through_an_image() {
        let chunk = usize::try_from(CHUNK_BYTES).unwrap();
        let (mut image, mut disk) = (vec![0; 5 * chunk], vec![0; 5 * chunk]);
        // Across the end of a chunk, at the end of one, in the third; nothing in the second and the last.
        image[chunk - 3..chunk + 3].fill(1);
        image[3 * chunk - 5..3 * chunk].fill(2);
        for (from, to) in [(0, 10), (chunk - 50, 2 * chunk + 7), (4 * chunk + 1, 5 * chunk)] {
            disk[from..to].fill(9);
        }
        for length in [1000, 70_001, drivers::CHUNK_BYTES] {
            let pieces = stream::iter(cut(&image, length).into_iter().map(Ok)).boxed();
            let existing = stream::iter(cut(&disk, drivers::CHUNK_BYTES).into_iter().map(Ok)).boxed();
            let written: Vec<Chunk> = overwrite(pieces, existing).try_collect().await.unwrap();
            let mut after = disk.clone();
            for piece in &written {
                let at = usize::try_from(piece.offset_bytes).unwrap();
                after[at..at + piece.data.len()].copy_from_slice(&piece.data);
            }
            assert!(after == image, "pieces of {length}");
            assert!(written.iter().all(|piece| piece.offset_bytes / CHUNK_BYTES != 3), "it wrote zeros over nothing");
        }
    }
}
