//! Where keys are made, copied and removed, whoever has them.

use tracing::warn;
use uuid::Uuid;

use super::{Barbican, BarbicanError, Vault, VaultError, VolumeKey};
use crate::domain::NewKey;
use crate::secret::Secret;
use crate::store::{Store, StoreError};
use crate::volume::chain;

/// A key could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The Barbican that has it.
    #[error(transparent)]
    Barbican(#[from] BarbicanError),
    /// It is here, and does not open.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody has it.
    #[error("key {0} is not there")]
    Missing(Uuid),
    /// The operating system gave no random bytes.
    #[error("cannot make a key: there are no random bytes")]
    Random,
}

/// Makes keys, copies and removes them.
pub struct KeyManager {
    store: Store,
    vault: Vault,
    barbican: Option<Barbican>,
}

impl KeyManager {
    /// Keys are in the database, sealed, or in a Barbican.
    pub fn new(store: Store, vault: Vault, barbican: Option<Barbican>) -> Self {
        Self { store, vault, barbican }
    }

    /// Whether hosts read keys here.
    pub fn is_local(&self) -> bool {
        self.barbican.is_none()
    }

    /// A new key of so many bits for whoever this token speaks for, to be recorded with its volume.
    pub async fn create(&self, token: &Secret, bits: u64) -> Result<NewKey, KeyError> {
        self.keep(token, &VolumeKey::random(bits).ok_or(KeyError::Random)?).await
    }

    /// The same key under an id of its own, for a copy of what it opens: either can be removed without the other.
    pub async fn copy(&self, token: &Secret, id: Uuid) -> Result<NewKey, KeyError> {
        let key = self.read(token, id).await?;
        self.keep(token, &key).await
    }

    /// A key, which the owner of this token may read.
    pub async fn read(&self, token: &Secret, id: Uuid) -> Result<VolumeKey, KeyError> {
        match &self.barbican {
            Some(barbican) => Ok(barbican.fetch(token, id).await?),
            None => {
                let sealed = self.store.sealed_key(id).await?.ok_or(KeyError::Missing(id))?;
                Ok(self.vault.open(id, &sealed)?)
            }
        }
    }

    /// A key that a Barbican has, for work that its owner asks for; none where it is here anyway.
    pub async fn lend(&self, token: &Secret, id: Uuid) -> Result<Option<NewKey>, KeyError> {
        if self.is_local() {
            return Ok(None);
        }
        let key = self.read(token, id).await?;
        Ok(Some(NewKey { id, sealed: self.vault.seal(id, &key)?, is_kept: false, bits: key.bits() }))
    }

    /// Removes a key from a Barbican: what it opened is gone, or was never made. One that is here goes with what it opens.
    pub async fn discard(&self, token: &Secret, id: Uuid) {
        if let Some(barbican) = &self.barbican
            && let Err(error) = barbican.remove(token, id).await
        {
            warn!(key = %id, "a key that nothing needs any more stays: {}", chain(&error));
        }
    }

    async fn keep(&self, token: &Secret, key: &VolumeKey) -> Result<NewKey, KeyError> {
        let id = match &self.barbican {
            Some(barbican) => barbican.store(token, key).await?,
            None => Uuid::new_v4(),
        };
        Ok(NewKey { id, sealed: self.vault.seal(id, key)?, is_kept: self.is_local(), bits: key.bits() })
    }
}
