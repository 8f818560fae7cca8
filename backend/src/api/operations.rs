//! Long actions over HTTP: which step, how far, and why one failed. Not in the field's API; its clients never ask.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use uuid::Uuid;

use super::AppState;
use super::errors::ApiError;
use super::path::Path;
use super::policy::{self, Context, allow, allow_for};
use super::query::LARGEST_PAGE;
use super::views::time;
use crate::domain::{Operation, Refusal};
use crate::store::OperationFilter;

/// `GET /v3/operations`
pub(super) async fn list(State(state): State<AppState>, context: Context) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::OPERATION_GET)?;
    let filter =
        OperationFilter { project_id: context.listed_project(false), limit: LARGEST_PAGE, ..OperationFilter::default() };
    let list: Vec<Value> = state.store.operations(&filter).await?.iter().map(view).collect();
    Ok(Json(json!({ "operations": list })))
}

/// `GET /v3/operations/{id}`
pub(super) async fn show(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let absent = || Refusal::OperationNotFound(id.clone());
    let operation = state.store.operation(Uuid::parse_str(&id).map_err(|_| absent())?).await?;
    allow_for(&context, policy::OPERATION_GET, &operation.project_id, absent())?;
    Ok(Json(json!({ "operation": view(&operation) })))
}

/// Without its request and its queue: they are between the service's roles.
fn view(operation: &Operation) -> Value {
    json!({
        "id": operation.id,
        "kind": operation.kind.as_str(),
        "object_type": operation.kind.object_type(),
        "object_id": operation.object_id,
        "project_id": operation.project_id,
        "request_id": operation.request_id,
        "state": operation.state.as_str(),
        "step": operation.step,
        "progress": operation.progress,
        "cause": operation.cause,
        "attempts": operation.attempts,
        "created_at": time(operation.created_at_us),
        "updated_at": time(operation.updated_at_us),
    })
}
