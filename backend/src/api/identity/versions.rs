//! Discovery. Open to all; clients ask before they have a token.

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::api::versions::origin;

/// `GET /identity`
pub(super) async fn choices(headers: HeaderMap) -> (StatusCode, Json<Value>) {
    (StatusCode::MULTIPLE_CHOICES, Json(json!({ "versions": { "values": [version(&headers)] } })))
}

/// `GET /identity/v3`
pub(super) async fn v3(headers: HeaderMap) -> Json<Value> {
    Json(json!({ "version": version(&headers) }))
}

fn version(headers: &HeaderMap) -> Value {
    json!({
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{ "rel": "self", "href": format!("{}/identity/v3/", origin(headers)) }],
        "media-types": [{ "base": "application/json", "type": "application/vnd.openstack.identity-v3+json" }],
    })
}
