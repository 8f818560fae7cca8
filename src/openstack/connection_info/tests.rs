//! What is read, what is refused, and that no document at all makes it panic.

use super::*;
use crate::model::{DiskFormat, IscsiConnection};
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
fn what_the_service_does_not_name_is_left_to_discovery() {
    let asked = |info: Value| {
        let connection = read(info);
        let discovery = connection.discovery.map(|found| (found.portal.to_string(), found.iqn, found.lun, found.chap));
        (connection.paths.len(), discovery)
    };
    let (paths, discovery) = asked(flat());
    let (portal, iqn, lun, chap) = discovery.unwrap();
    assert_eq!((paths, portal.as_str(), lun, chap.is_none()), (1, "127.0.0.1:3270", 1, true));
    assert_eq!(iqn.as_deref(), Some("iqn.2010-10.org.openstack:volume-1"));

    let mut info = flat();
    info.as_object_mut().unwrap().remove("target_iqn");
    info["target_iqns"] = json!([]);
    info["discovery_auth_method"] = json!("CHAP");
    info["discovery_auth_username"] = json!("disco");
    info["discovery_auth_password"] = json!("disco secret");
    let (paths, discovery) = asked(info.clone());
    let (portal, iqn, _, chap) = discovery.unwrap();
    assert_eq!((paths, portal.as_str(), iqn), (0, "127.0.0.1:3270", None));
    let chap = chap.unwrap();
    assert_eq!((chap.username.as_str(), chap.password.expose()), ("disco", "disco secret"));

    // A list of portals without targets: the first is asked.
    info.as_object_mut().unwrap().remove("target_portal");
    info["target_portals"] = json!(["[fd00::1]:3260", "10.0.0.1:3260"]);
    assert_eq!(asked(info.clone()).1.unwrap().0, "[fd00::1]:3260");
    info["target_portals"] = json!([]);
    assert_eq!(parse(info).unwrap_err().key, "target_portal");

    let mut plural = flat();
    plural["target_portals"] = json!(["127.0.0.1:3270"]);
    plural["target_iqns"] = json!(["iqn.2010-10.org.openstack:volume-1"]);
    assert!(asked(plural).1.is_none(), "everything is named");
}

#[test]
fn luns_are_numbered_as_the_kernel_does_in_every_addressing_mode() {
    for (mode, lun, expected) in [
        (Value::Null, 300, Some(300)),
        (json!("SAM"), 300, Some(300)),
        (json!("transparent"), 16640, Some(16640)),
        (json!("SAM2"), 255, Some(255)),
        (json!("SAM2"), 256, Some(16640)),
        (json!("SAM3-flat"), 1, Some(16385)),
        (json!("SAM3-flat"), 16383, Some(32767)),
        (json!("SAM3-flat"), 16384, None),
    ] {
        let mut info = with("addressing_mode", mode.clone());
        info["target_lun"] = json!(lun);
        let found = parse(info).map(|info| match info {
            Some(ConnectionInfo::Iscsi(connection)) => connection.paths[0].lun,
            other => panic!("{other:?}"),
        });
        assert_eq!(found.ok(), expected, "{mode} {lun}");
    }
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
        ("target_portal", json!("no port here:x")),
        ("target_portal", Value::Null),
        ("target_lun", json!(-1)),
        ("target_lun", json!("one")),
        ("target_lun", Value::Null),
        ("auth_method", json!("MD5")),
        ("discovery_auth_method", json!("MD5")),
        ("addressing_mode", json!("SAM4")),
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
            prop_assert!(!connection.paths.is_empty() || connection.discovery.is_some());
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
