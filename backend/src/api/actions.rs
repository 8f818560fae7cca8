//! What can be done with a volume beyond changing its fields: `POST /v3/volumes/{id}/action`, with one key that names it.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde_json::Value;

use super::AppState;
use super::body::{Body, Fields};
use super::errors::ApiError;
use super::microversion::Microversion;
use super::path::Path;
use super::policy::{self, Context};

/// `POST /v3/volumes/{id}/action`
pub(super) async fn volume(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    Path(id): Path<String>,
    Body(mut map): Body,
) -> Result<StatusCode, ApiError> {
    let action = match map.keys().next() {
        Some(action) if map.len() == 1 => action.clone(),
        _ => return Err(ApiError::BadRequest("There is no such action: one key names the action".into())),
    };
    let fields = match map.remove(&action) {
        Some(Value::Object(fields)) => Fields::from(Body(fields)),
        _ => Fields::from(Body(map)),
    };
    match action.as_str() {
        "os-extend" => extend(&state, &context, version, &id, fields).await,
        _ => Err(ApiError::BadRequest(format!("There is no such action: {action}"))),
    }
}

async fn extend(
    state: &AppState,
    context: &Context,
    version: Microversion,
    id: &str,
    mut fields: Fields,
) -> Result<StatusCode, ApiError> {
    let size_gib = fields.size("new_size")?;
    fields.finish(version)?;
    let Some(size_gib) = size_gib else {
        let message = "Invalid input for field/attribute os-extend. 'new_size' is a required property";
        return Err(ApiError::BadRequest(message.into()));
    };
    let volume = policy::volume(state, context, id, policy::VOLUME_EXTEND).await?;
    let attached = version >= Microversion::EXTEND_IN_USE;
    state.accept.extend_volume(volume.id, size_gib, attached, context.asker()).await?;
    Ok(StatusCode::ACCEPTED)
}
