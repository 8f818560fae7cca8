//! `--block-device key=value,…`, as `openstack server create` has it, with the shorter keys of the older `nova boot` beside.

use super::{MappingError, entry::Entry};
use serde_json::{Map, Value};

/// The older keys, and what they are called now.
const OLDER: [(&str, &str); 9] = [
    ("source", "source_type"),
    ("dest", "destination_type"),
    ("id", "uuid"),
    ("bus", "disk_bus"),
    ("type", "device_type"),
    ("device", "device_name"),
    ("size", "volume_size"),
    ("format", "guest_format"),
    ("bootindex", "boot_index"),
];

/// Reads a clause that errors call `name`.
pub(super) fn read(name: String, clause: &str) -> Result<Entry, MappingError> {
    let mut fields = Map::new();
    for pair in clause.split(',').filter(|pair| !pair.trim().is_empty()) {
        let wrong = |field: &str, problem: &str| MappingError::Field {
            entry: name.clone(),
            field: field.chars().filter(|c| !c.is_control()).take(64).collect(),
            problem: problem.to_owned(),
        };
        let Some((key, value)) = pair.split_once('=') else {
            return Err(wrong(pair.trim(), "has no value: a clause is KEY=VALUE,KEY=VALUE,…"));
        };
        let (key, value) = (key.trim(), value.trim());
        let (key, value) = match (key, value) {
            ("shutdown", "remove") => ("delete_on_termination", Value::Bool(true)),
            ("shutdown", "preserve") => ("delete_on_termination", Value::Bool(false)),
            ("shutdown", _) => return Err(wrong(key, "must be remove or preserve")),
            _ => (OLDER.iter().find(|(older, _)| *older == key).map_or(key, |(_, now)| now), Value::from(value)),
        };
        if fields.insert(key.to_owned(), value).is_some() {
            return Err(wrong(key, "is given twice"));
        }
    }
    Entry::read(name, fields)
}
