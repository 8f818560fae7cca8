//! Text that must not be shown: it is never in a log, an error or a `Debug` form, and is wiped when dropped.

use std::fmt;

use rand::RngExt as _;
use rand::distr::Alphanumeric;
use zeroize::Zeroize as _;

/// A password or token. Read it only where it is used.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes hold of a secret.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// `length` random letters and digits from the operating system's generator.
    pub fn random(length: usize) -> Self {
        Self(random_alphanumeric(length))
    }

    /// The secret itself, to hand to whoever needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// `length` letters and digits from a generator that the operating system seeds and reseeds.
pub fn random_alphanumeric(length: usize) -> String {
    let mut rng = rand::rng();
    (0..length).map(|_| char::from(rng.sample(Alphanumeric))).collect()
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_itself() {
        let secret = Secret::random(16);
        assert_eq!(secret.reveal().len(), 16);
        assert!(!format!("{secret:?}").contains(secret.reveal()));
        assert_ne!(secret, Secret::random(16));
    }
}
