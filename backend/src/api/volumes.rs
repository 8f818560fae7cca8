//! Volumes over HTTP.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::AppState;
use super::availability_zones::zones;
use super::body::{Body, Fields};
use super::encryption;
use super::errors::ApiError;
use super::microversion::Microversion;
use super::paging::Asked;
use super::path::Path;
use super::policy::{self, Context, allow};
use super::query::Pairs;
use super::types::{default_type, seen_by};
use super::views::Views;
use super::volume_images;
use crate::domain::{NewVolume, Source, Volume};
use crate::store::VolumeChange;

/// What the field's service could make a volume from, or put it in, and this one cannot.
const UNSUPPORTED: [&str; 3] = ["source_replica", "consistencygroup_id", "group_id"];

/// `POST /v3/volumes`
pub(super) async fn create(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    allow(&context, policy::VOLUME_CREATE)?;
    let new = new_volume(&state, &context, version, body.object("volume", version)?).await?;
    let volume = accept(&state, &context, new).await?;
    let view = Views::new(&state, version, &headers).volume(&volume, &[]);
    Ok((StatusCode::ACCEPTED, Json(json!({ "volume": view }))))
}

/// Accepts a volume, with a key where it is to be encrypted.
pub(super) async fn accept(state: &AppState, context: &Context, mut new: NewVolume) -> Result<Volume, ApiError> {
    new.key = encryption::key_for(state, context, &new).await?;
    let key_id = new.key.as_ref().map(|key| key.id);
    let accepted = state.accept.create_volume(new, context.asker()).await;
    if let (Err(_), Some(id)) = (&accepted, key_id) {
        state.keys.discard(&context.token, id).await;
    }
    Ok(accepted?)
}

/// A volume that is asked for, found valid but for its key.
pub(super) async fn new_volume(
    state: &AppState,
    context: &Context,
    version: Microversion,
    mut fields: Fields,
) -> Result<NewVolume, ApiError> {
    fields.refuse(&UNSUPPORTED)?;
    if version < Microversion::VOLUME_FROM_BACKUP {
        fields.refuse(&["backup_id"])?;
    }
    let backup_id = fields.uuid("backup_id")?;
    let snapshot_id = fields.uuid("snapshot_id")?;
    let source_volid = fields.uuid("source_volid")?;
    let image_id = [fields.uuid("imageRef")?, fields.uuid("image_id")?].into_iter().flatten().next();
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
    if [snapshot_id, source_volid, image_id, backup_id].into_iter().flatten().count() > 1 {
        return Err(ApiError::BadRequest("Invalid input received: a volume is made from one source".into()));
    }
    let (source, source_type) = if let Some(id) = image_id {
        (volume_images::source(state, context, id, size_gib).await?, None)
    } else if let Some(id) = backup_id {
        (Source::Backup(policy::backup(state, context, &id.to_string(), policy::BACKUP_RESTORE).await?.id), None)
    } else if let Some(id) = snapshot_id {
        let snapshot = policy::snapshot(state, context, &id.to_string(), policy::SNAPSHOT_GET).await?;
        (Source::Snapshot(id), snapshot.volume_type_id)
    } else if let Some(id) = source_volid {
        let volume = policy::volume_by_id(state, context, id, policy::VOLUME_GET).await?;
        (Source::Volume(id), volume.volume_type_id)
    } else {
        (Source::Nothing, None)
    };
    if size_gib.is_none() && source == Source::Nothing {
        return Err(ApiError::BadRequest("Invalid input for field/attribute volume. 'size' is a required property".into()));
    }
    if zone != state.availability_zone && !zones(state).await?.contains(&zone) {
        return Err(ApiError::BadRequest(format!("Invalid input received: Availability zone '{zone}' is invalid.")));
    }
    // A copy is of its source's type, where it asks for none.
    let wanted = match volume_type.or(source_type) {
        Some(wanted) => wanted,
        None => default_type(state, context).await?,
    };
    let volume_type = state.store.volume_type(&wanted, seen_by(context)).await?;
    if let (Source::Image(id), Some(_), Some(size_gib)) = (&source, &volume_type.encryption, size_gib) {
        volume_images::fits_encrypted(state, context, *id, size_gib).await?;
    }
    Ok(NewVolume {
        id: Uuid::new_v4(),
        project_id: context.project_id.clone(),
        user_id: context.user_id.clone(),
        name,
        description,
        // 0 is the source's size.
        size_gib: size_gib.unwrap_or(0),
        multiattach: multiattach || volume_type.multiattach(),
        availability_zone: zone,
        metadata,
        volume_type,
        source,
        key: None,
    })
}

