//! Attachments over HTTP.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::AppState;
use super::body::{Body, invalid};
use super::errors::{self, ApiError};
use super::leases;
use super::microversion::Microversion;
use super::path::Path;
use super::policy::{self, Context, allow};
use super::query::Pairs;
use super::views::Views;
use crate::domain::{AttachMode, rules};
use crate::store::NewAttachment;

/// `POST /v3/attachments`
pub(super) async fn create(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    since(version, Microversion::ATTACHMENTS).await?;
    let mut fields = body.object("attachment", version)?;
    let Some(volume_id) = fields.uuid("volume_uuid")? else {
        return Err(ApiError::BadRequest(
            "Invalid input for field/attribute attachment. 'volume_uuid' is a required property".into(),
        ));
    };
    let instance_id = fields.uuid("instance_uuid")?;
    let connector = fields.connector("connector")?;
    let mode = if version >= Microversion::ATTACH_MODE { fields.text("mode")? } else { None };
    fields.finish(version)?;
    let mode = match mode {
        None => AttachMode::Rw,
        Some(word) => AttachMode::parse(&word)
            .ok_or_else(|| invalid("mode", &json!(word), &format!("'{word}' is not one of ['rw', 'ro']")))?,
    };
    let lease_host = leases::asked_for(&headers)?;
    let new = NewAttachment { volume_id, instance_id, mode, connector, lease_host };
    policy::volume_by_id(&state, &context, volume_id, policy::ATTACHMENT_CREATE).await?;
    let attachment = state.accept.create_attachment(new, context.asker()).await?;
    Ok(Json(json!({ "attachment": Views::new(&state, version, &headers).attachment(&attachment) })))
}

/// `PUT /v3/attachments/{id}`
pub(super) async fn update(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    since(version, Microversion::ATTACHMENTS).await?;
    let mut fields = body.object("attachment", version)?;
    let Some(connector) = fields.connector("connector")? else {
        return Err(ApiError::BadRequest(
            "Invalid input for field/attribute attachment. 'connector' is a required property".into(),
        ));
    };
    fields.finish(version)?;
    let id = policy::attachment(&state, &context, &id, policy::ATTACHMENT_UPDATE).await?.id;
    let attachment = state.accept.update_attachment(id, connector, context.asker()).await?;
    Ok(Json(json!({ "attachment": Views::new(&state, version, &headers).attachment(&attachment) })))
}

/// `POST /v3/attachments/{id}/action`
pub(super) async fn action(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    Path(id): Path<String>,
    body: Body,
) -> Result<StatusCode, ApiError> {
    since(version, Microversion::COMPLETE).await?;
    if !body.0.contains_key("os-complete") || body.0.len() != 1 {
        let given = body.0.keys().next().map(String::as_str).unwrap_or("none");
        return Err(ApiError::BadRequest(format!("There is no such action: {given}")));
    }
    let id = policy::attachment(&state, &context, &id, policy::ATTACHMENT_COMPLETE).await?.id;
    state.accept.complete_attachment(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /v3/attachments`
pub(super) async fn list(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    pairs: Pairs,
) -> Result<Json<Value>, ApiError> {
    since(version, Microversion::ATTACHMENTS).await?;
    allow(&context, policy::ATTACHMENT_GET)?;
    let attachments = state.store.attachments(&pairs.attachments(&context)?).await?;
    let views = Views::new(&state, version, &headers);
    let list: Vec<Value> = attachments.iter().map(|attachment| views.attachment_summary(attachment)).collect();
    Ok(Json(json!({ "attachments": list })))
}

/// `GET /v3/attachments/detail`
pub(super) async fn list_detail(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    pairs: Pairs,
) -> Result<Json<Value>, ApiError> {
    since(version, Microversion::ATTACHMENTS).await?;
    allow(&context, policy::ATTACHMENT_GET)?;
    let attachments = state.store.attachments(&pairs.attachments(&context)?).await?;
    let views = Views::new(&state, version, &headers);
    let list: Vec<Value> = attachments.iter().map(|attachment| views.attachment(attachment)).collect();
    Ok(Json(json!({ "attachments": list })))
}

/// `GET /v3/attachments/{id}`
pub(super) async fn show(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    since(version, Microversion::ATTACHMENTS).await?;
    let attachment = policy::attachment(&state, &context, &id, policy::ATTACHMENT_GET).await?;
    Ok(Json(json!({ "attachment": Views::new(&state, version, &headers).attachment(&attachment) })))
}

/// `DELETE /v3/attachments/{id}`
pub(super) async fn delete(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    since(version, Microversion::ATTACHMENTS).await?;
    let attachment = policy::attachment(&state, &context, &id, policy::ATTACHMENT_DELETE).await?;
    rules::let_go(&attachment, context.is_service())?;
    let id = attachment.id;
    let left = state.accept.delete_attachment(id, context.asker()).await?;
    let views = Views::new(&state, version, &headers);
    let list: Vec<Value> = left.iter().map(|attachment| views.attachment_summary(attachment)).collect();
    Ok(Json(json!({ "attachments": list })))
}

/// For older clients the path is not there.
async fn since(version: Microversion, first: Microversion) -> Result<(), ApiError> {
    if version < first { Err(errors::no_such_path().await) } else { Ok(()) }
}
