//! qcow2, by QEMU's docs/interop/qcow2.rst. Numbers are big-endian.

use super::{InspectError, Inspected};

/// What an image may need of its reader: refcounts left to be made good (bit 0), the kind of compression (3), extended L2 entries
/// (4). A marked corruption (1) and an external data file (2) are no such thing, and what came later is unknown.
const INCOMPATIBLE_ALLOWED: u64 = 1 | 1 << 3 | 1 << 4;
const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;

/// The header extension that names an external data file.
const DATA_FILE_NAME: u32 = 0x4441_5441;

/// QEMU's own limit for the table of clusters, in bytes.
const LARGEST_L1: u64 = 32 << 20;

pub(super) fn inspect(image: &Inspected<'_>) -> Result<u64, InspectError> {
    let header = image.read(0, 72)?;
    let version = image.be32(&header, 4)?;
    if image.be64(&header, 8)? != 0 || image.be32(&header, 16)? != 0 {
        return Err(image.elsewhere("a backing file"));
    }
    let cluster_bits = image.be32(&header, 20)?;
    if !(9..=21).contains(&cluster_bits) {
        return Err(image.broken("its clusters have an impossible size"));
    }
    let virtual_bytes = image.be64(&header, 24)?;
    if image.be32(&header, 32)? != 0 {
        return Err(image.feature("encryption"));
    }
    let l1_bytes = u64::from(image.be32(&header, 36)?) * 8;
    let l1_offset = image.be64(&header, 40)?;
    if l1_bytes > LARGEST_L1 || l1_offset.checked_add(l1_bytes).is_none_or(|end| end > image.length) {
        return Err(image.broken("its table of clusters is not in the file"));
    }
    if version == 3 {
        let more = image.read(72, 32)?;
        features(image, image.be64(&more, 0)?)?;
        let length = image.be32(&more, 28)?;
        if length < 104 || u64::from(length) > 1 << cluster_bits {
            return Err(image.broken("its header has an impossible length"));
        }
        extensions(image, u64::from(length), 1 << cluster_bits)?;
    } else {
        extensions(image, 72, 1 << cluster_bits)?;
    }
    Ok(virtual_bytes)
}

fn features(image: &Inspected<'_>, incompatible: u64) -> Result<(), InspectError> {
    if incompatible & DATA_FILE != 0 {
        return Err(image.elsewhere("an external data file"));
    }
    if incompatible & CORRUPT != 0 {
        return Err(image.broken("it is marked as corrupt"));
    }
    match incompatible & !INCOMPATIBLE_ALLOWED {
        0 => Ok(()),
        unknown => Err(image.feature(format!("the incompatible features {unknown:#x}"))),
    }
}

/// Header extensions follow the header: type, length, data, each padded to 8 bytes; type 0 ends them. All are in the first cluster.
fn extensions(image: &Inspected<'_>, mut offset: u64, end: u64) -> Result<(), InspectError> {
    while offset + 8 <= end.min(image.length) {
        let head = image.read(offset, 8)?;
        match image.be32(&head, 0)? {
            0 => return Ok(()),
            DATA_FILE_NAME => return Err(image.elsewhere("the name of an external data file")),
            _ => {}
        }
        let length = u64::from(image.be32(&head, 4)?);
        offset = offset + 8 + length.next_multiple_of(8);
    }
    Ok(())
}
