//! Where the services are: all behind the address by which the client came.

use axum::Json;
use axum::extract::Query;
use axum::http::HeaderMap;
use serde_json::{Value, json};
use uuid::Uuid;

use super::caller::Caller;
use super::errors::IdentityError;
use crate::api::path::Path;
use crate::api::versions::origin;

/// The one region.
pub(super) const REGION: &str = "RegionOne";

/// Type, name and path of each. The block storage goes by both of its names.
const SERVICES: [(&str, &str, &str); 5] = [
    ("identity", "keystone", "/identity"),
    ("image", "glance", "/image"),
    ("block-storage", "cinder", "/v3"),
    ("volumev3", "cinderv3", "/v3"),
    ("key-manager", "barbican", "/key-manager"),
];

/// The same in every installation.
fn id(what: &str) -> String {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("bowline {what}").as_bytes()).simple().to_string()
}

fn endpoint(kind: &str, url: &str, interface: &str) -> Value {
    json!({
        "id": id(&format!("endpoint {kind} {interface}")), "interface": interface, "region": REGION, "region_id": REGION, "url": url,
    })
}

/// The catalog, as tokens have it. The volume service's address names the project, as older clients expect.
pub(super) fn catalog(headers: &HeaderMap, project_id: Option<&str>) -> Value {
    let origin = origin(headers);
    let services = SERVICES.iter().map(|(kind, name, path)| {
        let url = match project_id {
            Some(project) if *path == "/v3" => format!("{origin}{path}/{project}"),
            _ => format!("{origin}{path}"),
        };
        let endpoints: Vec<Value> =
            ["public", "internal", "admin"].iter().map(|interface| endpoint(kind, &url, interface)).collect();
        json!({ "id": id(&format!("service {kind}")), "type": kind, "name": name, "endpoints": endpoints })
    });
    Value::Array(services.collect())
}

/// `GET /v3/auth/catalog`
pub(super) async fn show(caller: Caller, headers: HeaderMap) -> Json<Value> {
    let links = json!({ "self": null, "previous": null, "next": null });
    Json(json!({ "catalog": catalog(&headers, caller.token.project_id.as_deref()), "links": links }))
}

fn service_views() -> Vec<Value> {
    let view = |(kind, name, _): &(&str, &str, &str)| json!({ "id": id(&format!("service {kind}")), "type": kind, "name": name, "enabled": true });
    SERVICES.iter().map(view).collect()
}

/// `GET /v3/services`
pub(super) async fn services(caller: Caller, Query(pairs): Query<Vec<(String, String)>>) -> Result<Json<Value>, IdentityError> {
    caller.admin("identity:list_services")?;
    Ok(Json(json!({ "services": matching(service_views(), &pairs, &["name", "type"]), "links": {} })))
}

/// `GET /v3/services/{id}`
pub(super) async fn service(caller: Caller, Path(wanted): Path<String>) -> Result<Json<Value>, IdentityError> {
    caller.admin("identity:get_service")?;
    let found = service_views().into_iter().find(|one| one.get("id").and_then(Value::as_str) == Some(&wanted));
    found.map(|one| Json(json!({ "service": one }))).ok_or_else(|| IdentityError::absent("service", &wanted))
}

/// `GET /v3/endpoints`
pub(super) async fn endpoints(
    caller: Caller,
    headers: HeaderMap,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, IdentityError> {
    caller.admin("identity:list_endpoints")?;
    let origin = origin(&headers);
    let list: Vec<Value> = SERVICES
        .iter()
        .flat_map(|(kind, _, path)| ["public", "internal", "admin"].map(|interface| (kind, path, interface)))
        .map(|(kind, path, interface)| {
            let mut view = endpoint(kind, &format!("{origin}{path}"), interface);
            if let Some(view) = view.as_object_mut() {
                view.insert("service_id".into(), json!(id(&format!("service {kind}"))));
                view.insert("enabled".into(), json!(true));
            }
            view
        })
        .collect();
    Ok(Json(json!({ "endpoints": matching(list, &pairs, &["service_id", "interface", "region_id"]), "links": {} })))
}

/// Those that have what the query asks for.
fn matching(mut list: Vec<Value>, pairs: &[(String, String)], keys: &[&str]) -> Vec<Value> {
    for (key, value) in pairs.iter().filter(|(key, _)| keys.contains(&key.as_str())) {
        list.retain(|one| one.get(key).and_then(Value::as_str) == Some(value));
    }
    list
}
