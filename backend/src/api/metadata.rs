//! Key-value pairs over HTTP: those of a volume and those of a snapshot, which differ in nothing but whose they are.

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
use crate::domain::{Refusal, Snapshot, Volume};
use crate::store::{SnapshotChange, VolumeChange};

type Pairs = BTreeMap<String, String>;

/// Whose pairs they are.
pub(super) trait Owner: 'static {
    /// The pairs of one that the caller may see.
    fn read(state: &AppState, context: &Context, id: &str) -> impl Future<Output = Result<Pairs, ApiError>> + Send;

    /// Changes them, where the caller may; gives what they are then.
    fn change(
        state: &AppState,
        context: &Context,
        id: &str,
        edit: impl FnOnce(Pairs) -> Result<Pairs, Refusal> + Send,
    ) -> impl Future<Output = Result<Pairs, ApiError>> + Send;
}

/// Volumes.
pub(super) enum OfVolume {}

/// Snapshots.
pub(super) enum OfSnapshot {}

impl Owner for OfVolume {
    async fn read(state: &AppState, context: &Context, id: &str) -> Result<Pairs, ApiError> {
        Ok(policy::volume(state, context, id, policy::METADATA_GET).await?.metadata)
    }

    async fn change(
        state: &AppState,
        context: &Context,
        id: &str,
        edit: impl FnOnce(Pairs) -> Result<Pairs, Refusal> + Send,
    ) -> Result<Pairs, ApiError> {
        let id = policy::volume(state, context, id, policy::METADATA_CHANGE).await?.id;
        let edit = |volume: &Volume| {
            let metadata = Some(edit(volume.metadata.clone())?);
            Ok(VolumeChange { metadata, ..VolumeChange::default() })
        };
        Ok(state.store.change_volume(id, edit).await?.metadata)
    }
}

impl Owner for OfSnapshot {
    async fn read(state: &AppState, context: &Context, id: &str) -> Result<Pairs, ApiError> {
        Ok(policy::snapshot(state, context, id, policy::SNAPSHOT_METADATA_GET).await?.metadata)
    }

    async fn change(
        state: &AppState,
        context: &Context,
        id: &str,
        edit: impl FnOnce(Pairs) -> Result<Pairs, Refusal> + Send,
    ) -> Result<Pairs, ApiError> {
        let id = policy::snapshot(state, context, id, policy::SNAPSHOT_METADATA_CHANGE).await?.id;
        let edit = |snapshot: &Snapshot| {
            let metadata = Some(edit(snapshot.metadata.clone())?);
            Ok(SnapshotChange { metadata, ..SnapshotChange::default() })
        };
        Ok(state.store.change_snapshot(id, edit).await?.metadata)
    }
}

/// `GET …/metadata`
pub(super) async fn list<O: Owner>(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({ "metadata": O::read(&state, &context, &id).await? })))
}

/// `POST …/metadata`: adds to what is there.
pub(super) async fn merge<O: Owner>(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let pairs = pairs(body)?;
    let metadata = O::change(&state, &context, &id, |mut old| {
        old.extend(pairs);
        Ok(old)
    });
    Ok(Json(json!({ "metadata": metadata.await? })))
}

/// `PUT …/metadata`: in place of what is there.
pub(super) async fn replace<O: Owner>(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let pairs = pairs(body)?;
    Ok(Json(json!({ "metadata": O::change(&state, &context, &id, |_| Ok(pairs)).await? })))
}

/// `GET …/metadata/{key}`
pub(super) async fn show<O: Owner>(
    State(state): State<AppState>,
    context: Context,
    Path((id, key)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let value = O::read(&state, &context, &id).await?.remove(&key).ok_or(Refusal::MetadataKeyNotFound)?;
    Ok(Json(json!({ "meta": { key: value } })))
}

/// `PUT …/metadata/{key}`
pub(super) async fn set<O: Owner>(
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
    O::change(&state, &context, &id, move |mut old| {
        old.insert(name, kept);
        Ok(old)
    })
    .await?;
    Ok(Json(json!({ "meta": { key: value } })))
}

/// `DELETE …/metadata/{key}`
pub(super) async fn delete<O: Owner>(
    State(state): State<AppState>,
    context: Context,
    Path((id, key)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    O::change(&state, &context, &id, move |mut old| match old.remove(&key) {
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
