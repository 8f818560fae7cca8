//! Users, and what requests say of users and projects.

use axum::Json;
use axum::extract::{Extension, Query, State};
use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::caller::{Caller, people};
use super::errors::IdentityError;
use super::projects;
use crate::api::AppState;
use crate::api::body::Body;
use crate::api::path::Path;
use crate::api::serve::Peer;
use crate::domain::{DEFAULT_DOMAIN, User};
use crate::secret::Secret;

/// The longest name, in characters, and the longest other text.
const LONGEST_NAME: usize = 64;
const LONGEST_TEXT: usize = 1024;

fn view(user: &User) -> Value {
    json!({
        "id": user.id,
        "name": user.name,
        "description": user.description,
        "email": user.email,
        "enabled": user.enabled,
        "domain_id": DEFAULT_DOMAIN,
        "default_project_id": user.default_project,
        "password_expires_at": null,
        "options": {},
        "links": {},
    })
}

/// What a request says of a user or a project; `None` is nothing.
#[derive(Default)]
pub(super) struct Said {
    pub(super) name: Option<String>,
    pub(super) description: Option<Option<String>>,
    pub(super) enabled: Option<bool>,
    email: Option<Option<String>>,
    default_project: Option<Option<String>>,
    password: Option<Secret>,
}

/// Reads the object under `key`.
pub(super) fn said(mut body: Body, key: &str) -> Result<Said, IdentityError> {
    let Some(Value::Object(mut fields)) = body.0.remove(key) else {
        return Err(IdentityError::bad(format!("'{key}' is a required property")));
    };
    let mut text = |field: &str, longest: usize| take_text(&mut fields, field, longest);
    let mut said = Said {
        name: text("name", LONGEST_NAME)?.flatten(),
        description: text("description", LONGEST_TEXT)?,
        email: text("email", LONGEST_TEXT)?,
        default_project: text("default_project_id", LONGEST_NAME)?,
        password: text("password", 4096)?.flatten().map(Secret::new),
        enabled: None,
    };
    if said.name.as_deref().is_some_and(|name| name.trim().is_empty()) {
        return Err(IdentityError::bad("Invalid input for field 'name': it is empty"));
    }
    if let Some(domain) = text("domain_id", LONGEST_NAME)?.flatten().filter(|domain| domain != DEFAULT_DOMAIN) {
        return Err(IdentityError::absent("domain", &domain));
    }
    said.enabled = match fields.remove("enabled") {
        None => None,
        Some(Value::Bool(enabled)) => Some(enabled),
        Some(other) => {
            return Err(IdentityError::bad(format!("Invalid input for field 'enabled': {other} is not of type 'boolean'")));
        }
    };
    Ok(said)
}

fn take_text(fields: &mut Map<String, Value>, field: &str, longest: usize) -> Result<Option<Option<String>>, IdentityError> {
    match fields.remove(field) {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(None)),
        Some(Value::String(text)) if text.chars().count() <= longest => Ok(Some(Some(text))),
        Some(_) => {
            Err(IdentityError::bad(format!("Invalid input for field '{field}': it is no text of at most {longest} characters")))
        }
    }
}

/// The name that a list is asked for.
pub(super) fn named(pairs: &[(String, String)]) -> Option<&str> {
    pairs.iter().find(|(key, _)| key == "name").map(|(_, value)| value.as_str())
}

/// `GET /v3/users`
pub(super) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, IdentityError> {
    caller.admin("identity:list_users")?;
    let list: Vec<Value> = state.store.users(named(&pairs)).await?.iter().map(view).collect();
    Ok(Json(json!({ "users": list, "links": {} })))
}

/// `POST /v3/users`
pub(super) async fn create(
    State(state): State<AppState>,
    caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<Value>), IdentityError> {
    caller.admin("identity:create_user")?;
    let said = said(body, "user")?;
    let password_hash = match said.password {
        Some(password) => Some(people(&state)?.passwords.hash(password).await?),
        None => None,
    };
    let user = User {
        id: Uuid::new_v4().simple().to_string(),
        name: said.name.ok_or_else(|| IdentityError::bad("'name' is a required property"))?,
        password_hash,
        enabled: said.enabled.unwrap_or(true),
        default_project: said.default_project.flatten(),
        description: said.description.flatten(),
        email: said.email.flatten(),
    };
    state.store.create_user(&user).await?;
    Ok((StatusCode::CREATED, Json(json!({ "user": view(&user) }))))
}

/// `GET /v3/users/{id}`
pub(super) async fn show(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, IdentityError> {
    caller.admin_or(&id, "identity:get_user")?;
    Ok(Json(json!({ "user": view(&state.store.user(&id).await?) })))
}

/// `PATCH /v3/users/{id}`
pub(super) async fn change(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, IdentityError> {
    caller.admin("identity:update_user")?;
    let said = said(body, "user")?;
    if said.enabled == Some(false) && id == caller.token.user_id {
        return Err(IdentityError::forbidden("identity:update_user, to lock oneself out"));
    }
    let hash = match said.password {
        Some(password) => Some(people(&state)?.passwords.hash(password).await?),
        None => None,
    };
    let changed = state.store.change_user(&id, |user| {
        user.name = said.name.unwrap_or_else(|| user.name.clone());
        user.description = said.description.unwrap_or_else(|| user.description.clone());
        user.email = said.email.unwrap_or_else(|| user.email.clone());
        user.default_project = said.default_project.unwrap_or_else(|| user.default_project.clone());
        user.enabled = said.enabled.unwrap_or(user.enabled);
        user.password_hash = hash.or_else(|| user.password_hash.clone());
    });
    let changed = changed.await?;
    state.tokens.forget();
    Ok(Json(json!({ "user": view(&changed) })))
}

/// `DELETE /v3/users/{id}`
pub(super) async fn remove(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, IdentityError> {
    caller.admin("identity:delete_user")?;
    if id == state.identity.user_id || id == caller.token.user_id {
        return Err(IdentityError::forbidden("identity:delete_user, for it is the operator or oneself"));
    }
    state.store.delete_user(&id).await?;
    state.tokens.forget();
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v3/users/{id}/password`: by whoever knows the old one.
pub(super) async fn change_password(
    State(state): State<AppState>,
    Extension(Peer(from)): Extension<Peer>,
    Path(id): Path<String>,
    body: Body,
) -> Result<StatusCode, IdentityError> {
    let said = body.0.get("user").and_then(Value::as_object);
    let text = |key: &str| said.and_then(|said| said.get(key)).and_then(Value::as_str).map(|text| Secret::new(text.to_owned()));
    let (Some(old), Some(new)) = (text("original_password"), text("password")) else {
        return Err(IdentityError::bad("'original_password' and 'password' are required properties"));
    };
    let people = people(&state)?;
    let user = people.log_in(from, Some(&id), None, old).await?;
    let hash = people.passwords.hash(new).await?;
    state.store.change_user(&user.id, |user| user.password_hash = Some(hash)).await?;
    state.tokens.forget();
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /v3/users/{id}/projects`
pub(super) async fn projects(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, IdentityError> {
    caller.admin_or(&id, "identity:list_user_projects")?;
    projects::of_user(&state, &id).await
}
