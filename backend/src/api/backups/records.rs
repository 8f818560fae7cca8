//! A backup told to another instance of the service on the same store, and taken over from one. For administrators: a record says where
//! bytes are, whoever's they are.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::super::AppState;
use super::super::body::{Body, invalid, missing};
use super::super::errors::ApiError;
use super::super::microversion::Microversion;
use super::super::path::Path;
use super::super::policy::{self, Context, allow};
use super::view::summary;
use crate::backup::{decode_record, encode_record};
use crate::domain::backup::may_export;

/// `GET /v3/backups/{id}/export_record`
pub(in crate::api) async fn export(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let backup = policy::backup(&state, &context, &id, policy::BACKUP_EXPORT).await?;
    let (service, record) = encode_record(&backup, may_export(&backup)?).ok_or(ApiError::Internal)?;
    Ok(Json(json!({ "backup-record": { "backup_service": service, "backup_url": record } })))
}

/// `POST /v3/backups/import_record`
pub(in crate::api) async fn import(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    allow(&context, policy::BACKUP_IMPORT)?;
    let mut fields = body.object("backup-record", version)?;
    let service = fields.required_text("backup_service")?;
    // Longer than any other text.
    let mut rest = fields.rest();
    let record = match rest.remove("backup_url") {
        Some(Value::String(record)) => record,
        Some(other) => return Err(invalid("backup_url", &other, "it is not of type 'string'")),
        None => return Err(missing("backup_url")),
    };
    let new = decode_record(&service, &record)?;
    let backup = state.accept.import_backup(new, state.availability_zone.clone(), context.asker()).await?;
    Ok((StatusCode::CREATED, Json(json!({ "backup": summary(&backup, &headers) }))))
}
