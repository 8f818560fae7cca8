//! Volume types over HTTP.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::AppState;
use super::errors::ApiError;
use super::path::Path;
use super::policy::{self, Context, allow};
use crate::domain::VolumeType;

/// `GET /v3/types`
pub(super) async fn list(State(state): State<AppState>, context: Context) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::TYPE_GET)?;
    let types = state.store.volume_types(seen_by(&context)).await?;
    let list: Vec<Value> = types.iter().map(view).collect();
    Ok(Json(json!({ "volume_types": list })))
}

/// `GET /v3/types/{id}`, or by its name; `default` is the one a volume gets that asks for none.
pub(super) async fn show(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::TYPE_GET)?;
    let wanted = if id == "default" { &state.identity.type_id } else { &id };
    let found = state.store.volume_type(wanted, seen_by(&context)).await?;
    Ok(Json(json!({ "volume_type": view(&found) })))
}

/// Whose eyes a type must be open to; an administrator sees all.
pub(super) fn seen_by(context: &Context) -> Option<&str> {
    (!context.is_admin()).then_some(context.project_id.as_str())
}

fn view(volume_type: &VolumeType) -> Value {
    json!({
        "id": volume_type.id,
        "name": volume_type.name,
        "description": volume_type.description,
        "is_public": volume_type.is_public,
        "os-volume-type-access:is_public": volume_type.is_public,
        "extra_specs": volume_type.extra_specs,
        "qos_specs_id": volume_type.qos_specs_id,
    })
}
