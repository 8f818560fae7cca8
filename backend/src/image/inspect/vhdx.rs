//! VHDX, by [MS-VHDX]. Numbers are little-endian. The region table leads to the metadata, which tells size and parent.

use super::{InspectError, Inspected, at};

/// Where the two copies of the region table are.
const REGION_TABLES: [u64; 2] = [0x3_0000, 0x4_0000];
/// More entries a table cannot have.
const MOST_ENTRIES: u32 = 2047;
/// `8B7CA206-4790-4B9A-B8FE-575F050F886E`, as it is stored: the metadata region.
const METADATA: [u8; 16] = [0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b, 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e];
/// `CAA16737-FA36-4D43-B3B6-33F0AA44E76B`: block size and flags.
const PARAMETERS: [u8; 16] = [0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b];
/// `2FA54224-CD1B-4876-B211-5DBED83BF4B8`: the disk's size.
const DISK_SIZE: [u8; 16] = [0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8];
/// `A8D35F2D-B30B-454D-ABF7-D3D84834AB0C`: where the parent is.
const PARENT: [u8; 16] = [0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45, 0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c];
/// In the parameters' flags.
const HAS_PARENT: u32 = 1 << 1;

pub(super) fn inspect(image: &Inspected<'_>) -> Result<u64, InspectError> {
    // A reader may take either copy, so both must be what the check sees.
    let mut size = None;
    for table in REGION_TABLES {
        let found = metadata(image, table)?;
        if size.is_some_and(|size| size != found) {
            return Err(image.broken("its two region tables tell different things"));
        }
        size = Some(found);
    }
    size.ok_or_else(|| image.broken("its region table is missing"))
}

fn metadata(image: &Inspected<'_>, table_at: u64) -> Result<u64, InspectError> {
    let table = image.read(table_at, 0x1_0000)?;
    if at(&table, 0, 4) != Some(b"regi") {
        return Err(image.broken("its region table is missing"));
    }
    let entry = entries(image, &table, image.le32(&table, 8)?, 16, &METADATA)?;
    let region_at = image.le64(entry.ok_or_else(|| image.broken("its metadata is missing"))?, 16)?;
    let region = image.read(region_at, 0x1_0000)?;
    if at(&region, 0, 8) != Some(b"metadata") {
        return Err(image.broken("its metadata is missing"));
    }
    let count = image.le32(&region, 8)? >> 16;
    if entries(image, &region, count, 32, &PARENT)?.is_some() {
        return Err(image.elsewhere("a parent"));
    }
    let item = |id: &[u8; 16], length: usize| -> Result<Vec<u8>, InspectError> {
        let entry = entries(image, &region, count, 32, id)?.ok_or_else(|| image.broken("its metadata lacks an item"))?;
        let offset = u64::from(image.le32(entry, 16)?);
        image.read(region_at.checked_add(offset).ok_or_else(|| image.broken("a header points beyond the end"))?, length)
    };
    if image.le32(&item(&PARAMETERS, 8)?, 4)? & HAS_PARENT != 0 {
        return Err(image.elsewhere("a parent"));
    }
    image.le64(&item(&DISK_SIZE, 8)?, 0)
}

/// The entry of a table that begins with this id. Entries have 32 bytes.
fn entries<'t>(
    image: &Inspected<'_>,
    table: &'t [u8],
    count: u32,
    first: usize,
    id: &[u8; 16],
) -> Result<Option<&'t [u8]>, InspectError> {
    if count > MOST_ENTRIES {
        return Err(image.broken("a table has an impossible length"));
    }
    let count = usize::try_from(count).unwrap_or(0);
    let entries = table.get(first..).unwrap_or_default().chunks_exact(32).take(count);
    Ok(entries.into_iter().find(|entry| at(entry, 0, 16) == Some(id.as_slice())))
}
