//! A backup into a volume that is there, or into a new one.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::super::AppState;
use super::super::body::{Body, Fields};
use super::super::errors::ApiError;
use super::super::microversion::Microversion;
use super::super::path::Path;
use super::super::policy::{self, Context};
use super::super::volumes;
use crate::accept::RestoreTo;

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
    let to = match volume_id {
        Some(id) => {
            policy::volume_by_id(&state, &context, id, policy::BACKUP_RESTORE).await?;
            RestoreTo::Volume(id)
        }
        None => {
            let wanted = json!({
                "size": backup.size_gib,
                "name": name.unwrap_or_else(|| format!("restore_backup_{}", backup.id)),
                "description": "auto-created_from_restore_from_backup",
            });
            let Value::Object(wanted) = wanted else { return Err(ApiError::Internal) };
            let new = volumes::new_volume(&state, &context, version, Fields::from(Body(wanted))).await?;
            RestoreTo::New(Box::new(new))
        }
    };
    let volume = state.accept.restore_backup(backup.id, to, context.asker()).await?;
    let restore = json!({ "backup_id": backup.id, "volume_id": volume.id, "volume_name": volume.name });
    Ok((StatusCode::ACCEPTED, Json(json!({ "restore": restore }))))
}
