//! Connection info of iSCSI: paths and CHAP.

use super::{ConnectionInfoError, Fields, PATHS_MAX, Parsed, bad, flag, list, read_only, read_portal, text};
use crate::model::{ChapCredentials, IscsiConnection, IscsiPath, Secret};
use serde_json::Value;

/// Longest iSCSI name, in bytes (RFC 3720, 3.2.6.1).
const ISCSI_NAME_MAX: usize = 223;
/// Longest CHAP user or password that open-iscsi takes (its `AUTH_STR_MAX_LEN` is 256 with the final NUL).
const CHAP_MAX: usize = 255;
/// Longest unit serial number: VPD page 0x80 has one length byte (SPC-4, 7.8.15).
const SERIAL_MAX: usize = 255;

pub(super) fn iscsi(mut fields: Fields) -> Parsed<IscsiConnection> {
    let read_only = read_only(&mut fields)?;
    Ok(IscsiConnection {
        paths: paths(&mut fields)?,
        chap: chap(&mut fields)?,
        read_only,
        discard: flag(&fields, "discard")?,
        encrypted: flag(&fields, "encrypted")?,
        serial: serial(&mut fields)?,
    })
}

/// The plural keys list every path and normally repeat the singular one, which the backend prefers: it goes first.
fn paths(fields: &mut Fields) -> Parsed<Vec<IscsiPath>> {
    let portal = text(fields, "target_portal")?;
    let iqn = text(fields, "target_iqn")?;
    let default_lun =
        fields.get("target_lun").filter(|value| !value.is_null()).map(|value| lun("target_lun", value)).transpose()?;
    let mut paths = Vec::new();
    match (portal, iqn) {
        (Some(portal), Some(iqn)) => {
            let Some(lun) = default_lun else { return bad("target_lun", "is missing") };
            paths.push(IscsiPath {
                portal: read_portal("target_portal", &portal)?,
                iqn: checked_name("target_iqn", iqn)?,
                lun,
            });
        }
        (Some(_), None) => return bad("target_iqn", "is missing"),
        (None, Some(_)) => return bad("target_portal", "is missing"),
        (None, None) => {}
    }
    let portals = list(fields, "target_portals")?;
    let iqns = list(fields, "target_iqns")?;
    let luns = list(fields, "target_luns")?;
    if portals.len() != iqns.len() {
        return bad("target_iqns", "is not as long as target_portals");
    }
    if !luns.is_empty() && luns.len() != portals.len() {
        return bad("target_luns", "is not as long as target_portals");
    }
    if portals.len() > PATHS_MAX {
        return bad("target_portals", "names more paths than can be");
    }
    let mut luns = luns.into_iter();
    for (portal, iqn) in portals.into_iter().zip(iqns) {
        let (Value::String(portal), Value::String(iqn)) = (portal, iqn) else {
            return bad("target_portals", "and target_iqns must hold only texts");
        };
        let lun = match (luns.next(), default_lun) {
            (Some(value), _) => lun("target_luns", &value)?,
            (None, Some(lun)) => lun,
            (None, None) => return bad("target_luns", "is missing"),
        };
        let path = IscsiPath { portal: read_portal("target_portals", &portal)?, iqn: checked_name("target_iqns", iqn)?, lun };
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return bad("target_portal", "is missing");
    }
    Ok(paths)
}

fn chap(fields: &mut Fields) -> Parsed<Option<ChapCredentials>> {
    match text(fields, "auth_method")?.as_deref() {
        None | Some("" | "None" | "null") => return Ok(None),
        Some("CHAP") => {}
        Some(_) => return bad("auth_method", "is not CHAP, the only one supported"),
    }
    let mut credential = |key| match text(fields, key)? {
        None => bad(key, "is missing"),
        Some(value) if value.is_empty() => bad(key, "is empty"),
        Some(value) if value.len() > CHAP_MAX => bad(key, "is longer than 255 bytes"),
        // It becomes a line of a node record; a line feed would start a setting of its own.
        Some(value) if value.chars().any(char::is_control) => bad(key, "has control characters"),
        Some(value) => Ok(value),
    };
    let username = credential("auth_username")?;
    Ok(Some(ChapCredentials { username, password: Secret::new(credential("auth_password")?) }))
}

/// `scsi_serial` is `bowline-backend`'s own addition: the serial number its LUN answers with. Others ignore the key.
fn serial(fields: &mut Fields) -> Parsed<Option<String>> {
    match text(fields, "scsi_serial")? {
        None => Ok(None),
        Some(value) if value.trim().is_empty() => Ok(None),
        Some(value) if value.len() > SERIAL_MAX || !value.chars().all(|c| c == ' ' || c.is_ascii_graphic()) => {
            bad("scsi_serial", "is not a SCSI serial number")
        }
        Some(value) => Ok(Some(value.trim().to_owned())),
    }
}

fn lun(key: &'static str, value: &Value) -> Parsed<u64> {
    let number = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(digits) if digits.chars().all(|c| c.is_ascii_digit()) => digits.parse().ok(),
        _ => None,
    };
    number.ok_or(ConnectionInfoError { key, problem: "is not a logical unit number" })
}

fn checked_name(key: &'static str, name: String) -> Parsed<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '.' | '_' | '-');
    let known = ["iqn.", "eui.", "naa."].iter().any(|prefix| name.starts_with(prefix) && name.len() > prefix.len());
    if known && name.len() <= ISCSI_NAME_MAX && name.chars().all(plain) {
        Ok(name)
    } else {
        bad(key, "is not an iSCSI name (iqn., eui. or naa., then letters, digits and :._-)")
    }
}
