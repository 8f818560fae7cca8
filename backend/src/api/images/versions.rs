//! Discovery, and what an importing client asks first.

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::api::versions::origin;

/// `GET /image`, `GET /image/v2`
pub(super) async fn choices(headers: HeaderMap) -> (StatusCode, Json<Value>) {
    (StatusCode::MULTIPLE_CHOICES, Json(versions(&headers)))
}

/// `GET /image/versions`
pub(super) async fn list(headers: HeaderMap) -> Json<Value> {
    Json(versions(&headers))
}

/// The versions of the field's service up to the newest whose additions are here.
fn versions(headers: &HeaderMap) -> Value {
    let href = format!("{}/image/v2/", origin(headers));
    let version = |id: &str, status: &str| json!({ "id": id, "status": status, "links": [{ "rel": "self", "href": href }] });
    json!({ "versions": [
        version("v2.9", "CURRENT"), version("v2.7", "SUPPORTED"), version("v2.6", "SUPPORTED"), version("v2.5", "SUPPORTED"),
        version("v2.4", "SUPPORTED"), version("v2.3", "SUPPORTED"), version("v2.2", "SUPPORTED"),
        version("v2.1", "SUPPORTED"), version("v2.0", "SUPPORTED"),
    ] })
}

/// `GET /image/v2/info/import`: data is uploaded, nothing is fetched from elsewhere.
pub(super) async fn import() -> Json<Value> {
    Json(json!({ "import-methods": { "description": "Import methods available.", "type": "array", "value": [] } }))
}

/// `GET /image/v2/info/stores`
pub(super) async fn stores() -> Json<Value> {
    Json(json!({ "stores": [{ "id": "files", "default": "true" }] }))
}
