//! `POST /v3/volumes/{id}/action`: one key names the action, its value says how. Each action is an entry in [`volume`] and a
//! function that takes what was [`Asked`].
//!
//! ```text
//! attaching.rs  the older way of attaching: reserve, initialize, attach, detach, terminate and what takes them back
//! settings.rs   bootable, readonly, another type, statuses that an administrator corrects
//! work.rs       extend, migrate, revert, images made from volumes and written over them, forced deletion, and the end of an extend that a host has seen
//! ```

mod attaching;
mod settings;
mod work;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value};

use super::AppState;
use super::body::{Body, Fields, invalid};
use super::errors::ApiError;
use super::microversion::Microversion;
use super::path::Path;
use super::policy::{self, Context};
use crate::auth::Action;
use crate::domain::Volume;

/// One action that is asked for.
struct Asked {
    state: AppState,
    context: Context,
    version: Microversion,
    /// The volume's id, as it is in the path.
    id: String,
    fields: Fields,
}

impl Asked {
    /// The volume, where the asker may do `action` to it.
    async fn volume(&self, action: Action) -> Result<Volume, ApiError> {
        policy::volume(&self.state, &self.context, &self.id, action).await
    }
}

/// What an action answers.
enum Done {
    /// It is accepted; nothing is said.
    Accepted,
    /// It is accepted, and this is said.
    AcceptedSaying(Value),
    /// It is done; nothing is said.
    Ok,
    /// It is done, and this is said.
    Said(Value),
}

/// `POST /v3/volumes/{id}/action`
pub(super) async fn volume(
    State(state): State<AppState>,
    context: Context,
    Extension(version): Extension<Microversion>,
    Path(id): Path<String>,
    Body(map): Body,
) -> Result<Response, ApiError> {
    let (action, fields) = named(map)?;
    let asked = Asked { state, context, version, id, fields };
    let done = match action.as_str() {
        "os-reserve" => attaching::reserve(asked).await,
        "os-unreserve" => attaching::unreserve(asked).await,
        "os-initialize_connection" => attaching::initialize(asked).await,
        "os-attach" => attaching::attach(asked).await,
        "os-begin_detaching" => attaching::begin_detaching(asked).await,
        "os-roll_detaching" => attaching::roll_detaching(asked).await,
        "os-terminate_connection" => attaching::terminate(asked).await,
        "os-detach" => attaching::detach(asked).await,
        "os-set_bootable" => settings::bootable(asked).await,
        "os-update_readonly_flag" => settings::readonly(asked).await,
        "os-reset_status" => settings::reset_status(asked).await,
        "os-retype" => settings::retype(asked).await,
        "os-migrate_volume" => work::migrate(asked).await,
        "os-extend" => work::extend(asked).await,
        "os-volume_upload_image" => work::upload_image(asked).await,
        "os-force_delete" => work::force_delete(asked).await,
        "revert" if version >= Microversion::REVERT => work::revert(asked).await,
        "os-reimage" if version >= Microversion::REIMAGE => work::reimage(asked).await,
        "os-extend_volume_completion" if version >= Microversion::EXTEND_COMPLETION => work::extend_completion(asked).await,
        _ => Err(ApiError::BadRequest(format!("There is no such action: {action}"))),
    }?;
    Ok(match done {
        Done::Accepted => StatusCode::ACCEPTED.into_response(),
        Done::AcceptedSaying(value) => (StatusCode::ACCEPTED, Json(value)).into_response(),
        Done::Ok => StatusCode::OK.into_response(),
        Done::Said(value) => Json(value).into_response(),
    })
}

/// The action's name and what is said about it: an object, or nothing.
pub(super) fn named(map: Map<String, Value>) -> Result<(String, Fields), ApiError> {
    let mut entries = map.into_iter();
    let (Some((action, how)), None) = (entries.next(), entries.next()) else {
        return Err(ApiError::BadRequest("There is no such action: one key names the action".into()));
    };
    let shown: String = action.chars().take(100).collect();
    match how {
        Value::Null => Ok((shown, Fields::from(Body(Map::new())))),
        Value::Object(fields) => Ok((shown, Fields::from(Body(fields)))),
        // Some clients send an empty string for nothing.
        Value::String(text) if text.is_empty() => Ok((shown, Fields::from(Body(Map::new())))),
        other => Err(invalid(&shown, &other, &format!("{other} is not of type 'object'"))),
    }
}
