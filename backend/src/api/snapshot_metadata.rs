//! A snapshot's key-value pairs over HTTP.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::AppState;
use super::body::Body;
use super::errors::ApiError;
use super::path::Path;
use super::policy::{self, Context};
use crate::domain::{Refusal, Snapshot};
use crate::store::SnapshotChange;

type Pairs = BTreeMap<String, String>;

/// `GET …/metadata`
pub(super) async fn list(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let snapshot = policy::snapshot(&state, &context, &id, policy::SNAPSHOT_METADATA_GET).await?;
    Ok(Json(json!({ "metadata": snapshot.metadata })))
}

/// `POST …/metadata`: adds to what is there.
pub(super) async fn merge(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let pairs = pairs(body)?;
    let metadata = change(&state, &context, &id, |mut old| {
        old.extend(pairs);
        Ok(old)
    });
    Ok(Json(json!({ "metadata": metadata.await? })))
}

/// `PUT …/metadata`: in place of what is there.
pub(super) async fn replace(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let pairs = pairs(body)?;
    Ok(Json(json!({ "metadata": change(&state, &context, &id, |_| Ok(pairs)).await? })))
}

/// `GET …/metadata/{key}`
pub(super) async fn show(
    State(state): State<AppState>,
    context: Context,
    Path((id, key)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let snapshot = policy::snapshot(&state, &context, &id, policy::SNAPSHOT_METADATA_GET).await?;
    let value = snapshot.metadata.get(&key).ok_or(Refusal::MetadataKeyNotFound)?;
    Ok(Json(json!({ "meta": { key: value } })))
}

/// `PUT …/metadata/{key}`
pub(super) async fn set(
    State(state): State<AppState>,
    context: Context,
    Path((id, key)): Path<(String, String)>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let wrapped = { body }.0.remove("meta").unwrap_or_default();
    let mut given = pairs(Body([("metadata".to_owned(), wrapped)].into_iter().collect()))?;
    let Some(value) = given.remove(&key).filter(|_| given.is_empty()) else {
        return Err(ApiError::BadRequest("Request body and URI mismatch".into()));
    };
    let kept = value.clone();
    let name = key.clone();
    change(&state, &context, &id, move |mut old| {
        old.insert(name, kept);
        Ok(old)
    })
    .await?;
    Ok(Json(json!({ "meta": { key: value } })))
}

/// `DELETE …/metadata/{key}`
pub(super) async fn delete(
    State(state): State<AppState>,
    context: Context,
    Path((id, key)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    change(&state, &context, &id, move |mut old| match old.remove(&key) {
        Some(_) => Ok(old),
        None => Err(Refusal::MetadataKeyNotFound),
    })
    .await?;
    Ok(StatusCode::OK)
}

fn pairs(body: Body) -> Result<Pairs, ApiError> {
    match super::body::Fields::from(body).pairs("metadata")? {
        Some(pairs) => Ok(pairs),
        None => {
            Err(ApiError::BadRequest("Invalid input for field/attribute metadata. 'metadata' is a required property".into()))
        }
    }
}

async fn change(
    state: &AppState,
    context: &Context,
    id: &str,
    edit: impl FnOnce(Pairs) -> Result<Pairs, Refusal> + Send,
) -> Result<Pairs, ApiError> {
    let edit = |snapshot: &Snapshot| {
        let metadata = edit(snapshot.metadata.clone())?;
        Ok(SnapshotChange { metadata: Some(metadata), ..SnapshotChange::default() })
    };
    let id = policy::snapshot(state, context, id, policy::SNAPSHOT_METADATA_CHANGE).await?.id;
    Ok(state.store.change_snapshot(id, edit).await?.metadata)
}
