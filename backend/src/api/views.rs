//! What clients get: volumes and attachments in JSON, as each microversion has them.

use axum::http::HeaderMap;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::AppState;
use super::leases;
use super::microversion::Microversion;
use super::versions::origin;
use crate::domain::{AttachStatus, Attachment, Snapshot, Volume};
use crate::volume::connection_info;

/// Makes views for one request.
pub(super) struct Views<'a> {
    state: &'a AppState,
    version: Microversion,
    origin: String,
}

impl<'a> Views<'a> {
    /// For a client that speaks `version` and came by these headers.
    pub(super) fn new(state: &'a AppState, version: Microversion, headers: &HeaderMap) -> Self {
        Self { state, version, origin: origin(headers) }
    }

    /// A volume in a short list.
    pub(super) fn volume_summary(&self, volume: &Volume) -> Value {
        json!({ "id": volume.id, "name": volume.name, "links": self.links(volume) })
    }

    /// A volume as its owner sees it in answer to a change.
    pub(super) fn volume(&self, volume: &Volume, attachments: &[Attachment]) -> Value {
        Value::Object(self.volume_fields(volume, attachments))
    }

    /// A volume with whose it is and, for administrators, where.
    pub(super) fn volume_detail(&self, volume: &Volume, attachments: &[Attachment], admin: bool) -> Value {
        let mut view = self.volume_fields(volume, attachments);
        if admin {
            let host = (!volume.host.is_empty()).then_some(&volume.host);
            view.insert("os-vol-host-attr:host".into(), json!(host));
            view.insert("os-vol-mig-status-attr:migstat".into(), json!(volume.migration_status));
            view.insert("os-vol-mig-status-attr:name_id".into(), json!(volume.name_id));
        }
        view.insert("os-vol-tenant-attr:tenant_id".into(), json!(volume.project_id));
        Value::Object(view)
    }

    fn volume_fields(&self, volume: &Volume, attachments: &[Attachment]) -> Map<String, Value> {
        let attached = attachments.iter().filter(|one| one.volume_id == volume.id);
        let attached: Vec<Value> = attached.filter(|one| one.status == AttachStatus::Attached).map(attached_to).collect();
        let mut view = Map::new();
        let mut put = |key: &str, value: Value| {
            view.insert(key.to_owned(), value);
        };
        put("id", json!(volume.id));
        put("name", json!(volume.name));
        put("description", json!(volume.description));
        put("size", json!(volume.size_gib));
        put("status", json!(volume.status.as_str()));
        put("attachments", Value::Array(attached));
        put("multiattach", json!(volume.multiattach));
        put("metadata", metadata(volume));
        put("availability_zone", json!(volume.availability_zone));
        put("volume_type", json!(volume.volume_type));
        put("bootable", json!(volume.bootable.to_string()));
        put("encrypted", json!(volume.encryption_key_id.is_some()));
        put("created_at", json!(time(volume.created_at_us)));
        put("updated_at", json!(volume.updated_at_us.map(time)));
        put("user_id", json!(volume.user_id));
        if let Some(facts) = &volume.image_metadata {
            put("volume_image_metadata", json!(facts));
        }
        put("snapshot_id", json!(volume.snapshot_id));
        put("source_volid", json!(volume.source_volume_id));
        put("migration_status", json!(volume.migration_status));
        put("links", self.links(volume));
        for absent in ["consistencygroup_id", "replication_status"] {
            put(absent, Value::Null);
        }
        if self.version >= Microversion::GROUP_ID {
            put("group_id", json!(volume.group_id));
        }
        if self.version >= Microversion::PROVIDER_ID {
            put("provider_id", Value::Null);
        }
        if self.version >= Microversion::SHARED_TARGETS {
            // Each volume has a target of its own, so a host need not take care when it scans.
            put("shared_targets", json!(false));
            put("service_uuid", json!(self.state.identity.service_uuid));
        }
        if self.version >= Microversion::CLUSTER_NAME {
            put("cluster_name", Value::Null);
        }
        if let (true, Some(key)) = (self.version >= Microversion::ENCRYPTION_KEY, &volume.encryption_key_id) {
            put("encryption_key_id", json!(key));
        }
        if self.version >= Microversion::VOLUME_TYPE_ID {
            put("volume_type_id", json!(volume.volume_type_id));
        }
        if self.version >= Microversion::CONSUMES_QUOTA {
            put("consumes_quota", json!(volume.consumes_quota));
        }
        view
    }

