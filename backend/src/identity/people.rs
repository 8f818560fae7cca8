//! Logging in: a user proves who it is, asks for a scope, and is given a token for it, which is kept as its digest alone.

use std::net::IpAddr;
use std::sync::Arc;

use crate::auth::TokenDigest;
use crate::domain::{DEFAULT_DOMAIN, IssuedToken, User};
use crate::secret::Secret;
use crate::store::{Store, StoreError, now_us};

use super::attempts::Attempts;
use super::passwords::{PasswordError, Passwords};
use super::roles;

/// Letters and digits in a token: over 256 bits.
const TOKEN_LENGTH: usize = 43;

/// How long a token is valid, microseconds: a working day and more.
const TOKEN_LIFE_US: i64 = 12 * 3600 * 1_000_000;

/// What a token is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Nothing but asking for others.
    Unscoped,
    /// A project, by its id.
    Project(String),
    /// The domain.
    Domain,
    /// The installation.
    System,
}

impl Scope {
    /// As assignments and tokens have it.
    pub fn key(&self) -> String {
        match self {
            Self::Unscoped => "unscoped".into(),
            Self::Project(id) => id.clone(),
            Self::Domain => format!("domain:{DEFAULT_DOMAIN}"),
            Self::System => "system".into(),
        }
    }
}

/// No token is given.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Not that user, not that password, or not there: nobody is told which.
    #[error("The request you have made requires authentication.")]
    Refused,
    /// Too many passwords were wrong.
    #[error("Too many failed logins. Try again in {wait_s} s.")]
    TooMany {
        /// How long to wait.
        wait_s: u64,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A password could not be compared.
    #[error(transparent)]
    Password(#[from] PasswordError),
}

/// The service's own users. Cheap to clone.
#[derive(Clone, Debug)]
pub struct People {
    store: Store,
    /// Hashes and compares passwords.
    pub passwords: Passwords,
    attempts: Arc<Attempts>,
}

impl People {
    /// Over this database.
    pub fn new(store: Store) -> Self {
        Self { store, passwords: Passwords::default(), attempts: Arc::default() }
    }

    /// The user of this id or this name, where the password is its own; `from` is where the request came from.
    pub async fn log_in(
        &self,
        from: IpAddr,
        id: Option<&str>,
        name: Option<&str>,
        password: Secret,
    ) -> Result<User, LoginError> {
        let who = id.or(name).unwrap_or_default();
        if let Some(wait) = self.attempts.wait(from, who) {
            return Err(LoginError::TooMany { wait_s: wait.as_secs() + 1 });
        }
        let logged_in = self.prove(id, name, password).await;
        match &logged_in {
            Ok(_) => self.attempts.succeeded(from, who),
            Err(LoginError::Refused) => self.attempts.failed(from, who),
            Err(_) => {}
        }
        logged_in
    }

    async fn prove(&self, id: Option<&str>, name: Option<&str>, password: Secret) -> Result<User, LoginError> {
        let found = match (id, name) {
            (Some(id), _) => self.store.user(id).await.ok(),
            (None, Some(name)) => self.store.users(Some(name)).await?.into_iter().next(),
            (None, None) => None,
        };
        let user = found.filter(|user| user.enabled);
        let hash = user.as_ref().and_then(|user| user.password_hash.clone());
        let same = self.passwords.verify(password, hash).await?;
        user.filter(|_| same).ok_or(LoginError::Refused)
    }

    /// A token for a user and a scope in which it has a role.
    pub async fn issue(&self, user: &User, scope: &Scope) -> Result<(Secret, IssuedToken), LoginError> {
        self.issue_until(user, scope, now_us().saturating_add(TOKEN_LIFE_US)).await
    }

    /// The same, valid until a time: a token got by another must not outlive it.
    pub async fn issue_until(&self, user: &User, scope: &Scope, until_us: i64) -> Result<(Secret, IssuedToken), LoginError> {
        let key = scope.key();
        let roles = match scope {
            Scope::Unscoped => Vec::new(),
            _ => {
                let given = self.store.assignments(Some(&user.id), Some(&key)).await?;
                let roles = roles::with_implied(given.iter().map(|one| one.role.as_str()));
                if roles.is_empty() {
                    return Err(LoginError::Refused);
                }
                roles
            }
        };
        let project_id = match scope {
            Scope::Project(id) => {
                let project = self.store.project(id).await.map_err(|_| LoginError::Refused)?;
                if !project.enabled {
                    return Err(LoginError::Refused);
                }
                Some(project.id)
            }
            _ => None,
        };
        let token = IssuedToken {
            user_id: user.id.clone(),
            scope: key,
            project_id,
            roles: roles.into_iter().map(str::to_owned).collect(),
            issued_at_us: now_us(),
            expires_at_us: Some(until_us),
        };
        let secret = Secret::random(TOKEN_LENGTH);
        self.store.keep_token(&TokenDigest::of(secret.reveal().as_bytes()).hex(), &token).await?;
        Ok((secret, token))
    }
}
