//! What a path names, taken out of it. A path that cannot be read leads nowhere, in the field's form.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::errors::{self, ApiError};

/// The variable parts of a path.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        // Nothing has a NUL in its name, and PostgreSQL has no text with it.
        if parts.uri.path().contains("%00") {
            return Err(errors::no_such_path().await);
        }
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(parts)) => Ok(Self(parts)),
            Err(_) => Err(errors::no_such_path().await),
        }
    }
}
