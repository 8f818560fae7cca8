//! Copying files that are mostly holes: by sharing their blocks where the file system can, by their data alone where not.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{SeekFrom, ioctl_ficlone, seek};
use rustix::io::Errno;

use super::CHUNK_BYTES;

/// Makes `to` share all of `from`'s blocks, at one moment. False where the file system cannot.
pub(super) fn share(from: &File, to: &File) -> io::Result<bool> {
    match ioctl_ficlone(to, from) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::XDEV | Errno::INVAL | Errno::NOSYS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Copies what is data in `from`; what is a hole there is one in `to`, which must be new.
pub(super) fn copy(from: &File, to: &File) -> io::Result<()> {
    let mut offset = 0;
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Some((at, length)) = next_data(from, offset)? {
        let piece = buffer.get_mut(..length).unwrap_or_default();
        from.read_exact_at(piece, at)?;
        if !is_zero(piece) {
            to.write_all_at(piece, at)?;
        }
        offset = at + length as u64;
    }
    Ok(())
}

/// The next piece of data at or after `offset`: where it begins and how long it is, at most [`CHUNK_BYTES`].
pub(super) fn next_data(file: &File, offset: u64) -> io::Result<Option<(u64, usize)>> {
    let at = match seek(file, SeekFrom::Data(offset)) {
        Ok(at) => at,
        // Nothing but a hole from here to the end.
        Err(Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let end = seek(file, SeekFrom::Hole(at))?;
    let length = usize::try_from(end - at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
    Ok((length > 0).then_some((at, length)))
}

/// Whether a piece need not be written.
pub(super) fn is_zero(piece: &[u8]) -> bool {
    piece.iter().all(|byte| *byte == 0)
}
