//! Every action by the name the field gives it, and who may. Handlers ask here before they do anything.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use uuid::Uuid;

use super::AppState;
use super::errors::ApiError;
use super::query::{attachment_id, backup_id, snapshot_id, volume_id};
use crate::auth::{self, Action, Decision};
use crate::domain::{Attachment, Backup, Refusal, Snapshot, Volume};

pub(super) const VOLUME_GET: Action = Action::read("volume:get");
pub(super) const VOLUME_LIST: Action = Action::read("volume:get_all");
pub(super) const VOLUME_CREATE: Action = Action::write("volume:create");
pub(super) const VOLUME_UPDATE: Action = Action::write("volume:update");
pub(super) const VOLUME_DELETE: Action = Action::write("volume:delete");
pub(super) const VOLUME_UPLOAD: Action = Action::write("volume_extension:volume_actions:upload_image");
pub(super) const VOLUME_EXTEND: Action = Action::write("volume:extend");
pub(super) const METADATA_GET: Action = Action::read("volume:get_volume_metadata");
pub(super) const METADATA_CHANGE: Action = Action::write("volume:update_volume_metadata");
pub(super) const SNAPSHOT_GET: Action = Action::read("volume:get_snapshot");
pub(super) const SNAPSHOT_LIST: Action = Action::read("volume:get_all_snapshots");
pub(super) const SNAPSHOT_CREATE: Action = Action::write("volume:create_snapshot");
pub(super) const SNAPSHOT_DELETE: Action = Action::write("volume:delete_snapshot");
pub(super) const ATTACHMENT_GET: Action = Action::read("volume:attachment_get");
pub(super) const ATTACHMENT_CREATE: Action = Action::write("volume:attachment_create");
pub(super) const ATTACHMENT_UPDATE: Action = Action::write("volume:attachment_update");
pub(super) const ATTACHMENT_COMPLETE: Action = Action::write("volume:attachment_complete");
pub(super) const ATTACHMENT_DELETE: Action = Action::write("volume:attachment_delete");
pub(super) const TYPE_GET: Action = Action::read("volume_extension:type_get");
pub(super) const LIMITS_GET: Action = Action::read("limits_extension:used_limits");
pub(super) const ZONE_LIST: Action = Action::read("volume:availability_zone_list");
pub(super) const MESSAGE_GET: Action = Action::read("message:get");
pub(super) const MESSAGE_DELETE: Action = Action::write("message:delete");
pub(super) const OPERATION_GET: Action = Action::read("bowline:operation_get");
pub(super) const LEASE_RENEW: Action = Action::write("bowline:lease_renew");
pub(super) const SERVICE_LIST: Action = Action::admin("volume_extension:services:index");
pub(super) const SERVICE_UPDATE: Action = Action::admin("volume_extension:services:update");
pub(super) const POOL_LIST: Action = Action::admin("scheduler_extension:scheduler_stats:get_pools");
pub(super) const TYPE_MANAGE: Action = Action::admin("volume_extension:types_manage");
pub(super) const TYPE_ACCESS: Action = Action::admin("volume_extension:volume_type_access");
pub(super) const EXTRA_SPECS_GET: Action = Action::read("volume_extension:types_extra_specs:index");
pub(super) const EXTRA_SPECS_CHANGE: Action = Action::admin("volume_extension:types_extra_specs:update");
pub(super) const TYPE_ENCRYPTION: Action = Action::admin("volume_extension:volume_type_encryption:get");
pub(super) const TYPE_ENCRYPTION_CHANGE: Action = Action::admin("volume_extension:volume_type_encryption:update");
pub(super) const DEFAULT_TYPE: Action = Action::admin("volume_extension:default_set_or_update");
pub(super) const QOS: Action = Action::admin("volume_extension:qos_specs_manage");
pub(super) const QUOTA_GET: Action = Action::read("volume_extension:quotas:show");
pub(super) const QUOTA_CHANGE: Action = Action::admin("volume_extension:quotas:update");
pub(super) const QUOTA_CLASS: Action = Action::admin("volume_extension:quota_classes:get");
pub(super) const TRANSFER_GET: Action = Action::read("volume:get_transfer");
pub(super) const TRANSFER_CREATE: Action = Action::write("volume:create_transfer");
pub(super) const TRANSFER_ACCEPT: Action = Action::write("volume:accept_transfer");
pub(super) const TRANSFER_DELETE: Action = Action::write("volume:delete_transfer");
pub(super) const SNAPSHOT_UPDATE: Action = Action::write("volume:update_snapshot");
pub(super) const SNAPSHOT_METADATA_GET: Action = Action::read("volume:get_snapshot_metadata");
pub(super) const SNAPSHOT_METADATA_CHANGE: Action = Action::write("volume:update_snapshot_metadata");
pub(super) const SNAPSHOT_RESET: Action = Action::admin("volume_extension:snapshot_admin_actions:reset_status");
pub(super) const SNAPSHOT_FORCE_DELETE: Action = Action::admin("volume_extension:snapshot_admin_actions:force_delete");
pub(super) const ENCRYPTION_GET: Action = Action::read("volume_extension:volume_encryption_metadata");
pub(super) const BACKUP_GET: Action = Action::read("backup:get");
pub(super) const BACKUP_LIST: Action = Action::read("backup:get_all");
pub(super) const BACKUP_CREATE: Action = Action::write("backup:create");
pub(super) const BACKUP_UPDATE: Action = Action::write("backup:update");
pub(super) const BACKUP_DELETE: Action = Action::write("backup:delete");
pub(super) const BACKUP_RESTORE: Action = Action::write("backup:restore");
pub(super) const BACKUP_EXPORT: Action = Action::admin("backup:export-import");
pub(super) const BACKUP_IMPORT: Action = Action::admin("backup:backup-import");
pub(super) const BACKUP_RESET: Action = Action::admin("volume_extension:backup_admin_actions:reset_status");
pub(super) const BACKUP_FORCE_DELETE: Action = Action::admin("volume_extension:backup_admin_actions:force_delete");
pub(super) const NOTHING_MORE: Action = Action::read("volume:get_all");

