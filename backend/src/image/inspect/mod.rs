//! A look into headers, before any other program opens the file: QEMU would follow a backing file or an extent to any path of
//! this machine that a header names (CVE-2015-1851, CVE-2022-47951, CVE-2024-32498). Only what was looked at here is handed on.

mod qcow2;
mod vhd;
mod vhdx;
mod vmdk;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::files::ImageLimits;
use super::format::{HEAD_BYTES, check_head};
use super::{Format, Unfit};

/// A whole file to look into.
pub(super) struct Inspected<'a> {
    file: &'a File,
    /// How many bytes it has.
    length: u64,
    format: Format,
}

/// It cannot be read, or must not be used.
#[derive(Debug)]
pub(super) enum InspectError {
    /// It cannot be read.
    Io(io::Error),
    /// It must not be used.
    Unfit(Unfit),
}

impl From<io::Error> for InspectError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Unfit> for InspectError {
    fn from(unfit: Unfit) -> Self {
        Self::Unfit(unfit)
    }
}

/// Fuzz target: the first byte chooses the format that is claimed, the others are the file. It is refused, or its disk has a size that was
/// allowed; nothing is read from beyond its end.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_upload(data: &[u8]) {
    use std::io::Write as _;

    const FORMATS: [Format; 7] =
        [Format::Raw, Format::Qcow2, Format::Vmdk, Format::Vdi, Format::Vhd, Format::Vhdx, Format::Iso];
    let limits = ImageLimits { largest_bytes: 1 << 40, largest_disk_bytes: 1 << 40 };
    let Some((choice, bytes)) = data.split_first() else { return };
    let Some(format) = FORMATS.get(usize::from(*choice) % FORMATS.len()) else { return };
    let made = rustix::fs::memfd_create("upload", rustix::fs::MemfdFlags::CLOEXEC).map(File::from);
    let Ok(mut file) = made else { return };
    assert!(file.write_all(bytes).is_ok());
    match inspect(&file, *format, &limits) {
        Ok(size) => assert!(size <= limits.largest_disk_bytes, "a {format} of {size} bytes is taken"),
        Err(InspectError::Unfit(unfit)) => assert!(!unfit.to_string().is_empty()),
        Err(InspectError::Io(error)) => assert!(error.raw_os_error().is_some(), "a {format} is read beyond its end: {error}"),
    }
}

/// Looks into a file that is said to be of `format`; gives how many bytes a disk made from it has.
pub(super) fn inspect(file: &File, format: Format, limits: &ImageLimits) -> Result<u64, InspectError> {
    let length = file.metadata()?.len();
    if length == 0 {
        return Err(Unfit::Empty.into());
    }
    let inspected = Inspected { file, length, format };
    let head = inspected.read(0, usize::try_from(length).unwrap_or(HEAD_BYTES).min(HEAD_BYTES))?;
    check_head(format, &head)?;
    let virtual_bytes = match format {
        Format::Raw | Format::Iso | Format::Part => {
            // A fixed VHD is a raw disk with a footer: harmless where it is read as raw, for qemu-img is told the format.
            length
        }
        Format::Qcow2 => qcow2::inspect(&inspected)?,
        Format::Vmdk => vmdk::inspect(&inspected)?,
        Format::Vhd => vhd::inspect(&inspected)?,
        Format::Vhdx => vhdx::inspect(&inspected)?,
        Format::Vdi => vdi(&inspected)?,
    };
    if virtual_bytes == 0 {
        return Err(inspected.broken("its disk has no bytes"));
    }
    if virtual_bytes > limits.largest_disk_bytes {
        return Err(Unfit::DiskTooLarge { bytes: virtual_bytes, most: limits.largest_disk_bytes }.into());
    }
    Ok(virtual_bytes)
}

impl Inspected<'_> {
    /// Bytes of the file; all of them must be there.
    fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, InspectError> {
        if offset.checked_add(length as u64).is_none_or(|end| end > self.length) {
            return Err(self.broken("a header points beyond the end"));
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn broken(&self, what: &'static str) -> InspectError {
        Unfit::Broken { format: self.format, what }.into()
    }

    fn elsewhere(&self, what: &'static str) -> InspectError {
        Unfit::Elsewhere { format: self.format, what }.into()
    }

    fn feature(&self, what: impl Into<String>) -> InspectError {
        Unfit::Feature { format: self.format, what: what.into() }.into()
    }

    fn be32(&self, bytes: &[u8], offset: usize) -> Result<u32, InspectError> {
        number(bytes, offset).map(u32::from_be_bytes).ok_or_else(|| self.broken("a header is cut off"))
    }

    fn be64(&self, bytes: &[u8], offset: usize) -> Result<u64, InspectError> {
        number(bytes, offset).map(u64::from_be_bytes).ok_or_else(|| self.broken("a header is cut off"))
    }

    fn le32(&self, bytes: &[u8], offset: usize) -> Result<u32, InspectError> {
        number(bytes, offset).map(u32::from_le_bytes).ok_or_else(|| self.broken("a header is cut off"))
    }

    fn le64(&self, bytes: &[u8], offset: usize) -> Result<u64, InspectError> {
        number(bytes, offset).map(u64::from_le_bytes).ok_or_else(|| self.broken("a header is cut off"))
    }
}

/// VirtualBox's header, version 1.1: the type at 0x4c (1 dynamic, 2 fixed; 3 and 4 build on another file), the disk's size at 0x170.
fn vdi(image: &Inspected<'_>) -> Result<u64, InspectError> {
    let header = image.read(0, 0x200)?;
    if image.le32(&header, 0x44)? != 0x0001_0001 {
        return Err(image.feature("a version other than 1.1"));
    }
    match image.le32(&header, 0x4c)? {
        1 | 2 => image.le64(&header, 0x170),
        3 | 4 => Err(image.elsewhere("a parent")),
        other => Err(image.feature(format!("the type {other}"))),
    }
}

/// A part of a buffer, where it has it.
pub(super) fn at(bytes: &[u8], offset: usize, length: usize) -> Option<&[u8]> {
    bytes.get(offset..offset.checked_add(length)?)
}

fn number<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    at(bytes, offset, N)?.try_into().ok()
}

#[cfg(test)]
mod tests;
