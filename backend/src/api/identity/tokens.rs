//! Logging in, and what a token says.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value, json};

use super::caller::{Caller, by_token, header, people};
use super::catalog::catalog;
use super::errors::IdentityError;
use super::login::{self, Proof, Wanted};
use super::{fixed, projects};
use crate::api::AppState;
use crate::api::body::Body;
use crate::api::serve::Peer;
use crate::auth::TokenDigest;
use crate::domain::{IssuedToken, User};
use crate::identity::{LoginError, Scope, roles};

const SUBJECT: &str = "x-subject-token";

/// `POST /v3/auth/tokens`
pub(super) async fn issue(
    State(state): State<AppState>,
    Extension(Peer(from)): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, IdentityError> {
    let (proof, wanted) = login::read(&Value::Object(body.0))?;
    let people = people(&state)?;
    let (user, until, method) = match proof {
        Proof::Password { id, name, password } => {
            (people.log_in(from, id.as_deref(), name.as_deref(), password).await?, None, "password")
        }
        Proof::Token(token) => {
            let token = by_token(&state, token.reveal().as_bytes()).await?.ok_or_else(IdentityError::unauthorized)?;
            (state.store.user(&token.user_id).await?, token.expires_at_us, "token")
        }
    };
    let scope = scope(&state, &user, wanted).await?;
    let issued = match until {
        Some(until) => people.issue_until(&user, &scope, until).await,
        None => people.issue(&user, &scope).await,
    };
    let (secret, issued) = issued?;
    let body = view(&state, &issued, method, Some(&headers)).await?;
    let mut response = (StatusCode::CREATED, Json(json!({ "token": body }))).into_response();
    put_token(&mut response, secret.reveal().as_bytes());
    Ok(response)
}

fn put_token(response: &mut Response, token: &[u8]) {
    if let Ok(mut value) = HeaderValue::from_bytes(token) {
        value.set_sensitive(true);
        response.headers_mut().insert(SUBJECT, value);
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("X-Auth-Token"));
}

async fn scope(state: &AppState, user: &User, wanted: Wanted) -> Result<Scope, IdentityError> {
    Ok(match wanted {
        Wanted::Unscoped => Scope::Unscoped,
        Wanted::Domain => Scope::Domain,
        Wanted::System => Scope::System,
        Wanted::Project { id: Some(id), .. } => Scope::Project(id.replace('-', "")),
        Wanted::Project { name, .. } => {
            let found = state.store.projects(Some(&name.unwrap_or_default())).await?.into_iter().next();
            Scope::Project(found.ok_or(LoginError::Refused)?.id)
        }
        Wanted::Default => match &user.default_project {
            Some(id) if !state.store.assignments(Some(&user.id), Some(id)).await?.is_empty() => Scope::Project(id.clone()),
            _ => Scope::Unscoped,
        },
    })
}

/// What a token says. With the headers of a request the catalog is in it.
async fn view(
    state: &AppState,
    token: &IssuedToken,
    method: &str,
    headers: Option<&HeaderMap>,
) -> Result<Value, IdentityError> {
    let user = state.store.user(&token.user_id).await?;
    let domain = json!({ "id": "default", "name": "Default" });
    let mut view = Map::new();
    let mut put = |key: &str, value: Value| {
        view.insert(key.to_owned(), value);
    };
    put("methods", json!([method]));
    put("user", json!({ "id": user.id, "name": user.name, "domain": domain, "password_expires_at": null }));
    put("issued_at", json!(time(token.issued_at_us)));
    put("expires_at", json!(time(token.expires_at_us.unwrap_or(i64::MAX))));
    put("audit_ids", json!([audit_id(token)]));
    if !token.roles.is_empty() {
        let named = |role: &String| json!({ "id": roles::id(role), "name": role });
        put("roles", Value::Array(token.roles.iter().map(named).collect()));
    }
    if let Some(id) = &token.project_id {
        let project = state.store.project(id).await?;
        put("project", json!({ "id": project.id, "name": project.name, "domain": domain }));
        put("is_domain", json!(false));
    } else if token.scope == Scope::System.key() {
        put("system", json!({ "all": true }));
    } else if token.scope == Scope::Domain.key() {
        put("domain", domain.clone());
    }
    if let Some(headers) = headers.filter(|_| token.scope != Scope::Unscoped.key()) {
        put("catalog", catalog(headers, token.project_id.as_deref()));
    }
    Ok(Value::Object(view))
}

/// A name for the token that is none of its secret.
fn audit_id(token: &IssuedToken) -> String {
    let text = format!("{} {} {}", token.user_id, token.scope, token.issued_at_us);
    TokenDigest::of(text.as_bytes()).hex().chars().take(22).collect()
}

/// The identity service's form of a time.
fn time(us: i64) -> String {
    let time = jiff::Timestamp::from_microsecond(us).unwrap_or(jiff::Timestamp::MAX);
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// The token that a request is about: its own, or any for an administrator or a service.
async fn subject<'h>(
    state: &AppState,
    caller: &Caller,
    headers: &'h HeaderMap,
) -> Result<(&'h [u8], IssuedToken), IdentityError> {
    let absent = || IdentityError(StatusCode::NOT_FOUND, "Could not find token.".into());
    let token = header(headers, SUBJECT).ok_or_else(|| IdentityError::bad("X-Subject-Token is missing"))?;
    let found = by_token(state, token).await?.ok_or_else(absent)?;
    let is_service = caller.token.roles.iter().any(|role| role == "service");
    if found.user_id != caller.token.user_id && !caller.is_admin() && !is_service {
        return Err(IdentityError::forbidden("identity:validate_token"));
    }
    Ok((token, found))
}

/// `GET` and `HEAD /v3/auth/tokens`
pub(super) async fn show(State(state): State<AppState>, caller: Caller, headers: HeaderMap) -> Result<Response, IdentityError> {
    let (token, issued) = subject(&state, &caller, &headers).await?;
    let body = view(&state, &issued, "password", Some(&headers)).await?;
    let mut response = Json(json!({ "token": body })).into_response();
    put_token(&mut response, token);
    Ok(response)
}

/// `DELETE /v3/auth/tokens`
pub(super) async fn revoke(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<StatusCode, IdentityError> {
    let (token, _) = subject(&state, &caller, &headers).await?;
    state.store.revoke_token(&TokenDigest::of(token).hex()).await?;
    state.tokens.forget();
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /v3/auth/projects`
pub(super) async fn projects(State(state): State<AppState>, caller: Caller) -> Result<Json<Value>, IdentityError> {
    projects::of_user(&state, &caller.token.user_id).await
}

/// `GET /v3/auth/domains`
pub(super) async fn domains(State(state): State<AppState>, caller: Caller) -> Result<Json<Value>, IdentityError> {
    let given = state.store.assignments(Some(&caller.token.user_id), Some(&Scope::Domain.key())).await?;
    let list = if given.is_empty() { json!([]) } else { json!([fixed::domain_view()]) };
    Ok(Json(json!({ "domains": list, "links": {} })))
}

/// `GET /v3/auth/system`
pub(super) async fn system(State(state): State<AppState>, caller: Caller) -> Result<Json<Value>, IdentityError> {
    let given = state.store.assignments(Some(&caller.token.user_id), Some(&Scope::System.key())).await?;
    let list = if given.is_empty() { json!([]) } else { json!([{ "all": true }]) };
    Ok(Json(json!({ "system": list, "links": {} })))
}
