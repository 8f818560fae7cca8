//! What a host is told of an attachment: the keys the field's iSCSI drivers give, and one more, `scsi_serial`, by which the
//! host can prove that the device it got is this volume. The volume's host records it without secrets; they are added where it is
//! told.

use serde_json::{Map, Value, json};

use crate::domain::{AttachMode, Attachment, Volume};
use crate::targets::{LUN, iqn, scsi_serial};

/// How a host reaches a volume that a target shows. `multipath`: it said that it wants all the paths there are.
pub(super) fn iscsi(volume: &Volume, portals: &[String], multipath: bool) -> Map<String, Value> {
    let mut info = object(json!({
        "driver_volume_type": "iscsi",
        "target_discovered": false,
        "target_portal": portals.first(),
        "target_iqn": iqn(volume.id),
        "target_lun": LUN,
        "auth_method": "CHAP",
        "discard": true,
        "cacheable": false,
        "qos_specs": null,
        "scsi_serial": scsi_serial(volume.id),
    }));
    // As the field's drivers have it: the plural keys beside the singular ones.
    if multipath && portals.len() > 1 {
        info.insert("target_portals".to_owned(), json!(portals));
        info.insert("target_iqns".to_owned(), json!(vec![iqn(volume.id); portals.len()]));
        info.insert("target_luns".to_owned(), json!(vec![LUN; portals.len()]));
    }
    info
}

/// The connection info of an attachment, empty where its volume is not shown to a host yet. Flat, with the driver's type and the
/// ids beside the data, as the attachments API has it. Holds the CHAP password or the key: it is for the attachment's owner only.
pub fn connection_info(attachment: &Attachment) -> Map<String, Value> {
    let (Some(connection), Some(_)) = (&attachment.connection, &attachment.connector) else { return Map::new() };
    let mode = mode(attachment);
    let mut info = connection.clone();
    info.extend(object(json!({
        "attachment_id": attachment.id,
        "volume_id": attachment.volume_id,
        "access_mode": mode.as_str(),
    })));
    if let Some(chap) = &attachment.chap {
        if connection.contains_key("auth_method") {
            info.insert("auth_username".into(), json!(chap.username));
            info.insert("auth_password".into(), json!(chap.password.reveal()));
        } else if connection.get("auth_username").and_then(Value::as_str) == Some(&chap.username) {
            // A Ceph user of this attachment's own. The field's drivers give the text of a keyring, too.
            let keyring = format!("[client.{}]\n\tkey = {}\n", chap.username, chap.password.reveal());
            info.insert("keyring".into(), json!(keyring));
        }
    }
    info
}

/// What the host of an attachment may do: as the attachment has it, or less where the host asked for less.
pub(super) fn mode(attachment: &Attachment) -> AttachMode {
    let asked = attachment.connector.as_ref().and_then(|connector| connector.text("mode"));
    if asked == Some("ro") { AttachMode::Ro } else { attachment.mode }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
