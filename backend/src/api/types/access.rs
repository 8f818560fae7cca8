//! Who may use a type that is not public, over HTTP.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::managed;
use crate::api::AppState;
use crate::api::actions::named;
use crate::api::body::Body;
use crate::api::errors::ApiError;
use crate::api::path::Path;
use crate::api::policy::{self, Context, allow};
use crate::domain::Refusal;

/// `GET /v3/types/{id}/os-volume-type-access`
pub(in crate::api) async fn list(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::TYPE_ACCESS)?;
    let found = managed(&state, &context, &id).await?;
    if found.is_public {
        let text = format!("Access list not available for public volume types: {}", found.id);
        return Err(Refusal::NotFound(text).into());
    }
    let projects = state.store.type_access(&found.id).await?;
    let list: Vec<Value> =
        projects.iter().map(|project| json!({ "volume_type_id": found.id, "project_id": project })).collect();
    Ok(Json(json!({ "volume_type_access": list })))
}

/// `POST /v3/types/{id}/action`: `addProjectAccess`, `removeProjectAccess`
pub(in crate::api) async fn action(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
    Body(map): Body,
) -> Result<StatusCode, ApiError> {
    allow(&context, policy::TYPE_ACCESS)?;
    let (action, mut fields) = named(map)?;
    if !["addProjectAccess", "removeProjectAccess"].contains(&action.as_str()) {
        return Err(ApiError::BadRequest(format!("There is no such action: {action}")));
    }
    let project = fields.required_text("project")?.replace('-', "");
    let found = managed(&state, &context, &id).await?;
    if action == "removeProjectAccess" {
        state.store.remove_type_access(&found.id, &project).await?;
    } else if found.is_public {
        let text =
            format!("Invalid volume type: Type access modification is not applicable to public volume type {}.", found.id);
        return Err(ApiError::Conflict(text));
    } else {
        state.store.add_type_access(&found.id, &project).await?;
    }
    Ok(StatusCode::ACCEPTED)
}
