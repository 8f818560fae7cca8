//! The bytes of a disk, encrypted on their way, with one chunk in memory at a time.
//!
//! Holes are filled: what is a zero to who reads the disk is not one on the storage.

use std::io;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};

use super::{Cipher, HEADER_BYTES, SECTOR_BYTES};
use crate::drivers::{CHUNK_BYTES, Chunk};

/// Encrypts a disk of `size_bytes`; the pieces come in order.
pub(super) fn encrypted(
    cipher: Cipher,
    pieces: BoxStream<'static, Result<Chunk, io::Error>>,
    size_bytes: u64,
) -> BoxStream<'static, Result<Chunk, io::Error>> {
    let disk = Disk { cipher, pieces, size_bytes, at: 0, rest: None };
    stream::try_unfold(disk, |mut disk| async move { Ok(disk.next().await?.map(|chunk| (chunk, disk))) }).boxed()
}

struct Disk {
    cipher: Cipher,
    pieces: BoxStream<'static, Result<Chunk, io::Error>>,
    size_bytes: u64,
    /// So far it is done: a multiple of the chunk.
    at: u64,
    /// A piece, or its rest, that is of later chunks.
    rest: Option<Chunk>,
}

impl Disk {
    /// The next chunk, encrypted; none at the disk's end.
    async fn next(&mut self) -> Result<Option<Chunk>, io::Error> {
        if self.at >= self.size_bytes {
            return Ok(None);
        }
        let length = (self.size_bytes - self.at).min(CHUNK_BYTES as u64) as usize;
        let end = self.at + length as u64;
        // The last sector is a whole one.
        let mut data = vec![0; length.next_multiple_of(SECTOR_BYTES)];
        while let Some(Chunk { offset_bytes, data: mut bytes }) = self.piece().await? {
            if offset_bytes >= end {
                self.rest = Some(Chunk { offset_bytes, data: bytes });
                break;
            }
            let from =
                offset_bytes.checked_sub(self.at).ok_or_else(|| io::Error::other("an image's pieces are out of order"))?;
            let after = bytes.split_off(bytes.len().min((end - offset_bytes) as usize));
            if !after.is_empty() {
                self.rest = Some(Chunk { offset_bytes: end, data: after });
            }
            if let Some(into) = data.get_mut(from as usize..from as usize + bytes.len()) {
                into.copy_from_slice(&bytes);
            }
        }
        self.cipher.encrypt(&mut data, self.at / SECTOR_BYTES as u64);
        let chunk = Chunk { offset_bytes: HEADER_BYTES + self.at, data };
        self.at = end;
        // Without a pause the whole disk would be one turn of this task's.
        tokio::task::yield_now().await;
        Ok(Some(chunk))
    }

    async fn piece(&mut self) -> Result<Option<Chunk>, io::Error> {
        match self.rest.take() {
            Some(piece) => Ok(Some(piece)),
            None => self.pieces.next().await.transpose(),
        }
    }
}
