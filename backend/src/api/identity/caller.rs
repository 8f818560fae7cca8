//! Who asks: by a token of any scope.

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;

use super::errors::IdentityError;
use crate::api::AppState;
use crate::auth::{Role, TokenDigest};
use crate::domain::IssuedToken;
use crate::identity::People;
use crate::identity::roles;
use crate::store::now_us;

/// How long the operator's token is said to be valid, microseconds: it does not expire.
const OPERATOR_LIFE_US: i64 = 86_400_000_000;

/// The one who asks.
pub(super) struct Caller {
    pub(super) token: IssuedToken,
}

impl Caller {
    /// Whether it looks after users and projects.
    pub(super) fn is_admin(&self) -> bool {
        self.token.roles.iter().any(|role| role == "admin")
    }

    /// Goes on for administrators alone.
    pub(super) fn admin(&self, action: &str) -> Result<(), IdentityError> {
        if self.is_admin() { Ok(()) } else { Err(IdentityError::forbidden(action)) }
    }

    /// Goes on for administrators and for the user itself.
    pub(super) fn admin_or(&self, user_id: &str, action: &str) -> Result<(), IdentityError> {
        if self.token.user_id == user_id { Ok(()) } else { self.admin(action) }
    }
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = IdentityError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, IdentityError> {
        let token = header(&parts.headers, "x-auth-token").ok_or_else(IdentityError::unauthorized)?;
        let token = by_token(state, token).await?.ok_or_else(IdentityError::unauthorized)?;
        Ok(Self { token })
    }
}

/// A header's bytes, where there are any.
pub(super) fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    headers.get(name).map(|value| value.as_bytes()).filter(|value| !value.is_empty())
}

/// What a token says: one that was issued, or the operator's own.
pub(super) async fn by_token(state: &AppState, token: &[u8]) -> Result<Option<IssuedToken>, IdentityError> {
    if let Some(issued) = state.store.issued_token(&TokenDigest::of(token).hex()).await? {
        return Ok(Some(issued));
    }
    // Not kept in the database: what is valid here and was not issued is the operator's.
    let Some(identity) = state.tokens.validate(token).await? else { return Ok(None) };
    if identity.project_id != state.identity.project_id || !identity.roles.include(Role::Admin) {
        return Ok(None);
    }
    let given = if identity.roles.include(Role::Service) { &["admin", "service"][..] } else { &["admin"] };
    Ok(Some(IssuedToken {
        user_id: identity.user_id,
        scope: identity.project_id.clone(),
        project_id: Some(identity.project_id),
        roles: roles::with_implied(given.iter().copied()).into_iter().map(str::to_owned).collect(),
        issued_at_us: now_us(),
        expires_at_us: Some(now_us().saturating_add(OPERATOR_LIFE_US)),
    }))
}

/// The users; these paths are there only where there are any.
pub(super) fn people(state: &AppState) -> Result<&People, IdentityError> {
    state.people.as_ref().ok_or_else(IdentityError::unauthorized)
}
