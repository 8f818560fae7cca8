//! `bowline boot`: its friendly forms are entries of a block device mapping, which the agent judges.

use super::{args::BootArgs, client::Request, error::CliError};
use serde_json::{Value, json};
use std::{collections::HashMap, io};
use zbus::Variant;

/// The request that the arguments make.
pub fn boot_request(args: &BootArgs) -> Result<Request, CliError> {
    let mut options: HashMap<&'static str, Variant<'static>> = HashMap::new();
    let mut entries: Vec<Value> = Vec::new();
    let root = |source: &str, uuid: &str| {
        let mut entry = json!({ "source_type": source, "destination_type": "volume", "uuid": uuid, "boot_index": 0 });
        if let Some(fields) = entry.as_object_mut() {
            fields.extend(args.size.map(|size| ("volume_size".to_owned(), size.into())));
            if args.delete_on_termination {
                fields.insert("delete_on_termination".to_owned(), true.into());
            }
        }
        entry
    };
    match (&args.image, &args.volume, &args.snapshot) {
        (Some(image), ..) if args.to == "volume" => entries.push(root("image", image)),
        (Some(image), ..) => {
            options.insert("image", image.clone().into());
            options.extend(args.size.map(|size| ("image-size-gib", size.into())));
        }
        (None, Some(volume), _) => entries.push(root("volume", volume)),
        (None, None, Some(snapshot)) => entries.push(root("snapshot", snapshot)),
        (None, None, None) => {}
    }
    options.extend(definition(args)?);
    if let Some(file) = &args.mapping {
        let unusable = |reason: String| CliError::File { file: file.clone(), reason };
        let text = std::fs::read_to_string(file).map_err(|error| unusable(error.to_string()))?;
        let given: Vec<Value> =
            serde_json::from_str(&text).map_err(|error| unusable(format!("it is no JSON list: {error}")))?;
        entries.extend(given);
    }
    if !entries.is_empty() {
        options.insert("mapping", Value::from(entries).to_string().into());
    }
    if !args.block_device.is_empty() {
        options.insert("block-devices", args.block_device.clone().into());
    }
    if args.lazy {
        options.insert("lazy", true.into());
    }
    Ok(Request { kind: "boot", volume: String::new(), guest: args.guest.clone(), size_gib: 0, options })
}

/// What says how the guest is to be defined.
fn definition(args: &BootArgs) -> Result<Vec<(&'static str, Variant<'static>)>, CliError> {
    let mut options: Vec<(&'static str, Variant<'static>)> = Vec::new();
    if let Some(file) = &args.xml {
        let read = if file.as_os_str() == "-" { io::read_to_string(io::stdin()) } else { std::fs::read_to_string(file) };
        let text = read.map_err(|error| CliError::File { file: file.clone(), reason: error.to_string() })?;
        options.push(("xml", text.into()));
    }
    options.extend(args.memory.map(|memory| ("memory-mib", memory.into())));
    options.extend(args.vcpus.map(|vcpus| ("vcpus", vcpus.into())));
    if !args.network.is_empty() {
        options.push(("networks", args.network.clone().into()));
    }
    options.extend(args.virt_type.clone().map(|virt_type| ("virt-type", virt_type.into())));
    options.extend(args.arch.clone().map(|arch| ("arch", arch.into())));
    options.extend(args.machine.clone().map(|machine| ("machine", machine.into())));
    Ok(options)
}
