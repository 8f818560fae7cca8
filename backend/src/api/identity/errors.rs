//! What clients get instead of an answer, in the identity service's form.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tracing::error;

use crate::auth::AuthError;
use crate::domain::Refusal;
use crate::identity::{LoginError, PasswordError};
use crate::store::StoreError;

/// A request that is not answered as asked: a code and a sentence.
#[derive(Debug)]
pub(super) struct IdentityError(pub(super) StatusCode, pub(super) String);

impl IdentityError {
    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, text.into())
    }

    pub(super) fn unauthorized() -> Self {
        Self(StatusCode::UNAUTHORIZED, "The request you have made requires authentication.".into())
    }

    pub(super) fn forbidden(action: &str) -> Self {
        Self(StatusCode::FORBIDDEN, format!("You are not authorized to perform the requested action: {action}."))
    }

    pub(super) fn absent(kind: &'static str, id: &str) -> Self {
        Refusal::PersonNotFound { kind, id: id.to_owned() }.into()
    }

    fn internal(cause: &dyn std::error::Error) -> Self {
        error!("{}", crate::volume::chain(cause));
        let text = "An unexpected error prevented the server from fulfilling your request.";
        Self(StatusCode::INTERNAL_SERVER_ERROR, text.into())
    }
}

impl IntoResponse for IdentityError {
    fn into_response(self) -> Response {
        let title = self.0.canonical_reason().unwrap_or_default();
        let body = json!({ "error": { "code": self.0.as_u16(), "message": self.1, "title": title } });
        let mut response = (self.0, Json(body)).into_response();
        if self.0 == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("X-Auth-Token realm=\"bowline-backend\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<Refusal> for IdentityError {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::PersonNotFound { .. } => Self(StatusCode::NOT_FOUND, text),
            Refusal::NameTaken { .. } | Refusal::ProjectNotEmpty { .. } => Self(StatusCode::CONFLICT, text),
            _ => Self::bad(text),
        }
    }
}

impl From<StoreError> for IdentityError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(refusal) => refusal.into(),
            other => Self::internal(&other),
        }
    }
}

impl From<PasswordError> for IdentityError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Length => Self::bad(error.to_string()),
            other => Self::internal(&other),
        }
    }
}

impl From<LoginError> for IdentityError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Refused => Self::unauthorized(),
            LoginError::TooMany { .. } => Self(StatusCode::TOO_MANY_REQUESTS, error.to_string()),
            LoginError::Store(error) => error.into(),
            LoginError::Password(error) => error.into(),
        }
    }
}

impl From<AuthError> for IdentityError {
    fn from(error: AuthError) -> Self {
        Self::internal(&error)
    }
}

/// For paths that are not there.
pub(super) async fn no_such_path() -> IdentityError {
    IdentityError(StatusCode::NOT_FOUND, "The resource could not be found.".into())
}

/// For methods that a path does not have.
pub(super) async fn no_such_method() -> IdentityError {
    IdentityError(StatusCode::METHOD_NOT_ALLOWED, "The method is not allowed for the requested URL.".into())
}
