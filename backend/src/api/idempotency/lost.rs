//! An answer that was never given, or holds a secret that is kept nowhere: it is told anew from what the request made, which may have
//! come further since.

use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::OPERATION;
use crate::accept::AcceptError;
use crate::api::errors::ApiError;
use crate::api::images::view::image;
use crate::api::microversion::Microversion;
use crate::api::views::Views;
use crate::api::{AppState, backups, policy};
use crate::auth::Context;
use crate::store::{KeptAnswer, Made};

/// Where answers hold a secret that the service itself cannot tell again.
pub(super) const HOLDS_SECRET: [&str; 2] = ["/v3/volume-transfers", "/v3/os-volume-transfer"];

/// The answer that the request would have had.
pub(super) async fn answer(
    state: &AppState,
    context: &Context,
    headers: &HeaderMap,
    (version, path): (Microversion, &str),
    made: &Made,
) -> Result<KeptAnswer, ApiError> {
    let (status, body) = match &made.object {
        Some((kind, id)) => {
            let views = Views::new(state, version, headers);
            let context = policy::Context(context.clone());
            match kind.as_str() {
                "volume" if path.ends_with("/restore") => {
                    let volume = policy::volume_by_id(state, &context, *id, policy::VOLUME_GET).await?;
                    (StatusCode::ACCEPTED, backups::restored(volume.backup_id.unwrap_or_default(), &volume))
                }
                "volume" => {
                    let volume = policy::volume_by_id(state, &context, *id, policy::VOLUME_GET).await?;
                    (StatusCode::ACCEPTED, json!({ "volume": views.volume(&volume, &[]) }))
                }
                "snapshot" => {
                    let snapshot = policy::snapshot(state, &context, &id.to_string(), policy::SNAPSHOT_GET).await?;
                    (StatusCode::ACCEPTED, json!({ "snapshot": views.snapshot(&snapshot) }))
                }
                "attachment" => {
                    finish(state, made).await?;
                    let attachment = policy::attachment(state, &context, &id.to_string(), policy::ATTACHMENT_GET).await?;
                    (StatusCode::OK, json!({ "attachment": views.attachment(&attachment) }))
                }
                "backup" => {
                    let backup = policy::backup(state, &context, &id.to_string(), policy::BACKUP_GET).await?;
                    (StatusCode::ACCEPTED, json!({ "backup": backups::summary(&backup, headers) }))
                }
                "image" => (StatusCode::CREATED, image(&state.store.image(*id).await?)),
                _ => return Err(untold(made)),
            }
        }
        // Those that answer with more than a code begin no operation, or are harmless to repeat with another key.
        None if path.ends_with("/action") && made.operation_id.is_some() => {
            finish(state, made).await?;
            (StatusCode::ACCEPTED, Value::Null)
        }
        None if path.ends_with("/restore") => {
            let operation = state.store.operation(made.operation_id.unwrap_or_default()).await?;
            let (backup, volume) = operation.restores().ok_or_else(|| untold(made))?;
            (StatusCode::ACCEPTED, backups::restored(backup, &state.store.volume(volume).await?))
        }
        None => return Err(untold(made)),
    };
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let operation = made.operation_id.map(|id| id.to_string());
    let headers = json!({ "content-type": "application/json", OPERATION.as_str(): operation });
    Ok(KeptAnswer { status: status.as_u16(), answer: json!({ "headers": headers, "body": body }) })
}

/// Waits for what the first answer waited for.
async fn finish(state: &AppState, made: &Made) -> Result<(), AcceptError> {
    match made.operation_id {
        Some(id) => state.accept.end_of(id).await,
        None => Ok(()),
    }
}

fn untold(made: &Made) -> ApiError {
    let what = match &made.object {
        Some((kind, id)) => format!("It made {kind} {id}"),
        None => "Look for what it made".into(),
    };
    ApiError::Conflict(format!(
        "The request with this Idempotency-Key was carried out, and its answer is not known any more. {what}; it is not done again."
    ))
}
