//! Encrypted volumes: a LUKS1 container (LUKS On-Disk Format 1.2.3), which QEMU and dm-crypt open, written piece by piece like any
//! other bytes. So every driver can keep one, nothing is written in the clear anywhere, and no other program is told a secret.
//!
//! ```text
//! header.rs  the header and its one key slot
//! stream.rs  a disk's bytes, encrypted on their way
//! ```
//!
//! A volume that is made of zeros gets a header and no more: behind it hosts see noise until they write, as with the field's service.
//! Copies of a volume are copies of its bytes, header included, so the same passphrase opens them.

mod header;
mod stream;

use aes::cipher::consts::{U16, U32};
use aes::cipher::{Array, KeyInit as _};
use aes::{Aes128, Aes256};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use xts_mode::{Xts128, get_tweak_default};
use zeroize::Zeroizing;

use crate::drivers::Chunk;
use crate::keys::VolumeKey;

/// The unit of encryption, in bytes.
const SECTOR_BYTES: usize = 512;

/// Where the data begin: 2 MiB, where QEMU and cryptsetup put them, too.
pub const HEADER_BYTES: u64 = 2 << 20;

/// The bits of a key that both versions of AES allow; XTS takes two keys.
pub const KEY_BITS: [u64; 2] = [256, 512];

/// There is no such container.
#[derive(Debug, thiserror::Error)]
pub enum LuksError {
    /// The passphrase's key has a length that AES-XTS has not.
    #[error("a key of {0} bits cannot encrypt a volume: AES-XTS has 256 or 512")]
    KeyBits(u64),
    /// The operating system gave no random bytes.
    #[error("cannot get random bytes")]
    Random,
}

/// A container that is to be written: a new key of its own, and the header from which a volume's passphrase gets that.
pub struct Container {
    cipher: Cipher,
    header: Vec<u8>,
}

impl Container {
    /// For a volume with this key, whose hexadecimal digits are the passphrase.
    pub fn new(key: &VolumeKey) -> Result<Self, LuksError> {
        let mut master = Zeroizing::new(vec![0; key.bytes().len()]);
        fill(&mut master)?;
        let header = header::make(&master, key.passphrase().as_bytes())?;
        Ok(Self { cipher: Cipher::new(&master)?, header })
    }

    /// Its start; what is behind that is noise until a host writes.
    pub fn header(&self) -> Chunk {
        Chunk { offset_bytes: 0, data: self.header.clone() }
    }

    /// The header and behind it the bytes of a disk, `size_bytes` of them, whose pieces come in order. What no piece covers is zeros
    /// to who reads it, and is written like all else.
    pub fn around(
        self,
        pieces: BoxStream<'static, Result<Chunk, std::io::Error>>,
        size_bytes: u64,
    ) -> BoxStream<'static, Result<Chunk, std::io::Error>> {
        let start = self.header();
        futures_util::stream::once(async { Ok(start) }).chain(stream::encrypted(self.cipher, pieces, size_bytes)).boxed()
    }
}

/// AES-XTS with the sector's number, 64 bits, as tweak (`aes-xts-plain64`).
enum Cipher {
    Aes128(Box<Xts128<Aes128>>),
    Aes256(Box<Xts128<Aes256>>),
}

impl Cipher {
    fn new(key: &[u8]) -> Result<Self, LuksError> {
        let wrong = || LuksError::KeyBits(key.len() as u64 * 8);
        let (first, second) = key.split_at_checked(key.len() / 2).ok_or_else(wrong)?;
        if let (Ok(first), Ok(second)) = (<&Array<u8, U16>>::try_from(first), <&Array<u8, U16>>::try_from(second)) {
            return Ok(Self::Aes128(Box::new(Xts128::new(Aes128::new(first), Aes128::new(second)))));
        }
        let (Ok(first), Ok(second)) = (<&Array<u8, U32>>::try_from(first), <&Array<u8, U32>>::try_from(second)) else {
            return Err(wrong());
        };
        Ok(Self::Aes256(Box::new(Xts128::new(Aes256::new(first), Aes256::new(second)))))
    }

