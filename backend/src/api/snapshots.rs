//! Snapshots over HTTP.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::AppState;
use super::body::Body;
use super::errors::ApiError;
use super::microversion::Microversion;
use super::path::Path;
use super::policy::{self, Context, allow};
use super::query::Pairs;
use super::views::Views;
use crate::domain::NewSnapshot;

/// `POST /v3/snapshots`
pub(super) async fn create(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let mut fields = body.object("snapshot", version)?;
    let Some(volume_id) = fields.uuid("volume_id")? else {
        return Err(ApiError::BadRequest(
            "Invalid input for field/attribute snapshot. 'volume_id' is a required property".into(),
        ));
    };
    let name = [fields.text("name")?, fields.text("display_name")?].into_iter().flatten().next();
    let description = [fields.text("description")?, fields.text("display_description")?].into_iter().flatten().next();
    let force = fields.boolean("force")?;
    let metadata = fields.pairs("metadata")?.unwrap_or_default();
    fields.finish(version)?;
    if version >= Microversion::SNAPSHOT_ALWAYS_FORCED && force == Some(false) {
        return Err(ApiError::BadRequest(
            "Invalid input received: Invalid value 'False' for 'force'. The 'force' flag is deprecated: a snapshot is always \
             made, also of a volume in use."
                .into(),
        ));
    }
    policy::volume_by_id(&state, &context, volume_id, policy::SNAPSHOT_CREATE).await?;
    let force = force.unwrap_or(version >= Microversion::SNAPSHOT_ALWAYS_FORCED);
    let new = NewSnapshot { volume_id, force, name, description, metadata };
    let snapshot = state.accept.create_snapshot(new, context.asker()).await?;
    let view = Views::new(&state, version, &headers).snapshot(&snapshot);
    Ok((StatusCode::ACCEPTED, Json(json!({ "snapshot": view }))))
}

/// `GET /v3/snapshots`
pub(super) async fn list(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    pairs: Pairs,
) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::SNAPSHOT_LIST)?;
    let views = Views::new(&state, version, &headers);
    let list: Vec<Value> =
        state.store.snapshots(&pairs.snapshots(&context)?).await?.iter().map(|snapshot| views.snapshot(snapshot)).collect();
    Ok(Json(json!({ "snapshots": list })))
}

/// `GET /v3/snapshots/detail`
pub(super) async fn list_detail(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    pairs: Pairs,
) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::SNAPSHOT_LIST)?;
    let views = Views::new(&state, version, &headers);
    let snapshots = state.store.snapshots(&pairs.snapshots(&context)?).await?;
    let list: Vec<Value> = snapshots.iter().map(|snapshot| views.snapshot_detail(snapshot)).collect();
    Ok(Json(json!({ "snapshots": list })))
}

/// `GET /v3/snapshots/{id}`
pub(super) async fn show(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let snapshot = policy::snapshot(&state, &context, &id, policy::SNAPSHOT_GET).await?;
    Ok(Json(json!({ "snapshot": Views::new(&state, version, &headers).snapshot_detail(&snapshot) })))
}

/// `DELETE /v3/snapshots/{id}`
pub(super) async fn delete(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let snapshot = policy::snapshot(&state, &context, &id, policy::SNAPSHOT_DELETE).await?;
    state.accept.delete_snapshot(snapshot.id, context.asker()).await?;
    Ok(StatusCode::ACCEPTED)
}