/// `GET /v3/volumes`
pub(super) async fn list(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    pairs: Pairs,
) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::VOLUME_LIST)?;
    let (page, with_count) = pairs.volumes(version, &context)?;
    let volumes = state.store.volumes(&page).await?;
    let views = Views::new(&state, version, &headers);
    let list = volumes.iter().map(|volume| views.volume_summary(volume)).collect();
    let count = if with_count { Some(state.store.count_volumes(&page).await?) } else { None };
    let asked = Asked { headers: &headers, path: "/v3/volumes", pairs: &pairs, limit: page.limit };
    Ok(asked.answer("volumes", list, volumes.last().map(|last| last.id), count))
}

/// `GET /v3/volumes/detail`
pub(super) async fn list_detail(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    pairs: Pairs,
) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::VOLUME_LIST)?;
    let (page, with_count) = pairs.volumes(version, &context)?;
    let volumes = state.store.volumes(&page).await?;
    let ids: Vec<Uuid> = volumes.iter().map(|volume| volume.id).collect();
    let attachments = state.store.attachments_of(&ids).await?;
    let views = Views::new(&state, version, &headers);
    let list = volumes.iter().map(|volume| views.volume_detail(volume, &attachments, context.is_admin())).collect();
    let count = if with_count { Some(state.store.count_volumes(&page).await?) } else { None };
    let asked = Asked { headers: &headers, path: "/v3/volumes/detail", pairs: &pairs, limit: page.limit };
    Ok(asked.answer("volumes", list, volumes.last().map(|last| last.id), count))
}

/// `GET /v3/volumes/summary`
pub(super) async fn summary(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    pairs: Pairs,
) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::VOLUME_LIST)?;
    let project = context.listed_project(pairs.all_projects()?);
    let (count, gib) = state.store.volume_totals(project.as_deref()).await?;
    let mut summary = Map::from_iter([("total_count".to_owned(), json!(count)), ("total_size".to_owned(), json!(gib))]);
    if version >= Microversion::SUMMARY_METADATA {
        summary.insert("metadata".into(), json!(state.store.volume_metadata_values(project.as_deref()).await?));
    }
    Ok(Json(json!({ "volume-summary": summary })))
}

/// `GET /v3/volumes/{id}`
pub(super) async fn show(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let volume = policy::volume(&state, &context, &id, policy::VOLUME_GET).await?;
    let attachments = state.store.attachments_of(&[volume.id]).await?;
    let view = Views::new(&state, version, &headers).volume_detail(&volume, &attachments, context.is_admin());
    Ok(Json(json!({ "volume": view })))
}

/// `PUT /v3/volumes/{id}`
pub(super) async fn update(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let id = policy::volume(&state, &context, &id, policy::VOLUME_UPDATE).await?.id;
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
    let volume = state.store.change_volume(id, |_| Ok(change)).await?;
    let attachments = state.store.attachments_of(&[id]).await?;
    let view = Views::new(&state, version, &headers).volume(&volume, &attachments);
    Ok(Json(json!({ "volume": view })))
}

/// `DELETE /v3/volumes/{id}`
pub(super) async fn delete(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let volume = policy::volume(&state, &context, &id, policy::VOLUME_DELETE).await?;
    let operation_id = state.accept.delete_volume(volume.id, context.asker()).await?;
    encryption::discard_after(&state, &context, operation_id, volume.encryption_key_id.as_deref());
    Ok(StatusCode::ACCEPTED)
}
