//! What clients get instead of an answer. Codes, forms and texts are Cinder's, for its clients look for them.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tracing::{error, warn};

use super::microversion::Microversion;
use crate::accept::AcceptError;
use crate::auth::AuthError;
use crate::domain::Refusal;
use crate::image::GlanceError;
use crate::store::StoreError;

/// A request that is not answered as asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// No token, or not the token.
    #[error("The request you have made requires authentication.")]
    Unauthorized,
    /// The asker's roles do not allow it.
    #[error("Policy doesn't allow {0} to be performed.")]
    Forbidden(&'static str),
    /// There is such a thing already.
    #[error("{0}")]
    Conflict(String),
    /// The owner's quota is used up.
    #[error("{0}")]
    OverQuota(String),
    /// Something in the request is wrong.
    #[error("{0}")]
    BadRequest(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The path is there, the method is not.
    #[error("The method specified is not allowed for this resource.")]
    MethodNotAllowed,
    /// The body is larger than anything this API takes.
    #[error("Request is too large.")]
    TooLarge,
    /// The body does not come.
    #[error("The request's body did not come in time.")]
    TooSlow,
    /// The asked version is not spoken.
    #[error("Version {0} is not supported by the API. Minimum is 3.0 and maximum is {max}.", max = Microversion::MAX)]
    VersionNotThere(String),
    /// The asked version is no version.
    #[error("API Version String {0} is of invalid format. Must be of format MajorNum.MinorNum.")]
    VersionUnreadable(String),
    /// There are as many watchers as there may be.
    #[error("Too many operations are being watched; try again in a moment.")]
    TooManyWatchers,
    /// The first request with this key is not answered yet.
    #[error("A request with this Idempotency-Key is still under way; try again in a moment.")]
    KeyInHand,
    /// The key was used before, for something else.
    #[error("This Idempotency-Key was used for another request: another path or another body. Use a new one.")]
    KeyOfAnother,
    /// The service is going away just now.
    #[error("The service is stopping; try again in a moment.")]
    Stopping,
    /// Nobody can say whom a token speaks for.
    #[error("The identity service cannot be asked just now; try again in a moment.")]
    IdentityUnavailable,
    /// The images' service does not do what it should.
    #[error("The image service cannot be asked just now; try again in a moment.")]
    ImagesUnavailable,
    /// The keys' service does not do what it should.
    #[error("The key manager cannot be asked just now; try again in a moment.")]
    KeysUnavailable,
    /// Something failed that is not the client's fault; the log says what.
    #[error("The server has either erred or is incapable of performing the requested operation.")]
    Internal,
}

impl ApiError {
    /// The code alone.
    pub(super) fn status(&self) -> StatusCode {
        self.status_and_name().0
    }

    fn status_and_name(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "error"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden"),
            Self::KeyOfAnother => (StatusCode::UNPROCESSABLE_ENTITY, "unprocessableEntity"),
            Self::KeyInHand | Self::Conflict(_) => (StatusCode::CONFLICT, "conflictingRequest"),
            Self::OverQuota(_) => (StatusCode::PAYLOAD_TOO_LARGE, "overLimit"),
            Self::BadRequest(_) | Self::VersionUnreadable(_) => (StatusCode::BAD_REQUEST, "badRequest"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "itemNotFound"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "badMethod"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "overLimit"),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "requestTimeout"),
            Self::VersionNotThere(_) => (StatusCode::NOT_ACCEPTABLE, "computeFault"),
            Self::Stopping
            | Self::IdentityUnavailable
            | Self::ImagesUnavailable
            | Self::KeysUnavailable
            | Self::TooManyWatchers => (StatusCode::SERVICE_UNAVAILABLE, "serviceUnavailable"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "computeFault"),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, name) = self.status_and_name();
        let code = status.as_u16();
        if let Self::Unauthorized = self {
            // This one has the form of the middleware that guards the field's services.
            let body = json!({ "error": { "code": code, "title": "Unauthorized", "message": self.to_string() } });
            let mut response = (status, Json(body)).into_response();
            let challenge = HeaderValue::from_static("X-Auth-Token realm=\"bowline-backend\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            return response;
        }
        let mut fault = json!({ "code": code, "message": self.to_string() });
        if let (Self::OverQuota(_), Some(fault)) = (&self, fault.as_object_mut()) {
            fault.insert("retryAfter".into(), json!("0"));
        }
        let mut response = (status, Json(json!({ name: fault }))).into_response();
        if let Self::TooLarge | Self::TooSlow = self {
            // The rest of the body is not read, so nothing more can come on this connection: the client must know.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Self::KeyInHand | Self::Stopping | Self::TooManyWatchers = self {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::VolumeNotFound(_)
            | Refusal::AttachmentNotFound(_)
            | Refusal::VolumeTypeNotFound(_)
            | Refusal::SnapshotNotFound(_)
            | Refusal::BackupNotFound(_)
            | Refusal::MessageNotFound(_)
            | Refusal::OperationNotFound(_)
            | Refusal::ServiceNotFound(_)
            | Refusal::NotFound(_)
            | Refusal::ImageNotFound(_)
            | Refusal::PersonNotFound { .. }
            | Refusal::MetadataKeyNotFound => Self::NotFound(text),
            Refusal::VolumeTypeExists(_)
            | Refusal::Conflict(_)
            | Refusal::ImageExists(_)
            | Refusal::ImageState { .. }
            | Refusal::NameTaken { .. }
            | Refusal::ProjectNotEmpty { .. } => Self::Conflict(text),
            Refusal::OverQuota { .. } => Self::OverQuota(text),
            Refusal::NotReservable { .. }
            | Refusal::NotDeletable
            | Refusal::NotExtendable { .. }
            | Refusal::NotLarger { .. }
            | Refusal::NotSnapshotable { .. }
            | Refusal::SnapshotNotDeletable
            | Refusal::SourceNotReady { .. }
            | Refusal::SmallerThanSource { .. }
            | Refusal::ConnectorLacks(_)
            | Refusal::AttachedElsewhere(_)
            | Refusal::AttachmentGoing(_)
            | Refusal::NothingToComplete(_)
            | Refusal::ImageProtected(_)
            | Refusal::Invalid(_) => Self::BadRequest(text),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(refusal) => refusal.into(),
            other => internal(&other),
        }
    }
}

