//! Connection info of RBD: image, monitors and cephx.

use super::{Fields, PATHS_MAX, Parsed, bad, flag, list, read_only, read_portal, text};
use crate::model::{CephAuth, Portal, RbdConnection, RbdImage, Secret};
use serde_json::Value;
use uuid::Uuid;

/// As Cinder's RBD driver writes it: `name` is `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`; `hosts` and `ports` go side by side.
pub(super) fn rbd(mut fields: Fields) -> Parsed<RbdConnection> {
    let Some(name) = text(&mut fields, "name")? else { return bad("name", "is missing") };
    let words: Vec<&str> = name.split('/').collect();
    if words.iter().any(|word| !ceph_name(word)) {
        return bad("name", "is not POOL/IMAGE or POOL/NAMESPACE/IMAGE");
    }
    let image = match words.as_slice() {
        [pool, image] => RbdImage { pool: (*pool).into(), namespace: None, name: (*image).into() },
        [pool, namespace, image] => {
            RbdImage { pool: (*pool).into(), namespace: Some((*namespace).into()), name: (*image).into() }
        }
        _ => return bad("name", "is not POOL/IMAGE or POOL/NAMESPACE/IMAGE"),
    };
    let cluster = text(&mut fields, "cluster_name")?.unwrap_or_else(|| "ceph".into());
    if !ceph_name(&cluster) {
        return bad("cluster_name", "is not a plain word");
    }
    Ok(RbdConnection {
        image,
        monitors: monitors(&mut fields)?,
        cluster,
        auth: ceph_auth(&mut fields)?,
        read_only: read_only(&mut fields)?,
        discard: flag(&fields, "discard")?,
        encrypted: flag(&fields, "encrypted")?,
        shared: false,
    })
}

fn monitors(fields: &mut Fields) -> Parsed<Vec<Portal>> {
    let hosts = list(fields, "hosts")?;
    let ports = list(fields, "ports")?;
    if hosts.is_empty() {
        return bad("hosts", "is missing");
    }
    if hosts.len() != ports.len() || hosts.len() > PATHS_MAX {
        return bad("ports", "is not as long as hosts");
    }
    let monitor = |(host, port): (Value, Value)| {
        let Value::String(host) = host else { return bad("hosts", "must hold only texts") };
        let port = match port {
            Value::String(port) => port,
            Value::Number(port) => port.to_string(),
            _ => return bad("ports", "must hold only numbers"),
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let host = if bare.contains(':') { format!("[{bare}]") } else { bare.to_owned() };
        read_portal("hosts", &format!("{host}:{port}"))
    };
    hosts.into_iter().zip(ports).map(monitor).collect()
}

fn ceph_auth(fields: &mut Fields) -> Parsed<Option<CephAuth>> {
    let username = text(fields, "auth_username")?;
    let key = text(fields, "keyring")?.map(|keyring| key_of_keyring(&keyring)).transpose()?;
    let secret_uuid = match text(fields, "secret_uuid")?.as_deref() {
        None | Some("") => None,
        Some(uuid) => match Uuid::try_parse(uuid) {
            Ok(uuid) => Some(uuid),
            Err(_) => return bad("secret_uuid", "is not a UUID"),
        },
    };
    if !flag(fields, "auth_enabled")? {
        return Ok(None);
    }
    match username {
        Some(username) if ceph_name(&username) => Ok(Some(CephAuth { username, secret_uuid, key })),
        Some(_) => bad("auth_username", "is not a Ceph user"),
        None => bad("auth_username", "is missing"),
    }
}

/// The key of a keyring: the whole text of it, or its `key = …` line.
fn key_of_keyring(keyring: &str) -> Parsed<Secret> {
    let line =
        keyring.lines().find_map(|line| line.trim().strip_prefix("key").and_then(|rest| rest.trim_start().strip_prefix('=')));
    let key = line.unwrap_or(keyring).trim();
    let base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    match !key.is_empty() && key.chars().all(base64) {
        true => Ok(Secret::new(key)),
        false => bad("keyring", "holds no cephx key"),
    }
}

/// What pools, namespaces, images, users and clusters may be called here: it becomes part of a spec and an argument.
fn ceph_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !name.starts_with(['-', '.'])
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}
