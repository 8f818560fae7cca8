//! What clients get of backups.

use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::super::microversion::Microversion;
use super::super::versions::origin;
use super::super::views::{links, time};
use crate::domain::Backup;

/// A backup in a short list, and in answer to a change.
pub(in crate::api) fn summary(backup: &Backup, headers: &HeaderMap) -> Value {
    json!({ "id": backup.id, "name": backup.name, "links": links(&origin(headers), "backups", backup.id) })
}

/// All of a backup; whose it is, administrators are told.
pub(super) fn detail(backup: &Backup, version: Microversion, admin: bool, headers: &HeaderMap) -> Value {
    let mut view = json!({
        "id": backup.id,
        "status": backup.status.as_str(),
        "size": backup.size_gib,
        "object_count": backup.object_count,
        "availability_zone": backup.availability_zone,
        "container": backup.container,
        "created_at": time(backup.created_at_us),
        "updated_at": backup.updated_at_us.map(time),
        "name": backup.name,
        "description": backup.description,
        "fail_reason": backup.fail_reason,
        "volume_id": backup.volume_id,
        "links": links(&origin(headers), "backups", backup.id),
        "is_incremental": backup.parent_id.is_some(),
        "has_dependent_backups": backup.has_dependents,
        "snapshot_id": backup.snapshot_id,
        "data_timestamp": time(backup.data_at_us),
    });
    let mut put = |key: &str, value: Value| {
        if let Some(view) = view.as_object_mut() {
            view.insert(key.to_owned(), value);
        }
    };
    if version >= Microversion::BACKUP_METADATA {
        put("metadata", json!(backup.metadata));
    }
    if let (true, Some(key)) = (version >= Microversion::ENCRYPTION_KEY, &backup.encryption_key_id) {
        put("encryption_key_id", json!(key));
    }
    if admin && version >= Microversion::BACKUP_PROJECT {
        put("os-backup-project-attr:project_id", json!(backup.project_id));
    }
    if admin && version >= Microversion::BACKUP_USER {
        put("user_id", json!(backup.user_id));
    }
    view
}
