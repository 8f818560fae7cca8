//! What clients say of an image: one field at a time, in a body or as JSON patches (RFC 6902, as far as the field's service has it).

use std::collections::BTreeSet;

use serde_json::Value;

use super::errors::ImageError;
use crate::domain::Refusal;
use crate::domain::{Image, ImageStatus, Visibility};
use crate::image::Format;

/// The longest name, key or value, in characters.
const LONGEST_TEXT: usize = 255;
/// The longest value of a property, in bytes, and so many properties and tags.
const LONGEST_VALUE: usize = 65_535;
const MOST_PROPERTIES: usize = 128;

/// What only the service says.
const READ_ONLY: [&str; 17] = [
    "id",
    "status",
    "owner",
    "size",
    "virtual_size",
    "checksum",
    "os_hash_algo",
    "os_hash_value",
    "created_at",
    "updated_at",
    "self",
    "file",
    "schema",
    "direct_url",
    "locations",
    "stores",
    "os_hidden",
];
/// What an image has whether anybody says so or not.
const BASE: [&str; 8] = ["name", "visibility", "protected", "disk_format", "container_format", "min_disk", "min_ram", "tags"];
const CONTAINERS: [&str; 8] = ["bare", "ovf", "ova", "ami", "aki", "ari", "docker", "compressed"];

/// Sets one field. The caller has seen to `id` and `owner`, which only a new image may be given.
pub(super) fn set(image: &mut Image, key: &str, value: Value) -> Result<(), ImageError> {
    let wrong = |what: &str| ImageError::bad(format!("Invalid value for {key}: {what}"));
    match key {
        "name" => image.name = optional_text(value).ok_or_else(|| wrong("it must be text of at most 255 characters"))?,
        "visibility" => {
            let word = value.as_str().and_then(Visibility::parse);
            image.visibility = word.ok_or_else(|| wrong("it must be public, community, shared or private"))?;
        }
        "protected" => image.protected = value.as_bool().ok_or_else(|| wrong("it must be true or false"))?,
        "min_disk" => image.min_disk_gib = small(&value).ok_or_else(|| wrong("it must be a number from 0 to 2147483647"))?,
        "min_ram" => image.min_ram_mib = small(&value).ok_or_else(|| wrong("it must be a number from 0 to 2147483647"))?,
        "disk_format" => {
            while_queued(image, key)?;
            let word = optional_text(value).ok_or_else(|| wrong("it must be text"))?;
            if word.as_deref().is_some_and(|word| Format::parse(word).is_none()) {
                return Err(wrong("raw, qcow2, vmdk, vdi, vhd, vhdx, iso, ami, ari and aki are supported here"));
            }
            image.disk_format = word;
        }
        "container_format" => {
            while_queued(image, key)?;
            let word = optional_text(value).ok_or_else(|| wrong("it must be text"))?;
            if word.as_deref().is_some_and(|word| !CONTAINERS.contains(&word)) {
                return Err(wrong("it is not one of bare, ovf, ova, ami, aki, ari, docker, compressed"));
            }
            image.container_format = word;
        }
        "tags" => {
            let Value::Array(words) = value else { return Err(wrong("it must be a list of words")) };
            let words = words.into_iter().map(|word| optional_text(word).flatten()).collect::<Option<BTreeSet<_>>>();
            image.tags = words.ok_or_else(|| wrong("it must be a list of words of at most 255 characters"))?;
        }
        _ if READ_ONLY.contains(&key) => return Err(ImageError::forbidden(format!("Attribute '{key}' is read-only."))),
        _ => {
            let Value::String(text) = value else { return Err(wrong("properties are text")) };
            if key.is_empty() || key.chars().count() > LONGEST_TEXT || text.len() > LONGEST_VALUE {
                return Err(wrong("a property's name or value is empty or too long"));
            }
            image.properties.insert(key.to_owned(), text);
        }
    }
    if image.properties.len() > MOST_PROPERTIES || image.tags.len() > MOST_PROPERTIES {
        let status = axum::http::StatusCode::PAYLOAD_TOO_LARGE;
        return Err(ImageError(status, format!("An image has at most {MOST_PROPERTIES} properties and as many tags")));
    }
    Ok(())
}

