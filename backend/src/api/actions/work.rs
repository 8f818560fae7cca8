//! Actions that begin work on a volume's host.

use super::{Asked, Done};
use crate::api::body::missing;
use crate::api::errors::ApiError;
use crate::api::microversion::Microversion;
use crate::api::policy;
use crate::auth::Action;

const FORCE_DELETE: Action = Action::admin("volume_extension:volume_admin_actions:force_delete");
const REVERT: Action = Action::write("volume:revert_to_snapshot");
const EXTEND_COMPLETION: Action = Action::service("volume_extension:volume_actions:extend_completion");

pub(super) async fn force_delete(asked: Asked) -> Result<Done, ApiError> {
    let volume = asked.volume(FORCE_DELETE).await?;
    asked.state.accept.force_delete_volume(volume.id, asked.context.asker()).await?;
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
