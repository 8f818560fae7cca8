//! Encrypted volumes: what the service says of one, and what the start of its data must be.
//!
//! QEMU decrypts, with a passphrase that libvirt holds. Nothing here, and nothing that Bowline runs, writes to a device: one whose
//! start is not the header that it should be is refused as it is, for whoever owns the data to judge. (A header that could not be
//! read once made a predecessor format the device.)

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How an encrypted volume is laid out, as far as a guest can be given one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LuksVersion {
    /// LUKS1.
    Luks1,
    /// LUKS2.
    Luks2,
}

impl LuksVersion {
    /// libvirt's and the service's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Luks1 => "luks",
            Self::Luks2 => "luks2",
        }
    }

    /// As people write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Luks1 => "LUKS1",
            Self::Luks2 => "LUKS2",
        }
    }
}

/// What the service says of a volume's encryption. Holds no secret: the key is known by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeEncryption {
    /// Layout.
    pub version: LuksVersion,
    /// The key's id in the key manager.
    pub key: Uuid,
}

/// A disk that QEMU decrypts. Journalled, so it names the secret and does not hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskEncryption {
    /// Layout.
    pub version: LuksVersion,
    /// UUID of the libvirt secret with the passphrase.
    pub secret: Uuid,
}

/// Bytes at a device's start that tell what it is: all of a LUKS1 header (LUKS1 on-disk format 1.2.3, 2.1), and of a LUKS2 header
/// its magic, version and size.
pub const LUKS_HEAD_BYTES: usize = 592;

/// `LUKS`, 0xba, 0xbe: both versions begin with it.
const MAGIC: [u8; 6] = *b"LUKS\xba\xbe";
/// Where LUKS1 has the offset of the data, in sectors of 512 bytes, big-endian.
const LUKS1_PAYLOAD_AT: usize = 104;
/// Where LUKS2 has the size of one header area, in bytes, big-endian.
const LUKS2_SIZE_AT: usize = 8;
/// A sector of LUKS1, bytes.
const SECTOR: u64 = 512;

/// Why a device is not the encrypted volume it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LuksError {
    /// All zero: nobody has formatted it.
    #[error("it has no LUKS header, its start is blank")]
    Blank,
    /// Something else is there.
    #[error("it has no LUKS header, its start is other data")]
    OtherData,
    /// Less than a header could be read.
    #[error("it has no LUKS header, only {0} bytes")]
    Short(usize),
    /// A header of another version.
    #[error("it has a header of {found}, not of {}", expected.name())]
    Version {
        /// What the service said.
        expected: LuksVersion,
        /// What is there.
        found: String,
    },
    /// A header that points out of the device.
    #[error("its {} header says that the data begins at byte {offset}, and the device has {size_bytes}", version.name())]
    Damaged {
        /// Of this version.
        version: LuksVersion,
        /// What it points at, in bytes.
        offset: u64,
        /// The device's size.
        size_bytes: u64,
    },
}

/// Checks that a device, of which this is the start, has a LUKS header of the version that it should have.
///
/// # Errors
/// What is there instead.
pub fn check_luks_header(head: &[u8], expected: LuksVersion, size_bytes: u64) -> Result<(), LuksError> {
    let head = head.get(..LUKS_HEAD_BYTES).ok_or(LuksError::Short(head.len()))?;
    if !head.starts_with(&MAGIC) {
        return Err(if head.iter().all(|byte| *byte == 0) { LuksError::Blank } else { LuksError::OtherData });
    }
    let number = u16::from_be_bytes(array(head, MAGIC.len()));
    let (version, offset) = match number {
        1 => (LuksVersion::Luks1, u64::from(u32::from_be_bytes(array(head, LUKS1_PAYLOAD_AT))) * SECTOR),
        2 => (LuksVersion::Luks2, u64::from_be_bytes(array(head, LUKS2_SIZE_AT))),
        other => return Err(LuksError::Version { expected, found: format!("LUKS version {other}") }),
    };
    if version != expected {
        return Err(LuksError::Version { expected, found: version.name().to_owned() });
    }
    if offset == 0 || offset >= size_bytes {
        return Err(LuksError::Damaged { version, offset, size_bytes });
    }
    Ok(())
}

/// The bytes at an offset; zero where the slice ends, which the caller has ruled out.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: u16, payload_sectors: u32) -> Vec<u8> {
        let mut head = vec![0; 4096];
        head[..6].copy_from_slice(&MAGIC);
        head[6..8].copy_from_slice(&version.to_be_bytes());
        head[LUKS2_SIZE_AT..LUKS2_SIZE_AT + 8].copy_from_slice(&16384_u64.to_be_bytes());
        head[LUKS1_PAYLOAD_AT..LUKS1_PAYLOAD_AT + 4].copy_from_slice(&payload_sectors.to_be_bytes());
        head
    }

    #[test]
    fn a_header_of_the_declared_version_is_taken() {
        assert_eq!(check_luks_header(&header(1, 4096), LuksVersion::Luks1, 1 << 30), Ok(()));
        assert_eq!(check_luks_header(&header(2, 0), LuksVersion::Luks2, 1 << 30), Ok(()));
    }

    #[test]
    fn everything_else_is_told_for_what_it_is() {
        let size_bytes = 1 << 30;
        let check = |head: &[u8]| check_luks_header(head, LuksVersion::Luks1, size_bytes).unwrap_err();
        assert_eq!(check(&[0; 4096]), LuksError::Blank);
        assert_eq!(check(&[7; 4096]), LuksError::OtherData);
        assert_eq!(check(&header(1, 4096)[..591]), LuksError::Short(591));
        assert_eq!(check(&[]), LuksError::Short(0));
        assert!(check(&header(2, 0)).to_string().contains("LUKS2, not of LUKS1"));
        assert!(check(&header(9, 0)).to_string().contains("version 9"));
        assert!(matches!(check(&header(1, u32::MAX)), LuksError::Damaged { .. }));
        assert!(matches!(check(&header(1, 0)), LuksError::Damaged { offset: 0, .. }));
    }
}
