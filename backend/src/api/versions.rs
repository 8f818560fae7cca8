//! Discovery: which versions there are. Open to all; clients ask before they have a token.

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::microversion::Microversion;

/// When the newest of the implemented microversions came to be in the field's service.
const UPDATED: &str = "2023-08-31T00:00:00Z";

/// `GET /`
pub(super) async fn choices(request: Request) -> Response {
    (StatusCode::MULTIPLE_CHOICES, Json(versions(&request))).into_response()
}

/// `GET /v3`
pub(super) async fn v3(request: Request) -> Response {
    Json(versions(&request)).into_response()
}

fn versions(request: &Request) -> Value {
    json!({ "versions": [{
        "id": "v3.0",
        "status": "CURRENT",
        "version": Microversion::MAX.to_string(),
        "min_version": Microversion(0).to_string(),
        "updated": UPDATED,
        "links": [
            { "rel": "describedby", "type": "text/html", "href": "https://docs.openstack.org/" },
            { "rel": "self", "href": format!("{}/v3/", origin(request.headers())) },
        ],
        "media-types": [
            { "base": "application/json", "type": "application/vnd.openstack.volume+json;version=3" },
        ],
    }] })
}

/// How this client reaches the service: links must lead it back the same way.
pub(super) fn origin(headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1:8776");
    format!("http://{host}")
}
