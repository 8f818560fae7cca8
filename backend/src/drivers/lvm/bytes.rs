//! The bytes of a volume's device, in and out.
//!
//! They are read past the page cache: a host's writes that the kernel's target carries out go past it as well, and what was cached
//! before would be old. A thin volume has no list of its holes that could be asked for; what was never written is read as zeros
//! without any I/O, and zeros are left out.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use rustix::fs::{Advice, OFlags, fadvise};

use super::error::LvmError;
use crate::drivers::{CHUNK_BYTES, Chunk, DriverError, Stored, sparse};

/// Direct reads go to memory that begins at a multiple of this, the largest block that disks have.
const ALIGNMENT: usize = 4096;

/// Writes pieces to a volume's device; how many bytes.
pub(super) async fn write(
    volume: &Stored,
    path: PathBuf,
    mut pieces: BoxStream<'_, Result<Chunk, io::Error>>,
) -> Result<u64, DriverError> {
    let source_error = |source| DriverError::Source { volume_id: volume.id, source };
    let to_open = path.clone();
    let file = blocking(&path, "open", move || OpenOptions::new().write(true).open(to_open).map(Arc::new)).await?;
    let mut written = 0;
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(source_error)?;
        let length = piece.data.len() as u64;
        if piece.offset_bytes.checked_add(length).is_none_or(|end| end > volume.size_bytes) {
            return Err(source_error(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than the volume")));
        }
        let to = file.clone();
        blocking(&path, "write", move || to.write_all_at(&piece.data, piece.offset_bytes)).await?;
        written += length;
    }
    blocking(&path, "sync", move || {
        file.sync_all()?;
        // Nobody reads it again by this way. Only advice: where it is not taken, all is well.
        let _ = fadvise(&*file, 0, None, Advice::DontNeed);
        Ok(())
    })
    .await?;
    Ok(written)
}

/// A volume's device that is being read.
pub(super) struct Reader {
    file: Arc<File>,
    path: PathBuf,
    offset_bytes: u64,
    size_bytes: u64,
}

impl Reader {
    pub(super) async fn open(path: PathBuf, size_bytes: u64) -> Result<Self, LvmError> {
        let to_open = path.clone();
        let direct = OFlags::DIRECT.bits().cast_signed();
        let file =
            blocking(&path, "open", move || OpenOptions::new().read(true).custom_flags(direct).open(to_open).map(Arc::new))
                .await?;
        Ok(Self { file, path, offset_bytes: 0, size_bytes })
    }

    /// The next piece that is not all zeros.
    pub(super) async fn next(mut self) -> Result<Option<(Chunk, Self)>, LvmError> {
        let path = self.path.clone();
        blocking(&path, "read", move || {
            let mut memory = vec![0; CHUNK_BYTES + ALIGNMENT];
            let begin = memory.as_ptr().align_offset(ALIGNMENT);
            while self.offset_bytes < self.size_bytes {
                let offset_bytes = self.offset_bytes;
                let left = usize::try_from(self.size_bytes - offset_bytes).unwrap_or(CHUNK_BYTES);
                let piece = memory.get_mut(begin..begin + left.min(CHUNK_BYTES)).unwrap_or_default();
                self.file.read_exact_at(piece, offset_bytes)?;
                self.offset_bytes += piece.len() as u64;
                if !sparse::is_zero(piece) {
                    return Ok(Some((Chunk { offset_bytes, data: piece.to_vec() }, self)));
                }
            }
            Ok(None)
        })
        .await
    }
}

/// Disks may block for long, so this happens off the runtime's threads.
async fn blocking<T: Send + 'static>(
    path: &Path,
    operation: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, LvmError> {
    let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|source| LvmError::Device { operation, path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use uuid::Uuid;

    #[tokio::test]
    async fn what_is_written_is_read_and_zeros_are_left_out() {
        // Not in memory: a file there cannot be read past the page cache.
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = dir.path().join("device");
        let size_bytes = (8 << 20) + 4096;
        File::create(&path).unwrap().set_len(size_bytes).unwrap();
        let volume = Stored { id: Uuid::nil(), size_bytes, in_use: false, provider: None };
        let pieces = [(3 << 20, vec![7; 5]), (5 << 20, vec![0; 4096]), (8 << 20, vec![9; 4096])];
        let pieces = pieces.map(|(offset_bytes, data)| Ok(Chunk { offset_bytes, data }));
        assert_eq!(write(&volume, path.clone(), stream::iter(pieces).boxed()).await.unwrap(), 5 + 2 * 4096);

        let mut read = Vec::new();
        let mut reader = Reader::open(path.clone(), size_bytes).await.unwrap();
        while let Some((chunk, next)) = reader.next().await.unwrap() {
            read.push((chunk.offset_bytes, chunk.data.len(), chunk.data[0]));
            reader = next;
        }
        assert_eq!(read, [(3 << 20, 1 << 20, 7), (8 << 20, 4096, 9)]);

        let beyond = stream::iter([Ok(Chunk { offset_bytes: size_bytes, data: vec![1] })]).boxed();
        assert!(matches!(write(&volume, path, beyond).await, Err(DriverError::Source { .. })));
    }
}
