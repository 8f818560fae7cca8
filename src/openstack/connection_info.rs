//! Reads the connection info of an attachment into the model's types, trusting nothing.
//!
//! Two forms exist: attachments answer with everything on one level beside `driver_volume_type`; the older
//! `os-initialize_connection` nests it as `{"driver_volume_type": …, "data": {…}}`. Keys are those that Cinder's drivers
//! write and os-brick reads. Names that later become a file name, an argument or a line of a configuration file are held to
//! narrow alphabets here, at the edge.

use crate::model::{
    CephAuth, ChapCredentials, ConnectionInfo, DiskFormat, IscsiConnection, IscsiPath, NfsConnection, NfsExport, Portal,
    RbdConnection, RbdImage, Secret,
};
use serde_json::{Map, Value};
use uuid::Uuid;

/// Longest iSCSI name, in bytes (RFC 3720, 3.2.6.1).
const ISCSI_NAME_MAX: usize = 223;
/// More paths than any array has; a bound on what a broken service can make the host try.
const PATHS_MAX: usize = 128;
/// Longest CHAP user or password that open-iscsi takes (its `AUTH_STR_MAX_LEN` is 256 with the final NUL).
const CHAP_MAX: usize = 255;
/// Longest unit serial number: VPD page 0x80 has one length byte (SPC-4, 7.8.15).
const SERIAL_MAX: usize = 255;

/// A key of connection info that cannot be used. Carries no value: values may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` {problem}")]
pub struct ConnectionInfoError {
    /// The key as the service spells it.
    pub key: &'static str,
    /// What is wrong with its value.
    pub problem: &'static str,
}

type Fields = Map<String, Value>;
type Parsed<T> = Result<T, ConnectionInfoError>;

fn bad<T>(key: &'static str, problem: &'static str) -> Parsed<T> {
    Err(ConnectionInfoError { key, problem })
}

/// Reads connection info; `None` when the service has none yet (`{}` or `null`).
pub(super) fn parse(value: Value) -> Parsed<Option<ConnectionInfo>> {
    let mut fields = match value {
        Value::Null => return Ok(None),
        Value::Object(fields) if fields.is_empty() => return Ok(None),
        Value::Object(fields) => fields,
        _ => return bad("connection_info", "is not an object"),
    };
    let Some(protocol) = text(&mut fields, "driver_volume_type")? else {
        return bad("driver_volume_type", "is missing");
    };
    match fields.remove("data") {
        Some(Value::Object(data)) => fields = data,
        None | Some(Value::Null) => {}
        Some(_) => return bad("data", "is not an object"),
    }
    match protocol.as_str() {
        "iscsi" => iscsi(fields).map(|connection| Some(ConnectionInfo::Iscsi(connection))),
        "rbd" => rbd(fields).map(|connection| Some(ConnectionInfo::Rbd(connection))),
        "nfs" => nfs(fields).map(|connection| Some(ConnectionInfo::Nfs(connection))),
        word if word.len() <= 64 && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')) => {
            Ok(Some(ConnectionInfo::Unsupported { driver_volume_type: protocol }))
        }
        _ => bad("driver_volume_type", "is not a plain word"),
    }
}

fn read_only(fields: &mut Fields) -> Parsed<bool> {
    match text(fields, "access_mode")?.as_deref() {
        None | Some("rw" | "null") => Ok(false),
        Some("ro") => Ok(true),
        Some(_) => bad("access_mode", "is neither rw nor ro"),
    }
}

/// As Cinder's RBD driver writes it: `name` is `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`; `hosts` and `ports` go side by side.
fn rbd(mut fields: Fields) -> Parsed<RbdConnection> {
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

/// As Cinder's NFS driver writes it: `export` is `SERVER:/PATH`, `name` the file below it, `format` its format.
fn nfs(mut fields: Fields) -> Parsed<NfsConnection> {
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

fn iscsi(mut fields: Fields) -> Parsed<IscsiConnection> {
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

/// Takes a text out, so that a secret one is not copied.
fn text(fields: &mut Fields, key: &'static str) -> Parsed<Option<String>> {
    match fields.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(value)) => Ok(Some(value)),
        Some(_) => bad(key, "is not a text"),
    }
}

fn list(fields: &mut Fields, key: &'static str) -> Parsed<Vec<Value>> {
    match fields.remove(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(values)) => Ok(values),
        Some(_) => bad(key, "is not a list"),
    }
}

