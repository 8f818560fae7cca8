//! Messages over HTTP: why something that was accepted did not become.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::AppState;
use super::errors::ApiError;
use super::path::Path;
use super::policy::{self, Context, allow, allow_for};
use super::query::{LARGEST_PAGE, Pairs};
use super::views::time;
use crate::auth::Action;
use crate::domain::{Message, Refusal};

/// Reads a property of a message as text.
type Property = fn(&Message) -> String;

/// What messages are found by.
const FILTERS: [(&str, Property); 5] = [
    ("resource_uuid", |message| message.resource_id.to_string()),
    ("resource_type", |message| message.resource_type.clone()),
    ("event_id", |message| message.event_id.clone()),
    ("request_id", |message| message.request_id.clone().unwrap_or_default()),
    ("message_level", |message| message.message_level.clone()),
];

/// `GET /v3/messages`
pub(super) async fn list(State(state): State<AppState>, context: Context, pairs: Pairs) -> Result<Json<Value>, ApiError> {
    allow(&context, policy::MESSAGE_GET)?;
    let project = context.listed_project(pairs.all_projects()?);
    let mut messages = state.store.messages(project.as_deref(), LARGEST_PAGE).await?;
    for (key, of) in FILTERS {
        messages.retain(|message| pairs.value(key).is_none_or(|wanted| of(message) == wanted));
    }
    if let Some(marker) = pairs.value("marker") {
        let Some(at) = messages.iter().position(|message| message.id.to_string() == marker) else {
            return Err(Refusal::MessageNotFound(marker.to_owned()).into());
        };
        messages.drain(..=at);
    }
    let (limit, offset) = pairs.window()?;
    let page = messages.iter().skip(offset as usize).take(limit as usize);
    let list: Vec<Value> = page.map(|message| view(message, &context)).collect();
    Ok(Json(json!({ "messages": list })))
}

/// `GET /v3/messages/{id}`
pub(super) async fn show(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let message = find(&state, &context, &id, policy::MESSAGE_GET).await?;
    Ok(Json(json!({ "message": view(&message, &context) })))
}

/// `DELETE /v3/messages/{id}`
pub(super) async fn delete(
    State(state): State<AppState>,
    context: Context,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let message = find(&state, &context, &id, policy::MESSAGE_DELETE).await?;
    state.store.forget_message(message.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn find(state: &AppState, context: &Context, id: &str, action: Action) -> Result<Message, ApiError> {
    let absent = || Refusal::MessageNotFound(id.to_owned());
    let (owner, message) = state.store.message(Uuid::parse_str(id).map_err(|_| absent())?).await?;
    allow_for(context, action, &owner, absent())?;
    Ok(message)
}

fn view(message: &Message, context: &Context) -> Value {
    let mut view = json!({
        "id": message.id,
        "event_id": message.event_id,
        "user_message": message.user_message,
        "message_level": message.message_level,
        "resource_type": message.resource_type,
        "resource_uuid": message.resource_id,
        "request_id": message.request_id,
        "created_at": time(message.created_at_us),
        "guaranteed_until": time(message.expires_at_us),
    });
    // Names of pools and hosts are the operator's business.
    if let (Some(why_not), Some(view)) = (message.why_not.as_ref().filter(|_| context.is_admin()), view.as_object_mut()) {
        view.insert("why_not".into(), json!(why_not));
    }
    view
}
