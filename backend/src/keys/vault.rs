//! Keys at rest: AES-256-GCM under the master key, each bound to its id, so that no row can stand in for another.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::VolumeKey;
use crate::secret::Secret;

/// A key could not be put away, or taken out.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The operating system gave no random bytes, or the cipher refused.
    #[error("cannot encrypt key {0} under the master key")]
    Seal(Uuid),
    /// It is damaged, or another master key was in use.
    #[error(
        "key {0} does not open with this master key: all roles need the same key_manager.master_key_file, and a database is restored \
         together with its own"
    )]
    Open(Uuid),
}

/// Seals keys and opens them. Cheap to clone.
#[derive(Clone)]
pub struct Vault {
    master: Option<Arc<LessSafeKey>>,
}

impl Vault {
    /// With this master key, a text of at least 256 random bits.
    pub fn new(master: &Secret) -> Self {
        let bytes = Zeroizing::new(<[u8; 32]>::from(Sha256::digest(master.reveal())));
        // Only a key of another length is refused.
        Self { master: UnboundKey::new(&AES_256_GCM, bytes.as_slice()).ok().map(|key| Arc::new(LessSafeKey::new(key))) }
    }

    /// The key as it may be written down.
    pub fn seal(&self, id: Uuid, key: &VolumeKey) -> Result<String, VaultError> {
        let failed = || VaultError::Seal(id);
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| failed())?;
        let mut sealed = Zeroizing::new(key.bytes().to_vec());
        let master = self.master.as_ref().ok_or_else(failed)?;
        let tag = master
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(id.as_bytes()), &mut sealed)
            .map_err(|_| failed())?;
        Ok(STANDARD.encode([nonce.as_slice(), sealed.as_slice(), tag.as_ref()].concat()))
    }

    /// The key that was written down under this id.
    pub fn open(&self, id: Uuid, sealed: &str) -> Result<VolumeKey, VaultError> {
        let failed = || VaultError::Open(id);
        let bytes = STANDARD.decode(sealed).map_err(|_| failed())?;
        let (nonce, rest) = bytes.split_first_chunk::<NONCE_LEN>().ok_or_else(failed)?;
        let mut rest = Zeroizing::new(rest.to_vec());
        let master = self.master.as_ref().ok_or_else(failed)?;
        let opened = master.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(id.as_bytes()), &mut rest);
        Ok(VolumeKey::new(opened.map_err(|_| failed())?.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_opens_under_its_own_id_and_master_key_only() {
        let (vault, key, id) = (Vault::new(&Secret::random(43)), VolumeKey::random(256).unwrap(), Uuid::new_v4());
        let sealed = vault.seal(id, &key).unwrap();
        assert_eq!(vault.open(id, &sealed).unwrap(), key);
        assert_ne!(vault.seal(id, &key).unwrap(), sealed, "equal keys do not look alike");
        let mut damaged = sealed.clone().into_bytes();
        damaged[20] ^= 1;
        let damaged = String::from_utf8(damaged).unwrap();
        assert!(vault.open(Uuid::new_v4(), &sealed).is_err() && vault.open(id, &damaged).is_err());
        assert!(vault.open(id, "").is_err() && vault.open(id, "not base64!").is_err());
        let error = Vault::new(&Secret::random(43)).open(id, &sealed).unwrap_err().to_string();
        assert!(error.contains("master_key_file"), "{error}");
    }
}
