//! `bowline boot`: its friendly forms are entries of a block device mapping, which the agent judges.

use super::{args::BootArgs, client::Request, error::CliError};
use serde_json::{Value, json};
use std::{collections::HashMap, io, path::Path};
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
        let given: Vec<Value> = serde_json::from_str(&read(file)?).map_err(|error| not_json(file, &error))?;
        entries.extend(given);
    }
    let mut clauses: Vec<String> = vec![];
    for given in &args.block_device {
        match block_device(given)? {
            Some(given) => entries.extend(given),
            None => clauses.push(given.clone()),
        }
    }
    if !entries.is_empty() {
        options.insert("mapping", Value::from(entries).to_string().into());
    }
    if !clauses.is_empty() {
        options.insert("block-devices", clauses.into());
    }
    if args.lazy {
        options.insert("lazy", true.into());
    }
    Ok(Request { kind: "boot", volume: String::new(), guest: args.guest.clone(), size_gib: 0, options })
}

/// The text of a file, or of standard input (`-`).
fn read(file: &Path) -> Result<String, CliError> {
    let read = if file.as_os_str() == "-" { io::read_to_string(io::stdin()) } else { std::fs::read_to_string(file) };
    read.map_err(|error| CliError::File { file: file.to_owned(), reason: error.to_string() })
}

fn not_json(file: &Path, error: &serde_json::Error) -> CliError {
    CliError::File { file: file.to_owned(), reason: format!("it is no JSON list: {error}") }
}

/// The entries of a `--block-device` that is JSON, or the name of a file with that: an entry, or a list of them. `None`: it is a clause.
fn block_device(given: &str) -> Result<Option<Vec<Value>>, CliError> {
    let (name, text) = if given.trim_start().starts_with(['{', '[']) {
        (Path::new("--block-device"), given.to_owned())
    } else if given.contains('=') && !given.ends_with(".json") {
        return Ok(None);
    } else {
        let file = Path::new(given.strip_prefix("file://").unwrap_or(given));
        (file, read(file)?)
    };
    match serde_json::from_str(&text).map_err(|error| not_json(name, &error))? {
        Value::Array(entries) => Ok(Some(entries)),
        entry => Ok(Some(vec![entry])),
    }
}

/// What says how the guest is to be defined.
fn definition(args: &BootArgs) -> Result<Vec<(&'static str, Variant<'static>)>, CliError> {
    let mut options: Vec<(&'static str, Variant<'static>)> = Vec::new();
    if let Some(file) = &args.xml {
        options.push(("xml", read(file)?.into()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Command};
    use clap::Parser;

    fn boot(arguments: &[&str]) -> Result<BootArgs, clap::Error> {
        let all = ["bowline", "boot", "g"].iter().chain(arguments);
        match Cli::try_parse_from(all)?.command {
            Command::Boot(args) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    fn mapping(request: &Request) -> Value {
        serde_json::from_str(&String::try_from(request.options["mapping"].try_clone().unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn block_devices_are_clauses_json_or_files_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("disk=1.json");
        std::fs::write(&file, r#"[{"source_type": "blank", "volume_size": 2}]"#).unwrap();
        let file = file.to_str().unwrap();
        let inline = r#"{"source_type": "blank", "volume_size": 1}"#;
        let given = ["--image", "i", "--block-device", "uuid=v", "--block-device", inline, "--block-device", file];
        let request = boot_request(&boot(&given).unwrap()).unwrap();
        let expected = json!([{"source_type": "blank", "volume_size": 1}, {"source_type": "blank", "volume_size": 2}]);
        assert_eq!(mapping(&request), expected);
        let clauses = Vec::<String>::try_from(request.options["block-devices"].try_clone().unwrap()).unwrap();
        assert_eq!(clauses, ["uuid=v"]);
        for broken in ["{", "/no/such/file.json"] {
            let error = boot_request(&boot(&["--block-device", broken]).unwrap()).err().unwrap().to_string();
            assert!(error.contains("--block-device") || error.contains("/no/such/file.json"), "{error}");
        }
    }

    #[test]
    fn what_says_something_of_the_root_disk_needs_one() {
        for lonely in [&["--delete-on-termination"][..], &["--size", "1"], &["--lazy"]] {
            for beside in [&["--mapping", "m"][..], &["--block-device", "uuid=v"]] {
                let error = boot(&[lonely, beside].concat()).unwrap_err();
                assert_eq!(error.kind(), clap::error::ErrorKind::MissingRequiredArgument, "{lonely:?} {beside:?}");
            }
        }
        assert!(boot(&["--volume", "v", "--delete-on-termination"]).is_ok());
        assert!(boot(&["--image", "i", "--volume", "v"]).is_err());
    }
}
