//! The head of a qcow2 file: its virtual size, and what in it could lead QEMU to other files.
//!
//! Read by our own code before any tool or QEMU opens the file: a qcow2 header can name a backing file or a data file, and QEMU opens
//! whatever is named (CVE-2024-32498). The layout is QEMU's `docs/interop/qcow2.txt`; all numbers are big-endian.

/// What is read of a file: the fixed header of version 3.
pub const HEADER_BYTES: usize = 104;

const MAGIC: &[u8] = b"QFI\xfb";
/// `incompatible_features`: the guest's data is in another file.
const EXTERNAL_DATA_FILE: u64 = 1 << 2;

/// The size that a guest sees, bytes.
///
/// # Errors
/// Why the file is not given to one.
pub fn virtual_size(head: &[u8]) -> Result<u64, &'static str> {
    if head.get(..4) != Some(MAGIC) {
        return Err("it does not begin as one, although it is said to be");
    }
    let version = u32_at(head, 4)?;
    if !matches!(version, 2 | 3) {
        return Err("its version is neither 2 nor 3");
    }
    if u64_at(head, 8)? != 0 {
        return Err("it has a backing file, and chains of files are not supported");
    }
    if u32_at(head, 32)? != 0 {
        return Err("it is encrypted by itself, which is not supported");
    }
    if version == 3 && u64_at(head, 72)? & EXTERNAL_DATA_FILE != 0 {
        return Err("its data is in another file, whose name anybody may have written");
    }
    u64_at(head, 24)
}

const SHORT: &str = "it ends within its header";

fn u32_at(head: &[u8], at: usize) -> Result<u32, &'static str> {
    let bytes = head.get(at..).and_then(|rest| rest.first_chunk()).ok_or(SHORT)?;
    Ok(u32::from_be_bytes(*bytes))
}

fn u64_at(head: &[u8], at: usize) -> Result<u64, &'static str> {
    let bytes = head.get(at..).and_then(|rest| rest.first_chunk()).ok_or(SHORT)?;
    Ok(u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(version: u32) -> Vec<u8> {
        let mut head = vec![0; HEADER_BYTES];
        head[..4].copy_from_slice(MAGIC);
        head[4..8].copy_from_slice(&version.to_be_bytes());
        head[24..32].copy_from_slice(&(3_u64 << 30).to_be_bytes());
        head
    }

    #[test]
    fn the_virtual_size_is_read_from_both_versions() {
        assert_eq!(virtual_size(&head(2)), Ok(3 << 30));
        assert_eq!(virtual_size(&head(3)), Ok(3 << 30));
    }

    #[test]
    fn whatever_leads_elsewhere_or_is_something_else_is_refused() {
        let spoilt = |at: usize, byte: u8| {
            let mut head = head(3);
            head[at] = byte;
            virtual_size(&head)
        };
        assert!(spoilt(0, b'R').unwrap_err().contains("does not begin"));
        assert!(spoilt(7, 4).unwrap_err().contains("version"));
        assert!(spoilt(15, 112).unwrap_err().contains("backing file"));
        assert!(spoilt(35, 1).unwrap_err().contains("encrypted"));
        assert!(spoilt(79, 4).unwrap_err().contains("another file"));
        assert_eq!(virtual_size(&head(3)[..60]), Err(SHORT));
        assert!(virtual_size(b"").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..120), magic in any::<bool>()) {
            if magic && bytes.len() > 3 {
                bytes[..4].copy_from_slice(MAGIC);
            }
            let _ = virtual_size(&bytes);
        }
    }
}
