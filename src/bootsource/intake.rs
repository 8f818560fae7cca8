//! An image's bytes on their way into a file: written, digested and brought to the disk side by side.
//!
//! ```text
//! pieces --> written --> digested (a thread)
//!               \--each 32 MiB--> synced (a thread), so that little is left to wait for at the end
//! ```
//! One after the other they would take as long as all three together, and each alone is about as fast as the disk.

use super::cache::Piece;
use crate::model::DigestAlgorithm;
use md5::Md5;
use sha2::{Digest, Sha256, Sha512};
use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::mpsc::{SyncSender, sync_channel},
    thread::{self, ScopedJoinHandle},
};
use tokio::sync::{mpsc, oneshot};

/// Bytes that are read at a time of what is there already.
const READ_BYTES: usize = 256 * 1024;
/// Pieces that may wait to be digested: with reqwest's pieces of at most 16 KiB a MiB.
const UNDIGESTED: usize = 64;
/// Bytes after which the disk is told to begin.
const SYNC_BYTES: u64 = 32 << 20;
/// Bytes after which it is told how far it is.
const TELL_BYTES: u64 = 1 << 20;

/// What a download came to.
pub(super) struct Written {
    pub(super) length: u64,
    pub(super) digest: String,
}

/// A running digest.
pub(super) enum Hasher {
    Sha512(Sha512),
    Sha256(Sha256),
    Md5(Md5),
}

impl Hasher {
    pub(super) fn new(algorithm: DigestAlgorithm) -> Self {
        match algorithm {
            DigestAlgorithm::Sha512 => Self::Sha512(Sha512::new()),
            DigestAlgorithm::Sha256 => Self::Sha256(Sha256::new()),
            DigestAlgorithm::Md5 => Self::Md5(Md5::new()),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha512(hasher) => hasher.update(bytes),
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Md5(hasher) => hasher.update(bytes),
        }
    }

    pub(super) fn finish(self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Self::Sha512(hasher) => hex(&hasher.finalize()),
            Self::Sha256(hasher) => hex(&hasher.finalize()),
            Self::Md5(hasher) => hex(&hasher.finalize()),
        }
    }
}

/// Takes pieces into a file that may have the first of them already; tells through `begun` from where on they are wanted, and `came`
/// how many bytes are here.
pub(super) fn write(
    file: &Path,
    size_bytes: u64,
    algorithm: DigestAlgorithm,
    pieces: mpsc::Receiver<Piece>,
    begun: oneshot::Sender<u64>,
    came: impl Fn(u64),
) -> io::Result<Written> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).open(file)?;
    let mut length = file.metadata()?.len();
    if length > size_bytes {
        file.set_len(0)?;
        length = 0;
    }
    let mut hasher = Hasher::new(algorithm);
    digest_beginning(&mut file, length, &mut hasher)?;
    let _ = begun.send(length);
    came(length);
    let synced = file.try_clone()?;
    thread::scope(|scope| {
        let (digest, undigested) = sync_channel(UNDIGESTED);
        let digesting = thread::Builder::new().name("image-digest".to_owned()).spawn_scoped(scope, move || {
            for piece in undigested {
                match piece {
                    Piece::From(_) => hasher = Hasher::new(algorithm),
                    Piece::Bytes(bytes) => hasher.update(&bytes),
                }
            }
            hasher.finish()
        })?;
        let (sync, wanted) = sync_channel(1);
        let syncing = thread::Builder::new()
            .name("image-sync".to_owned())
            .spawn_scoped(scope, move || wanted.into_iter().try_for_each(|()| synced.sync_data()))?;
        let taken = take(&mut file, length, size_bytes, pieces, &digest, &sync, &came);
        drop((digest, sync));
        // An error of the disk is told once only, to whoever synced.
        ended(syncing)??;
        let length = taken?;
        file.sync_all()?;
        Ok(Written { length, digest: ended(digesting)? })
    })
}

fn ended<T>(thread: ScopedJoinHandle<'_, T>) -> io::Result<T> {
    thread.join().map_err(|_| io::Error::other("a thread ended midway"))
}

/// Digests what the file has, and leaves it where that ends.
fn digest_beginning(file: &mut File, length: u64, hasher: &mut Hasher) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    let mut left = length;
    while left > 0 {
        let count = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let Some(bytes) = buffer.get_mut(..count) else { break };
        file.read_exact(bytes)?;
        hasher.update(bytes);
        left -= count as u64;
    }
    Ok(())
}

/// Writes the pieces behind what the file has, and passes them on; the length that it then has.
fn take(
    file: &mut File,
    mut length: u64,
    size_bytes: u64,
    mut pieces: mpsc::Receiver<Piece>,
    digest: &SyncSender<Piece>,
    sync: &SyncSender<()>,
    came: &impl Fn(u64),
) -> io::Result<u64> {
    let mut unsynced = 0;
    while let Some(piece) = pieces.blocking_recv() {
        match &piece {
            Piece::From(from) if *from == length => continue,
            // Only its beginning can be had: what is here is thrown away.
            Piece::From(_) => {
                file.set_len(0)?;
                file.rewind()?;
                length = 0;
            }
            // More than there should be is never kept: one piece tells that it is too much.
            Piece::Bytes(bytes) => {
                let count = bytes.len() as u64;
                length += count;
                if length > size_bytes {
                    break;
                }
                file.write_all(bytes)?;
                if length / TELL_BYTES > (length - count) / TELL_BYTES {
                    came(length);
                }
                unsynced += count;
                // A sync that is still under way has begun with these, or the last one takes them.
                if unsynced >= SYNC_BYTES && sync.try_send(()).is_ok() {
                    unsynced = 0;
                }
            }
        }
        digest.send(piece).map_err(|_| io::Error::other("the digest ended midway"))?;
    }
    Ok(length)
}
