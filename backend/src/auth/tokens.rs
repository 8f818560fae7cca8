//! From a token to whom it speaks for. Local tokens are looked up by their digest, and the answer is kept for a moment, for a
//! client that lists volumes does not change its token between two pages.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use sha2::{Digest as _, Sha256};

use super::Roles;
use crate::config::ConfigError;
use crate::hex::hex;
use crate::secret::Secret;
use crate::store::{Store, StoreError};

/// How long an answer is kept: a revoked token works no longer than that.
const KEPT: Duration = Duration::from_secs(5);

/// So many answers are kept; more tokens than that are looked up each time.
const MOST_KEPT: usize = 1024;

/// Whom a token speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user_id: String,
    /// The project.
    pub project_id: String,
    /// What the user is there.
    pub roles: Roles,
}

/// A token could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The password that this service would ask it with.
    #[error(transparent)]
    Password(#[from] ConfigError),
    /// The identity service.
    #[error("the identity service: cannot {operation}")]
    IdentityService {
        /// What was tried.
        operation: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Tells whom tokens speak for. Local tokens are one kind; an identity service is another.
pub trait Validator: Send + Sync {
    /// Whom a token speaks for; none for one that is not valid.
    fn validate<'a>(&'a self, token: &'a [u8]) -> BoxFuture<'a, Result<Option<Identity>, AuthError>>;

    /// Forgets what is kept of answers before: a token was revoked, or a user changed.
    fn forget(&self) {}
}

/// A token's digest. Comparing digests takes the same time however much of a guess is right.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// Digests a token.
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// As the database has it.
    pub fn hex(self) -> String {
        hex(&self.0)
    }
}

/// The tokens of the service's own users, and the one that its operator finds in the state directory.
pub struct LocalTokens {
    store: Store,
    operator: (TokenDigest, Identity),
    kept: Mutex<HashMap<TokenDigest, (Instant, Option<Identity>)>>,
}

impl LocalTokens {
    /// Over this database; `token` speaks for the administrator of the default project.
    pub fn new(store: Store, token: &Secret, user_id: &str, project_id: &str) -> Self {
        let roles = Roles::of(["admin", "service"]);
        let identity = Identity { user_id: user_id.into(), project_id: project_id.into(), roles };
        let operator = (TokenDigest::of(token.reveal().as_bytes()), identity);
        Self { store, operator, kept: Mutex::default() }
    }

    fn kept(&self, digest: TokenDigest) -> Option<Option<Identity>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&digest).filter(|(since, _)| since.elapsed() < KEPT).map(|(_, identity)| identity.clone())
    }

    fn keep(&self, digest: TokenDigest, identity: Option<Identity>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST_KEPT {
            kept.retain(|_, (since, _)| since.elapsed() < KEPT);
        }
        if kept.len() < MOST_KEPT {
            kept.insert(digest, (Instant::now(), identity));
        }
    }
}

impl Validator for LocalTokens {
    fn forget(&self) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn validate<'a>(&'a self, token: &'a [u8]) -> BoxFuture<'a, Result<Option<Identity>, AuthError>> {
        Box::pin(async move {
            let digest = TokenDigest::of(token);
            if digest == self.operator.0 {
                return Ok(Some(self.operator.1.clone()));
            }
            if let Some(identity) = self.kept(digest) {
                return Ok(identity);
            }
            let owner = self.store.token_owner(&digest.hex()).await?;
            let identity = owner.and_then(|owner| {
                let roles = Roles::of(owner.roles.split(','));
                Some(Identity { user_id: owner.user_id, project_id: owner.project_id?, roles })
            });
            self.keep(digest, identity.clone());
            Ok(identity)
        })
    }
}
