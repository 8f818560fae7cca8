//! Who is what where: in a project, in the domain, or in the whole installation.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::caller::Caller;
use super::errors::IdentityError;
use super::fixed::role_view;
use crate::api::AppState;
use crate::api::path::Path;
use crate::domain::{Assignment, DEFAULT_DOMAIN};
use crate::identity::{Scope, roles};

/// The scope that a path names.
async fn scope(state: &AppState, kind: &str, id: &str) -> Result<String, IdentityError> {
    match kind {
        "projects" => Ok(state.store.project(id).await?.id),
        "domains" if id == DEFAULT_DOMAIN => Ok(Scope::Domain.key()),
        "domains" => Err(IdentityError::absent("domain", id)),
        _ => Err(super::errors::no_such_path().await),
    }
}

async fn assignment(state: &AppState, scope: String, user: &str, role: &str) -> Result<Assignment, IdentityError> {
    let user_id = state.store.user(user).await?.id;
    let role = roles::find(role).ok_or_else(|| IdentityError::absent("role", role))?.to_owned();
    Ok(Assignment { user_id, scope, role })
}

async fn granted(state: &AppState, caller: &Caller, new: Assignment) -> Result<StatusCode, IdentityError> {
    caller.admin("identity:create_grant")?;
    state.store.grant(&new).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn revoked(state: &AppState, caller: &Caller, old: Assignment) -> Result<StatusCode, IdentityError> {
    caller.admin("identity:revoke_grant")?;
    let had = state.store.revoke_role(&old).await?;
    state.tokens.forget();
    if had { Ok(StatusCode::NO_CONTENT) } else { Err(IdentityError::absent("role assignment", &old.role)) }
}

async fn checked(state: &AppState, caller: &Caller, one: Assignment) -> Result<StatusCode, IdentityError> {
    caller.admin_or(&one.user_id, "identity:check_grant")?;
    let given = state.store.assignments(Some(&one.user_id), Some(&one.scope)).await?;
    if given.contains(&one) { Ok(StatusCode::NO_CONTENT) } else { Err(IdentityError::absent("role assignment", &one.role)) }
}

async fn listed(state: &AppState, caller: &Caller, scope: &str, user: &str) -> Result<Json<Value>, IdentityError> {
    caller.admin_or(user, "identity:list_grants")?;
    let given = state.store.assignments(Some(user), Some(scope)).await?;
    let list: Vec<Value> = given.iter().map(|one| role_view(&one.role)).collect();
    Ok(Json(json!({ "roles": list, "links": {} })))
}

/// The parts of a path to a role in a project or the domain.
type Grant = Path<(String, String, String, String)>;

/// `PUT /v3/projects/{id}/users/{user}/roles/{role}`
pub(super) async fn grant(
    State(state): State<AppState>,
    caller: Caller,
    Path((kind, id, user, role)): Grant,
) -> Result<StatusCode, IdentityError> {
    let scope = scope(&state, &kind, &id).await?;
    granted(&state, &caller, assignment(&state, scope, &user, &role).await?).await
}

/// `DELETE` of the same.
pub(super) async fn revoke(
    State(state): State<AppState>,
    caller: Caller,
    Path((kind, id, user, role)): Grant,
) -> Result<StatusCode, IdentityError> {
    let scope = scope(&state, &kind, &id).await?;
    revoked(&state, &caller, assignment(&state, scope, &user, &role).await?).await
}

/// `HEAD` and `GET` of the same.
pub(super) async fn check(
    State(state): State<AppState>,
    caller: Caller,
    Path((kind, id, user, role)): Grant,
) -> Result<StatusCode, IdentityError> {
    let scope = scope(&state, &kind, &id).await?;
    checked(&state, &caller, assignment(&state, scope, &user, &role).await?).await
}

/// `GET /v3/projects/{id}/users/{user}/roles`
pub(super) async fn list_for(
    State(state): State<AppState>,
    caller: Caller,
    Path((kind, id, user)): Path<(String, String, String)>,
) -> Result<Json<Value>, IdentityError> {
    let scope = scope(&state, &kind, &id).await?;
    listed(&state, &caller, &scope, &user).await
}

/// `PUT /v3/system/users/{user}/roles/{role}`
pub(super) async fn grant_system(
    State(state): State<AppState>,
    caller: Caller,
    Path((user, role)): Path<(String, String)>,
) -> Result<StatusCode, IdentityError> {
    granted(&state, &caller, assignment(&state, Scope::System.key(), &user, &role).await?).await
}

/// `DELETE` of the same.
pub(super) async fn revoke_system(
    State(state): State<AppState>,
    caller: Caller,
    Path((user, role)): Path<(String, String)>,
) -> Result<StatusCode, IdentityError> {
    revoked(&state, &caller, assignment(&state, Scope::System.key(), &user, &role).await?).await
}

/// `HEAD` and `GET` of the same.
pub(super) async fn check_system(
    State(state): State<AppState>,
    caller: Caller,
    Path((user, role)): Path<(String, String)>,
) -> Result<StatusCode, IdentityError> {
    checked(&state, &caller, assignment(&state, Scope::System.key(), &user, &role).await?).await
}

/// `GET /v3/system/users/{user}/roles`
pub(super) async fn list_for_system(
    State(state): State<AppState>,
    caller: Caller,
    Path(user): Path<String>,
) -> Result<Json<Value>, IdentityError> {
    listed(&state, &caller, &Scope::System.key(), &user).await
}

/// `GET /v3/role_assignments`
pub(super) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, IdentityError> {
    let value = |key: &str| pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    let flag = |key: &str| value(key).is_some_and(|value| !matches!(value, "0" | "false" | "False"));
    let user = value("user.id");
    caller.admin_or(user.unwrap_or_default(), "identity:list_role_assignments")?;
    let scope = match (value("scope.project.id"), value("scope.domain.id")) {
        (Some(id), _) => Some(id.to_owned()),
        (None, Some(_)) => Some(Scope::Domain.key()),
        (None, None) if flag("scope.system") => Some(Scope::System.key()),
        (None, None) => None,
    };
    let mut given = state.store.assignments(user, scope.as_deref()).await?;
    if value("group.id").is_some() {
        given.clear();
    }
    if flag("effective") {
        given = effective(given);
    }
    if let Some(role) = value("role.id") {
        given.retain(|one| one.role == role || roles::id(&one.role) == role);
    }
    let names =
        if flag("include_names") { Some((state.store.users(None).await?, state.store.projects(None).await?)) } else { None };
    let domain = json!({ "id": DEFAULT_DOMAIN, "name": "Default" });
    let view = |one: &Assignment| {
        let mut user = json!({ "id": one.user_id });
        let mut role = json!({ "id": roles::id(&one.role) });
        let mut scope = match one.scope.as_str() {
            "system" => json!({ "system": { "all": true } }),
            key if key == Scope::Domain.key() => json!({ "domain": { "id": DEFAULT_DOMAIN } }),
            project => json!({ "project": { "id": project } }),
        };
        if let Some((users, projects)) = &names {
            let name = users.iter().find(|user| user.id == one.user_id).map(|user| user.name.clone());
            user = json!({ "id": one.user_id, "name": name, "domain": domain });
            role = json!({ "id": roles::id(&one.role), "name": one.role });
            if let Some(project) = projects.iter().find(|project| project.id == one.scope) {
                scope = json!({ "project": { "id": project.id, "name": project.name, "domain": domain } });
            }
        }
        json!({ "user": user, "role": role, "scope": scope, "links": {} })
    };
    let list: Vec<Value> = given.iter().map(view).collect();
    Ok(Json(json!({ "role_assignments": list, "links": {} })))
}

/// With what the roles imply.
fn effective(given: Vec<Assignment>) -> Vec<Assignment> {
    let mut all: Vec<Assignment> = Vec::new();
    for one in given {
        for role in roles::with_implied([one.role.as_str()]) {
            let implied = Assignment { role: role.to_owned(), ..one.clone() };
            if !all.contains(&implied) {
                all.push(implied);
            }
        }
    }
    all
}
