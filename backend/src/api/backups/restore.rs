//! A backup into a volume that is there, or into a new one.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::AppState;
use super::super::body::{Body, Fields};
use super::super::errors::ApiError;
use super::super::microversion::Microversion;
use super::super::path::Path;
use super::super::policy::{self, Context};
use super::super::types::seen_by;
use super::super::volumes;
use crate::domain::{Refusal, Source, Volume, backup};
use crate::store::StoreError;

/// `POST /v3/backups/{id}/restore`
pub(in crate::api) async fn restore(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    Path(id): Path<String>,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let backup = policy::backup(&state, &context, &id, policy::BACKUP_RESTORE).await?;
    let mut fields = body.object("restore", version)?;
    let (volume_id, name) = (fields.uuid("volume_id")?, fields.text("name")?);
    fields.finish(version)?;
    let volume = match volume_id {
        Some(id) => {
            policy::volume_by_id(&state, &context, id, policy::BACKUP_RESTORE).await?;
            state.accept.restore_backup(backup.id, id, context.asker()).await?
        }
        None => {
            backup::may_restore(&backup)?;
            let wanted = json!({
                "size": backup.size_gib,
                "name": name.unwrap_or_else(|| format!("restore_backup_{}", backup.id)),
                "description": "auto-created_from_restore_from_backup",
            });
            let Value::Object(mut wanted) = wanted else { return Err(ApiError::Internal) };
            if let (Some(_), Some(volume_type)) = (&backup.encryption_key_id, &backup.volume_type_id) {
                type_is_there(&state, &context, backup.id, volume_type).await?;
                wanted.insert("volume_type".into(), json!(volume_type));
            }
            let mut new = volumes::new_volume(&state, &context, version, Fields::from(Body(wanted))).await?;
            new.source = Source::Backup(backup.id);
            volumes::accept(&state, &context, new).await?
        }
    };
    Ok((StatusCode::ACCEPTED, Json(answer(backup.id, &volume))))
}

/// Says what to do where the type that an encrypted backup's volume had is gone.
async fn type_is_there(state: &AppState, context: &Context, backup_id: Uuid, volume_type: &str) -> Result<(), ApiError> {
    match state.store.volume_type(volume_type, seen_by(context)).await {
        Err(StoreError::Refused(_)) => Err(Refusal::Invalid(format!(
            "Invalid backup: Backup {backup_id} is encrypted, and the type of its volume ({volume_type}) is not there any more, so no \
             volume can be made as it was. Name a type that is encrypted with a key of the same size: make a volume from the backup \
             with 'backup_id' and 'volume_type' (openstack volume create --backup), or restore to the volume that it is of."
        ))
        .into()),
        found => Ok(found.map(drop)?),
    }
}

/// What a restore is answered.
pub(in crate::api) fn answer(backup_id: Uuid, volume: &Volume) -> Value {
    json!({ "restore": { "backup_id": backup_id, "volume_id": volume.id, "volume_name": volume.name } })
}
