//! Connection info of NFS: export and file.

use super::{ConnectionInfoError, Fields, Parsed, bad, flag, read_only, text};
use crate::model::{DiskFormat, NfsConnection, NfsExport, Portal};

/// As Cinder's NFS driver writes it: `export` is `SERVER:/PATH`, `name` the file below it, `format` its format.
pub(super) fn nfs(mut fields: Fields) -> Parsed<NfsConnection> {
    let Some(export) = text(&mut fields, "export")? else { return bad("export", "is missing") };
    let Some(file) = text(&mut fields, "name")? else { return bad("name", "is missing") };
    if file.is_empty() || file.len() > 255 || file.starts_with(['.', '-']) || file.chars().any(|c| c == '/' || c.is_control()) {
        return bad("name", "is not a file name");
    }
    let format = match text(&mut fields, "format")?.as_deref() {
        Some("raw") => DiskFormat::Raw,
        Some("qcow2") => DiskFormat::Qcow2,
        Some(_) => return bad("format", "is neither raw nor qcow2"),
        None => return bad("format", "is missing, and a format is never guessed"),
    };
    Ok(NfsConnection {
        export: nfs_export(&export)?,
        file,
        format,
        options: text(&mut fields, "options")?.filter(|options| !options.trim().is_empty()),
        read_only: read_only(&mut fields)?,
        discard: flag(&fields, "discard")?,
        encrypted: flag(&fields, "encrypted")?,
    })
}

fn nfs_export(export: &str) -> Parsed<NfsExport> {
    let problem = ConnectionInfoError { key: "export", problem: "is not SERVER:/PATH" };
    let (server, path) = match export.strip_prefix('[') {
        Some(rest) => rest.split_once("]:").ok_or_else(|| problem.clone())?,
        None => export.split_once(':').ok_or_else(|| problem.clone())?,
    };
    let server_is_plain = server.parse::<Portal>().is_ok_and(|portal| portal.host == server);
    let path_is_plain = path.starts_with('/')
        && path.len() <= 1024
        && !path.split('/').any(|part| part == "..")
        && !path.chars().any(char::is_control);
    if server_is_plain && path_is_plain { Ok(NfsExport { server: server.into(), path: path.into() }) } else { Err(problem) }
}
