//! How the volumes of a type are encrypted, and what is recorded of a volume's key.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How a type's volumes are encrypted, in the field's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeEncryption {
    /// Its id.
    pub encryption_id: Uuid,
    /// The container: `luks`.
    pub provider: String,
    /// The cipher: `aes-xts-plain64`.
    pub cipher: String,
    /// The length of the key in bits.
    pub key_size: u64,
    /// Who decrypts: `front-end`, the volume's host.
    pub control_location: String,
}

impl TypeEncryption {
    /// Whether bytes encrypted as this says are encrypted as the other says.
    pub fn is_like(&self, other: &Self) -> bool {
        (&self.provider, &self.cipher, self.key_size) == (&other.provider, &other.cipher, other.key_size)
    }
}

/// Whether volumes of both types have the same bytes, encrypted or not.
pub fn alike(one: Option<&TypeEncryption>, other: Option<&TypeEncryption>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => one.is_like(other),
        _ => false,
    }
}

/// A key that was made, to be recorded with what it opens.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// The key manager's id.
    pub id: Uuid,
    /// The key, encrypted under the master key.
    pub sealed: String,
    /// Whether this service is its key manager; else it is known here only until the volume is made.
    pub is_kept: bool,
    /// Its length.
    pub bits: u64,
}
