//! What clients get instead of an answer: a sentence, in JSON for those that ask for JSON and in HTML for the others, which is how
//! the field's clients tell a sentence from a page.

use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tracing::error;

use crate::api::errors::ApiError;
use crate::domain::Refusal;
use crate::image::{ImageFilesError, Unfit, WriteError};
use crate::store::StoreError;

/// A request that is not answered as asked: a code and a sentence.
#[derive(Debug)]
pub(super) struct ImageError(pub(super) StatusCode, pub(super) String);

impl ImageError {
    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, text.into())
    }

    pub(super) fn forbidden(text: impl Into<String>) -> Self {
        Self(StatusCode::FORBIDDEN, text.into())
    }

    pub(super) fn conflict(text: impl Into<String>) -> Self {
        Self(StatusCode::CONFLICT, text.into())
    }

    pub(super) fn absent(id: &str) -> Self {
        Self(StatusCode::NOT_FOUND, format!("No image found with ID {id}"))
    }

    pub(super) fn internal(cause: &dyn std::error::Error) -> Self {
        error!("{}", crate::volume::chain(cause));
        let text = "The server has either erred or is incapable of performing the requested operation.";
        Self(StatusCode::INTERNAL_SERVER_ERROR, text.into())
    }
}

/// The sentence, carried to where the client's taste is known.
#[derive(Clone)]
struct Sentence(String);

impl IntoResponse for ImageError {
    fn into_response(self) -> Response {
        let mut response = self.0.into_response();
        response.extensions_mut().insert(Sentence(self.1));
        response
    }
}

/// Writes errors as the client likes them.
pub(super) async fn in_the_clients_form(request: Request, next: Next) -> Response {
    let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let likes_json = accepts.contains("application/json");
    let response = next.run(request).await;
    let Some(Sentence(text)) = response.extensions().get::<Sentence>().cloned() else { return response };
    let status = response.status();
    let reason = status.canonical_reason().unwrap_or_default();
    let mut said = if likes_json {
        Json(json!({ "code": format!("{} {reason}", status.as_u16()), "title": reason, "message": text })).into_response()
    } else {
        let code = status.as_u16();
        let text = escaped(&text);
        let page = format!(
            "<html>\n <head>\n  <title>{code} {reason}</title>\n </head>\n <body>\n  <h1>{code} {reason}</h1>\n  {text}<br /><br />\n\n\n </body>\n</html>"
        );
        let mut page = Response::new(Body::from(page));
        page.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=UTF-8"));
        page
    };
    *said.status_mut() = status;
    for (name, value) in response.headers() {
        if name != header::CONTENT_LENGTH && name != header::CONTENT_TYPE {
            said.headers_mut().insert(name, value.clone());
        }
    }
    said
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

impl From<StoreError> for ImageError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(refusal) => refusal.into(),
            other => Self::internal(&other),
        }
    }
}

impl From<Refusal> for ImageError {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::ImageNotFound(id) => Self::absent(&id),
            Refusal::ImageExists(_) | Refusal::ImageState { .. } => Self::conflict(text),
            Refusal::ImageProtected(_) => Self::forbidden(text),
            _ => Self::bad(text),
        }
    }
}

/// Of what the API's parts that are shared refuse.
impl From<ApiError> for ImageError {
    fn from(error: ApiError) -> Self {
        let text = error.to_string();
        Self(error.status(), text)
    }
}

impl From<ImageFilesError> for ImageError {
    fn from(error: ImageFilesError) -> Self {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        if matches!(error.source.kind(), StorageFull | QuotaExceeded | FileTooLarge) {
            error!("{}", crate::volume::chain(&error));
            return Self(StatusCode::PAYLOAD_TOO_LARGE, "Image storage media is full: there is no room for the data".into());
        }
        Self::internal(&error)
    }
}

impl From<WriteError> for ImageError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Unfit(unfit @ (Unfit::TooLarge { .. } | Unfit::DiskTooLarge { .. })) => {
                Self(StatusCode::PAYLOAD_TOO_LARGE, format!("The image was refused: {unfit}."))
            }
            WriteError::Unfit(unfit) => Self(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("The image was refused: {unfit}.")),
            WriteError::Files(error) => error.into(),
            WriteError::CutOff => Self::bad("The data was cut off before its end."),
        }
    }
}
