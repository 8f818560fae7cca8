//! The keys of encrypted volumes, where hosts look for them: the part of Barbican's API v1 that reads a secret. Nothing is put here or
//! removed: keys come and go with what they open.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use serde_json::{Value, json};
use uuid::Uuid;

use super::errors::ApiError;
use super::path::Path;
use super::policy::Context;
use super::versions::origin;
use super::views::time;
use super::{AppState, auth, request_id};
use crate::auth::Role;
use crate::keys::VolumeKey;

const BYTES: &str = "application/octet-stream";

/// Every path.
pub(super) fn routes(state: AppState) -> Router<AppState> {
    Router::new()
        .route("/key-manager", get(versions))
        .route("/key-manager/", get(versions))
        .route("/key-manager/v1/secrets/{id}", get(show))
        .route("/key-manager/v1/secrets/{id}/payload", get(payload))
        .layer(middleware::from_fn_with_state(state.clone(), auth::require_token))
        .layer(middleware::from_fn_with_state(state, request_id::attach))
}

/// `GET /key-manager`
async fn versions(headers: HeaderMap) -> Json<Value> {
    let links = json!([{ "rel": "self", "href": format!("{}/key-manager/v1/", origin(&headers)) }]);
    Json(json!({ "versions": [{ "id": "v1", "status": "CURRENT", "links": links }] }))
}

/// `GET /key-manager/v1/secrets/{id}`: what describes the key, or the key itself for older clients that ask for bytes.
async fn show(
    State(state): State<AppState>,
    context: Context,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, KeyFault> {
    let (key, created_at_us) = read(&state, &context, &id).await?;
    if accepts(&headers).starts_with(BYTES) {
        return Ok(bytes(&key));
    }
    let created = time(created_at_us);
    Ok(Json(json!({
        "name": "key of an encrypted volume",
        "status": "ACTIVE",
        "secret_type": "symmetric",
        "algorithm": "aes",
        "bit_length": key.bits(),
        "mode": "xts",
        "created": created,
        "updated": created,
        "expiration": null,
        "creator_id": null,
        "content_types": { "default": BYTES },
        "secret_ref": format!("{}/key-manager/v1/secrets/{id}", origin(&headers)),
    }))
    .into_response())
}

/// `GET /key-manager/v1/secrets/{id}/payload`
async fn payload(
    State(state): State<AppState>,
    context: Context,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, KeyFault> {
    let accepts = accepts(&headers);
    if !accepts.is_empty() && !accepts.contains(BYTES) && !accepts.contains("*/*") {
        return Err(KeyFault(StatusCode::NOT_ACCEPTABLE, format!("A key can be had as {BYTES} only.")));
    }
    Ok(bytes(&read(&state, &context, &id).await?.0))
}

/// A key that the asker may read: the volume's own project's members, services of the cloud, and administrators.
async fn read(state: &AppState, context: &Context, id: &str) -> Result<(VolumeKey, i64), KeyFault> {
    let absent = || KeyFault(StatusCode::NOT_FOUND, "Secret not found.".into());
    let id = Uuid::parse_str(id).map_err(|_| absent())?;
    let (project_id, created_at_us) = state.store.owner_of_key(id).await.map_err(ApiError::from)?.ok_or_else(absent)?;
    // A service by its own token: one that passes a user's request on has the user's rights here.
    if !context.is_admin() && !context.roles.include(Role::Service) {
        if project_id != context.project_id {
            return Err(absent());
        }
        if !context.roles.include(Role::Member) {
            return Err(ApiError::Forbidden("secret:decrypt").into());
        }
    }
    Ok((state.keys.read(&context.token, id).await.map_err(ApiError::from)?, created_at_us))
}

fn accepts(headers: &HeaderMap) -> &str {
    headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn bytes(key: &VolumeKey) -> Response {
    ([(header::CONTENT_TYPE, BYTES), (header::CACHE_CONTROL, "no-store")], key.bytes().to_vec()).into_response()
}

/// What clients get instead, in Barbican's form.
struct KeyFault(StatusCode, String);

impl From<ApiError> for KeyFault {
    fn from(error: ApiError) -> Self {
        Self(error.status(), error.to_string())
    }
}

impl IntoResponse for KeyFault {
    fn into_response(self) -> Response {
        let Self(status, description) = self;
        let title = status.canonical_reason().unwrap_or_default();
        (status, Json(json!({ "code": status.as_u16(), "title": title, "description": description }))).into_response()
    }
}
