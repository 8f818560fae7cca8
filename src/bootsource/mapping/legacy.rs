//! An image's mapping in the form that Nova wrote before `bdm_v2`, read by the rules of its `from_legacy_mapping`: an entry names a
//! snapshot, a volume, or by `virtual_name` a blank disk; the root disk is the one that has the root device's name.

use super::MappingError;
use serde_json::{Map, Value};

/// The root device where the image names none, as Nova has it.
pub(super) const DEFAULT_ROOT: &str = "vda";

/// The same entry as of v2. `None`: it is of no size, so there is no such disk.
pub(super) fn convert(name: &str, mut old: Map<String, Value>, root: &str) -> Result<Option<Map<String, Value>>, MappingError> {
    old.retain(|_, value| !value.is_null());
    let is_set = |field: &str| old.get(field).is_some_and(|value| *value != false && *value != "");
    let virtual_name = old.get("virtual_name").and_then(Value::as_str).unwrap_or_default();
    let is_ephemeral = virtual_name.strip_prefix("ephemeral").is_some_and(|number| number.parse::<u32>().is_ok());
    let (source, destination) = if virtual_name == "swap" || is_ephemeral {
        // Nova takes the size of such a disk from the flavour where the entry has none.
        if old.get("volume_size").is_none_or(|size| *size == 0) {
            return Ok(None);
        }
        ("blank", "local")
    } else if is_set("snapshot_id") {
        ("snapshot", "volume")
    } else if is_set("volume_id") {
        ("volume", "volume")
    } else if is_set("no_device") {
        ("blank", "local")
    } else {
        let problem =
            "the entry is of the form before bdm_v2, and names no snapshot_id, no volume_id and no blank disk".to_owned();
        return Err(MappingError::Field { entry: name.to_owned(), field: "virtual_name".to_owned(), problem });
    };
    let device = old.get("device_name").and_then(Value::as_str);
    let is_root = destination == "volume" && device.is_some_and(|device| plain(device) == plain(root));
    let kept = ["device_name", "delete_on_termination", "snapshot_id", "volume_id", "volume_size", "no_device"];
    let mut new: Map<_, _> = kept.into_iter().filter_map(|field| Some((field.to_owned(), old.get(field)?.clone()))).collect();
    new.insert("source_type".to_owned(), source.into());
    new.insert("destination_type".to_owned(), destination.into());
    if virtual_name == "swap" {
        new.insert("guest_format".to_owned(), "swap".into());
    }
    if is_root {
        new.insert("boot_index".to_owned(), 0.into());
    }
    Ok(Some(new))
}

fn plain(device: &str) -> &str {
    device.strip_prefix("/dev/").unwrap_or(device)
}
