//! The type that a project's volumes get which ask for none, over HTTP (3.62).

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::api::AppState;
use crate::api::body::Body;
use crate::api::errors::{self, ApiError};
use crate::api::microversion::Microversion;
use crate::api::path::Path;
use crate::api::policy::{self, Context, allow};
use crate::domain::Refusal;

/// `GET /v3/default-types`
pub(in crate::api) async fn list(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
) -> Result<Json<Value>, ApiError> {
    since(&context, version).await?;
    let list: Vec<Value> = state.store.default_types().await?.iter().map(|(project, id)| view(project, id)).collect();
    Ok(Json(json!({ "default_types": list })))
}

/// `GET /v3/default-types/{project}`
pub(in crate::api) async fn show(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    Path(project): Path<String>,
) -> Result<Json<Value>, ApiError> {
    since(&context, version).await?;
    let project = project.replace('-', "");
    match state.store.default_type_of(&project).await? {
        Some(id) => Ok(Json(json!({ "default_type": view(&project, &id) }))),
        None => Err(Refusal::NotFound(format!("Default type for project {project} not found.")).into()),
    }
}

/// `PUT /v3/default-types/{project}`
pub(in crate::api) async fn set(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    Path(project): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    since(&context, version).await?;
    let mut fields = body.object("default_type", version)?;
    let wanted = fields.required_text("volume_type")?;
    fields.finish(version)?;
    let project = project.replace('-', "");
    // It must be one that the project may use.
    let found = state.store.volume_type(&wanted, Some(&project)).await?;
    state.store.set_default_type(&project, Some(&found.id)).await?;
    Ok(Json(json!({ "default_type": view(&project, &found.id) })))
}

/// `DELETE /v3/default-types/{project}`
pub(in crate::api) async fn unset(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    Path(project): Path<String>,
) -> Result<StatusCode, ApiError> {
    since(&context, version).await?;
    state.store.set_default_type(&project.replace('-', ""), None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// For older clients the path is not there.
async fn since(context: &Context, version: Microversion) -> Result<(), ApiError> {
    if version < Microversion::DEFAULT_TYPES {
        return Err(errors::no_such_path().await);
    }
    allow(context, policy::DEFAULT_TYPE)
}

fn view(project: &str, type_id: &str) -> Value {
    json!({ "project_id": project, "volume_type_id": type_id })
}
