//! Volume types over HTTP.
//!
//! ```text
//! mod.rs          types: list, show, make, change, remove
//! extra_specs.rs  what their places must be able to do
//! access.rs       who may use those that are not public
//! encryption.rs   how their volumes are encrypted
//! defaults.rs     the type that a project's volumes get which ask for none
//! ```

pub(super) mod access;
pub(super) mod defaults;
pub(super) mod encryption;
pub(super) mod extra_specs;

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::AppState;
use super::body::{Body, Fields};
use super::errors::ApiError;
use super::microversion::Microversion;
use super::path::Path;
use super::policy::{self, Context, allow};
use super::query::Pairs;
use crate::domain::{Refusal, VolumeType};
use crate::store::TypeChange;

/// What those who are no administrators see of extra specs, as in the field: what they need to choose a type.
const SEEN_BY_ALL: [&str; 3] = ["multiattach", "replication_enabled", "RESKEY:availability_zones"];

/// `GET /v3/types`
pub(super) async fn list(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    pairs: Pairs,
) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::TYPE_GET)?;
    let asked = pairs.types(version)?;
    let mut types = state.store.volume_types(seen_by(&context)).await?;
    // Those who are no administrators see what they may use, whatever they ask.
    if let Some(is_public) = asked.is_public.filter(|_| context.is_admin()) {
        types.retain(|one| one.is_public == is_public);
    }
    types.retain(|one| asked.name.as_ref().is_none_or(|name| &one.name == name));
    types.retain(|one| asked.extra_specs.iter().all(|(key, value)| one.extra_specs.get(key) == Some(value)));
    if asked.by_id {
        types.sort_by(|a, b| a.id.cmp(&b.id));
    }
    if asked.descending {
        types.reverse();
    }
    if let Some(marker) = &asked.marker {
        let Some(at) = types.iter().position(|one| &one.id == marker) else {
            return Err(Refusal::VolumeTypeNotFound(marker.clone()).into());
        };
        types.drain(..=at);
    }
    let list: Vec<Value> =
        types.iter().skip(asked.offset as usize).take(asked.limit as usize).map(|one| view(one, &context)).collect();
    Ok(Json(json!({ "volume_types": list })))
}

/// `GET /v3/types/{id}`, or by its name; `default` is the one a volume gets that asks for none.
pub(super) async fn show(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::TYPE_GET)?;
    let wanted = if id == "default" { default_type(&state, &context).await? } else { id };
    let found = state.store.volume_type(&wanted, seen_by(&context)).await?;
    Ok(Json(json!({ "volume_type": view(&found, &context) })))
}

/// `POST /v3/types`
pub(super) async fn create(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::TYPE_MANAGE)?;
    let mut fields = body.object("volume_type", version)?;
    let name = fields.required_text("name")?;
    let description = fields.text("description")?;
    let is_public = public(&mut fields)?.unwrap_or(true);
    let extra_specs = fields.pairs("extra_specs")?.unwrap_or_default();
    fields.finish(version)?;
    extra_specs::check(&extra_specs)?;
    let id = Uuid::new_v4().to_string();
    let name = name.trim().to_owned();
    let new = VolumeType { id, name, description, is_public, extra_specs, qos_specs_id: None, encryption: None };
    state.store.insert_type(&new).await?;
    Ok(Json(json!({ "volume_type": view(&new, &context) })))
}

/// `PUT /v3/types/{id}`
pub(super) async fn update(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let found = managed(&state, &context, &id).await?;
    let mut fields = body.object("volume_type", version)?;
    let mut change = TypeChange::default();
    if fields.has("name") {
        change.name = fields.text("name")?.map(|name| name.trim().to_owned());
        if change.name.as_deref() == Some("") {
            return Err(ApiError::BadRequest("Volume type name can not be empty.".into()));
        }
    }
    if fields.has("description") {
        change.description = Some(fields.text("description")?);
    }
    change.is_public = public(&mut fields)?;
    fields.finish(version)?;
    if change.name.is_none() && change.description.is_none() && change.is_public.is_none() {
        return Err(ApiError::BadRequest("Specify volume type name, description, is_public or a combination thereof.".into()));
    }
    let changed = state.store.change_type(&found.id, change).await?;
    Ok(Json(json!({ "volume_type": view(&changed, &context) })))
}

/// `DELETE /v3/types/{id}`
pub(super) async fn delete(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let found = managed(&state, &context, &id).await?;
    if found.id == state.identity.type_id {
        let text = format!("The volume type {} is a default volume type and cannot be deleted.", found.id);
        return Err(ApiError::BadRequest(text));
    }
    state.store.delete_type(&found.id).await?;
    Ok(StatusCode::ACCEPTED)
}

/// The id of the type that a volume gets which asks for none.
pub(super) async fn default_type(state: &AppState, context: &Context) -> Result<String, ApiError> {
    let own = state.store.default_type_of(&context.project_id).await?;
    Ok(own.unwrap_or_else(|| state.identity.type_id.clone()))
}

/// The type of this id, for an administrator to change.
pub(super) async fn managed(state: &AppState, context: &Context, id: &str) -> Result<VolumeType, ApiError> {
    allow(context, policy::TYPE_MANAGE)?;
    Ok(state.store.volume_type(id, None).await?)
}

/// Whose eyes a type must be open to; an administrator sees all.
pub(super) fn seen_by(context: &Context) -> Option<&str> {
    (!context.is_admin()).then_some(context.project_id.as_str())
}

/// Whether every project may use it, under either of its names.
fn public(fields: &mut Fields) -> Result<Option<bool>, ApiError> {
    let long = fields.boolean("os-volume-type-access:is_public")?;
    Ok(fields.boolean("is_public")?.or(long))
}

/// The extra specs that this asker sees.
fn seen_specs(volume_type: &VolumeType, context: &Context) -> BTreeMap<String, String> {
    let mut specs = volume_type.extra_specs.clone();
    specs.retain(|key, _| context.is_admin() || SEEN_BY_ALL.contains(&key.as_str()));
    specs
}

fn view(volume_type: &VolumeType, context: &Context) -> Value {
    let mut view = json!({
        "id": volume_type.id,
        "name": volume_type.name,
        "description": volume_type.description,
        "is_public": volume_type.is_public,
        "os-volume-type-access:is_public": volume_type.is_public,
        "extra_specs": seen_specs(volume_type, context),
    });
    if let (true, Some(view)) = (context.is_admin(), view.as_object_mut()) {
        view.insert("qos_specs_id".into(), json!(volume_type.qos_specs_id));
    }
    view
}
