//! JSON schemas. Older clients make their models of images from them.

use axum::Json;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::errors::ImageError;
use crate::api::path::Path;

/// `GET /v2/schemas/{name}`
pub(super) async fn show(Path(name): Path<String>) -> Result<Json<Value>, ImageError> {
    let one = |kind: &str| match kind {
        "image" => image(),
        _ => member(),
    };
    match name.as_str() {
        "image" | "member" => Ok(Json(one(&name))),
        "images" | "members" => {
            let of = name.trim_end_matches('s');
            Ok(Json(json!({
                "name": name,
                "properties": {
                    name.as_str(): { "type": "array", "items": one(of) },
                    "first": { "type": "string" },
                    "next": { "type": "string" },
                    "schema": { "type": "string" },
                },
            })))
        }
        _ => Err(ImageError(StatusCode::NOT_FOUND, "The resource could not be found.".into())),
    }
}

fn image() -> Value {
    let text = || json!({ "type": ["null", "string"], "maxLength": 255 });
    let told = |kind: &str| json!({ "type": ["null", kind], "readOnly": true });
    let number = || json!({ "type": "integer", "minimum": 0, "maximum": 2_147_483_647 });
    let formats = json!([null, "ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso"]);
    let containers = json!([null, "ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed"]);
    json!({
        "name": "image",
        "properties": {
            "id": { "type": "string", "description": "An identifier for the image" },
            "name": text(),
            "status": told("string"),
            "visibility": { "type": "string", "enum": ["community", "public", "private", "shared"] },
            "protected": { "type": "boolean" },
            "os_hidden": { "type": "boolean" },
            "checksum": told("string"),
            "os_hash_algo": told("string"),
            "os_hash_value": told("string"),
            "owner": text(),
            "size": told("integer"),
            "virtual_size": told("integer"),
            "container_format": { "type": ["null", "string"], "enum": containers },
            "disk_format": { "type": ["null", "string"], "enum": formats },
            "created_at": told("string"),
            "updated_at": told("string"),
            "tags": { "type": "array", "items": { "type": "string", "maxLength": 255 } },
            "min_ram": number(),
            "min_disk": number(),
            "self": told("string"),
            "file": told("string"),
            "schema": told("string"),
        },
        "additionalProperties": { "type": "string" },
        "links": [
            { "rel": "self", "href": "{self}" },
            { "rel": "enclosure", "href": "{file}" },
            { "rel": "describedby", "href": "{schema}" },
        ],
    })
}

fn member() -> Value {
    json!({
        "name": "member",
        "properties": {
            "member_id": { "type": "string" },
            "image_id": { "type": "string" },
            "created_at": { "type": "string" },
            "updated_at": { "type": "string" },
            "status": { "type": "string", "enum": ["pending", "accepted", "rejected"] },
            "schema": { "type": "string", "readOnly": true },
        },
    })
}
