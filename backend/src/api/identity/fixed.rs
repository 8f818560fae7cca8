//! What never changes: roles, the domain, the region, and groups, of which there are none.

use axum::Json;
use axum::extract::Query;
use serde_json::{Value, json};

use super::caller::Caller;
use super::catalog::REGION;
use super::errors::IdentityError;
use super::users::named;
use crate::api::path::Path;
use crate::domain::DEFAULT_DOMAIN;
use crate::identity::roles;

pub(super) fn role_view(name: &str) -> Value {
    json!({ "id": roles::id(name), "name": name, "domain_id": null, "description": null, "options": {}, "links": {} })
}

/// `GET /v3/roles`
pub(super) async fn roles(_caller: Caller, Query(pairs): Query<Vec<(String, String)>>) -> Json<Value> {
    let wanted = named(&pairs);
    let all = roles::ALL.into_iter().filter(|name| wanted.is_none_or(|wanted| wanted == *name));
    // Roles of a domain's own there are none.
    let list: Vec<Value> =
        if pairs.iter().any(|(key, _)| key == "domain_id") { Vec::new() } else { all.map(role_view).collect() };
    Json(json!({ "roles": list, "links": {} }))
}

fn find(id: &str) -> Result<&'static str, IdentityError> {
    roles::ALL.into_iter().find(|name| roles::id(name) == id).ok_or_else(|| IdentityError::absent("role", id))
}

/// `GET /v3/roles/{id}`
pub(super) async fn role(_caller: Caller, Path(id): Path<String>) -> Result<Json<Value>, IdentityError> {
    Ok(Json(json!({ "role": role_view(find(&id)?) })))
}

fn inference(name: &str) -> Value {
    let named = |name: &str| json!({ "id": roles::id(name), "name": name, "links": {} });
    let implies: Vec<Value> = roles::implied_by(name).into_iter().map(named).collect();
    json!({ "prior_role": named(name), "implies": implies })
}

/// `GET /v3/roles/{id}/implies`
pub(super) async fn implied(_caller: Caller, Path(id): Path<String>) -> Result<Json<Value>, IdentityError> {
    Ok(Json(json!({ "role_inference": inference(find(&id)?), "links": {} })))
}

/// `GET /v3/role_inferences`
pub(super) async fn inferences(_caller: Caller) -> Json<Value> {
    let list: Vec<Value> = roles::ALL.into_iter().filter(|name| roles::implied_by(name).is_some()).map(inference).collect();
    Json(json!({ "role_inferences": list, "links": {} }))
}

pub(super) fn domain_view() -> Value {
    json!({
        "id": DEFAULT_DOMAIN, "name": "Default", "description": "The default domain", "enabled": true, "tags": [], "options": {},
        "links": {},
    })
}

/// `GET /v3/domains`
pub(super) async fn domains(_caller: Caller, Query(pairs): Query<Vec<(String, String)>>) -> Json<Value> {
    let is_wanted = named(&pairs).is_none_or(|name| name.eq_ignore_ascii_case(DEFAULT_DOMAIN));
    Json(json!({ "domains": if is_wanted { json!([domain_view()]) } else { json!([]) }, "links": {} }))
}

/// `GET /v3/domains/{id}`
pub(super) async fn domain(_caller: Caller, Path(id): Path<String>) -> Result<Json<Value>, IdentityError> {
    if id == DEFAULT_DOMAIN { Ok(Json(json!({ "domain": domain_view() }))) } else { Err(IdentityError::absent("domain", &id)) }
}

fn region_view() -> Value {
    json!({ "id": REGION, "description": "", "parent_region_id": null, "links": {} })
}

/// `GET /v3/regions`
pub(super) async fn regions(_caller: Caller) -> Json<Value> {
    Json(json!({ "regions": [region_view()], "links": {} }))
}

/// `GET /v3/regions/{id}`
pub(super) async fn region(_caller: Caller, Path(id): Path<String>) -> Result<Json<Value>, IdentityError> {
    if id == REGION { Ok(Json(json!({ "region": region_view() }))) } else { Err(IdentityError::absent("region", &id)) }
}

/// `GET /v3/groups`, `GET /v3/users/{id}/groups`
pub(super) async fn no_groups(_caller: Caller) -> Json<Value> {
    Json(json!({ "groups": [], "links": {} }))
}
