//! Snapshots over HTTP.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::AppState;
use super::actions::named;
use super::body::{Body, invalid};
use super::errors::ApiError;
use super::microversion::Microversion;
use super::paging::Asked;
use super::path::Path;
use super::policy::{self, Context, allow};
use super::query::Pairs;
use super::views::Views;
use crate::domain::{NewSnapshot, Snapshot, SnapshotStatus};
use crate::store::SnapshotChange;

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
    page(&state, &context, version, &headers, "/v3/snapshots", &pairs, |snapshot| views.snapshot(snapshot)).await
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
    page(&state, &context, version, &headers, "/v3/snapshots/detail", &pairs, |snapshot| views.snapshot_detail(snapshot)).await
}

async fn page(
    state: &AppState,
    context: &Context,
    version: Microversion,
    headers: &HeaderMap,
    path: &str,
    pairs: &Pairs,
    view: impl Fn(&Snapshot) -> Value,
) -> Result<Json<Value>, ApiError> {
    let (filter, with_count) = pairs.snapshots(version, context)?;
    let snapshots = state.store.snapshots(&filter).await?;
    let count = if with_count { Some(state.store.count_snapshots(&filter).await?) } else { None };
    let asked = Asked { headers, path, pairs, limit: filter.limit };
    Ok(asked.answer("snapshots", snapshots.iter().map(view).collect(), snapshots.last().map(|last| last.id), count))
}

/// `PUT /v3/snapshots/{id}`
pub(super) async fn update(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let id = policy::snapshot(&state, &context, &id, policy::SNAPSHOT_UPDATE).await?.id;
    let mut fields = body.object("snapshot", version)?;
    let mut change = SnapshotChange::default();
    for field in ["name", "display_name"] {
        if fields.has(field) {
            change.name = Some(fields.text(field)?);
        }
    }
    for field in ["description", "display_description"] {
        if fields.has(field) {
            change.description = Some(fields.text(field)?);
        }
    }
    fields.finish(version)?;
    let snapshot = state.store.change_snapshot(id, |_| Ok(change)).await?;
    Ok(Json(json!({ "snapshot": Views::new(&state, version, &headers).snapshot(&snapshot) })))
}

/// `POST /v3/snapshots/{id}/action`: what administrators correct.
pub(super) async fn action(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
    Body(map): Body,
) -> Result<StatusCode, ApiError> {
    let (action, mut fields) = named(map)?;
    match action.as_str() {
        "os-reset_status" => {
            let word = fields.required_text("status")?;
            let status = SnapshotStatus::parse(&word.to_ascii_lowercase())
                .ok_or_else(|| invalid("status", &json!(word), &format!("'{word}' is not a snapshot's status")))?;
            let snapshot = policy::snapshot(&state, &context, &id, policy::SNAPSHOT_RESET).await?;
            state.store.reset_snapshot(snapshot.id, status).await?;
        }
        "os-force_delete" => {
            let snapshot = policy::snapshot(&state, &context, &id, policy::SNAPSHOT_FORCE_DELETE).await?;
            state.accept.force_delete_snapshot(snapshot.id, context.asker()).await?;
        }
        _ => return Err(ApiError::BadRequest(format!("There is no such action: {action}"))),
    }
    Ok(StatusCode::ACCEPTED)
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
