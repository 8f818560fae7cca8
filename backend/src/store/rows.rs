//! Rows to domain types.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::StoreError;
use super::engine::Row;
use crate::domain::{
    AttachMode, AttachStatus, Attachment, ChapAccount, Connector, Lease, Operation, OperationKind, OperationState, Snapshot,
    SnapshotStatus, Volume, VolumeStatus, VolumeType,
};
use crate::secret::Secret;

/// All of a volume, with its type's name.
pub(super) const SELECT_VOLUMES: &str =
    "SELECT volumes.*, (SELECT t.name FROM volume_types t WHERE t.id = volumes.volume_type_id) AS volume_type FROM volumes";

/// Reads a volume.
pub(super) fn volume(row: &Row) -> Result<Volume, StoreError> {
    Ok(Volume {
        id: row.uuid("id")?,
        seq: row.int("seq")?,
        name: row.optional_text("name")?,
        description: row.optional_text("description")?,
        size_gib: row.size("size_gib")?,
        status: row.word("status", VolumeStatus::parse)?,
        multiattach: row.flag("multiattach")?,
        availability_zone: row.text("availability_zone")?,
        metadata: row.json("metadata")?,
        created_at_us: row.int("created_at_us")?,
        updated_at_us: row.optional_int("updated_at_us")?,
        project_id: row.text("project_id")?,
        user_id: row.text("user_id")?,
        host: row.text("host")?,
        volume_type_id: row.optional_text("volume_type_id")?,
        volume_type: row.optional_text("volume_type")?,
        bootable: row.flag("bootable")?,
        readonly: row.flag("readonly")?,
        encryption_key_id: row.optional_text("encryption_key_id")?,
        image_metadata: row.optional_json("image_metadata")?,
        snapshot_id: row.optional_uuid("snapshot_id")?,
        source_volume_id: row.optional_uuid("source_volume_id")?,
        image_id: row.optional_uuid("image_id")?,
        backup_id: row.optional_uuid("backup_id")?,
        group_id: row.optional_uuid("group_id")?,
        migration_status: row.optional_text("migration_status")?,
        name_id: row.optional_uuid("name_id")?,
        provider: row.optional_json("provider")?,
        consumes_quota: row.flag("consumes_quota")?,
    })
}

/// Reads an attachment.
pub(super) fn attachment(row: &Row) -> Result<Attachment, StoreError> {
    let connector = match row.optional_json::<Map<String, Value>>("connector")? {
        None => None,
        Some(properties) => Some(Connector::from_properties(properties).map_err(|_| row.unreadable("connector"))?),
    };
    let username = row.optional_text("chap_username")?;
    let password = row.optional_text("chap_password")?;
    Ok(Attachment {
        id: row.uuid("id")?,
        volume_id: row.uuid("volume_id")?,
        instance_id: row.optional_uuid("instance_id")?,
        status: row.word("status", AttachStatus::parse)?,
        mode: row.word("mode", AttachMode::parse)?,
        project_id: row.text("project_id")?,
        connector,
        connection: row.optional_json("connection")?,
        chap: username.zip(password).map(|(username, password)| ChapAccount { username, password: Secret::new(password) }),
        created_at_us: row.int("created_at_us")?,
        attached_at_us: row.optional_int("attached_at_us")?,
        lease: lease(row)?,
    })
}

fn lease(row: &Row) -> Result<Option<Lease>, StoreError> {
    let named = row.optional_text("lease_host")?.zip(row.optional_int("lease_until_us")?);
    let lost_at_us = row.optional_int("lease_lost_at_us")?;
    Ok(named.map(|(host, until_us)| Lease { host, until_us, lost_at_us }))
}

/// Reads a snapshot.
pub(super) fn snapshot(row: &Row) -> Result<Snapshot, StoreError> {
    Ok(Snapshot {
        id: row.uuid("id")?,
        volume_id: row.uuid("volume_id")?,
        project_id: row.text("project_id")?,
        user_id: row.text("user_id")?,
        name: row.optional_text("name")?,
        description: row.optional_text("description")?,
        size_gib: row.size("size_gib")?,
        status: row.word("status", SnapshotStatus::parse)?,
        progress: row.int("progress")?,
        metadata: row.json("metadata")?,
        volume_type_id: row.optional_text("volume_type_id")?,
        provider: row.optional_json("provider")?,
        created_at_us: row.int("created_at_us")?,
        updated_at_us: row.optional_int("updated_at_us")?,
    })
}

/// Reads a volume type.
pub(super) fn volume_type(row: &Row) -> Result<VolumeType, StoreError> {
    Ok(VolumeType {
        id: row.text("id")?,
        name: row.text("name")?,
        description: row.optional_text("description")?,
        is_public: row.flag("is_public")?,
        extra_specs: row.json::<BTreeMap<String, String>>("extra_specs")?,
        qos_specs_id: row.optional_text("qos_specs_id")?,
        encryption: row.optional_json("encryption")?,
    })
}

/// Reads an operation.
pub(super) fn operation(row: &Row) -> Result<Operation, StoreError> {
    Ok(Operation {
        id: row.uuid("id")?,
        kind: row.word("kind", OperationKind::parse)?,
        object_id: row.uuid("object_id")?,
        project_id: row.text("project_id")?,
        user_id: row.text("user_id")?,
        request_id: row.optional_text("request_id")?,
        request: row.json("request")?,
        queue: row.text("queue")?,
        step: row.text("step")?,
        progress: row.int("progress")?,
        state: row.word("state", OperationState::parse)?,
        cause: row.optional_text("cause")?,
        attempts: row.int("attempts")?,
        owner: row.optional_text("owner")?,
        created_at_us: row.int("created_at_us")?,
        updated_at_us: row.int("updated_at_us")?,
    })
}
