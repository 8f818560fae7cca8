//! An image that is coming: its bytes in a sparse file, and behind them, in the same file, the map of what is there.
//!
//! ```text
//! 0                         size, rounded up to 4096
//! | the image, with holes   | magic, image's size, map |      IMAGE.DIGEST.lazy
//! ```
//! The map is written after the bytes that it tells of are synced. Where a crash leaves no map that makes sense, nothing counts as here, and
//! it all comes again: a hole is never taken for bytes. A block that is here is never written again, so what was looked into is what a
//! guest reads.

use super::block_map::{BLOCK_BYTES, BlockMap};
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// What a map begins with.
const MAGIC: &[u8; 8] = b"BOWLAZY1";
/// Where the map may begin.
const MAP_ALIGN: u64 = 4096;
/// Bytes of magic and size before the bits.
const HEAD_BYTES: u64 = 16;

/// The file of an image that is coming, or that is all here.
pub(super) struct Store {
    file: File,
    size_bytes: u64,
    map: Mutex<BlockMap>,
}

impl Store {
    /// Opens the file, or makes it, with what it says to be there.
    pub(super) fn open(path: &Path, size_bytes: u64) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let map = read_map(&file, size_bytes).unwrap_or_else(|| BlockMap::empty(size_bytes));
        if file.metadata()?.len() < size_bytes {
            file.set_len(size_bytes)?;
        }
        Ok(Self { file, size_bytes, map: Mutex::new(map) })
    }

    /// Opens a file that has all of the image and is never written.
    pub(super) fn whole(path: &Path, size_bytes: u64) -> io::Result<Self> {
        let mut map = BlockMap::empty(size_bytes);
        (0..map.blocks()).for_each(|block| map.put(block));
        Ok(Self { file: File::open(path)?, size_bytes, map: Mutex::new(map) })
    }

    pub(super) const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// A panic elsewhere leaves the map whole.
    pub(super) fn map(&self) -> MutexGuard<'_, BlockMap> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of this block: the last one may have fewer.
    pub(super) fn length_of(&self, block: u64) -> u64 {
        self.size_bytes.saturating_sub(block.saturating_mul(BLOCK_BYTES)).min(BLOCK_BYTES)
    }

    /// Writes a whole block, unless it is here.
    pub(super) fn put(&self, block: u64, bytes: &[u8]) -> io::Result<()> {
        if !self.map().has(block) {
            self.file.write_all_at(bytes, block * BLOCK_BYTES)?;
            self.map().put(block);
        }
        Ok(())
    }

    /// The first block of a range that is not here.
    pub(super) fn first_missing(&self, at: u64, length: u64) -> Option<u64> {
        let last = at.saturating_add(length.saturating_sub(1)) / BLOCK_BYTES;
        self.map().first_missing(at / BLOCK_BYTES).filter(|block| length > 0 && *block <= last)
    }

    /// Reads what is known to be here.
    pub(super) fn read(&self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// Makes what is here survive a power cut.
    pub(super) fn persist(&self) -> io::Result<()> {
        // What comes while the file is synced is told of the next time.
        let map = self.map().clone();
        self.file.sync_data()?;
        let mut head = MAGIC.to_vec();
        head.extend(self.size_bytes.to_be_bytes());
        head.extend(map.bits());
        self.file.write_all_at(&head, map_at(self.size_bytes))
    }

    /// Takes the map off and syncs: the file is the image and nothing else.
    pub(super) fn finish(&self) -> io::Result<()> {
        self.file.set_len(self.size_bytes)?;
        self.file.sync_all()
    }
}

const fn map_at(size_bytes: u64) -> u64 {
    size_bytes.next_multiple_of(MAP_ALIGN)
}

fn read_map(file: &File, size_bytes: u64) -> Option<BlockMap> {
    let mut head = [0; HEAD_BYTES as usize];
    file.read_exact_at(&mut head, map_at(size_bytes)).ok()?;
    let (magic, size) = head.split_first_chunk::<8>()?;
    if magic != MAGIC || size != size_bytes.to_be_bytes() {
        return None;
    }
    let mut bits = vec![0; BlockMap::empty(size_bytes).bits().len()];
    file.read_exact_at(&mut bits, map_at(size_bytes) + HEAD_BYTES).ok()?;
    BlockMap::read(size_bytes, bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 2 * BLOCK_BYTES + 100;

    #[test]
    fn what_is_here_survives_and_what_is_not_never_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.lazy");
        let store = Store::open(&path, SIZE).unwrap();
        store.put(2, &[7; 100]).unwrap();
        store.persist().unwrap();
        store.put(0, &[1; BLOCK_BYTES as usize]).unwrap();
        // A second one of the same block changes nothing.
        store.put(2, &[9; 100]).unwrap();
        assert_eq!(store.first_missing(0, SIZE), Some(1));
        assert_eq!((store.first_missing(2 * BLOCK_BYTES, 1), store.first_missing(BLOCK_BYTES, 0)), (None, None));
        drop(store);

        let again = Store::open(&path, SIZE).unwrap();
        assert_eq!(again.first_missing(0, SIZE), Some(0), "block 0 was not told of before the cut");
        assert_eq!(again.read(2 * BLOCK_BYTES, 100).unwrap(), [7; 100]);
        again.put(0, &[1; BLOCK_BYTES as usize]).unwrap();
        again.put(1, &[2; BLOCK_BYTES as usize]).unwrap();
        assert_eq!(again.first_missing(0, SIZE), None);
        again.finish().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), SIZE);
    }

    #[test]
    fn a_map_that_makes_no_sense_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.lazy");
        let store = Store::open(&path, SIZE).unwrap();
        store.put(0, &[1; BLOCK_BYTES as usize]).unwrap();
        store.persist().unwrap();
        for (at, bytes) in [(map_at(SIZE), &b"X"[..]), (map_at(SIZE) + 8, &b"\xff"[..])] {
            let mut before = [0; 1];
            store.file.read_exact_at(&mut before, at).unwrap();
            store.file.write_all_at(bytes, at).unwrap();
            assert_eq!(Store::open(&path, SIZE).unwrap().first_missing(0, SIZE), Some(0));
            store.file.write_all_at(&before, at).unwrap();
        }
        assert_eq!(Store::open(&path, SIZE).unwrap().first_missing(0, SIZE), Some(1));
        // Cut between the end of the map and the new name: it is all asked for again.
        store.finish().unwrap();
        assert_eq!(Store::open(&path, SIZE).unwrap().first_missing(0, SIZE), Some(0));
    }
}
