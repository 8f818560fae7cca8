//! Backups over HTTP.
//!
//! ```text
//! mod.rs      make, list, show, change, delete, and what administrators correct
//! restore.rs  into a volume, or a new one
//! records.rs  told to another instance, taken over from one
//! view.rs     what clients get
//! ```

mod records;
mod restore;
mod view;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::AppState;
use super::actions::named;
use super::body::{Body, Fields, invalid, missing};
use super::encryption;
use super::errors::ApiError;
use super::microversion::Microversion;
use super::paging::Asked;
use super::path::Path;
use super::policy::{self, Context, allow};
use super::query::Pairs;
use crate::backup::Place;
use crate::domain::{Backup, BackupStatus, NewBackup};
use crate::store::BackupChange;

pub(super) use records::{export, import};
pub(super) use restore::{answer as restored, restore};
use view::detail;
pub(super) use view::summary;

/// `POST /v3/backups`
pub(super) async fn create(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let mut fields = body.object("backup", version)?;
    let volume_id = fields.uuid("volume_id")?.ok_or_else(|| missing("volume_id"))?;
    let mut new = NewBackup {
        volume_id,
        snapshot_id: fields.uuid("snapshot_id")?,
        incremental: fields.boolean("incremental")?.unwrap_or(false),
        force: fields.boolean("force")?.unwrap_or(false),
        container: fields.text("container")?,
        name: fields.text("name")?,
        description: fields.text("description")?,
        metadata: metadata(&mut fields, version)?.unwrap_or_default(),
        availability_zone: zone(&state, &mut fields, version).await?,
        key: None,
    };
    fields.finish(version)?;
    if let Some(name) = &new.container {
        Place::new(name, volume_id).map_err(|error| invalid("container", &json!(name), &error.to_string()))?;
    }
    let volume = policy::volume_by_id(&state, &context, volume_id, policy::BACKUP_CREATE).await?;
    if let Some(snapshot) = new.snapshot_id {
        policy::snapshot(&state, &context, &snapshot.to_string(), policy::BACKUP_CREATE).await?;
    }
    // Its own: the backup may stay when the volume has gone.
    new.key = encryption::copy(&state, &context, volume.encryption_key_id).await?;
    let key_id = new.key.as_ref().map(|key| key.id);
    let accepted = state.accept.create_backup(new, context.asker()).await;
    if let (Err(_), Some(id)) = (&accepted, key_id) {
        state.keys.discard(&context.token, id).await;
    }
    let backup = accepted?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "backup": summary(&backup, &headers) }))))
}

fn metadata(
    fields: &mut Fields,
    version: Microversion,
) -> Result<Option<std::collections::BTreeMap<String, String>>, ApiError> {
    if version >= Microversion::BACKUP_METADATA { fields.pairs("metadata") } else { Ok(None) }
}

/// The zone that is asked for, where a backup service is in it, or that of volumes that ask for none.
async fn zone(state: &AppState, fields: &mut Fields, version: Microversion) -> Result<String, ApiError> {
    let asked = if version >= Microversion::BACKUP_ZONE { fields.text("availability_zone")? } else { None };
    let Some(zone) = asked else { return Ok(state.availability_zone.clone()) };
    let services = state.store.services().await?;
    if services.iter().any(|service| service.name == "cinder-backup" && service.availability_zone == zone) {
        return Ok(zone);
    }
    Err(ApiError::BadRequest(format!("Invalid input received: Availability zone '{zone}' is invalid.")))
}

/// `GET /v3/backups`
pub(super) async fn list(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    pairs: Pairs,
) -> Result<Json<Value>, ApiError> {
    page(&state, &context, version, &headers, "/v3/backups", &pairs, |backup| summary(backup, &headers)).await
}

/// `GET /v3/backups/detail`
pub(super) async fn list_detail(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    pairs: Pairs,
) -> Result<Json<Value>, ApiError> {
    let view = |backup: &Backup| detail(backup, version, context.is_admin(), &headers);
    page(&state, &context, version, &headers, "/v3/backups/detail", &pairs, view).await
}

async fn page(
    state: &AppState,
    context: &Context,
    version: Microversion,
    headers: &HeaderMap,
    path: &str,
    pairs: &Pairs,
    view: impl Fn(&Backup) -> Value,
) -> Result<Json<Value>, ApiError> {
    allow(context, policy::BACKUP_LIST)?;
    let (filter, with_count) = pairs.backups(version, context)?;
    let backups = state.store.backups(&filter).await?;
    let count = if with_count { Some(state.store.count_backups(&filter).await?) } else { None };
    let asked = Asked { headers, path, pairs, limit: filter.limit };
    Ok(asked.answer("backups", backups.iter().map(view).collect(), backups.last().map(|last| last.id), count))
}

/// `GET /v3/backups/{id}`
pub(super) async fn show(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let backup = policy::backup(&state, &context, &id, policy::BACKUP_GET).await?;
    Ok(Json(json!({ "backup": detail(&backup, version, context.is_admin(), &headers) })))
}

/// `PUT /v3/backups/{id}`
pub(super) async fn update(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    if version < Microversion::BACKUP_UPDATE {
        return Err(ApiError::NotFound(format!("API version {version} is not supported on this method.")));
    }
    let id = policy::backup(&state, &context, &id, policy::BACKUP_UPDATE).await?.id;
    let mut fields = body.object("backup", version)?;
    let mut change = BackupChange { metadata: metadata(&mut fields, version)?, ..BackupChange::default() };
    if fields.has("name") {
        change.name = Some(fields.text("name")?);
    }
    if fields.has("description") {
        change.description = Some(fields.text("description")?);
    }
    fields.finish(version)?;
    let backup = state.store.change_backup(id, change).await?;
    Ok(Json(json!({ "backup": summary(&backup, &headers) })))
}

/// `DELETE /v3/backups/{id}`
pub(super) async fn delete(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let backup = policy::backup(&state, &context, &id, policy::BACKUP_DELETE).await?;
    let operation_id = state.accept.delete_backup(backup.id, false, context.asker()).await?;
    encryption::discard_after(&state, &context, operation_id, backup.encryption_key_id.as_deref());
    Ok(StatusCode::ACCEPTED)
}

/// `POST /v3/backups/{id}/action`: what administrators correct.
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
            let status = BackupStatus::parse(&word.to_ascii_lowercase())
                .ok_or_else(|| invalid("status", &json!(word), &format!("'{word}' is not a backup's status")))?;
            let backup = policy::backup(&state, &context, &id, policy::BACKUP_RESET).await?;
            state.store.reset_backup(backup.id, status).await?;
        }
        "os-force_delete" => {
            let backup = policy::backup(&state, &context, &id, policy::BACKUP_FORCE_DELETE).await?;
            let operation_id = state.accept.delete_backup(backup.id, true, context.asker()).await?;
            encryption::discard_after(&state, &context, operation_id, backup.encryption_key_id.as_deref());
        }
        _ => return Err(ApiError::BadRequest(format!("There is no such action: {action}"))),
    }
    Ok(StatusCode::ACCEPTED)
}