fn while_queued(image: &Image, key: &str) -> Result<(), ImageError> {
    if image.status == ImageStatus::Queued {
        return Ok(());
    }
    Err(ImageError::forbidden(format!("Attribute {key} can be only replaced for a queued image.")))
}

/// One of the patches that a client sends.
#[derive(Debug)]
pub(super) struct Patch {
    op: Op,
    key: String,
    value: Value,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    Add,
    Replace,
    Remove,
}

/// Reads the list of patches.
pub(super) fn patches(body: &[u8]) -> Result<Vec<Patch>, ImageError> {
    let Ok(Value::Array(list)) = serde_json::from_slice(body) else {
        return Err(ImageError::bad("Request body must be a JSON array of operation objects."));
    };
    list.into_iter().map(patch).collect()
}

/// Fuzz target: a list of patches. What one is about is a name, and never a way through other values.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_image_patch(data: &[u8]) {
    for patch in patches(data).unwrap_or_default() {
        assert!(!patch.key.is_empty(), "{patch:?}");
    }
}

fn patch(one: Value) -> Result<Patch, ImageError> {
    let Value::Object(mut one) = one else { return Err(ImageError::bad("Operations must be JSON objects.")) };
    let named = ["add", "replace", "remove"].into_iter().find(|op| one.contains_key(*op));
    // `{"replace": "/name", "value": …}` is how the first drafts wrote it.
    let op = one.get("op").and_then(Value::as_str).or(named).unwrap_or_default().to_owned();
    let path = one.get("path").or_else(|| named.and_then(|op| one.get(op))).and_then(Value::as_str).unwrap_or_default();
    let key = path.strip_prefix('/').filter(|key| !key.is_empty() && !key.contains('/')).map(unescaped);
    let key = key.ok_or_else(|| ImageError::bad(format!("Invalid JSON pointer for this resource: '{path}'")))?;
    let op = match op.as_str() {
        "add" => Op::Add,
        "replace" => Op::Replace,
        "remove" => Op::Remove,
        _ => return Err(ImageError::bad("Operations must have one of: add, replace, remove.")),
    };
    match one.remove("value") {
        Some(value) => Ok(Patch { op, key, value }),
        None if op == Op::Remove => Ok(Patch { op, key, value: Value::Null }),
        None => Err(ImageError::bad(format!("Operation \"{}\" requires a member named \"value\".", key))),
    }
}

/// RFC 6901: `~1` is a slash, `~0` a tilde.
fn unescaped(key: &str) -> String {
    key.replace("~1", "/").replace("~0", "~")
}

/// Applies one patch.
pub(super) fn apply(image: &mut Image, patch: Patch, is_admin: bool) -> Result<(), ImageError> {
    let Patch { op, key, value } = patch;
    let is_base = BASE.contains(&key.as_str()) || READ_ONLY.contains(&key.as_str());
    match op {
        Op::Remove if is_base => Err(ImageError::forbidden(format!("Property {key} may not be removed."))),
        Op::Remove => match image.properties.remove(&key) {
            Some(_) => Ok(()),
            None => Err(ImageError::conflict(format!("Property {key} does not exist."))),
        },
        Op::Replace if !is_base && !image.properties.contains_key(&key) => {
            Err(ImageError::conflict(format!("Property {key} does not exist.")))
        }
        _ if key == "owner" && is_admin => match optional_text(value).flatten() {
            Some(owner) => {
                image.project_id = owner;
                Ok(())
            }
            None => Err(ImageError::bad("Invalid value for owner")),
        },
        // Clients repeat what they see.
        _ if key == "os_hidden" && value == Value::Bool(false) => Ok(()),
        _ => set(image, &key, value),
    }
}

/// What a change is refused with, carried through the database's own error.
pub(super) fn as_refusal(error: ImageError, kept: &mut Option<ImageError>) -> Refusal {
    let text = error.1.clone();
    *kept = Some(error);
    Refusal::Invalid(text)
}

/// Text of at most 255 characters, or none.
fn optional_text(value: Value) -> Option<Option<String>> {
    match value {
        Value::Null => Some(None),
        Value::String(text) if text.chars().count() <= LONGEST_TEXT => Some(Some(text)),
        _ => None,
    }
}

fn small(value: &Value) -> Option<u64> {
    value.as_u64().filter(|number| *number <= 2_147_483_647)
}
