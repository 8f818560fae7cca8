//! What an image's bytes really are, read by our own code before any other program opens them.
//!
//! QEMU follows what a header names: a backing file, a data file, an extent, on any path of this host (CVE-2015-1851,
//! CVE-2022-47951, CVE-2024-32498). And what is raw to one program is something else to another that guesses (CVE-2024-40767).
//! So the record's format, the bytes' format and the format that QEMU is told are one, or the image is refused.

mod fields;
#[cfg(test)]
mod foreign_tests;
mod magic;
mod qcow2;
#[cfg(test)]
mod tests;
mod vhd;
mod vhdx;
mod vmdk;

use crate::model::{DiskFormat, ErrorKind, ForeignFormat};
use std::{fs::File, io, os::unix::fs::FileExt};

/// The largest disk that is taken, bytes: 64 TiB. Larger than any that is sold; a header that says more is out for harm.
pub(super) const DISK_MAX_BYTES: u64 = 64 << 40;

/// Why an image must not become a disk.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// The bytes are of another format than the record says.
    #[error("its record says {declared}, and its bytes are {found}: whoever guesses the format would open something else")]
    Lies {
        /// What the record says.
        declared: &'static str,
        /// What they are.
        found: &'static str,
    },
    /// It leads QEMU elsewhere, needs what is not supported, or makes no sense.
    #[error("as a qcow2 file, {0}")]
    Qcow2(&'static str),
    /// The same, of another format.
    #[error("as a {0} file, {1}")]
    Foreign(&'static str, &'static str),
    /// Its disk is larger than any.
    #[error("its disk would have {bytes} bytes, and {DISK_MAX_BYTES} are the most")]
    Absurd {
        /// What it says.
        bytes: u64,
    },
    /// Its disk has no bytes.
    #[error("its disk has no bytes")]
    Empty,
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(io::Error),
}

impl Unfit {
    pub(super) const fn kind(&self) -> ErrorKind {
        match self {
            Self::Read(_) => ErrorKind::Internal,
            _ => ErrorKind::InvalidInput,
        }
    }
}

/// Bytes to look into.
pub(super) trait Look {
    /// How many there are.
    fn length(&self) -> io::Result<u64>;
    /// Those from `at` on, as many as there are up to `count`.
    fn bytes(&self, at: u64, count: usize) -> io::Result<Vec<u8>>;
}

impl Look for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn bytes(&self, at: u64, count: usize) -> io::Result<Vec<u8>> {
        let left = self.length()?.saturating_sub(at);
        let mut bytes = vec![0; usize::try_from(left).unwrap_or(count).min(count)];
        self.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }
}

impl Look for [u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn bytes(&self, at: u64, count: usize) -> io::Result<Vec<u8>> {
        let rest = usize::try_from(at).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        Ok(rest.iter().take(count).copied().collect())
    }
}

/// Looks into bytes that are said to be of `declared`. Gives the size that a guest sees, bytes.
pub(super) fn inspect(image: &(impl Look + ?Sized), declared: DiskFormat) -> Result<u64, Unfit> {
    let found = magic::find(image).map_err(Unfit::Read)?;
    let bytes = match (declared, found) {
        (DiskFormat::Qcow2, Some(magic::QCOW2)) => qcow2::virtual_size(image)?,
        (DiskFormat::Raw, None) => image.length().map_err(Unfit::Read)?,
        (declared, found) => {
            return Err(Unfit::Lies { declared: declared.as_str(), found: found.unwrap_or("of no known format") });
        }
    };
    sane(bytes)
}

/// The same for a format that is converted before a disk is made of it.
pub(super) fn inspect_foreign(image: &(impl Look + ?Sized), declared: ForeignFormat) -> Result<u64, Unfit> {
    let found = magic::find(image).map_err(Unfit::Read)?;
    if found != Some(declared.as_str()) {
        return Err(Unfit::Lies { declared: declared.as_str(), found: found.unwrap_or("of no known format") });
    }
    sane(match declared {
        ForeignFormat::Vmdk => vmdk::virtual_size(image)?,
        ForeignFormat::Vhd => vhd::virtual_size(image)?,
        ForeignFormat::Vhdx => vhdx::virtual_size(image)?,
    })
}

fn sane(bytes: u64) -> Result<u64, Unfit> {
    match bytes {
        0 => Err(Unfit::Empty),
        bytes if bytes > DISK_MAX_BYTES => Err(Unfit::Absurd { bytes }),
        bytes => Ok(bytes),
    }
}
