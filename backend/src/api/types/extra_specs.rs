//! What a type's places must be able to do, over HTTP.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{seen_by, seen_specs};
use crate::api::AppState;
use crate::api::body::{Body, Fields, missing};
use crate::api::errors::ApiError;
use crate::api::path::Path;
use crate::api::policy::{self, Context, allow};
use crate::domain::Refusal;

/// `GET /v3/types/{id}/extra_specs`
pub(in crate::api) async fn list(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::EXTRA_SPECS_GET)?;
    let found = state.store.volume_type(&id, seen_by(&context)).await?;
    Ok(Json(json!({ "extra_specs": seen_specs(&found, &context) })))
}

/// `POST /v3/types/{id}/extra_specs`: adds to what is there.
pub(in crate::api) async fn merge(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let id = changeable(&state, &context, &id).await?;
    let specs = Fields::from(body).pairs("extra_specs")?.ok_or_else(|| missing("extra_specs"))?;
    check(&specs)?;
    let given = specs.clone();
    state
        .store
        .change_extra_specs(&id, |old| {
            old.extend(specs);
            Ok(())
        })
        .await?;
    Ok(Json(json!({ "extra_specs": given })))
}

/// `GET /v3/types/{id}/extra_specs/{key}`
pub(in crate::api) async fn show(
    State(state): State<AppState>,
    context: Context,
    Path((id, key)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::EXTRA_SPECS_GET)?;
    let found = state.store.volume_type(&id, seen_by(&context)).await?;
    match seen_specs(&found, &context).get(&key) {
        Some(value) => Ok(Json(json!({ key: value }))),
        None => Err(absent(&found.id, &key).into()),
    }
}

/// `PUT /v3/types/{id}/extra_specs/{key}`
pub(in crate::api) async fn set(
    State(state): State<AppState>,
    context: Context,
    Path((id, key)): Path<(String, String)>,
    Body(map): Body,
) -> Result<Json<Value>, ApiError> {
    let id = changeable(&state, &context, &id).await?;
    let wrapped = Body([("extra_specs".to_owned(), Value::Object(map))].into_iter().collect());
    let mut given = Fields::from(wrapped).pairs("extra_specs")?.unwrap_or_default();
    let Some(value) = given.remove(&key).filter(|_| given.is_empty()) else {
        return Err(ApiError::BadRequest("Request body and URI mismatch".into()));
    };
    check(&BTreeMap::from([(key.clone(), value.clone())]))?;
    let (name, kept) = (key.clone(), value.clone());
    state
        .store
        .change_extra_specs(&id, |old| {
            old.insert(name, kept);
            Ok(())
        })
        .await?;
    Ok(Json(json!({ key: value })))
}

/// `DELETE /v3/types/{id}/extra_specs/{key}`
pub(in crate::api) async fn delete(
    State(state): State<AppState>,
    context: Context,
    Path((id, key)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let id = changeable(&state, &context, &id).await?;
    let of = id.clone();
    state.store.change_extra_specs(&id, |old| old.remove(&key).map(drop).ok_or_else(|| absent(&of, &key))).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Keys are words that the scheduler's language can name.
pub(super) fn check(specs: &BTreeMap<String, String>) -> Result<(), ApiError> {
    let is_word = |key: &str| key.chars().all(|char| char.is_ascii_alphanumeric() || " -_.:".contains(char));
    match specs.keys().find(|key| !is_word(key)) {
        None => Ok(()),
        Some(key) => Err(ApiError::BadRequest(format!(
            "Key names can only contain alphanumeric characters, underscores, periods, colons and hyphens, not {key}."
        ))),
    }
}

async fn changeable(state: &AppState, context: &Context, id: &str) -> Result<String, ApiError> {
    allow(context, policy::EXTRA_SPECS_CHANGE)?;
    Ok(state.store.volume_type(id, None).await?.id)
}

fn absent(id: &str, key: &str) -> Refusal {
    Refusal::NotFound(format!("Volume Type {id} has no extra specs with key {key}."))
}
