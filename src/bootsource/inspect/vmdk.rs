//! A VMDK that is one file, by VMware's "Virtual Disk Format 1.1". Numbers are little-endian, sectors have 512 bytes.
//!
//! It has a text in it, the descriptor, by which QEMU opens other files: extents where the header has no capacity of its own
//! (CVE-2022-47951), and a parent by `parentFileNameHint`, whatever the parent's id says. QEMU looks for that hint in the 20 sectors behind
//! the first, wherever the header says that the descriptor is (`vmdk_open` and `vmdk_parent_open` of its `block/vmdk.c`); so it must be
//! there, and every line of it must be one that is known.

use super::{
    Look, Unfit,
    fields::{le16, le32, le64},
};

const SECTOR: u64 = 512;
/// Where QEMU looks for a parent, and how far, in sectors.
const DESCRIPTOR_AT: u64 = 1;
const DESCRIPTOR_MAX: u64 = 20;
/// The tables are told in the footer, 1024 bytes before the end.
const IN_FOOTER: u64 = u64::MAX;
/// Entries of a table of grains: there is no other number, and QEMU takes no more.
const GRAINS_PER_TABLE: u64 = 512;
/// QEMU's own limit for a grain, sectors.
const GRAIN_MAX: u64 = 1 << 21;
/// QEMU's own limit for the table of tables, entries.
const TABLES_MAX: u64 = 32 << 20;
/// Keys of a descriptor that say nothing of other files, in lower case; beside those of the disk's database, `ddb.`.
const KEYS: [&str; 5] = ["version", "encoding", "cid", "isnativesnapshot", "createtype"];

/// The size that a guest sees, bytes.
pub(super) fn virtual_size(image: &(impl Look + ?Sized)) -> Result<u64, Unfit> {
    let length = image.length().map_err(Unfit::Read)?;
    let header = image.bytes(0, SECTOR as usize).map_err(Unfit::Read)?;
    let sectors = check_header(&header, length)?;
    if le64(&header, 56) == Some(IN_FOOTER) {
        let footer = image.bytes(length.saturating_sub(2 * SECTOR), SECTOR as usize).map_err(Unfit::Read)?;
        if check_header(&footer, length)? != sectors || le64(&footer, 56) == Some(IN_FOOTER) {
            return Err(unfit("its footer says otherwise than its header"));
        }
    }
    let read_by_qemu =
        image.bytes(DESCRIPTOR_AT * SECTOR, (DESCRIPTOR_MAX * SECTOR) as usize).map_err(Unfit::Read)?.to_ascii_lowercase();
    if read_by_qemu.windows(HINT.len()).any(|window| window == HINT) {
        return Err(unfit("it has a parent"));
    }
    let (at, count) = (le64(&header, 28), le64(&header, 36));
    match (at, count) {
        (Some(DESCRIPTOR_AT), Some(count @ 1..=DESCRIPTOR_MAX)) => {
            let text = image.bytes(DESCRIPTOR_AT * SECTOR, (count * SECTOR) as usize).map_err(Unfit::Read)?;
            let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
            let text = std::str::from_utf8(text).map_err(|_| unfit("its descriptor is no text"))?;
            check_descriptor(text, sectors)?;
        }
        _ => return Err(unfit("its descriptor is not behind its header, or too long")),
    }
    sectors.checked_mul(SECTOR).ok_or_else(|| unfit("its disk has an impossible size"))
}

const HINT: &[u8] = b"parentfilenamehint";

fn unfit(problem: &'static str) -> Unfit {
    Unfit::Foreign("vmdk", problem)
}

/// The header, or the footer, which has the same fields. Gives the disk's sectors.
fn check_header(header: &[u8], length: u64) -> Result<u64, Unfit> {
    let short = || unfit("it ends within its header");
    if !header.starts_with(b"KDMV") {
        return Err(unfit("it is no sparse disk in one file"));
    }
    if !(1..=3).contains(&le32(header, 4).ok_or_else(short)?) {
        return Err(unfit("its version is not known"));
    }
    let sectors = le64(header, 12).ok_or_else(short)?;
    if sectors == 0 {
        return Err(unfit("it has no disk of its own, only a list of files"));
    }
    let (grain, per_table) = (le64(header, 20).ok_or_else(short)?, u64::from(le32(header, 44).ok_or_else(short)?));
    if !grain.is_power_of_two() || grain > GRAIN_MAX || per_table != GRAINS_PER_TABLE {
        return Err(unfit("its grains have an impossible size"));
    }
    let tables = sectors.div_ceil(grain * per_table);
    let tables_at = le64(header, 56).ok_or_else(short)?;
    let end = tables_at.checked_mul(SECTOR).and_then(|at| at.checked_add(tables.saturating_mul(4)));
    if tables > TABLES_MAX || (tables_at != IN_FOOTER && end.is_none_or(|end| end > length)) {
        return Err(unfit("its table of grains is not in the file, or too large"));
    }
    if le16(header, 77).ok_or_else(short)? > 1 {
        return Err(unfit("its compression is not known"));
    }
    Ok(sectors)
}

fn check_descriptor(text: &str, sectors: u64) -> Result<(), Unfit> {
    if !text.starts_with("# Disk DescriptorFile") {
        return Err(unfit("its descriptor is no descriptor"));
    }
    let (mut kinds, mut parents, mut extents) = (0, 0, 0);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(extent) = ["RW ", "RDONLY "].iter().find_map(|access| line.strip_prefix(access)) {
            check_extent(extent, sectors)?;
            extents += 1;
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { return Err(unfit("its descriptor has a line that is not known")) };
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim().trim_matches('"'));
        match key.as_str() {
            "createtype" => {
                if !matches!(value, "monolithicSparse" | "streamOptimized") {
                    return Err(unfit("it is not of a type that is one file (monolithicSparse, streamOptimized)"));
                }
                kinds += 1;
            }
            "parentcid" if value.eq_ignore_ascii_case("ffffffff") => parents += 1,
            "parentcid" => return Err(unfit("it has a parent")),
            key if key.starts_with("ddb.") || KEYS.contains(&key) => {}
            _ => return Err(unfit("its descriptor has a key that is not known")),
        }
    }
    match (kinds, parents, extents) {
        (1, 1, 1) => Ok(()),
        _ => Err(unfit("its descriptor does not name one type, no parent and one extent")),
    }
}

/// `SECTORS SPARSE "NAME"`: the file itself, whatever it was called when it was made.
fn check_extent(extent: &str, sectors: u64) -> Result<(), Unfit> {
    let mut words = extent.splitn(3, ' ');
    let (count, kind, name) = (words.next(), words.next(), words.next().unwrap_or_default().trim());
    let name = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or_default();
    let is_own = count.and_then(|count| count.parse().ok()) == Some(sectors)
        && kind == Some("SPARSE")
        && !name.is_empty()
        && !name.contains(['/', '\\', '"', ':']);
    if is_own { Ok(()) } else { Err(unfit("it has an extent that is not the file itself")) }
}
