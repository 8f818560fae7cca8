//! Connection info of iSCSI: paths, or whom to ask for them, and CHAP.
//!
//! | the service names | what is read |
//! | --- | --- |
//! | portals and targets, in lists | these paths |
//! | one portal and one target | that path, and whom to ask for more |
//! | a portal and no target | whom to ask |

use super::{ConnectionInfoError, Fields, PATHS_MAX, Parsed, bad, flag, list, read_only, read_portal, text};
use crate::model::{ChapCredentials, IscsiConnection, IscsiDiscovery, IscsiPath, Secret};
use serde_json::Value;

/// Longest iSCSI name, in bytes (RFC 3720, 3.2.6.1).
const ISCSI_NAME_MAX: usize = 223;
/// Longest CHAP user or password that open-iscsi takes (its `AUTH_STR_MAX_LEN` is 256 with the final NUL).
const CHAP_MAX: usize = 255;
/// Longest unit serial number: VPD page 0x80 has one length byte (SPC-4, 7.8.15).
const SERIAL_MAX: usize = 255;

pub(super) fn iscsi(mut fields: Fields) -> Parsed<IscsiConnection> {
    let read_only = read_only(&mut fields)?;
    let mode = Addressing::read(&mut fields)?;
    let discovery_chap = chap(&mut fields, &DISCOVERY_KEYS)?;
    let (paths, discovery) = paths(&mut fields, mode, discovery_chap)?;
    Ok(IscsiConnection {
        paths,
        discovery,
        chap: chap(&mut fields, &TARGET_KEYS)?,
        read_only,
        discard: flag(&fields, "discard")?,
        encrypted: flag(&fields, "encrypted")?,
        serial: serial(&mut fields)?,
    })
}

/// The plural keys list every path and normally repeat the singular one, which the backend prefers: it goes first.
fn paths(
    fields: &mut Fields,
    mode: Addressing,
    discovery_chap: Option<ChapCredentials>,
) -> Parsed<(Vec<IscsiPath>, Option<IscsiDiscovery>)> {
    let portal = text(fields, "target_portal")?.map(|portal| read_portal("target_portal", &portal)).transpose()?;
    let iqn = text(fields, "target_iqn")?.map(|iqn| checked_name("target_iqn", iqn)).transpose()?;
    let lun =
        fields.get("target_lun").filter(|value| !value.is_null()).map(|value| mode.lun("target_lun", value)).transpose()?;
    let portals = list(fields, "target_portals")?;
    let iqns = list(fields, "target_iqns")?;
    let luns = list(fields, "target_luns")?;
    if portals.len() > PATHS_MAX {
        return bad("target_portals", "names more paths than can be");
    }
    if iqns.is_empty() {
        let portal = match (portal, portals.into_iter().next()) {
            (Some(portal), _) => portal,
            (None, Some(Value::String(first))) => read_portal("target_portals", &first)?,
            (None, Some(_)) => return bad("target_portals", "must hold only texts"),
            (None, None) => return bad("target_portal", "is missing"),
        };
        let Some(lun) = lun else { return bad("target_lun", "is missing") };
        let named = iqn.iter().map(|iqn| IscsiPath { portal: portal.clone(), iqn: iqn.clone(), lun }).collect();
        return Ok((named, Some(IscsiDiscovery { portal, iqn, lun, chap: discovery_chap })));
    }
    if portals.len() != iqns.len() {
        return bad("target_iqns", "is not as long as target_portals");
    }
    if !luns.is_empty() && luns.len() != portals.len() {
        return bad("target_luns", "is not as long as target_portals");
    }
    let mut paths = Vec::new();
    match (portal, iqn) {
        (Some(portal), Some(iqn)) => {
            let Some(lun) = lun else { return bad("target_lun", "is missing") };
            paths.push(IscsiPath { portal, iqn, lun });
        }
        (Some(_), None) => return bad("target_iqn", "is missing"),
        (None, Some(_)) => return bad("target_portal", "is missing"),
        (None, None) => {}
    }
    let mut luns = luns.into_iter();
    for (portal, iqn) in portals.into_iter().zip(iqns) {
        let (Value::String(portal), Value::String(iqn)) = (portal, iqn) else {
            return bad("target_portals", "and target_iqns must hold only texts");
        };
        let lun = match (luns.next(), lun) {
            (Some(value), _) => mode.lun("target_luns", &value)?,
            (None, Some(lun)) => lun,
            (None, None) => return bad("target_luns", "is missing"),
        };
        let path = IscsiPath { portal: read_portal("target_portals", &portal)?, iqn: checked_name("target_iqns", iqn)?, lun };
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    Ok((paths, None))
}

/// Where the credentials of a login are.
struct ChapKeys {
    method: &'static str,
    username: &'static str,
    password: &'static str,
}

const TARGET_KEYS: ChapKeys = ChapKeys { method: "auth_method", username: "auth_username", password: "auth_password" };
const DISCOVERY_KEYS: ChapKeys =
    ChapKeys { method: "discovery_auth_method", username: "discovery_auth_username", password: "discovery_auth_password" };

fn chap(fields: &mut Fields, keys: &ChapKeys) -> Parsed<Option<ChapCredentials>> {
    match text(fields, keys.method)?.as_deref() {
        None | Some("" | "None" | "null") => return Ok(None),
        Some("CHAP") => {}
        Some(_) => return bad(keys.method, "is not CHAP, the only one supported"),
    }
    let mut credential = |key| match text(fields, key)? {
        None => bad(key, "is missing"),
        Some(value) if value.is_empty() => bad(key, "is empty"),
        Some(value) if value.len() > CHAP_MAX => bad(key, "is longer than 255 bytes"),
        // It becomes a line of a node record; a line feed would start a setting of its own.
        Some(value) if value.chars().any(char::is_control) => bad(key, "has control characters"),
        Some(value) => Ok(value),
    };
    let username = credential(keys.username)?;
    Ok(Some(ChapCredentials { username, password: Secret::new(credential(keys.password)?) }))
}

/// How an array spells its LUN numbers (`addressing_mode`, with os-brick's words). The kernel takes the number that results: it puts the
/// low 16 bits first on the wire, whose two highest bits are the method (SAM-3, 4.6.7 and 4.6.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Addressing {
    /// `SAM`, `transparent`, or none given: the number as it is.
    Plain,
    /// `SAM2`: peripheral below 256, flat space from there on.
    Sam2,
    /// `SAM3-flat`: always flat space.
    Flat,
}

impl Addressing {
    /// The method bits 01b: flat space.
    const FLAT_SPACE: u64 = 0x4000;

    fn read(fields: &mut Fields) -> Parsed<Self> {
        match text(fields, "addressing_mode")?.as_deref() {
            None | Some("" | "SAM" | "transparent") => Ok(Self::Plain),
            Some("SAM2") => Ok(Self::Sam2),
            Some("SAM3-flat") => Ok(Self::Flat),
            Some(_) => bad("addressing_mode", "is none of SAM, SAM2, SAM3-flat, transparent"),
        }
    }

    fn lun(self, key: &'static str, value: &Value) -> Parsed<u64> {
        let number = lun(key, value)?;
        match self {
            Self::Plain => Ok(number),
            Self::Sam2 if number < 256 => Ok(number),
            Self::Sam2 | Self::Flat if number < Self::FLAT_SPACE => Ok(Self::FLAT_SPACE | number),
            Self::Sam2 | Self::Flat => bad(key, "is more than flat space addressing can say (16383)"),
        }
    }
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
