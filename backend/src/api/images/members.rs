//! Offering an image to other projects.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::errors::ImageError;
use super::{guard, view};
use crate::api::AppState;
use crate::api::path::Path;
use crate::api::policy::Context;
use crate::domain::{Image, ImageMember, MemberStatus, Visibility};

/// `GET /v2/images/{id}/members`: all for the owner, themselves for the others.
pub(super) async fn list(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
) -> Result<Json<Value>, ImageError> {
    let (image, members) = members(&state, &context, &id).await?;
    let list: Vec<Value> = members.iter().map(|member| view::member(member, &image)).collect();
    Ok(Json(json!({ "members": list, "schema": "/v2/schemas/members" })))
}

async fn members(state: &AppState, context: &Context, id: &str) -> Result<(Image, Vec<ImageMember>), ImageError> {
    let image = guard::seen(state, context, id).await?;
    let all = context.is_admin() || image.project_id == context.project_id;
    let mut members = state.store.image_members(image.id).await?;
    members.retain(|member| all || member.project_id == context.project_id);
    Ok((image, members))
}

async fn one(state: &AppState, context: &Context, id: &str, member: &str) -> Result<Value, ImageError> {
    let (image, members) = members(state, context, id).await?;
    let found = members.iter().find(|one| one.project_id == member);
    found.map(|member| view::member(member, &image)).ok_or_else(|| absent(member))
}

fn absent(member: &str) -> ImageError {
    ImageError(StatusCode::NOT_FOUND, format!("No member found with ID {member}"))
}

/// `POST /v2/images/{id}/members`
pub(super) async fn add(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, ImageError> {
    let image = guard::owned(&state, &context, &id).await?;
    if image.visibility != Visibility::Shared {
        return Err(ImageError::forbidden("Only shared images have members."));
    }
    let member = field(&body, "member")?;
    if !state.store.insert_image_member(image.id, &member).await? {
        return Err(ImageError::conflict(format!("Member {member} is duplicated for image {}", image.id)));
    }
    Ok(Json(one(&state, &context, &id, &member).await?))
}

/// `GET /v2/images/{id}/members/{member}`
pub(super) async fn show(
    State(state): State<AppState>,
    context: Context,
    Path((id, member)): Path<(String, String)>,
) -> Result<Json<Value>, ImageError> {
    Ok(Json(one(&state, &context, &id, &member).await?))
}

/// `PUT /v2/images/{id}/members/{member}`: what to make of it is the member's to say.
pub(super) async fn change(
    State(state): State<AppState>,
    context: Context,
    Path((id, member)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<Value>, ImageError> {
    let image = guard::seen(&state, &context, &id).await?;
    if member != context.project_id && !context.is_admin() {
        return Err(ImageError::forbidden("Only the member itself may say what it makes of an image."));
    }
    let status = field(&body, "status")?;
    let status = MemberStatus::parse(&status).ok_or_else(|| ImageError::bad("status must be pending, accepted or rejected"))?;
    if !state.store.set_image_member(image.id, &member, status).await? {
        return Err(absent(&member));
    }
    Ok(Json(one(&state, &context, &id, &member).await?))
}

/// `DELETE /v2/images/{id}/members/{member}`
pub(super) async fn remove(
    State(state): State<AppState>,
    context: Context,
    Path((id, member)): Path<(String, String)>,
) -> Result<StatusCode, ImageError> {
    let image = guard::owned(&state, &context, &id).await?;
    if state.store.delete_image_member(image.id, &member).await? { Ok(StatusCode::NO_CONTENT) } else { Err(absent(&member)) }
}

fn field(body: &[u8], key: &str) -> Result<String, ImageError> {
    let said: Option<Value> = serde_json::from_slice(body).ok();
    let text = said.as_ref().and_then(|said| said.get(key)).and_then(Value::as_str);
    text.filter(|text| !text.is_empty() && text.len() <= 255)
        .map(str::to_owned)
        .ok_or_else(|| ImageError::bad(format!("{key} not specified")))
}
