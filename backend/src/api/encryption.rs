//! Encrypted volumes over HTTP: which key one gets, what is told of it, and what becomes of it.

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};
use tracing::warn;
use uuid::Uuid;

use super::AppState;
use super::errors::ApiError;
use super::path::Path;
use super::policy::{self, Context};
use crate::accept::AcceptError;
use crate::domain::encryption::alike;
use crate::domain::{NewKey, NewVolume, Refusal, Source, TypeEncryption, Volume};
use crate::keys::{BarbicanError, KeyError};
use crate::operations::WaitError;
use crate::volume::chain;

/// `GET /v3/volumes/{id}/encryption`: what a host needs to open an encrypted volume; without a key it is not encrypted.
pub(super) async fn show(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(Value::Object(facts(&state, &context, &id).await?)))
}

/// `GET /v3/volumes/{id}/encryption/{key}`: one of these, as bare text, as the field's service has it.
pub(super) async fn show_one(
    State(state): State<AppState>,
    context: Context,
    Path((id, key)): Path<(String, String)>,
) -> Result<String, ApiError> {
    match facts(&state, &context, &id).await?.remove(&key) {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Null) => Ok(String::new()),
        Some(other) => Ok(other.to_string()),
        None => Err(ApiError::NotFound(format!("Volume {id} has no encryption metadata {key}."))),
    }
}

async fn facts(state: &AppState, context: &Context, id: &str) -> Result<Map<String, Value>, ApiError> {
    let volume = policy::volume(state, context, id, policy::ENCRYPTION_GET).await?;
    let mut facts = Map::from_iter([("encryption_key_id".to_owned(), json!(volume.encryption_key_id))]);
    if volume.encryption_key_id.is_some()
        && let Some(how) = encryption_of(state, &volume).await?
    {
        facts.insert("control_location".into(), json!(how.control_location));
        facts.insert("cipher".into(), json!(how.cipher));
        facts.insert("key_size".into(), json!(how.key_size));
        facts.insert("provider".into(), json!(how.provider));
    }
    Ok(facts)
}

/// How a volume is encrypted: as its type says, which says nothing else while it has volumes.
async fn encryption_of(state: &AppState, volume: &Volume) -> Result<Option<TypeEncryption>, ApiError> {
    match &volume.volume_type_id {
        Some(id) => Ok(state.store.volume_type(id, None).await?.encryption),
        None => Ok(None),
    }
}

/// The key of a volume that is asked for: a new one, or, where its bytes are a copy of encrypted ones, a copy of theirs.
pub(super) async fn key_for(state: &AppState, context: &Context, new: &NewVolume) -> Result<Option<NewKey>, ApiError> {
    let wanted = new.volume_type.encryption.as_ref();
    let origin = match new.source {
        Source::Nothing | Source::Image(_) => {
            return match wanted {
                Some(how) => Ok(Some(state.keys.create(&context.token, how.key_size).await?)),
                None => Ok(None),
            };
        }
        Source::Backup(id) => {
            let key = copy(state, context, state.store.backup(id).await?.encryption_key_id).await?;
            if key.as_ref().map(|key| key.bits) == wanted.map(|how| how.key_size) {
                return Ok(key);
            }
            if let Some(key) = key {
                state.keys.discard(&context.token, key.id).await;
            }
            return Err(other_type(new));
        }
        Source::Volume(id) => state.store.volume(id).await?,
        Source::Snapshot(id) => state.store.volume(state.store.snapshot(id).await?.volume_id).await?,
    };
    let how = if origin.encryption_key_id.is_some() { encryption_of(state, &origin).await? } else { None };
    if !alike(how.as_ref(), wanted) {
        return Err(other_type(new));
    }
    copy(state, context, origin.encryption_key_id).await
}

fn other_type(new: &NewVolume) -> ApiError {
    Refusal::Invalid(format!(
        "Invalid volume_type provided: {} (requested type is not compatible; what the volume is made from is encrypted otherwise, or not \
         at all: either match its type, or omit type argument).",
        new.volume_type.name
    ))
    .into()
}

/// The same key under an id of its own.
pub(super) async fn copy(state: &AppState, context: &Context, id: Option<String>) -> Result<Option<NewKey>, ApiError> {
    let Some(id) = id else { return Ok(None) };
    let id = Uuid::parse_str(&id).map_err(|_| ApiError::Internal)?;
    Ok(Some(state.keys.copy(&context.token, id).await?))
}

/// The key of a volume that is to be written anew, for its host, where the service has it only from here.
pub(super) async fn lend(state: &AppState, context: &Context, id: &str) -> Result<Option<NewKey>, ApiError> {
    let id = Uuid::parse_str(id).map_err(|_| ApiError::Internal)?;
    Ok(state.keys.lend(&context.token, id).await?)
}

/// A volume or a backup is going: when it has gone, its key is of no use to anybody any more. Where it could not be removed the key stays
/// with it. Who asks is answered meanwhile; the asker's token is the only one that the key manager lets remove it.
pub(super) fn discard_after(state: &AppState, context: &Context, operation_id: Uuid, key_id: Option<&str>) {
    let Some(id) = key_id.and_then(|id| Uuid::parse_str(id).ok()).filter(|_| !state.keys.is_local()) else { return };
    let (state, token) = (state.clone(), context.token.clone());
    tokio::spawn(async move {
        let ended = loop {
            match state.accept.end_of(operation_id).await {
                Err(AcceptError::Wait(WaitError::TooLong { .. })) => {}
                ended => break ended,
            }
        };
        match ended {
            Ok(()) => state.keys.discard(&token, id).await,
            Err(error) => warn!(key = %id, "what it opens is not gone, so it stays: {}", chain(&error)),
        }
    });
}

/// What Barbican refuses is the asker's matter: it was asked with the asker's token.
impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Store(error) => error.into(),
            KeyError::Barbican(BarbicanError::Refused { operation, status: status @ 400..500 }) => Self::BadRequest(format!(
                "Invalid input received: Key manager error: it answers {status} when asked to {operation}; has this user the role creator \
                 there?"
            )),
            KeyError::Barbican(error) => {
                warn!("{}", chain(&error));
                Self::KeysUnavailable
            }
            other => super::errors::internal(&other),
        }
    }
}
