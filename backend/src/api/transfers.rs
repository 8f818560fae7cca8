//! Volume transfers over HTTP, under both of their paths.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::AppState;
use super::body::{Body, missing};
use super::errors::ApiError;
use super::microversion::Microversion;
use super::path::Path;
use super::policy::{self, Context, allow, allow_for};
use super::query::Pairs;
use super::versions::origin;
use super::views::time;
use crate::auth::Action;
use crate::domain::{Refusal, Transfer};
use crate::store::NewTransfer;

/// `POST /v3/volume-transfers`
pub(super) async fn create(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let mut fields = body.object("transfer", version)?;
    let volume_id = fields.uuid("volume_id")?.ok_or_else(|| missing("volume_id"))?;
    let name = fields.text("name")?;
    let no_snapshots =
        if version >= Microversion::TRANSFER_SNAPSHOTS { fields.boolean("no_snapshots")?.unwrap_or(false) } else { false };
    fields.finish(version)?;
    let volume = policy::volume_by_id(&state, &context, volume_id, policy::TRANSFER_CREATE).await?;
    // A key that is here follows its volume; one in a Barbican is its maker's project's.
    if volume.encryption_key_id.is_some() && (version < Microversion::TRANSFER_ENCRYPTED || !state.keys.is_local()) {
        return Err(ApiError::BadRequest("Invalid volume: Transferring encrypted volume is not supported.".into()));
    }
    let (transfer, key) = state.store.offer(NewTransfer { volume_id, name, no_snapshots }).await?;
    let mut view = detail(&transfer, version, &headers);
    if let Some(view) = view.as_object_mut() {
        view.insert("auth_key".into(), json!(key.0.reveal()));
    }
    Ok((StatusCode::ACCEPTED, Json(json!({ "transfer": view }))))
}

/// `GET /v3/volume-transfers`
pub(super) async fn list(
    State(state): State<AppState>,
    context: Context,
    headers: HeaderMap,
    pairs: Pairs,
) -> Result<Json<Value>, ApiError> {
    let transfers = page(&state, &context, &pairs).await?;
    Ok(Json(json!({ "transfers": transfers.iter().map(|one| summary(one, &headers)).collect::<Vec<_>>() })))
}

/// `GET /v3/volume-transfers/detail`
pub(super) async fn list_detail(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    pairs: Pairs,
) -> Result<Json<Value>, ApiError> {
    let transfers = page(&state, &context, &pairs).await?;
    Ok(Json(json!({ "transfers": transfers.iter().map(|one| detail(one, version, &headers)).collect::<Vec<_>>() })))
}

/// `GET /v3/volume-transfers/{id}`
pub(super) async fn show(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let transfer = find(&state, &context, &id, policy::TRANSFER_GET).await?;
    Ok(Json(json!({ "transfer": detail(&transfer, version, &headers) })))
}

/// `POST /v3/volume-transfers/{id}/accept`: by whoever brings the key, from any project.
pub(super) async fn accept(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    allow(&context, policy::TRANSFER_ACCEPT)?;
    let mut fields = body.object("accept", version)?;
    let key = fields.required_text("auth_key")?;
    fields.finish(version)?;
    let transfer = state.accept.accept_transfer(transfer_id(&id)?, key, context.asker()).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "transfer": summary(&transfer, &headers) }))))
}

/// `DELETE /v3/volume-transfers/{id}`
pub(super) async fn delete(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let transfer = find(&state, &context, &id, policy::TRANSFER_DELETE).await?;
    state.store.withdraw(transfer.id).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn page(state: &AppState, context: &Context, pairs: &Pairs) -> Result<Vec<Transfer>, ApiError> {
    allow(context, policy::TRANSFER_GET)?;
    let project = context.listed_project(pairs.all_projects()?);
    let (limit, offset) = pairs.window()?;
    Ok(state.store.transfers(project.as_deref(), limit, offset).await?)
}

async fn find(state: &AppState, context: &Context, id: &str, action: Action) -> Result<Transfer, ApiError> {
    let transfer = state.store.transfer(transfer_id(id)?).await?;
    allow_for(context, action, &transfer.project_id, absent(id))?;
    Ok(transfer)
}

fn transfer_id(text: &str) -> Result<Uuid, ApiError> {
    Uuid::parse_str(text).map_err(|_| absent(text).into())
}

fn absent(id: &str) -> Refusal {
    Refusal::NotFound(format!("Transfer {id} could not be found."))
}

fn summary(transfer: &Transfer, headers: &HeaderMap) -> Value {
    let origin = origin(headers);
    json!({
        "id": transfer.id,
        "volume_id": transfer.volume_id,
        "name": transfer.name,
        "links": [
            { "rel": "self", "href": format!("{origin}/v3/volume-transfers/{}", transfer.id) },
            { "rel": "bookmark", "href": format!("{origin}/volume-transfers/{}", transfer.id) },
        ],
    })
}

fn detail(transfer: &Transfer, version: Microversion, headers: &HeaderMap) -> Value {
    let mut view = summary(transfer, headers);
    if let Some(view) = view.as_object_mut() {
        view.insert("created_at".into(), json!(time(transfer.created_at_us)));
        if version >= Microversion::TRANSFER_SNAPSHOTS {
            view.insert("no_snapshots".into(), json!(transfer.no_snapshots));
        }
        if version >= Microversion::TRANSFER_PROJECTS {
            view.insert("source_project_id".into(), json!(transfer.project_id));
            // Whoever takes it, the transfer is gone then.
            view.insert("destination_project_id".into(), Value::Null);
            view.insert("accepted".into(), json!(false));
        }
    }
    view
}
