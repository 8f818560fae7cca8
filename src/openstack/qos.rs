//! What connection info says of a disk beside how to reach it: QoS specs, block sizes, encryption. Cinder adds these to every
//! driver's, under the same names.

use super::connection_info::ConnectionInfoError;
use crate::model::{BlockSizes, VolumeTraits};
use serde_json::{Map, Value};

/// More QoS specs than any volume type has; a bound on what a broken service can have the agent keep.
const SPECS_MAX: usize = 64;
/// Longest key or value of one that is kept, bytes: Cinder's own bound.
const SPEC_BYTES_MAX: usize = 255;

type Parsed<T> = Result<T, ConnectionInfoError>;

fn bad<T>(key: &'static str, problem: &'static str) -> Parsed<T> {
    Err(ConnectionInfoError { key, problem })
}

/// Reads them from either form of connection info, and takes nothing out of it.
pub(super) fn parse(connection_info: &Value) -> Parsed<VolumeTraits> {
    let Value::Object(fields) = connection_info else { return Ok(VolumeTraits::default()) };
    let fields = match fields.get("data") {
        Some(Value::Object(data)) => data,
        _ => fields,
    };
    let block_sizes =
        BlockSizes::checked(block_size(fields, "logical_block_size")?, block_size(fields, "physical_block_size")?)
            .map_err(|(key, problem)| ConnectionInfoError { key, problem })?;
    Ok(VolumeTraits { qos_specs: qos_specs(fields)?, block_sizes, encrypted: encrypted(fields)? })
}

/// Cinder sends only the specs whose consumer is `front-end` or `both`, as texts, and `null` where there are none. A service that
/// says the consumer beside them is believed.
fn qos_specs(fields: &Map<String, Value>) -> Parsed<Vec<(String, String)>> {
    const KEY: &str = "qos_specs";
    let specs = match fields.get(KEY) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(specs)) => specs,
        Some(_) => return bad(KEY, "is not an object"),
    };
    if specs.len() > SPECS_MAX {
        return bad(KEY, "holds more than any volume type has");
    }
    if specs.get("consumer").and_then(Value::as_str) == Some("back-end") {
        return Ok(Vec::new());
    }
    let specs = match specs.get("specs") {
        Some(Value::Object(inner)) => inner,
        _ => specs,
    };
    let mut found = Vec::with_capacity(specs.len());
    for (key, value) in specs {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            // The storage's own; what limits something here is a number.
            _ => continue,
        };
        if key.len() > SPEC_BYTES_MAX || value.len() > SPEC_BYTES_MAX {
            return bad(KEY, "holds a key or value of more than 255 bytes");
        }
        found.push((key.clone(), value));
    }
    Ok(found)
}

fn block_size(fields: &Map<String, Value>, key: &'static str) -> Parsed<Option<u32>> {
    let number = match fields.get(key) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(text)) => text.parse().ok(),
        Some(_) => None,
    };
    match number.and_then(|number| u32::try_from(number).ok()) {
        Some(size) => Ok(Some(size)),
        None => bad(key, "is not a number of bytes"),
    }
}

fn encrypted(fields: &Map<String, Value>) -> Parsed<bool> {
    match fields.get("encrypted") {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(Value::String(value)) if value.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(value)) if value.eq_ignore_ascii_case("false") => Ok(false),
        Some(_) => bad("encrypted", "is neither true nor false"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cinders_forms_are_read() {
        let flat = json!({"driver_volume_type": "rbd", "encrypted": true, "physical_block_size": "4096",
            "qos_specs": {"read_iops_sec": "100", "total_bytes_sec": 7}});
        let traits = parse(&flat).unwrap();
        assert!(traits.encrypted && traits.block_sizes.physical == Some(4096) && traits.block_sizes.logical.is_none());
        assert_eq!(traits.qos_specs, [("read_iops_sec".into(), "100".into()), ("total_bytes_sec".into(), "7".into())]);
        assert_eq!(parse(&json!({"driver_volume_type": "rbd", "data": flat})).unwrap(), traits);
        for nothing in [json!(null), json!({}), json!({"qos_specs": null, "encrypted": null})] {
            assert_eq!(parse(&nothing).unwrap(), VolumeTraits::default());
        }
    }

    #[test]
    fn specs_for_the_storage_alone_are_not_the_guests() {
        let specs = json!({"consumer": "back-end", "specs": {"total_iops_sec": "5"}});
        assert_eq!(parse(&json!({"qos_specs": specs})).unwrap().qos_specs, []);
        let specs = json!({"consumer": "both", "specs": {"total_iops_sec": "5"}});
        assert_eq!(parse(&json!({"qos_specs": specs})).unwrap().qos_specs.len(), 1);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let many: Map<String, Value> = (0..65).map(|n| (n.to_string(), json!("1"))).collect();
        for (info, key) in [
            (json!({"qos_specs": []}), "qos_specs"),
            (json!({"qos_specs": many}), "qos_specs"),
            (json!({"qos_specs": {"a": "x".repeat(256)}}), "qos_specs"),
            (json!({"encrypted": 1}), "encrypted"),
            (json!({"logical_block_size": -1}), "logical_block_size"),
            (json!({"logical_block_size": 1000}), "logical_block_size"),
        ] {
            assert_eq!(parse(&info).unwrap_err().key, key, "{info}");
        }
    }
}
