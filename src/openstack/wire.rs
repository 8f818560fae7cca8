//! The volume service's JSON, as far as it is read, and its conversion into the model.

use super::{OpenstackError, connection_info, qos};
use crate::model::{
    Attachment, AttachmentId, AttachmentStatus, AttachmentSummary, GuestUuid, Volume, VolumeAttachment, VolumeId,
};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A JSON object with one more field.
pub(super) fn with(mut object: Value, key: &str, value: impl Into<Value>) -> Value {
    if let Value::Object(fields) = &mut object {
        fields.insert(key.to_owned(), value.into());
    }
    object
}

/// `{"volume": …}`.
#[derive(Deserialize)]
pub(super) struct VolumeEnvelope {
    pub(super) volume: WireVolume,
}

/// One page of `GET /volumes/detail`.
#[derive(Deserialize)]
pub(super) struct VolumePage {
    pub(super) volumes: Vec<WireVolume>,
    #[serde(default)]
    pub(super) volumes_links: Vec<Link>,
}

/// `{"attachment": …}`.
#[derive(Deserialize)]
pub(super) struct AttachmentEnvelope {
    pub(super) attachment: WireAttachment,
}

/// One page of `GET /attachments`.
#[derive(Deserialize)]
pub(super) struct AttachmentPage {
    pub(super) attachments: Vec<WireAttachment>,
    #[serde(default)]
    pub(super) attachments_links: Vec<Link>,
}

/// A link to the next page.
#[derive(Deserialize)]
pub(super) struct Link {
    rel: String,
    href: String,
}

/// The `marker` of the next page. Only this is taken from the link, not its address: the service may know itself by
/// another name than we reach it under, and the token goes nowhere but to the configured endpoint.
pub(super) fn next_marker(links: &[Link]) -> Option<String> {
    let next = links.iter().find(|link| link.rel == "next")?;
    let base = reqwest::Url::parse("http://localhost/").ok()?;
    let url = base.join(&next.href).ok()?;
    url.query_pairs().find(|(key, _)| key == "marker").map(|(_, value)| value.into_owned())
}

/// A volume on the wire.
#[derive(Deserialize)]
pub(super) struct WireVolume {
    id: VolumeId,
    name: Option<String>,
    size: u64,
    status: String,
    #[serde(default, deserialize_with = "lenient_bool")]
    multiattach: bool,
    /// Cinder writes this one as a text.
    #[serde(default, deserialize_with = "lenient_bool")]
    bootable: bool,
    #[serde(default, deserialize_with = "lenient_bool")]
    encrypted: bool,
    volume_type: Option<String>,
    created_at: Option<String>,
    #[serde(default)]
    attachments: Vec<WireVolumeAttachment>,
}

/// An entry of a volume's `attachments`; its `id` is the volume's.
#[derive(Deserialize)]
struct WireVolumeAttachment {
    attachment_id: AttachmentId,
    #[serde(default, deserialize_with = "lenient_guest")]
    server_id: Option<GuestUuid>,
    host_name: Option<String>,
}

impl From<WireVolume> for Volume {
    fn from(wire: WireVolume) -> Self {
        Self {
            id: wire.id,
            name: wire.name.unwrap_or_default(),
            size_gib: wire.size,
            status: wire.status,
            multiattach: wire.multiattach,
            bootable: wire.bootable,
            encrypted: wire.encrypted,
            volume_type: wire.volume_type,
            created_at: wire.created_at.unwrap_or_default(),
            attachments: wire.attachments.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<WireVolumeAttachment> for VolumeAttachment {
    fn from(wire: WireVolumeAttachment) -> Self {
        Self { attachment: wire.attachment_id, guest: wire.server_id, host: wire.host_name }
    }
}

/// An attachment on the wire; lists leave the connection info out.
#[derive(Deserialize)]
pub(super) struct WireAttachment {
    id: AttachmentId,
    volume_id: VolumeId,
    #[serde(default, deserialize_with = "lenient_guest")]
    instance: Option<GuestUuid>,
    status: String,
    /// `rw`, `ro`, or the text `null` before a connector was given.
    attach_mode: Option<String>,
    #[serde(default)]
    connection_info: Value,
}

impl WireAttachment {
    /// Without its connection info.
    pub(super) fn summary(&self) -> AttachmentSummary {
        let status = match self.status.as_str() {
            "reserved" => AttachmentStatus::Reserved,
            "attaching" => AttachmentStatus::Attaching,
            "attached" => AttachmentStatus::Attached,
            "detaching" => AttachmentStatus::Detaching,
            "detached" => AttachmentStatus::Detached,
            "error_attaching" | "error_detaching" | "error" => AttachmentStatus::Error,
            _ => AttachmentStatus::Other,
        };
        AttachmentSummary { id: self.id, volume: self.volume_id, guest: self.instance, status }
    }

    /// With its connection info, checked.
    pub(super) fn into_attachment(self) -> Result<Attachment, OpenstackError> {
        let summary = self.summary();
        let traits = qos::parse(&self.connection_info)
            .map_err(|source| OpenstackError::ConnectionInfo { attachment: summary.id, source })?;
        let mut connection = connection_info::parse(self.connection_info)
            .map_err(|source| OpenstackError::ConnectionInfo { attachment: summary.id, source })?;
        // Cinder's `access_mode` tells of the volume; what this attachment was made for stands beside it.
        if let Some(connection) = &mut connection
            && self.attach_mode.as_deref() == Some("ro")
        {
            connection.make_read_only();
        }
        Ok(Attachment { summary, connection, traits })
    }
}

fn lenient_bool<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Bool(value) => value,
        Value::String(value) => value.eq_ignore_ascii_case("true"),
        _ => false,
    })
}

