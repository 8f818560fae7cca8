//! A VHDX, by Microsoft's [MS-VHDX]. Numbers are little-endian. A region table, of which there are two copies, leads to the metadata, which
//! tell the size and whether there is a parent.

use super::{
    Look, Unfit,
    fields::{field, le16, le32, le64},
};

/// Where the two copies of the region table are.
const REGION_TABLES: [u64; 2] = [0x3_0000, 0x4_0000];
/// Of a region table, and of the part of the metadata that is a table.
const TABLE_BYTES: usize = 0x1_0000;
const ENTRY_BYTES: usize = 32;
/// A table has no more entries.
const ENTRIES_MAX: usize = 2047;
/// 8B7CA206-4790-4B9A-B8FE-575F050F886E, as it is stored: the metadata.
const METADATA: [u8; 16] = [0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b, 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e];
/// 2DC27766-F623-4200-9D64-115E9BFD4A08: the table of blocks.
const BLOCKS: [u8; 16] = [0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42, 0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08];
/// CAA16737-FA36-4D43-B3B6-33F0AA44E76B: the size of blocks, and flags.
const PARAMETERS: [u8; 16] = [0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b];
/// 2FA54224-CD1B-4876-B211-5DBED83BF4B8: the disk's size.
const DISK_SIZE: [u8; 16] = [0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8];
/// A8D35F2D-B30B-454D-ABF7-D3D84834AB0C: where the parent is.
const PARENT: [u8; 16] = [0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45, 0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c];
/// 8141BF1D-A96F-4709-BA47-F233A8FAAB5F, CDA348C7-445D-4471-9CC9-E9885251C556 and BECA12AB-B2E6-4523-93EF-C309E000C746: the sizes of logical
/// and physical sectors, and the disk's own id.
const HARMLESS: [[u8; 16]; 3] = [
    [0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47, 0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f],
    [0xc7, 0x48, 0xa3, 0xcd, 0x5d, 0x44, 0x71, 0x44, 0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56],
    [0xab, 0x12, 0xca, 0xbe, 0xe6, 0xb2, 0x23, 0x45, 0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46],
];
/// In an entry's flags: whoever does not know it must not read the file.
const IS_REQUIRED: u32 = 1 << 2;
/// In the parameters' flags.
const HAS_PARENT: u32 = 1 << 1;
/// Bounds of a block, bytes.
const BLOCK_BYTES: std::ops::RangeInclusive<u32> = (1 << 20)..=(256 << 20);

/// The size that a guest sees, bytes.
pub(super) fn virtual_size(image: &(impl Look + ?Sized)) -> Result<u64, Unfit> {
    let [first, second] = REGION_TABLES.map(|at| regions(image, at));
    // A reader may take either copy, so both must be what the check sees.
    let (first, second) = (first?, second?);
    if first != second {
        return Err(unfit("its two region tables differ"));
    }
    let length = image.length().map_err(Unfit::Read)?;
    let mut metadata = None;
    for region in entries(&first, 16, le32(&first, 8))? {
        let (at, bytes) = (le64(region, 16).unwrap_or(u64::MAX), u64::from(le32(region, 24).unwrap_or(u32::MAX)));
        if at.checked_add(bytes).is_none_or(|end| end > length) {
            return Err(unfit("it has a region that is not in the file"));
        }
        match field(region, 0) {
            Some(METADATA) if metadata.is_none() => metadata = Some(at),
            Some(BLOCKS) => {}
            _ => return Err(unfit("it has a region that is not known")),
        }
    }
    check_metadata(image, metadata.ok_or_else(|| unfit("it has no metadata"))?)
}

fn unfit(problem: &'static str) -> Unfit {
    Unfit::Foreign("vhdx", problem)
}

fn regions(image: &(impl Look + ?Sized), at: u64) -> Result<Vec<u8>, Unfit> {
    let table = image.bytes(at, TABLE_BYTES).map_err(Unfit::Read)?;
    if table.len() < TABLE_BYTES || !table.starts_with(b"regi") {
        return Err(unfit("it has no region table"));
    }
    Ok(table)
}

fn check_metadata(image: &(impl Look + ?Sized), at: u64) -> Result<u64, Unfit> {
    let table = image.bytes(at, TABLE_BYTES).map_err(Unfit::Read)?;
    if !table.starts_with(b"metadata") {
        return Err(unfit("it has no metadata"));
    }
    let (mut has_parameters, mut size) = (false, None);
    for entry in entries(&table, ENTRY_BYTES, le16(&table, 10).map(u32::from))? {
        let item_at = at.saturating_add(le32(entry, 16).unwrap_or(u32::MAX).into());
        let item = image.bytes(item_at, 8).map_err(Unfit::Read)?;
        match field(entry, 0) {
            Some(PARENT) => return Err(unfit("it has a parent")),
            Some(PARAMETERS) => {
                if le32(&item, 4).is_none_or(|flags| flags & HAS_PARENT != 0) {
                    return Err(unfit("it has a parent"));
                }
                if !le32(&item, 0).is_some_and(|bytes| bytes.is_power_of_two() && BLOCK_BYTES.contains(&bytes)) {
                    return Err(unfit("its blocks have an impossible size"));
                }
                has_parameters = true;
            }
            Some(DISK_SIZE) if size.is_none() => size = le64(&item, 0),
            Some(DISK_SIZE) => return Err(unfit("it tells its size twice")),
            Some(id) if HARMLESS.contains(&id) => {}
            _ if le32(entry, 24).is_some_and(|flags| flags & IS_REQUIRED == 0) => {}
            _ => return Err(unfit("it has metadata that are not known, and must be")),
        }
    }
    match (has_parameters, size) {
        (true, Some(bytes)) => Ok(bytes),
        _ => Err(unfit("its metadata lack the disk's size, or its blocks'")),
    }
}

fn entries(table: &[u8], first: usize, count: Option<u32>) -> Result<impl Iterator<Item = &[u8]>, Unfit> {
    let count = count.and_then(|count| usize::try_from(count).ok()).filter(|count| *count <= ENTRIES_MAX);
    let count = count.ok_or_else(|| unfit("a table has an impossible length"))?;
    Ok(table.get(first..).unwrap_or_default().chunks_exact(ENTRY_BYTES).take(count))
}