    /// Encrypts whole sectors; `first` is the number of the first.
    fn encrypt(&self, sectors: &mut [u8], first: u64) {
        match self {
            Self::Aes128(xts) => xts.encrypt_area(sectors, SECTOR_BYTES, first.into(), get_tweak_default),
            Self::Aes256(xts) => xts.encrypt_area(sectors, SECTOR_BYTES, first.into(), get_tweak_default),
        }
    }
}

/// Random bytes of the operating system's.
fn fill(bytes: &mut [u8]) -> Result<(), LuksError> {
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), bytes).map_err(|_| LuksError::Random)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::TryStreamExt as _;
    use std::os::unix::fs::FileExt as _;
    use std::process::Command;

    /// What QEMU, which is what opens a volume in the end, reads of a container.
    async fn read_by_qemu(key: &VolumeKey, pieces: Vec<Chunk>, disk_bytes: u64, volume_bytes: u64) -> (Vec<u8>, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let volume = std::fs::File::create(path("volume")).unwrap();
        volume.set_len(volume_bytes).unwrap();
        let pieces = futures_util::stream::iter(pieces.into_iter().map(Ok)).boxed();
        let written = Container::new(key).unwrap().around(pieces, disk_bytes);
        for chunk in written.try_collect::<Vec<_>>().await.unwrap() {
            assert!(chunk.data.len() <= crate::drivers::CHUNK_BYTES);
            volume.write_all_at(&chunk.data, chunk.offset_bytes).unwrap();
        }
        std::fs::write(path("passphrase"), key.passphrase().as_bytes()).unwrap();
        let secret = format!("secret,id=k,file={}", path("passphrase").display());
        let source = format!("driver=luks,key-secret=k,file.filename={}", path("volume").display());
        let ran = Command::new("qemu-img")
            .args(["convert", "--object", &secret, "--image-opts", &source, "-O", "raw"])
            .arg(path("plain"))
            .output()
            .unwrap();
        assert!(ran.status.success(), "{ran:?}");
        (std::fs::read(path("plain")).unwrap(), std::fs::read(path("volume")).unwrap())
    }

    #[tokio::test]
    async fn qemu_reads_what_was_written_and_the_storage_has_none_of_it() {
        const MIB: usize = 1 << 20;
        for bits in KEY_BITS {
            let key = VolumeKey::random(bits).unwrap();
            // A disk with a hole, a piece across the border of two chunks, and an end within a sector.
            let disk_bytes = 5 * MIB + 700;
            let mut disk = vec![0_u8; disk_bytes];
            disk[..16].copy_from_slice(b"plain-at-start!!");
            disk[3 * MIB - 1000..3 * MIB + 1000].fill(b'x');
            disk[5 * MIB + 680..5 * MIB + 696].copy_from_slice(b"plain-at-end!!!!");
            let piece = |from: usize, to: usize| Chunk { offset_bytes: from as u64, data: disk[from..to].to_vec() };
            let pieces = vec![piece(0, 4096), piece(3 * MIB - 1000, 3 * MIB + 1000), piece(5 * MIB, disk_bytes)];
            let (plain, stored) = read_by_qemu(&key, pieces, disk_bytes as u64, 8 * MIB as u64).await;
            assert_eq!(plain.len(), 6 * MIB, "the header takes its room from the volume");
            assert!(plain[..disk_bytes] == disk[..], "{bits} bits: QEMU reads something else");
            let shows = |word: &[u8]| stored.windows(word.len()).any(|found| found == word);
            assert!(!shows(b"plain-at-") && !shows(&[b'x'; 64]) && !shows(key.bytes()), "{bits} bits");
        }
    }

    #[test]
    fn cryptsetup_understands_the_header_and_no_two_are_alike() {
        let key = VolumeKey::random(512).unwrap();
        let headers = [0, 1].map(|_| Container::new(&key).unwrap().header().data);
        assert_ne!(headers[0], headers[1]);
        assert_eq!(&headers[0][..8], b"LUKS\xba\xbe\0\x01");
        assert!(matches!(Container::new(&VolumeKey::new(vec![1; 24])), Err(LuksError::KeyBits(192))));
    }
}