    /// A snapshot as its owner sees it.
    pub(super) fn snapshot(&self, snapshot: &Snapshot) -> Value {
        Value::Object(self.snapshot_fields(snapshot))
    }

    /// A snapshot with how far it is, and whose.
    pub(super) fn snapshot_detail(&self, snapshot: &Snapshot) -> Value {
        let mut view = self.snapshot_fields(snapshot);
        view.insert("os-extended-snapshot-attributes:progress".into(), json!(format!("{}%", snapshot.progress)));
        view.insert("os-extended-snapshot-attributes:project_id".into(), json!(snapshot.project_id));
        Value::Object(view)
    }

    fn snapshot_fields(&self, snapshot: &Snapshot) -> Map<String, Value> {
        let mut view = Map::new();
        let mut put = |key: &str, value: Value| {
            view.insert(key.to_owned(), value);
        };
        put("id", json!(snapshot.id));
        put("name", json!(snapshot.name));
        put("description", json!(snapshot.description));
        put("volume_id", json!(snapshot.volume_id));
        put("size", json!(snapshot.size_gib));
        put("status", json!(snapshot.status.as_str()));
        put("metadata", json!(snapshot.metadata));
        put("created_at", json!(time(snapshot.created_at_us)));
        put("updated_at", json!(snapshot.updated_at_us.map(time)));
        if self.version >= Microversion::GROUP_SNAPSHOT_ID {
            put("group_snapshot_id", Value::Null);
        }
        if self.version >= Microversion::SNAPSHOT_USER {
            put("user_id", json!(snapshot.user_id));
        }
        if self.version >= Microversion::CONSUMES_QUOTA {
            put("consumes_quota", json!(true));
        }
        view
    }

    fn links(&self, volume: &Volume) -> Value {
        links(&self.origin, "volumes", volume.id)
    }

    /// An attachment in a short list.
    pub(super) fn attachment_summary(&self, attachment: &Attachment) -> Value {
        json!({
            "id": attachment.id,
            "volume_id": attachment.volume_id,
            "instance": attachment.instance_id,
            "status": attachment.status.as_str(),
        })
    }

    /// An attachment with what its host needs, the password included.
    pub(super) fn attachment(&self, attachment: &Attachment) -> Value {
        let mut view = json!({
            "id": attachment.id,
            "volume_id": attachment.volume_id,
            "instance": attachment.instance_id,
            "status": attachment.status.as_str(),
            "attach_mode": attachment.mode.as_str(),
            "attached_at": attachment.attached_at_us.map(time).unwrap_or_default(),
            "detached_at": "",
            "connection_info": connection_info(attachment),
        });
        // Only for who asked for one: others know no such field.
        if let (Some(lease), Some(view)) = (&attachment.lease, view.as_object_mut()) {
            view.insert("lease".into(), leases::view(lease));
        }
        view
    }
}

/// Where a thing of these is.
pub(super) fn links(origin: &str, things: &str, id: Uuid) -> Value {
    json!([
        { "rel": "self", "href": format!("{origin}/v3/{things}/{id}") },
        { "rel": "bookmark", "href": format!("{origin}/{things}/{id}") },
    ])
}

/// The owner's pairs, and among them, as in the field, that hosts may only read the volume.
fn metadata(volume: &Volume) -> Value {
    let mut metadata = volume.metadata.clone();
    if volume.readonly {
        metadata.insert("readonly".into(), "True".into());
    }
    json!(metadata)
}

/// An attachment as its volume shows it.
fn attached_to(attachment: &Attachment) -> Value {
    let of_host = |property| attachment.connector.as_ref().and_then(|connector| connector.text(property));
    json!({
        "id": attachment.volume_id,
        "volume_id": attachment.volume_id,
        "attachment_id": attachment.id,
        "server_id": attachment.instance_id,
        "host_name": of_host("host"),
        "device": of_host("mountpoint"),
        "attached_at": attachment.attached_at_us.map(time),
    })
}

/// The field's form of a time: UTC without saying so.
pub(super) fn time(us: i64) -> String {
    match jiff::Timestamp::from_microsecond(us) {
        Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%S.%6f").to_string(),
        Err(_) => String::new(),
    }
}
