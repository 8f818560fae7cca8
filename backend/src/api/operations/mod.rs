//! Long actions over HTTP: which step, how far, why one failed, and for whom one waits. Not in the field's API; its clients never ask.
//!
//! ```text
//! mod.rs    list and show
//! watch.rs  each change as it happens
//! ```

mod watch;

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
use crate::domain::{Operation, Refusal, ServiceRow};
use crate::store::{OperationFilter, now_us};

pub use watch::Watchers;
pub(super) use watch::watch;

/// `GET /v3/operations`
pub(super) async fn list(State(state): State<AppState>, context: Context) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::OPERATION_GET)?;
    let filter =
        OperationFilter { project_id: context.listed_project(false), limit: LARGEST_PAGE, ..OperationFilter::default() };
    let services = state.store.services().await?;
    let operations = state.store.operations(&filter).await?;
    let list: Vec<Value> = operations.iter().map(|operation| view(operation, &services)).collect();
    Ok(Json(json!({ "operations": list })))
}

/// `GET /v3/operations/{id}`
pub(super) async fn show(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let operation = seen(&state, &context, &id).await?;
    Ok(Json(json!({ "operation": view(&operation, &state.store.services().await?) })))
}

/// The operation of this id, where the asker may see it.
async fn seen(state: &AppState, context: &Context, id: &str) -> Result<Operation, ApiError> {
    let absent = || Refusal::OperationNotFound(id.to_owned());
    let operation = state.store.operation(Uuid::parse_str(id).map_err(|_| absent())?).await?;
    allow_for(context, policy::OPERATION_GET, &operation.project_id, absent())?;
    Ok(operation)
}

/// Without its request and its queue: they are between the service's roles.
fn view(operation: &Operation, services: &[ServiceRow]) -> Value {
    let waits_for = operation
        .waits_for(services, now_us())
        .map(|service| json!({ "service": service.name, "host": service.host, "down_since": time(service.heartbeat_at_us) }));
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
        "waits_for": waits_for,
        "attempts": operation.attempts,
        "created_at": time(operation.created_at_us),
        "updated_at": time(operation.updated_at_us),
    })
}
