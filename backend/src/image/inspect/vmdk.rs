//! VMDK in one file, by VMware's "Virtual Disk Format 1.1". Numbers are little-endian, sectors have 512 bytes.
//!
//! The text in it, the descriptor, can name files to read. QEMU reads it where the header has no capacity of its own; so it must
//! have one, in the footer too, and the descriptor must name one sparse extent and no more. And QEMU opens the parent that is named in the
//! 20 sectors behind the header, wherever the header says that the descriptor is (`vmdk_open` and `vmdk_parent_open` of its
//! `block/vmdk.c`); so it must be there, and no parent be named in any of them.

use super::{InspectError, Inspected};

const SECTOR: u64 = 512;

/// Where QEMU looks for a parent, and how far, in bytes.
const DESCRIPTOR_AT: u64 = SECTOR;
const LARGEST_DESCRIPTOR: u64 = 20 * SECTOR;

/// "The grain directory is told in the footer", 1,024 bytes before the end.
const IN_FOOTER: u64 = u64::MAX;

pub(super) fn inspect(image: &Inspected<'_>) -> Result<u64, InspectError> {
    let header = image.read(0, 512)?;
    let capacity = check_header(image, &header)?;
    if image.le64(&header, 56)? == IN_FOOTER {
        let Some(footer_at) = image.length.checked_sub(1024) else { return Err(image.broken("its footer is missing")) };
        let footer = image.read(footer_at, 512)?;
        if footer.get(..4) != Some(b"KDMV") {
            return Err(image.broken("its footer is missing"));
        }
        if check_header(image, &footer)? != capacity {
            return Err(image.broken("its footer tells another size than its header"));
        }
    }
    let (offset, sectors) = (image.le64(&header, 28)?, image.le64(&header, 36)?);
    let bytes = sectors.checked_mul(SECTOR).filter(|bytes| (1..=LARGEST_DESCRIPTOR).contains(bytes));
    let (Some(bytes), Some(DESCRIPTOR_AT)) = (bytes, offset.checked_mul(SECTOR)) else {
        return Err(image.broken("its descriptor is not behind its header, or too long"));
    };
    let there = LARGEST_DESCRIPTOR.min(image.length.saturating_sub(DESCRIPTOR_AT));
    let read_by_qemu = image.read(DESCRIPTOR_AT, usize::try_from(there).unwrap_or(0))?.to_ascii_lowercase();
    if read_by_qemu.windows(PARENT.len()).any(|window| window == PARENT) {
        return Err(image.elsewhere("a parent"));
    }
    let text = image.read(DESCRIPTOR_AT, usize::try_from(bytes).unwrap_or(0))?;
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    descriptor(image, &String::from_utf8_lossy(text))?;
    capacity.checked_mul(SECTOR).ok_or_else(|| image.broken("its disk has an impossible size"))
}

/// In lower case: the key by which a parent is found.
const PARENT: &[u8] = b"parentfilenamehint";

/// The capacity, in sectors.
fn check_header(image: &Inspected<'_>, header: &[u8]) -> Result<u64, InspectError> {
    if !(1..=3).contains(&image.le32(header, 4)?) {
        return Err(image.feature("an unknown version"));
    }
    match image.le64(header, 12)? {
        0 => Err(image.elsewhere("no disk of its own but a list of files")),
        capacity => Ok(capacity),
    }
}

fn descriptor(image: &Inspected<'_>, text: &str) -> Result<(), InspectError> {
    let mut extents = 0;
    let mut create_type = None;
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some((key, value)) = line.split_once('=') {
            let value = value.trim().trim_matches('"');
            match key.trim().to_ascii_lowercase().as_str() {
                "createtype" => create_type = Some(value.to_owned()),
                "parentcid" if !value.eq_ignore_ascii_case("ffffffff") => return Err(image.elsewhere("a parent")),
                "parentfilenamehint" => return Err(image.elsewhere("a parent")),
                _ => {}
            }
            // An extent's name may hold an equals sign.
            if !is_extent(line) {
                continue;
            }
        }
        if is_extent(line) {
            extents += 1;
            let kind = line.split_whitespace().nth(2).unwrap_or_default();
            let name = line.split('"').nth(1).unwrap_or_default();
            if kind != "SPARSE" || name.is_empty() || name.contains('/') {
                return Err(image.elsewhere("an extent in another file"));
            }
        }
    }
    match create_type.as_deref() {
        Some("monolithicSparse" | "streamOptimized") => {}
        Some(other) => {
            return Err(image.feature(format!("the type {other}; only monolithicSparse and streamOptimized are in one file")));
        }
        None => return Err(image.broken("its descriptor tells no type")),
    }
    if extents == 1 { Ok(()) } else { Err(image.elsewhere("other than one extent")) }
}

fn is_extent(line: &str) -> bool {
    ["RW ", "RDONLY ", "NOACCESS "].iter().any(|access| line.starts_with(access))
}
