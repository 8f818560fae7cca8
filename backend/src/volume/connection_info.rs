//! What a host is told of an attachment: the keys the field's iSCSI drivers give, and one more, `scsi_serial`, by which the
//! host can prove that the device it got is this volume.

use serde_json::{Map, Value, json};

use crate::domain::{AttachMode, Attachment};
use crate::targets::{LUN, iqn, scsi_serial};

/// The connection info of an attachment, empty where it has no host yet. Flat, with the driver's type and the ids beside
/// the data, as the attachments API has it. Holds the CHAP password: it is for the attachment's owner only.
pub fn connection_info(attachment: &Attachment, portals: &[String]) -> Map<String, Value> {
    let (Some(chap), Some(connector)) = (&attachment.chap, &attachment.connector) else { return Map::new() };
    let asked_read_only = connector.text("mode") == Some("ro");
    let mode = if asked_read_only { AttachMode::Ro } else { attachment.mode };
    let info = json!({
        "driver_volume_type": "iscsi",
        "attachment_id": attachment.id,
        "volume_id": attachment.volume_id,
        "target_discovered": false,
        "target_portal": portals.first(),
        "target_iqn": iqn(attachment.volume_id),
        "target_lun": LUN,
        "auth_method": "CHAP",
        "auth_username": chap.username,
        "auth_password": chap.password.reveal(),
        "access_mode": mode.as_str(),
        "discard": true,
        "cacheable": false,
        "encrypted": false,
        "qos_specs": null,
        "scsi_serial": scsi_serial(attachment.volume_id),
    });
    let Value::Object(mut info) = info else { return Map::new() };
    // As the field's drivers have it: the plural keys beside the singular ones, for hosts that said they want several paths.
    if portals.len() > 1 && connector.flag("multipath") {
        info.insert("target_portals".to_owned(), json!(portals));
        info.insert("target_iqns".to_owned(), json!(vec![iqn(attachment.volume_id); portals.len()]));
        info.insert("target_luns".to_owned(), json!(vec![LUN; portals.len()]));
    }
    info
}
