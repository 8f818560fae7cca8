//! What can be done with a volume beyond changing its fields: `POST /v3/volumes/{id}/action`, with one key that names it.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde_json::Value;

use super::AppState;
use super::body::{Body, Fields};
use super::errors::ApiError;
use super::microversion::Microversion;
use super::path::Path;
use super::query::volume_id;

/// `POST /v3/volumes/{id}/action`
pub(super) async fn volume(
    State(state): State<AppState>,
    Extension(version): Extension<Microversion>,
    Path(id): Path<String>,
    Body(mut map): Body,
) -> Result<StatusCode, ApiError> {
    let id = volume_id(&id)?;
    let action = match map.keys().next() {
        Some(action) if map.len() == 1 => action.clone(),
        _ => return Err(ApiError::BadRequest("There is no such action: one key names the action".into())),
    };
    match (action.as_str(), map.remove(&action)) {
        ("os-extend", Some(Value::Object(fields))) => {
            let mut fields = Fields::from(Body(fields));
            let size_gib = fields.size("new_size")?;
            fields.finish(version)?;
            let Some(size_gib) = size_gib else {
                let message = "Invalid input for field/attribute os-extend. 'new_size' is a required property";
                return Err(ApiError::BadRequest(message.into()));
            };
            state.manager.extend_volume(id, size_gib, version >= Microversion::EXTEND_IN_USE).await?;
            Ok(StatusCode::ACCEPTED)
        }
        _ => Err(ApiError::BadRequest(format!("There is no such action: {action}"))),
    }
}
