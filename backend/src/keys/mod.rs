//! The keys of encrypted volumes.
//!
//! ```text
//! vault.rs     keys at rest: encrypted under a master key, which is in no database
//! barbican.rs  a Barbican that has the keys
//! manager.rs   whichever of both the configuration names
//! ```
//!
//! With `kind = "local"` the service has the keys itself, sealed, and hosts read them where Barbican has them
//! (`api/key_manager.rs`). With a Barbican it has a key only from the request that asks for a volume until the volume is made: who
//! writes the volume has no token of its owner's.

mod barbican;
mod manager;
mod vault;

use std::fmt;

use zeroize::Zeroizing;

pub use barbican::{Barbican, BarbicanError};
pub use manager::{KeyError, KeyManager};
pub use vault::{Vault, VaultError};

use crate::hex::hex;

/// A volume's key. Wiped when dropped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct VolumeKey(Zeroizing<Vec<u8>>);

impl VolumeKey {
    /// From its bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A new one of so many bits, from the operating system's generator; none where that fails.
    pub fn random(bits: u64) -> Option<Self> {
        let mut key = Self::new(vec![0; usize::try_from(bits / 8).ok()?]);
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut key.0).ok()?;
        Some(key)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its length in bits.
    pub fn bits(&self) -> u64 {
        self.0.len() as u64 * 8
    }

    /// What opens the volume: its bytes in hexadecimal, as the field's services and hosts make it.
    pub fn passphrase(&self) -> Zeroizing<String> {
        Zeroizing::new(hex(&self.0))
    }
}

impl fmt::Debug for VolumeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VolumeKey(…)")
    }
}
