//! The older way of attaching, as clients from before the attachments API do it.

use serde_json::json;
use uuid::Uuid;

use super::{Asked, Done};
use crate::api::body::invalid;
use crate::api::errors::ApiError;
use crate::api::query::attachment_id;
use crate::auth::Action;
use crate::domain::{AttachMode, AttachStatus, Attachment, Refusal, Volume, rules};
use crate::store::Attached;
use crate::volume::connection_info;

const RESERVE: Action = Action::write("volume_extension:volume_actions:reserve");
const UNRESERVE: Action = Action::write("volume_extension:volume_actions:unreserve");
const INITIALIZE: Action = Action::write("volume_extension:volume_actions:initialize_connection");
const ATTACH: Action = Action::write("volume_extension:volume_actions:attach");
const BEGIN_DETACHING: Action = Action::write("volume_extension:volume_actions:begin_detaching");
const ROLL_DETACHING: Action = Action::write("volume_extension:volume_actions:roll_detaching");
const TERMINATE: Action = Action::write("volume_extension:volume_actions:terminate_connection");
const DETACH: Action = Action::write("volume_extension:volume_actions:detach");

pub(super) async fn reserve(asked: Asked) -> Result<Done, ApiError> {
    let volume = asked.volume(RESERVE).await?;
    asked.state.store.hold(volume.id).await?;
    Ok(Done::Accepted)
}

pub(super) async fn unreserve(asked: Asked) -> Result<Done, ApiError> {
    let volume = asked.volume(UNRESERVE).await?;
    asked.state.store.unhold(volume.id).await?;
    Ok(Done::Accepted)
}

pub(super) async fn initialize(mut asked: Asked) -> Result<Done, ApiError> {
    let Some(connector) = asked.fields.connector("connector")? else {
        return Err(crate::api::body::missing("connector"));
    };
    let volume = asked.volume(INITIALIZE).await?;
    let attachment = asked.state.accept.initialize_connection(volume.id, connector, asked.context.asker()).await?;
    let mut data = connection_info(&attachment);
    let driver_volume_type = data.remove("driver_volume_type").unwrap_or_default();
    data.remove("attachment_id");
    Ok(Done::Said(json!({ "connection_info": { "driver_volume_type": driver_volume_type, "data": data } })))
}

pub(super) async fn attach(mut asked: Asked) -> Result<Done, ApiError> {
    let instance_id = asked.fields.uuid("instance_uuid")?;
    let host_name = asked.fields.text("host_name")?;
    let mountpoint = asked.fields.text("mountpoint")?;
    let mode = match asked.fields.text("mode")? {
        None => AttachMode::Rw,
        Some(word) => AttachMode::parse(&word)
            .ok_or_else(|| invalid("mode", &json!(word), &format!("'{word}' is not one of ['rw', 'ro']")))?,
    };
    if instance_id.is_some() == host_name.is_some() {
        let text = "Invalid input received: exactly one of 'instance_uuid' and 'host_name' must be given";
        return Err(ApiError::BadRequest(text.into()));
    }
    if mountpoint.is_none() {
        return Err(crate::api::body::missing("mountpoint"));
    }
    let volume = asked.volume(ATTACH).await?;
    let attached = Attached { instance_id, mode, mountpoint, host_name };
    asked.state.store.hold_attached(volume.id, attached).await?;
    Ok(Done::Accepted)
}

pub(super) async fn begin_detaching(asked: Asked) -> Result<Done, ApiError> {
    let volume = asked.volume(BEGIN_DETACHING).await?;
    asked.state.store.mark_volume_detaching(volume.id, false).await?;
    Ok(Done::Accepted)
}

pub(super) async fn roll_detaching(asked: Asked) -> Result<Done, ApiError> {
    let volume = asked.volume(ROLL_DETACHING).await?;
    asked.state.store.mark_volume_detaching(volume.id, true).await?;
    Ok(Done::Accepted)
}

pub(super) async fn terminate(mut asked: Asked) -> Result<Done, ApiError> {
    let connector = asked.fields.connector("connector")?;
    asked.fields.boolean("force")?;
    let volume = asked.volume(TERMINATE).await?;
    let of_host = |one: &Attachment| match &connector {
        Some(connector) => one.connector.as_ref().is_some_and(|known| known.is_same_host(connector)),
        // As in the field: no connector is every host.
        None => one.connector.is_some(),
    };
    let mut going = asked.state.store.attachments_of(&[volume.id]).await?;
    going.retain(|one| of_host(one) && one.status != AttachStatus::Detaching);
    for attachment in &going {
        rules::let_go(attachment, asked.context.is_service())?;
    }
    for attachment in going {
        asked.state.accept.terminate_connection(attachment.id, asked.context.asker()).await?;
    }
    Ok(Done::Accepted)
}

pub(super) async fn detach(mut asked: Asked) -> Result<Done, ApiError> {
    let wanted = asked.fields.text("attachment_id")?.map(|id| attachment_id(&id)).transpose()?;
    let volume = asked.volume(DETACH).await?;
    let Some(attachment) = to_detach(&asked, &volume, wanted).await? else {
        asked.state.store.settle_volume(volume.id).await?;
        return Ok(Done::Accepted);
    };
    rules::let_go(&attachment, asked.context.is_service())?;
    asked.state.accept.delete_attachment(attachment.id, asked.context.asker()).await?;
    Ok(Done::Accepted)
}

/// The attachment to detach: the one that is named, or the only one.
async fn to_detach(asked: &Asked, volume: &Volume, wanted: Option<Uuid>) -> Result<Option<Attachment>, ApiError> {
    let mut all = asked.state.store.attachments_of(&[volume.id]).await?;
    if let Some(id) = wanted {
        let found = all.into_iter().find(|one| one.id == id);
        return found.map(Some).ok_or_else(|| Refusal::AttachmentNotFound(id.to_string()).into());
    }
    all.retain(|one| one.status == AttachStatus::Attached);
    match all.len() {
        0 | 1 => Ok(all.pop()),
        _ => Err(ApiError::BadRequest(format!(
            "Invalid volume: Volume {} is attached to more than one instance; attachment_id must say which is to be detached.",
            volume.id
        ))),
    }
}
