//! How the volumes of a type are encrypted, over HTTP. What hosts could not open is refused by name.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::AppState;
use super::super::body::{Body, Fields, invalid, missing};
use super::super::errors::ApiError;
use super::super::microversion::Microversion;
use super::super::path::Path;
use super::super::policy::{self, Context, allow};
use crate::domain::{Refusal, TypeEncryption};
use crate::luks::KEY_BITS;

const PROVIDER: &str = "luks";
const CIPHER: &str = "aes-xts-plain64";
const FRONT_END: &str = "front-end";

/// `GET /v3/types/{id}/encryption`
pub(in crate::api) async fn show(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(seen(&state, &context, &id).await?))
}

/// `GET /v3/types/{id}/encryption/{key}`
pub(in crate::api) async fn show_one(
    State(state): State<AppState>,
    context: Context,
    Path((id, key)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let all = seen(&state, &context, &id).await?;
    let value = all.get(&key).ok_or_else(|| absent(&id))?;
    Ok(Json(json!({ key: value })))
}

async fn seen(state: &AppState, context: &Context, id: &str) -> Result<Value, ApiError> {
    allow(context, policy::TYPE_ENCRYPTION)?;
    let found = state.store.volume_type(id, None).await?;
    Ok(found.encryption.map_or_else(|| json!({}), |how| view(&found.id, &how)))
}

/// `POST /v3/types/{id}/encryption`
pub(in crate::api) async fn create(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let id = changed(&state, &context, &id).await?;
    let asked = Asked::of(body.object("encryption", version)?, version)?;
    for (field, is_said) in [("provider", asked.says_provider), ("control_location", asked.says_control_location)] {
        if !is_said {
            return Err(missing(field));
        }
    }
    let fresh = TypeEncryption {
        encryption_id: Uuid::new_v4(),
        provider: PROVIDER.into(),
        cipher: CIPHER.into(),
        key_size: KEY_BITS[0],
        control_location: FRONT_END.into(),
    };
    let new = asked.over(fresh);
    let made = state.store.change_type_encryption(&id, "create", |old| match old {
        None => Ok(Some(new)),
        Some(_) => Err(Refusal::Invalid(format!("Volume type encryption for type {id} already exists."))),
    });
    Ok(Json(json!({ "encryption": made.await?.map(|how| view(&id, &how)) })))
}

/// `PUT /v3/types/{id}/encryption/{encryption_id}`. A type has one, whatever a client calls it: some say `provider`.
pub(in crate::api) async fn update(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    Path((id, _)): Path<(String, String)>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let id = changed(&state, &context, &id).await?;
    let asked = Asked::of(body.object("encryption", version)?, version)?;
    let change = |old: Option<TypeEncryption>| Ok(Some(asked.over(old.ok_or_else(|| gone(&id))?)));
    let made = state.store.change_type_encryption(&id, "update", change).await?;
    Ok(Json(json!({ "encryption": made.map(|how| view(&id, &how)) })))
}

/// `DELETE /v3/types/{id}/encryption/{encryption_id}`
pub(in crate::api) async fn delete(
    State(state): State<AppState>,
    context: Context,
    Path((id, _)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let id = changed(&state, &context, &id).await?;
    let change = |old: Option<TypeEncryption>| old.map(|_| None).ok_or_else(|| gone(&id));
    state.store.change_type_encryption(&id, "delete", change).await?;
    Ok(StatusCode::ACCEPTED)
}

/// The id of a type, for an administrator to change how its volumes are encrypted.
async fn changed(state: &AppState, context: &Context, id: &str) -> Result<String, ApiError> {
    allow(context, policy::TYPE_ENCRYPTION_CHANGE)?;
    Ok(state.store.volume_type(id, None).await?.id)
}

/// What a request says. There is one word only for all but the size, so that they are said is all there is to know.
struct Asked {
    says_provider: bool,
    says_control_location: bool,
    key_size: Option<u64>,
}

impl Asked {
    fn of(mut fields: Fields, version: Microversion) -> Result<Self, ApiError> {
        // It was once the name of a Python class.
        let provider = fields.text("provider")?;
        let provider = provider.map(|name| if name.ends_with(".LuksEncryptor") { PROVIDER.into() } else { name });
        let why =
            "volumes can be encrypted with luks (LUKS1): it is what QEMU opens on every storage; luks2 and plain it does not";
        let says_provider = says("provider", provider, PROVIDER, why)?;
        says("cipher", fields.text("cipher")?, CIPHER, "volumes can be encrypted with aes-xts-plain64 here")?;
        let why = "it must be front-end: the host of a guest decrypts, no storage here does (back-end)";
        let says_control_location = says("control_location", fields.text("control_location")?, FRONT_END, why)?;
        let key_size = fields.size("key_size")?;
        if let Some(bits) = key_size.filter(|bits| !KEY_BITS.contains(bits)) {
            return Err(invalid("key_size", &json!(bits), "aes-xts-plain64 has keys of 256 or 512 bits"));
        }
        fields.finish(version)?;
        Ok(Self { says_provider, says_control_location, key_size })
    }

    /// What comes of it.
    fn over(self, old: TypeEncryption) -> TypeEncryption {
        TypeEncryption { key_size: self.key_size.unwrap_or(old.key_size), ..old }
    }
}

/// Whether a field is said, in the one word that will do.
fn says(field: &str, found: Option<String>, wanted: &str, why: &str) -> Result<bool, ApiError> {
    match found {
        Some(found) if found != wanted => Err(invalid(field, &json!(found), why)),
        found => Ok(found.is_some()),
    }
}

fn gone(id: &str) -> Refusal {
    Refusal::NotFound(format!("Volume type encryption for type {id} does not exist."))
}

fn absent(id: &str) -> ApiError {
    gone(id).into()
}

fn view(type_id: &str, how: &TypeEncryption) -> Value {
    json!({
        "volume_type_id": type_id,
        "encryption_id": how.encryption_id,
        "provider": how.provider,
        "cipher": how.cipher,
        "key_size": how.key_size,
        "control_location": how.control_location,
        "deleted": false,
    })
}
