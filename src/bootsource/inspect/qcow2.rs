//! A qcow2 file that is to be the base of a guest's disk: what [`crate::model::qcow2`] asks of every one, and more, since QEMU
//! reads its tables for as long as the guest runs. All numbers are big-endian (QEMU's `docs/interop/qcow2.txt`).

use super::{
    Look, Unfit,
    fields::{be32, be64},
};
use crate::model::qcow2;

/// What a reader must know that may be needed: refcounts that were left to be mended (bit 0), the kind of compression (3),
/// extended L2 entries (4). Bit 1 marks a damaged file, bit 2 an external data file; what came later is unknown.
const KNOWN_FEATURES: u64 = 1 | 1 << 3 | 1 << 4;
/// The header extension that names an external data file.
const DATA_FILE_NAME: u32 = 0x4441_5441;
/// QEMU's own limit for the table of clusters, bytes.
const L1_MAX_BYTES: u64 = 32 << 20;
/// QEMU's own limit for the table of reference counts, bytes.
const REFCOUNTS_MAX_BYTES: u64 = 8 << 20;
/// Bytes of a version 2 header.
const V2_BYTES: u64 = 72;
/// Most header extensions that are walked: four are defined.
const EXTENSIONS_MAX: usize = 64;

/// The size that a guest sees, bytes.
pub(super) fn virtual_size(image: &(impl Look + ?Sized)) -> Result<u64, Unfit> {
    let length = image.length().map_err(Unfit::Read)?;
    let head = image.bytes(0, qcow2::HEADER_BYTES).map_err(Unfit::Read)?;
    let bytes = qcow2::virtual_size(&head).map_err(Unfit::Qcow2)?;
    if u32_at(&head, 16)? != 0 {
        return Err(Unfit::Qcow2("it has a backing file's name"));
    }
    // QEMU would read a table of them, whose entries have lengths of their own (CVE-2014-0143 and its kin), and no boot needs one.
    if u32_at(&head, 60)? != 0 {
        return Err(Unfit::Qcow2("it has snapshots in it: a copy by qemu-img convert has none"));
    }
    let cluster_bits = u32_at(&head, 20)?;
    if !(9..=21).contains(&cluster_bits) {
        return Err(Unfit::Qcow2("its clusters have an impossible size"));
    }
    let (l1_bytes, l1_at) = (u64::from(u32_at(&head, 36)?) * 8, u64_at(&head, 40)?);
    // An entry of the table stands for one table of the next level, which is one cluster of 8-byte entries.
    let covered = (l1_bytes / 8).saturating_mul(1_u64.checked_shl(2 * cluster_bits - 3).unwrap_or(u64::MAX));
    if l1_bytes > L1_MAX_BYTES || l1_at.checked_add(l1_bytes).is_none_or(|end| end > length) || covered < bytes {
        return Err(Unfit::Qcow2("its table of clusters is not in the file, or too small or too large for its disk"));
    }
    let (refcounts_at, refcounts_clusters) = (u64_at(&head, 48)?, u64::from(u32_at(&head, 56)?));
    let refcounts_bytes = refcounts_clusters << cluster_bits;
    if refcounts_bytes > REFCOUNTS_MAX_BYTES || refcounts_at.checked_add(refcounts_bytes).is_none_or(|end| end > length) {
        return Err(Unfit::Qcow2("its table of reference counts is not in the file, or too large"));
    }
    let header_bytes = if u32_at(&head, 4)? == 2 {
        V2_BYTES
    } else {
        if u64_at(&head, 72)? & !KNOWN_FEATURES != 0 {
            return Err(Unfit::Qcow2("it is marked as damaged, or needs features that are not known here"));
        }
        u64::from(u32_at(&head, 100)?)
    };
    let first_cluster = 1 << cluster_bits;
    if header_bytes < V2_BYTES || header_bytes > first_cluster {
        return Err(Unfit::Qcow2("its header has an impossible length"));
    }
    check_extensions(image, header_bytes, first_cluster)?;
    Ok(bytes)
}

/// Extensions follow the header within the first cluster: type, length, data, each padded to 8 bytes; type 0 ends them.
fn check_extensions(image: &(impl Look + ?Sized), mut at: u64, end: u64) -> Result<(), Unfit> {
    for _ in 0..EXTENSIONS_MAX {
        let head = image.bytes(at, 8).map_err(Unfit::Read)?;
        if at + 8 > end || head.len() < 8 {
            return Ok(());
        }
        match u32_at(&head, 0)? {
            0 => return Ok(()),
            DATA_FILE_NAME => return Err(Unfit::Qcow2("it names an external data file")),
            _ => at += 8 + u64::from(u32_at(&head, 4)?).next_multiple_of(8),
        }
    }
    Err(Unfit::Qcow2("it has more header extensions than there are"))
}

fn u32_at(head: &[u8], at: usize) -> Result<u32, Unfit> {
    be32(head, at).ok_or(Unfit::Qcow2("it ends within its header"))
}

fn u64_at(head: &[u8], at: usize) -> Result<u64, Unfit> {
    be64(head, at).ok_or(Unfit::Qcow2("it ends within its header"))
}