/// Who asks.
pub(super) struct Context(pub(super) auth::Context);

impl<S: Send + Sync> FromRequestParts<S> for Context {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        // The guard of tokens puts it there, before any handler.
        parts.extensions.get::<auth::Context>().cloned().map(Self).ok_or(ApiError::Unauthorized)
    }
}

impl std::ops::Deref for Context {
    type Target = auth::Context;

    fn deref(&self) -> &auth::Context {
        &self.0
    }
}

/// The one whom a token was validated for by a handler itself.
pub(super) fn from_token(context: auth::Context) -> Context {
    Context(context)
}

/// Goes on where the asker may do `action` to something that belongs to nobody, or is not made yet.
pub(super) fn allow(context: &Context, action: Action) -> Result<(), ApiError> {
    match auth::decide(context, action, None) {
        Decision::Allow => Ok(()),
        Decision::NotFound | Decision::Forbidden => Err(ApiError::Forbidden(action.name)),
    }
}

/// The same for what belongs to a project; `absent` is what is said where it is another's.
pub(super) fn allow_for(context: &Context, action: Action, owner: &str, absent: Refusal) -> Result<(), ApiError> {
    match auth::decide(context, action, Some(owner)) {
        Decision::Allow => Ok(()),
        Decision::NotFound => Err(absent.into()),
        Decision::Forbidden => Err(ApiError::Forbidden(action.name)),
    }
}

/// The volume of this id, where the asker may do `action` to it.
pub(super) async fn volume(state: &AppState, context: &Context, id: &str, action: Action) -> Result<Volume, ApiError> {
    volume_by_id(state, context, volume_id(id)?, action).await
}

/// The same by an id that was read already.
pub(super) async fn volume_by_id(state: &AppState, context: &Context, id: Uuid, action: Action) -> Result<Volume, ApiError> {
    let volume = state.store.volume(id).await?;
    allow_for(context, action, &volume.project_id, Refusal::VolumeNotFound(id.to_string()))?;
    Ok(volume)
}

/// The snapshot of this id, where the asker may do `action` to it.
pub(super) async fn snapshot(state: &AppState, context: &Context, id: &str, action: Action) -> Result<Snapshot, ApiError> {
    let snapshot = state.store.snapshot(snapshot_id(id)?).await?;
    allow_for(context, action, &snapshot.project_id, Refusal::SnapshotNotFound(id.to_owned()))?;
    Ok(snapshot)
}

/// The backup of this id, where the asker may do `action` to it.
pub(super) async fn backup(state: &AppState, context: &Context, id: &str, action: Action) -> Result<Backup, ApiError> {
    let backup = state.store.backup(backup_id(id)?).await?;
    allow_for(context, action, &backup.project_id, Refusal::BackupNotFound(id.to_owned()))?;
    Ok(backup)
}

/// The attachment of this id, where the asker may do `action` to it.
pub(super) async fn attachment(state: &AppState, context: &Context, id: &str, action: Action) -> Result<Attachment, ApiError> {
    let attachment = state.store.attachment(attachment_id(id)?).await?;
    allow_for(context, action, &attachment.project_id, Refusal::AttachmentNotFound(id.to_owned()))?;
    Ok(attachment)
}
