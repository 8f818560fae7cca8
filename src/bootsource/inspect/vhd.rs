//! A VHD, by Microsoft's "Virtual Hard Disk Image Format Specification". Numbers are big-endian. The footer is the last 512 bytes; a dynamic
//! disk begins with a copy of it, which is the one that QEMU reads.

use super::{
    Look, Unfit,
    fields::{be32, be64},
};

const MAGIC: &[u8] = b"conectix";
const FOOTER_BYTES: usize = 512;
const HEADER_BYTES: usize = 1024;
const FIXED: u32 = 2;
const DYNAMIC: u32 = 3;
const DIFFERENCING: u32 = 4;
/// Where a dynamic header tells of a parent: its id, then, after a time, its name, and where it may be found.
const PARENT_ID: std::ops::Range<usize> = 40..56;
const PARENT: std::ops::Range<usize> = 64..768;
/// The largest block, bytes: 64 times what is usual.
const BLOCK_MAX_BYTES: u64 = 128 << 20;
/// QEMU's own limit of the table of blocks, entries.
const BLOCKS_MAX: u64 = 1 << 29;

/// The size that a guest sees, bytes. QEMU may round it to whole cylinders.
pub(super) fn virtual_size(image: &(impl Look + ?Sized)) -> Result<u64, Unfit> {
    let length = image.length().map_err(Unfit::Read)?;
    let data_bytes = length.checked_sub(FOOTER_BYTES as u64).ok_or_else(|| unfit("it has no footer"))?;
    let footer = image.bytes(data_bytes, FOOTER_BYTES).map_err(Unfit::Read)?;
    if !footer.starts_with(MAGIC) {
        return Err(unfit("it has no footer"));
    }
    let short = || unfit("it ends within its header");
    let bytes = be64(&footer, 48).ok_or_else(short)?;
    let head = image.bytes(0, FOOTER_BYTES).map_err(Unfit::Read)?;
    match (be32(&footer, 60).ok_or_else(short)?, head.starts_with(MAGIC)) {
        (FIXED, false) if bytes == data_bytes => Ok(bytes),
        (FIXED, _) => Err(unfit("its size is not that of its data")),
        // All of it, so that nobody reads otherwise who reads the other one.
        (DYNAMIC, true) if head == footer => {
            check_dynamic(image, length, be64(&head, 16).ok_or_else(short)?, bytes)?;
            Ok(bytes)
        }
        (DYNAMIC, _) => Err(unfit("its footer says otherwise than the copy at its beginning")),
        (DIFFERENCING, _) => Err(unfit("it has a parent")),
        _ => Err(unfit("its type is not known")),
    }
}

fn unfit(problem: &'static str) -> Unfit {
    Unfit::Foreign("vhd", problem)
}

fn check_dynamic(image: &(impl Look + ?Sized), length: u64, at: u64, disk_bytes: u64) -> Result<(), Unfit> {
    let header = image.bytes(at, HEADER_BYTES).map_err(Unfit::Read)?;
    if header.len() < HEADER_BYTES || !header.starts_with(b"cxsparse") {
        return Err(unfit("it has no dynamic header"));
    }
    let is_set = |range: std::ops::Range<usize>| header.get(range).unwrap_or_default().iter().any(|byte| *byte != 0);
    if is_set(PARENT_ID) || is_set(PARENT) {
        return Err(unfit("it has a parent"));
    }
    let short = || unfit("it ends within its header");
    let table_at = be64(&header, 16).ok_or_else(short)?;
    let (blocks, block_bytes) =
        (u64::from(be32(&header, 28).ok_or_else(short)?), u64::from(be32(&header, 32).ok_or_else(short)?));
    if !block_bytes.is_power_of_two() || !(512..=BLOCK_MAX_BYTES).contains(&block_bytes) {
        return Err(unfit("its blocks have an impossible size"));
    }
    let end = table_at.checked_add(blocks * 4);
    if blocks > BLOCKS_MAX || end.is_none_or(|end| end > length) || blocks * block_bytes < disk_bytes {
        return Err(unfit("its table of blocks is not in the file, or too small or too large for its disk"));
    }
    Ok(())
}
