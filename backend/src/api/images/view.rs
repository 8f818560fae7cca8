//! What clients get.

use serde_json::{Map, Value, json};

use crate::domain::{Image, ImageMember};

/// An image as the field shows it. Properties are beside what the service knows itself.
pub(in crate::api) fn image(image: &Image) -> Value {
    let mut view: Map<String, Value> =
        image.properties.iter().map(|(key, value)| (key.clone(), Value::String(value.clone()))).collect();
    let mut put = |key: &str, value: Value| {
        view.insert(key.to_owned(), value);
    };
    put("id", json!(image.id));
    put("name", json!(image.name));
    put("status", json!(image.status.as_str()));
    put("visibility", json!(image.visibility.as_str()));
    put("owner", json!(image.project_id));
    put("protected", json!(image.protected));
    put("disk_format", json!(image.disk_format));
    put("container_format", json!(image.container_format));
    put("size", json!(image.size_bytes));
    put("virtual_size", json!(image.virtual_bytes));
    put("min_disk", json!(image.min_disk_gib));
    put("min_ram", json!(image.min_ram_mib));
    put("checksum", json!(image.checksum));
    put("os_hash_algo", json!(image.hash_value.as_ref().map(|_| "sha512")));
    put("os_hash_value", json!(image.hash_value));
    put("os_hidden", json!(false));
    put("tags", json!(image.tags));
    put("created_at", json!(time(image.created_at_us)));
    put("updated_at", json!(time(image.updated_at_us.unwrap_or(image.created_at_us))));
    put("self", json!(format!("/v2/images/{}", image.id)));
    put("file", json!(format!("/v2/images/{}/file", image.id)));
    put("schema", json!("/v2/schemas/image"));
    Value::Object(view)
}

/// A project that an image was offered to.
pub(super) fn member(member: &ImageMember, image: &Image) -> Value {
    json!({
        "image_id": member.image_id,
        "member_id": member.project_id,
        "status": member.status.as_str(),
        "created_at": time(image.created_at_us),
        "updated_at": time(image.updated_at_us.unwrap_or(image.created_at_us)),
        "schema": "/v2/schemas/member",
    })
}

/// The image service's form of a time.
fn time(us: i64) -> String {
    jiff::Timestamp::from_microsecond(us).map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default()
}
