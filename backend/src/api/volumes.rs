//! Volumes over HTTP.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::AppState;
use super::body::{Body, Fields};
use super::errors::ApiError;
use super::microversion::Microversion;
use super::path::Path;
use super::query::{Pairs, volume_id};
use super::versions::origin;
use super::views::Views;
use crate::domain::{NewVolume, Refusal, Volume};
use crate::store::{VolumeChange, VolumePage};

/// What the field's service could make a volume from, or put it in, and this one cannot.
const UNSUPPORTED: [&str; 8] =
    ["snapshot_id", "source_volid", "source_replica", "imageRef", "image_id", "backup_id", "consistencygroup_id", "group_id"];

/// `POST /v3/volumes`
pub(super) async fn create(
    State(state): State<AppState>,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let new = new_volume(&state, version, body.object("volume", version)?)?;
    let volume = state.manager.create_volume(new).await?;
    let view = Views::new(&state, version, &headers).volume(&volume, &[]);
    Ok((StatusCode::ACCEPTED, Json(json!({ "volume": view }))))
}

fn new_volume(state: &AppState, version: Microversion, mut fields: Fields) -> Result<NewVolume, ApiError> {
    fields.refuse(&UNSUPPORTED)?;
    let size_gib = fields.size("size")?;
    let name = [fields.text("name")?, fields.text("display_name")?].into_iter().flatten().next();
    let description = [fields.text("description")?, fields.text("display_description")?].into_iter().flatten().next();
    let metadata = fields.pairs("metadata")?.unwrap_or_default();
    let multiattach = fields.boolean("multiattach")?.unwrap_or(false);
    let zone = fields.text("availability_zone")?.unwrap_or_else(|| state.availability_zone.clone());
    let volume_type = fields.text("volume_type")?;
    // Older clients send these; they ask for nothing.
    fields.text("user_id")?;
    fields.text("project_id")?;
    fields.text("status")?;
    fields.text("attach_status")?;
    fields.finish(version)?;
    let Some(size_gib) = size_gib else {
        return Err(ApiError::BadRequest("Invalid input for field/attribute volume. 'size' is a required property".into()));
    };
    if let Some(wanted) = volume_type.filter(|wanted| *wanted != state.volume_type && *wanted != state.identity.type_id) {
        return Err(Refusal::VolumeTypeNotFound(wanted).into());
    }
    if zone != state.availability_zone {
        return Err(ApiError::BadRequest(format!("Invalid input received: Availability zone '{zone}' is invalid.")));
    }
    Ok(NewVolume { id: Uuid::new_v4(), name, description, size_gib, multiattach, availability_zone: zone, metadata })
}

/// `GET /v3/volumes`
pub(super) async fn list(
    State(state): State<AppState>,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    pairs: Pairs,
) -> Result<Json<Value>, ApiError> {
    let (page, with_count) = pairs.volumes(version)?;
    let volumes = state.manager.store().volumes(&page).await?;
    let views = Views::new(&state, version, &headers);
    let list = volumes.iter().map(|volume| views.volume_summary(volume)).collect();
    let next = next_page(&headers, "/v3/volumes", &pairs, &page, &volumes);
    answer(&state, &page, with_count, next, list).await
}

/// `GET /v3/volumes/detail`
pub(super) async fn list_detail(
    State(state): State<AppState>,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    pairs: Pairs,
) -> Result<Json<Value>, ApiError> {
    let (page, with_count) = pairs.volumes(version)?;
    let volumes = state.manager.store().volumes(&page).await?;
    let ids: Vec<Uuid> = volumes.iter().map(|volume| volume.id).collect();
    let attachments = state.manager.store().attachments_of(&ids).await?;
    let views = Views::new(&state, version, &headers);
    let list = volumes.iter().map(|volume| views.volume_detail(volume, &attachments)).collect();
    let next = next_page(&headers, "/v3/volumes/detail", &pairs, &page, &volumes);
    answer(&state, &page, with_count, next, list).await
}

/// The link to the next page, where this one is full.
fn next_page(headers: &HeaderMap, path: &str, pairs: &Pairs, page: &VolumePage, volumes: &[Volume]) -> Option<String> {
    let full = page.limit > 0 && volumes.len() as u64 == u64::from(page.limit);
    let last = volumes.last().filter(|_| full)?;
    Some(format!("{}{path}?{}", origin(headers), pairs.next(last.id)))
}

async fn answer(
    state: &AppState,
    page: &VolumePage,
    with_count: bool,
    next: Option<String>,
    list: Vec<Value>,
) -> Result<Json<Value>, ApiError> {
    let mut answer = Map::from_iter([("volumes".to_owned(), Value::Array(list))]);
    if let Some(next) = next {
        answer.insert("volumes_links".into(), json!([{ "rel": "next", "href": next }]));
    }
    if with_count {
        answer.insert("count".into(), json!(state.manager.store().count_volumes(page).await?));
    }
    Ok(Json(Value::Object(answer)))
}

/// `GET /v3/volumes/summary`
pub(super) async fn summary(State(state): State<AppState>) -> Result<Json<Value>, ApiError> {
    let (count, gib) = state.manager.store().usage().await?;
    Ok(Json(json!({ "volume-summary": { "total_count": count, "total_size": gib, "metadata": {} } })))
}

/// `GET /v3/volumes/{id}`
pub(super) async fn show(
    State(state): State<AppState>,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let volume = state.manager.store().volume(volume_id(&id)?).await?;
    let attachments = state.manager.store().attachments_of(&[volume.id]).await?;
    let view = Views::new(&state, version, &headers).volume_detail(&volume, &attachments);
    Ok(Json(json!({ "volume": view })))
}

/// `PUT /v3/volumes/{id}`
pub(super) async fn update(
    State(state): State<AppState>,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let id = volume_id(&id)?;
    let mut fields = body.object("volume", version)?;
    let mut change = VolumeChange::default();
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
    change.metadata = fields.pairs("metadata")?;
    fields.finish(version)?;
    let volume = state.manager.store().change_volume(id, |_| Ok(change)).await?;
    let attachments = state.manager.store().attachments_of(&[id]).await?;
    let view = Views::new(&state, version, &headers).volume(&volume, &attachments);
    Ok(Json(json!({ "volume": view })))
}

/// `DELETE /v3/volumes/{id}`
pub(super) async fn delete(State(state): State<AppState>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    state.manager.delete_volume(volume_id(&id)?).await?;
    Ok(StatusCode::ACCEPTED)
}
