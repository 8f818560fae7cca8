//! Long actions over HTTP: which step, how far, why one failed, and for whom one waits. Not in the field's API; its clients never ask.
//!
//! ```text
//! mod.rs      list and show
//! watch.rs    one: each change as it happens, to its end
//! feed.rs     all: each change of any as it happens
//! watchers.rs room for those who watch
//! ```

mod feed;
mod watch;
mod watchers;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::AppState;
use super::errors::ApiError;
use super::paging::Asked;
use super::path::Path;
use super::policy::{self, Context, allow, allow_for};
use super::query::Pairs;
use super::views::time;
use crate::domain::{Operation, Refusal, ServiceRow};
use crate::hex::hex;
use crate::store::now_us;

pub(super) use feed::feed;
pub(super) use watch::watch;
pub use watchers::Watchers;

/// The last event that a client has, which comes again.
fn last_event_id(headers: &HeaderMap) -> Option<&str> {
    headers.get("last-event-id")?.to_str().ok()
}

/// `GET /v3/operations`
pub(super) async fn list(
    State(state): State<AppState>,
    context: Context,
    headers: HeaderMap,
    pairs: Pairs,
) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::OPERATION_GET)?;
    let filter = pairs.operations(&context)?;
    let services = state.store.services().await?;
    let operations = state.store.operations(&filter).await?;
    let list = operations.iter().map(|operation| view(operation, &services)).collect();
    let asked = Asked { headers: &headers, path: "/v3/operations", pairs: &pairs, limit: filter.limit };
    Ok(asked.answer("operations", list, operations.last().map(|last| last.id), None))
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

/// An operation as watchers are told of it, and a digest of that: that it was looked for again is no news.
fn told(operation: &Operation, services: &[ServiceRow]) -> (Value, String) {
    let mut told = view(operation, services);
    let updated_at = told.as_object_mut().and_then(|told| told.remove("updated_at"));
    let digest = hex(&Sha256::digest(told.to_string())).chars().take(16).collect();
    if let (Some(told), Some(updated_at)) = (told.as_object_mut(), updated_at) {
        told.insert("updated_at".into(), updated_at);
    }
    (json!({ "operation": told }), digest)
}

/// The name of an event.
fn event_name(operation: &Operation) -> &'static str {
    if operation.state.is_end() { "end" } else { "operation" }
}

/// Without its request and its queue: they are between the service's roles.
fn view(operation: &Operation, services: &[ServiceRow]) -> Value {
    let now = now_us();
    let waits_for = operation.waits_for(services, now).map(|service| match service.is_heard_of(now) {
        true => json!({ "service": service.name, "host": service.host, "storage": "down" }),
        false => json!({ "service": service.name, "host": service.host, "down_since": time(service.heartbeat_at_us) }),
    });
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
