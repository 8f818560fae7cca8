//! Zeroing a device by itself: without a write of each byte, and giving back what lies below where it can.

use crate::bootsource::{BootSourceError, cache::blocking};
use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
};
use std::{
    fs::{File, OpenOptions},
    io::{Seek, SeekFrom},
    path::Path,
    sync::Arc,
};

/// Bytes that are zeroed by one call to the kernel; between two the work can be given up.
pub(super) const AT_ONCE_BYTES: u64 = 256 << 20;

/// Has the device make itself all zeros, where it says that it can (`false`: it cannot). The kernel takes a hole that is punched into a
/// device for no mere discard: it must read as zeros.
pub(super) async fn by_device(device: &Path) -> Result<bool, BootSourceError> {
    let failed = |operation| BootSourceError::file(operation, device);
    let path = device.to_owned();
    let opened = blocking(device, move || {
        let opened = OpenOptions::new().write(true).open(&path).and_then(|mut file| {
            let size_bytes = file.seek(SeekFrom::End(0))?;
            Ok((Arc::new(file), size_bytes))
        });
        opened.map_err(BootSourceError::file("open", &path))
    });
    let (file, size_bytes) = opened.await?;
    let mut at_bytes = 0;
    while at_bytes < size_bytes {
        let count = AT_ONCE_BYTES.min(size_bytes - at_bytes);
        let to = file.clone();
        match blocking(device, move || Ok(punch(&to, at_bytes, count))).await? {
            Ok(()) => at_bytes += count,
            Err(Errno::EOPNOTSUPP) => return Ok(false),
            Err(error) => return Err(failed("zero")(error.into())),
        }
    }
    Ok(true)
}

fn punch(file: &File, at_bytes: u64, count: u64) -> nix::Result<()> {
    let offset = |bytes: u64| i64::try_from(bytes).map_err(|_| Errno::EFBIG);
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(file, flags, offset(at_bytes)?, offset(count)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_left_of_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device");
        std::fs::write(&path, vec![7; (1 << 20) + 512]).unwrap();
        assert!(by_device(&path).await.unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), vec![0; (1 << 20) + 512]);
    }
}
