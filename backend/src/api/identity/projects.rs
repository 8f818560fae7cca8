//! Projects.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::caller::Caller;
use super::errors::IdentityError;
use super::users::{Said, named, said};
use crate::api::AppState;
use crate::api::body::Body;
use crate::api::path::Path;
use crate::domain::{DEFAULT_DOMAIN, Project};

pub(super) fn view(project: &Project) -> Value {
    json!({
        "id": project.id,
        "name": project.name,
        "description": project.description.clone().unwrap_or_default(),
        "enabled": project.enabled,
        "domain_id": DEFAULT_DOMAIN,
        "parent_id": DEFAULT_DOMAIN,
        "is_domain": false,
        "tags": [],
        "options": {},
        "links": {},
    })
}

/// `GET /v3/projects`
pub(super) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, IdentityError> {
    caller.admin("identity:list_projects")?;
    let list: Vec<Value> = state.store.projects(named(&pairs)).await?.iter().map(view).collect();
    Ok(Json(json!({ "projects": list, "links": {} })))
}

/// The projects in which a user has a role.
pub(super) async fn of_user(state: &AppState, user_id: &str) -> Result<Json<Value>, IdentityError> {
    let given = state.store.assignments(Some(user_id), None).await?;
    let all = state.store.projects(None).await?;
    let own = all.iter().filter(|project| project.enabled && given.iter().any(|one| one.scope == project.id));
    Ok(Json(json!({ "projects": own.map(view).collect::<Vec<_>>(), "links": {} })))
}

/// `POST /v3/projects`
pub(super) async fn create(
    State(state): State<AppState>,
    caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<Value>), IdentityError> {
    caller.admin("identity:create_project")?;
    let Said { name, description, enabled, .. } = said(body, "project")?;
    let project = Project {
        id: Uuid::new_v4().simple().to_string(),
        name: name.ok_or_else(|| IdentityError::bad("'name' is a required property"))?,
        description: description.flatten(),
        enabled: enabled.unwrap_or(true),
    };
    state.store.create_project(&project).await?;
    Ok((StatusCode::CREATED, Json(json!({ "project": view(&project) }))))
}

/// `GET /v3/projects/{id}`: an administrator any, others those in which they have a role.
pub(super) async fn show(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, IdentityError> {
    if !caller.is_admin() && state.store.assignments(Some(&caller.token.user_id), Some(&id)).await?.is_empty() {
        return Err(IdentityError::forbidden("identity:get_project"));
    }
    Ok(Json(json!({ "project": view(&state.store.project(&id).await?) })))
}

/// `PATCH /v3/projects/{id}`
pub(super) async fn change(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, IdentityError> {
    caller.admin("identity:update_project")?;
    let said = said(body, "project")?;
    let changed = state.store.change_project(&id, |project| {
        project.name = said.name.unwrap_or_else(|| project.name.clone());
        project.description = said.description.unwrap_or_else(|| project.description.clone());
        project.enabled = said.enabled.unwrap_or(project.enabled);
    });
    let changed = changed.await?;
    state.tokens.forget();
    Ok(Json(json!({ "project": view(&changed) })))
}

/// `DELETE /v3/projects/{id}`
pub(super) async fn remove(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, IdentityError> {
    caller.admin("identity:delete_project")?;
    if id == state.identity.project_id {
        return Err(IdentityError(
            StatusCode::FORBIDDEN,
            "The default project is not deleted: the operator's token is its.".into(),
        ));
    }
    state.store.delete_project(&id).await?;
    state.tokens.forget();
    Ok(StatusCode::NO_CONTENT)
}
