//! The header of a LUKS1 container (On-Disk Format 1.2.3, figures 1 and 2): which cipher, a digest of the master key, and eight slots,
//! of which the first has the master key, split so that no part of it is worth anything and encrypted with what the passphrase gives.

use std::num::NonZeroU32;

use ring::pbkdf2::{PBKDF2_HMAC_SHA256, derive};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Cipher, HEADER_BYTES, LuksError, SECTOR_BYTES, fill};

/// Rounds of PBKDF2. They make guessing slow, and a passphrase of 256 random bits is not guessed: more would only make each attachment
/// wait. Cryptsetup takes no fewer than 1000.
const ROUNDS: NonZeroU32 = NonZeroU32::new(20_000).unwrap();

/// Parts that the master key is split into, the number that cryptsetup takes.
const STRIPES: usize = 4000;

const SLOTS: usize = 8;
const SLOT_USED: u32 = 0x00AC_71F3;
const SLOT_FREE: u32 = 0x0000_DEAD;

/// Where the first slot's key material is, in sectors: behind the header, at the next 4096 bytes.
const FIRST_MATERIAL: usize = 8;

/// The header and the first slot's material of a container with this master key and passphrase.
pub(super) fn make(master: &[u8], passphrase: &[u8]) -> Result<Vec<u8>, LuksError> {
    let (mut salt, mut digest_salt, mut digest) = ([0; 32], [0; 32], [0; 20]);
    fill(&mut salt)?;
    fill(&mut digest_salt)?;
    derive(PBKDF2_HMAC_SHA256, ROUNDS, &digest_salt, master, &mut digest);
    let mut slot_key = Zeroizing::new(vec![0; master.len()]);
    derive(PBKDF2_HMAC_SHA256, ROUNDS, &salt, passphrase, &mut slot_key);
    let mut material = split(master)?;
    Cipher::new(&slot_key)?.encrypt(&mut material, 0);

    let mut header = Vec::with_capacity(FIRST_MATERIAL * SECTOR_BYTES + material.len());
    header.extend_from_slice(b"LUKS\xba\xbe\0\x01");
    for (text, width) in [("aes", 32), ("xts-plain64", 32), ("sha256", 32)] {
        put_text(&mut header, text, width);
    }
    put(&mut header, HEADER_BYTES as usize / SECTOR_BYTES);
    put(&mut header, master.len());
    header.extend_from_slice(&digest);
    header.extend_from_slice(&digest_salt);
    header.extend_from_slice(&ROUNDS.get().to_be_bytes());
    put_text(&mut header, &Uuid::new_v4().to_string(), 40);
    let sectors_each = material.len().div_ceil(SECTOR_BYTES).next_multiple_of(FIRST_MATERIAL);
    for slot in 0..SLOTS {
        let (state, rounds, salt) = if slot == 0 { (SLOT_USED, ROUNDS.get(), salt) } else { (SLOT_FREE, 0, [0; 32]) };
        header.extend_from_slice(&state.to_be_bytes());
        header.extend_from_slice(&rounds.to_be_bytes());
        header.extend_from_slice(&salt);
        put(&mut header, FIRST_MATERIAL + slot * sectors_each);
        put(&mut header, STRIPES);
    }
    header.resize(FIRST_MATERIAL * SECTOR_BYTES, 0);
    header.extend_from_slice(&material);
    Ok(header)
}

/// A number of the header: 32 bits, big-endian; none here is larger.
fn put(header: &mut Vec<u8>, number: usize) {
    header.extend_from_slice(&(number as u32).to_be_bytes());
}

fn put_text(header: &mut Vec<u8>, text: &str, width: usize) {
    let end = header.len() + width;
    header.extend_from_slice(text.as_bytes());
    header.resize(end, 0);
}

/// Splits a key into [`STRIPES`] parts of its size, all of which it takes to get it again (section 2.4, "AFsplit").
fn split(key: &[u8]) -> Result<Zeroizing<Vec<u8>>, LuksError> {
    let mut parts = Zeroizing::new(vec![0; key.len() * STRIPES]);
    let (random, last) = parts.split_at_mut(key.len() * (STRIPES - 1));
    fill(random)?;
    let mut mixed = Zeroizing::new(vec![0; key.len()]);
    for part in random.chunks_exact(key.len()) {
        mixed.iter_mut().zip(part).for_each(|(into, from)| *into ^= from);
        diffuse(&mut mixed);
    }
    for ((into, key), mixed) in last.iter_mut().zip(key).zip(mixed.iter()) {
        *into = key ^ mixed;
    }
    Ok(parts)
}

/// Makes each bit depend on many: every 32 bytes become their digest with their number before them.
fn diffuse(bytes: &mut [u8]) {
    for (number, block) in bytes.chunks_mut(Sha256::output_size()).enumerate() {
        let digest = Sha256::new().chain_update((number as u32).to_be_bytes()).chain_update(&*block).finalize();
        block.iter_mut().zip(digest).for_each(|(into, from)| *into = from);
    }
}
