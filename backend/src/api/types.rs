//! Volume types over HTTP. There is one: what the one storage driver makes.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::AppState;
use super::errors::ApiError;
use super::path::Path;
use crate::domain::Refusal;

/// `GET /v3/types`
pub(super) async fn list(State(state): State<AppState>) -> Json<Value> {
    Json(json!({ "volume_types": [view(&state)] }))
}

/// `GET /v3/types/{id}`, or by its name; `default` is the one a volume gets that asks for none.
pub(super) async fn show(State(state): State<AppState>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    if id == state.identity.type_id || id == state.volume_type || id == "default" {
        return Ok(Json(json!({ "volume_type": view(&state) })));
    }
    Err(Refusal::VolumeTypeNotFound(id).into())
}

fn view(state: &AppState) -> Value {
    json!({
        "id": state.identity.type_id,
        "name": state.volume_type,
        "description": "Sparse files over iSCSI",
        "is_public": true,
        "os-volume-type-access:is_public": true,
        "extra_specs": {},
        "qos_specs_id": null,
    })
}