fn flag(fields: &Fields, key: &'static str) -> Parsed<bool> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(Value::String(value)) if value.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(value)) if value.eq_ignore_ascii_case("false") => Ok(false),
        Some(_) => bad(key, "is neither true nor false"),
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

fn read_portal(key: &'static str, value: &str) -> Parsed<Portal> {
    value.parse().map_err(|_| ConnectionInfoError { key, problem: "is not HOST:PORT" })
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn flat() -> Value {
        json!({
            "driver_volume_type": "iscsi", "access_mode": "rw", "attachment_id": "a", "auth_method": "CHAP",
            "auth_username": "user", "auth_password": "pass word", "cacheable": false, "encrypted": false, "qos_specs": null,
            "target_discovered": false, "target_iqn": "iqn.2010-10.org.openstack:volume-1", "target_lun": 1,
            "target_portal": "127.0.0.1:3270", "volume_id": "v"
        })
    }

    fn with(key: &str, value: Value) -> Value {
        let mut info = flat();
        info[key] = value;
        info
    }

    fn read(value: Value) -> IscsiConnection {
        match parse(value).unwrap() {
            Some(ConnectionInfo::Iscsi(connection)) => connection,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_forms_of_one_connection_read_alike() {
        let mut data = flat();
        let protocol = data.as_object_mut().unwrap().remove("driver_volume_type").unwrap();
        for info in [flat(), json!({"driver_volume_type": protocol, "data": data})] {
            let connection = read(info);
            let chap = connection.chap.unwrap();
            assert_eq!((chap.username.as_str(), chap.password.expose()), ("user", "pass word"));
            assert_eq!(
                connection.paths.iter().map(ToString::to_string).collect::<Vec<_>>(),
                ["iqn.2010-10.org.openstack:volume-1 lun 1 at 127.0.0.1:3270"]
            );
            assert!(!connection.read_only && !connection.discard && !connection.encrypted && connection.serial.is_none());
        }
    }

    #[test]
    fn several_paths_start_with_the_singular_one_and_hold_no_double() {
        let mut info = flat();
        info["target_portals"] = json!(["10.0.0.2:3260", "127.0.0.1:3270"]);
        info["target_iqns"] = json!(["iqn.2010-10.org.openstack:volume-1", "iqn.2010-10.org.openstack:volume-1"]);
        info["target_luns"] = json!(["7", 1]);
        let paths = read(info.clone()).paths;
        assert_eq!(
            paths.iter().map(|path| (path.portal.to_string(), path.lun)).collect::<Vec<_>>(),
            [("127.0.0.1:3270".into(), 1), ("10.0.0.2:3260".into(), 7)]
        );
        info["target_luns"] = json!([1]);
        assert_eq!(parse(info).unwrap_err().key, "target_luns");
    }

    #[test]
    fn options_are_read() {
        let mut info = flat();
        info["access_mode"] = json!("ro");
        info["discard"] = json!(true);
        info["encrypted"] = json!(true);
        info["scsi_serial"] = json!(" abc ");
        info["auth_method"] = Value::Null;
        let connection = read(info);
        assert!(connection.read_only && connection.discard && connection.encrypted && connection.chap.is_none());
        assert_eq!(connection.serial.as_deref(), Some("abc"));
    }

    #[test]
    fn an_rbd_image_is_read_with_its_monitors_and_user() {
        let info = json!({
            "driver_volume_type": "rbd", "name": "volumes/ns/volume-1", "hosts": ["10.0.0.1", "[fd00::1]"], "ports": ["6789", "3300"],
            "cluster_name": "ceph", "auth_enabled": true, "auth_username": "cinder", "discard": true, "access_mode": "rw",
            "secret_type": "ceph", "secret_uuid": "b1afd4dc-3a08-4d2e-9169-36a3989cdb98", "keyring": null
        });
        let Some(ConnectionInfo::Rbd(rbd)) = parse(info.clone()).unwrap() else { panic!() };
        assert_eq!(rbd.image.to_string(), "volumes/ns/volume-1");
        assert_eq!(rbd.monitors.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.1:6789", "[fd00::1]:3300"]);
        assert_eq!(rbd.auth.as_ref().unwrap().username, "cinder");
        for (key, value) in [
            ("name", json!("volume-1")),
            ("name", json!("volumes/../x")),
            ("name", json!("-p/x")),
            ("ports", json!(["6789"])),
            ("auth_username", json!("a b")),
            ("secret_uuid", json!("x")),
            ("keyring", json!("not base64!")),
        ] {
            let mut bad = info.clone();
            bad[key] = value;
            assert_eq!(parse(bad).unwrap_err().key, key);
        }
        let mut with_key = info;
        with_key["keyring"] = json!("[client.cinder]\n\tkey = QUJD\n");
        let Some(ConnectionInfo::Rbd(rbd)) = parse(with_key).unwrap() else { panic!() };
        assert_eq!(rbd.auth.unwrap().key.unwrap().expose(), "QUJD");
    }

    #[test]
    fn an_nfs_file_is_read_and_cannot_leave_its_export() {
        let info = json!({
            "driver_volume_type": "nfs", "export": "[fd00::1]:/srv/vols", "name": "volume-1", "format": "qcow2", "options": null,
            "access_mode": "rw", "mount_point_base": "/var/lib/cinder/mnt"
        });
        let Some(ConnectionInfo::Nfs(nfs)) = parse(info.clone()).unwrap() else { panic!() };
        assert_eq!((nfs.export.to_string().as_str(), nfs.format), ("[fd00::1]:/srv/vols", DiskFormat::Qcow2));
        for (key, value) in [
            ("name", json!("../x")),
            ("name", json!("a/b")),
            ("name", json!("..")),
            ("name", json!("")),
            ("format", json!("vmdk")),
            ("format", Value::Null),
            ("export", json!("server")),
            ("export", json!("server:relative")),
            ("export", json!("-o:/x")),
            ("export", json!("server:/a/../b")),
        ] {
            let mut bad = info.clone();
            bad[key] = value;
            assert_eq!(parse(bad).unwrap_err().key, key);
        }
    }

    #[test]
    fn nothing_yet_is_none_and_other_protocols_are_named() {
        assert!(parse(json!({})).unwrap().is_none() && parse(Value::Null).unwrap().is_none());
        let other = parse(json!({"driver_volume_type": "fibre_channel", "name": "volumes/v"})).unwrap().unwrap();
        assert_eq!(other.protocol(), "fibre_channel");
    }

    #[test]
    fn each_bad_value_is_refused_by_its_key() {
        for (key, value) in [
            ("driver_volume_type", json!(1)),
            ("driver_volume_type", json!("x\ny")),
            ("access_mode", json!("rwx")),
            ("target_iqn", json!("iqn.x/../../etc")),
            ("target_iqn", json!("--help")),
            ("target_iqn", json!(format!("iqn.{}", "a".repeat(220)))),
            ("target_iqn", Value::Null),
            ("target_portal", json!("no port here:x")),
            ("target_portal", Value::Null),
            ("target_lun", json!(-1)),
            ("target_lun", json!("one")),
            ("target_lun", Value::Null),
            ("auth_method", json!("MD5")),
            ("auth_password", Value::Null),
            ("auth_password", json!("a\nnode.startup = automatic")),
            ("auth_username", json!("")),
            ("encrypted", json!("maybe")),
            ("scsi_serial", json!("a\u{0}")),
            ("data", json!([])),
        ] {
            let error = parse(with(key, value.clone())).unwrap_err();
            assert_eq!(error.key, key, "{value}");
        }
    }

    #[test]
    fn a_refusal_shows_no_value() {
        let error = parse(with("auth_password", json!("hunter2\n"))).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
            "(iqn|eui)\\.[a-z:]{0,5}".prop_map(Value::from),
            "[0-9.]{1,9}:[0-9]{1,5}".prop_map(Value::from),
        ];
        leaf.prop_recursive(2, 16, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(Value::from))
    }

    proptest! {
        #[test]
        fn no_json_makes_it_panic_and_what_passes_is_safe(values in prop::collection::vec(any_json(), 9), nested: bool) {
            const KEYS: [&str; 9] = ["target_portal", "target_iqn", "target_lun", "target_portals", "target_iqns", "target_luns",
                "auth_method", "access_mode", "scsi_serial"];
            let data: Fields = KEYS.iter().map(|key| (*key).to_owned()).zip(values).collect();
            let info = if nested { json!({"driver_volume_type": "iscsi", "data": data}) } else {
                let mut flat = data;
                flat.insert("driver_volume_type".into(), "iscsi".into());
                Value::Object(flat)
            };
            if let Ok(Some(ConnectionInfo::Iscsi(connection))) = parse(info) {
                prop_assert!(!connection.paths.is_empty());
                for path in connection.paths {
                    prop_assert!(!path.iqn.contains(['/', '\n', ' ']) && !path.iqn.starts_with('-'));
                }
            }
        }

        #[test]
        fn any_document_at_all_is_read_or_refused(value in any_json()) {
            let _ = parse(json!({"driver_volume_type": "iscsi", "data": value.clone()}));
            let _ = parse(value);
        }
    }
}
