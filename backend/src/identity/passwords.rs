//! Passwords as Argon2id hashes. A hash takes some 20 ms and 19 MiB, so only a few are computed at once: that bounds memory, and how
//! fast anybody can guess. A login as nobody takes as long as one with a wrong password.

use std::sync::{Arc, OnceLock};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use tokio::sync::Semaphore;

use crate::secret::Secret;

/// So many hashes at once.
const AT_ONCE: usize = 2;

/// A longer one is refused before it is hashed, in bytes.
const LONGEST: usize = 4096;

/// A password could not be hashed.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// It is empty or too long.
    #[error("a password has 1 to {LONGEST} bytes")]
    Length,
    /// The hash function refused.
    #[error("cannot hash a password: {0}")]
    Hash(String),
    /// The work was cut off.
    #[error("the service is stopping")]
    Stopping,
}

/// Hashes and compares passwords. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Passwords {
    slots: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { slots: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Passwords {
    /// Hashes a password, with a salt of its own.
    pub async fn hash(&self, password: Secret) -> Result<String, PasswordError> {
        if password.reveal().is_empty() || password.reveal().len() > LONGEST {
            return Err(PasswordError::Length);
        }
        self.blocking(move || hash(&password)).await?
    }

    /// Whether a password is the one that was hashed; without a hash it never is, after the same time.
    pub async fn verify(&self, password: Secret, hash: Option<String>) -> Result<bool, PasswordError> {
        if password.reveal().len() > LONGEST {
            return Ok(false);
        }
        self.blocking(move || verify(&password, hash.as_deref())).await
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, PasswordError> {
        let slot = self.slots.clone().acquire_owned().await.map_err(|_| PasswordError::Stopping)?;
        let done = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            work()
        });
        done.await.map_err(|_| PasswordError::Stopping)
    }
}

fn hash(password: &Secret) -> Result<String, PasswordError> {
    let hashed = Argon2::default().hash_password(password.reveal().as_bytes());
    hashed.map(|hash| hash.to_string()).map_err(|error| PasswordError::Hash(error.to_string()))
}

fn verify(password: &Secret, kept: Option<&str>) -> bool {
    static NOBODY: OnceLock<String> = OnceLock::new();
    let nobody = NOBODY.get_or_init(|| hash(&Secret::random(32)).unwrap_or_default());
    let Ok(parsed) = PasswordHash::new(kept.unwrap_or(nobody)) else { return false };
    let same = Argon2::default().verify_password(password.reveal().as_bytes(), &parsed).is_ok();
    same && kept.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_password_itself_is_the_password_and_nobody_has_none() {
        let passwords = Passwords::default();
        let secret = |text: &str| Secret::new(text.to_owned());
        let hash = passwords.hash(secret("open sesame")).await.unwrap();
        assert!(hash.starts_with("$argon2id$") && !hash.contains("sesame"));
        assert!(passwords.verify(secret("open sesame"), Some(hash.clone())).await.unwrap());
        for wrong in ["open sesam", "open sesame ", "", &"a".repeat(5000)] {
            assert!(!passwords.verify(secret(wrong), Some(hash.clone())).await.unwrap());
            assert!(!passwords.verify(secret(wrong), None).await.unwrap());
        }
        assert_ne!(hash, passwords.hash(secret("open sesame")).await.unwrap(), "salted");
        assert!(matches!(passwords.hash(secret("")).await, Err(PasswordError::Length)));
    }
}