/// An instance may be absent, `null`, or something of another client's that is no UUID and so no guest of ours.
fn lenient_guest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<GuestUuid>, D::Error> {
    Ok(Value::deserialize(deserializer)?.as_str().and_then(|text| text.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ConnectionInfo;
    use serde_json::json;

    const ID: &str = "94333fbd-2aab-4a5a-befd-e30c2f7377fd";

    #[test]
    fn a_volume_in_use_is_read_with_its_attachment() {
        let wire: VolumeEnvelope = serde_json::from_value(json!({"volume": {
            "id": ID, "name": null, "size": 2, "status": "in-use", "bootable": "true", "encrypted": false, "multiattach": false,
            "volume_type": "iscsi", "created_at": "2026-11-22T22:03:01.000000", "metadata": {},
            "attachments": [{"attachment_id": ID, "id": ID, "server_id": ID, "host_name": "node-a", "device": "/dev/vdb"}]
        }}))
        .unwrap();
        let volume = Volume::from(wire.volume);
        assert_eq!((volume.name.as_str(), volume.size_gib, volume.bootable, volume.status.as_str()), ("", 2, true, "in-use"));
        assert_eq!(volume.attachments[0].guest, Some(ID.parse().unwrap()));
        assert_eq!(volume.attachments[0].host.as_deref(), Some("node-a"));
    }

    #[test]
    fn a_reserved_attachment_has_no_connection_and_odd_values_are_survived() {
        let wire: WireAttachment = serde_json::from_value(json!({
            "id": ID, "volume_id": ID, "instance": "not-a-uuid", "status": "new-word", "attach_mode": "null",
            "attached_at": "", "connection_info": {}
        }))
        .unwrap();
        let attachment = wire.into_attachment().unwrap();
        assert!(attachment.connection.is_none() && attachment.summary.guest.is_none());
        assert_eq!(attachment.summary.status, AttachmentStatus::Other);
    }

    #[test]
    fn a_read_only_attachment_reads_as_such_whatever_access_mode_says() {
        let wire: WireAttachment = serde_json::from_value(json!({
            "id": ID, "volume_id": ID, "instance": ID, "status": "attached", "attach_mode": "ro",
            "connection_info": {"driver_volume_type": "iscsi", "access_mode": "rw", "target_portal": "127.0.0.1:3260",
                "target_iqn": "iqn.2010-10.org.openstack:v", "target_lun": 1}
        }))
        .unwrap();
        let Some(ConnectionInfo::Iscsi(iscsi)) = wire.into_attachment().unwrap().connection else { panic!() };
        assert!(iscsi.read_only);
    }

    #[test]
    fn only_the_marker_of_a_link_is_taken() {
        let link = |rel: &str, href: &str| Link { rel: rel.into(), href: href.into() };
        let links = [link("self", "http://x/?marker=no"), link("next", "http://elsewhere/v3/volumes?limit=1&marker=abc")];
        assert_eq!(next_marker(&links).as_deref(), Some("abc"));
        assert_eq!(next_marker(&[]), None);
    }
}
