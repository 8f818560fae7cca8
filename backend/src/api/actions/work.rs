//! Actions that begin work on a volume's host.

use super::{Asked, Done};
use crate::api::body::missing;
use crate::api::errors::ApiError;
use crate::api::microversion::Microversion;
use crate::api::{encryption, policy, volume_images};
use crate::auth::Action;

const FORCE_DELETE: Action = Action::admin("volume_extension:volume_admin_actions:force_delete");
const MIGRATE: Action = Action::admin("volume_extension:volume_admin_actions:migrate_volume");
const REVERT: Action = Action::write("volume:revert_to_snapshot");
const REIMAGE: Action = Action::write("volume_extension:volume_actions:reimage");
const REIMAGE_RESERVED: Action = Action::write("volume_extension:volume_actions:reimage_reserved");
const EXTEND_COMPLETION: Action = Action::service("volume_extension:volume_actions:extend_completion");

pub(super) async fn force_delete(asked: Asked) -> Result<Done, ApiError> {
    let volume = asked.volume(FORCE_DELETE).await?;
    let operation_id = asked.state.accept.force_delete_volume(volume.id, asked.context.asker()).await?;
    encryption::discard_after(&asked.state, &asked.context, operation_id, volume.encryption_key_id.as_deref());
    Ok(Done::Accepted)
}

pub(super) async fn extend(mut asked: Asked) -> Result<Done, ApiError> {
    let size_gib = asked.fields.size("new_size")?.ok_or_else(|| missing("new_size"))?;
    asked.fields.none_left(asked.version)?;
    let volume = asked.volume(policy::VOLUME_EXTEND).await?;
    let attached = asked.version >= Microversion::EXTEND_IN_USE;
    asked.state.accept.extend_volume(volume.id, size_gib, attached, asked.context.asker()).await?;
    Ok(Done::Accepted)
}

/// Whether the bytes are copied by this service or by the storage makes no difference here, nor does asking for the volume to be locked
/// meanwhile: it is, always.
pub(super) async fn migrate(mut asked: Asked) -> Result<Done, ApiError> {
    let host = asked.fields.text("host")?;
    let cluster = if asked.version >= Microversion::MIGRATE_CLUSTER { asked.fields.text("cluster")? } else { None };
    asked.fields.boolean("force_host_copy")?;
    asked.fields.boolean("lock_volume")?;
    asked.fields.none_left(asked.version)?;
    let host = match (host, cluster) {
        (Some(host), None) => host,
        // There are none here, so none has the name.
        (None, Some(cluster)) => {
            return Err(ApiError::BadRequest(format!("Invalid host: No available service named '{cluster}'")));
        }
        (None, None) => return Err(missing("host")),
        (Some(_), Some(_)) => {
            return Err(ApiError::BadRequest("Invalid input received: host and cluster are mutually exclusive.".into()));
        }
    };
    let volume = asked.volume(MIGRATE).await?;
    asked.state.accept.migrate_volume(volume.id, host, asked.context.asker()).await?;
    Ok(Done::Accepted)
}

pub(super) async fn upload_image(asked: Asked) -> Result<Done, ApiError> {
    let volume = asked.volume(policy::VOLUME_UPLOAD).await?;
    let said = volume_images::upload(&asked.state, &asked.context, asked.version, &volume, asked.fields).await?;
    Ok(Done::AcceptedSaying(said))
}

/// 3.68: an image over what the volume has, as for a guest that is rebuilt on its own volume.
pub(super) async fn reimage(mut asked: Asked) -> Result<Done, ApiError> {
    let image_id = asked.fields.uuid("image_id")?.ok_or_else(|| missing("image_id"))?;
    let reserved = asked.fields.boolean("reimage_reserved")?.unwrap_or(false);
    asked.fields.none_left(asked.version)?;
    let volume = asked.volume(if reserved { REIMAGE_RESERVED } else { REIMAGE }).await?;
    let (state, context) = (&asked.state, &asked.context);
    volume_images::source(state, context, image_id, Some(volume.size_gib)).await?;
    let key = match &volume.encryption_key_id {
        Some(key_id) => {
            volume_images::fits_encrypted(state, context, image_id, volume.size_gib).await?;
            encryption::lend(state, context, key_id).await?
        }
        None => None,
    };
    state.accept.reimage_volume(volume.id, image_id, reserved, key, context.asker()).await?;
    Ok(Done::Accepted)
}

pub(super) async fn revert(mut asked: Asked) -> Result<Done, ApiError> {
    let snapshot_id = asked.fields.uuid("snapshot_id")?.ok_or_else(|| missing("snapshot_id"))?;
    asked.fields.none_left(asked.version)?;
    let volume = asked.volume(REVERT).await?;
    let snapshot = policy::snapshot(&asked.state, &asked.context, &snapshot_id.to_string(), policy::SNAPSHOT_GET).await?;
    asked.state.accept.revert_volume(volume.id, snapshot.id, asked.context.asker()).await?;
    Ok(Done::Accepted)
}

/// 3.71: a host says that it has seen an extend. No storage here waits for that, so no volume ever does.
pub(super) async fn extend_completion(mut asked: Asked) -> Result<Done, ApiError> {
    asked.fields.boolean("error")?.ok_or_else(|| missing("error"))?;
    asked.fields.none_left(asked.version)?;
    let volume = asked.volume(EXTEND_COMPLETION).await?;
    Err(ApiError::BadRequest(format!(
        "Invalid volume: Volume {} is {} and does not wait for a host to complete an extend.",
        volume.id, volume.status
    )))
}
