//! Nothing but discovery is open without the token.

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};

use super::AppState;
use super::errors::ApiError;
use crate::secret::Secret;

/// The token's digest. Comparing digests takes the same time however much of a guess is right.
#[derive(Clone)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// Digests the token.
    pub fn of(token: &Secret) -> Self {
        Self(Sha256::digest(token.reveal().as_bytes()).into())
    }

    fn accepts(&self, headers: &HeaderMap) -> bool {
        headers.get("x-auth-token").is_some_and(|given| {
            let given: [u8; 32] = Sha256::digest(given.as_bytes()).into();
            self.0 == given
        })
    }
}

/// Discovery tells clients where and how to bring a token, so it cannot ask for one.
const OPEN: [&str; 3] = ["/", "/v3", "/v3/"];

/// Lets in who brings the token.
pub(super) async fn require_token(State(state): State<AppState>, request: Request, next: Next) -> Response {
    if OPEN.contains(&request.uri().path()) || state.token.accepts(request.headers()) {
        next.run(request).await
    } else {
        ApiError::Unauthorized.into_response()
    }
}