impl From<AcceptError> for ApiError {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Store(error) => error.into(),
            AcceptError::Stopping => Self::Stopping,
            other => internal(&other),
        }
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        let unavailable = matches!(error, AuthError::IdentityService { .. });
        let internal = internal(&error);
        if unavailable { Self::IdentityUnavailable } else { internal }
    }
}

/// What Glance refuses is refused in its words.
impl From<GlanceError> for ApiError {
    fn from(error: GlanceError) -> Self {
        warn!("{}", crate::volume::chain(&error));
        match error {
            GlanceError::Refused { status: 401, .. } => Self::Unauthorized,
            GlanceError::Refused { status: 403, .. } => Self::Forbidden("volume_extension:volume_actions:upload_image"),
            GlanceError::Refused { status: 413, said, .. } => Self::OverQuota(said),
            GlanceError::Refused { status: 409, said, .. } => Self::Conflict(said),
            GlanceError::Refused { status: 400..500, said, .. } => Self::BadRequest(format!("Invalid image: {said}")),
            _ => Self::ImagesUnavailable,
        }
    }
}

pub(super) fn internal(cause: &dyn std::error::Error) -> ApiError {
    error!("{}", crate::volume::chain(cause));
    ApiError::Internal
}

/// For paths that are not there.
pub(super) async fn no_such_path() -> ApiError {
    ApiError::NotFound("The resource could not be found.".into())
}

/// For methods that a path does not have.
pub(super) async fn no_such_method() -> ApiError {
    ApiError::MethodNotAllowed
}
