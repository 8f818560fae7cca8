//! What is set on a volume rather than worked for.

use serde_json::json;

use super::{Asked, Done};
use crate::api::body::{invalid, missing};
use crate::api::errors::ApiError;
use crate::api::types::seen_by;
use crate::auth::Action;
use crate::domain::VolumeStatus;

const BOOTABLE: Action = Action::write("volume_extension:volume_actions:set_bootable");
const READONLY: Action = Action::write("volume:update_readonly_flag");
const RETYPE: Action = Action::write("volume:retype");
const RESET_STATUS: Action = Action::admin("volume_extension:volume_admin_actions:reset_status");

pub(super) async fn bootable(mut asked: Asked) -> Result<Done, ApiError> {
    let bootable = asked.fields.boolean("bootable")?.ok_or_else(|| missing("bootable"))?;
    asked.fields.none_left(asked.version)?;
    let volume = asked.volume(BOOTABLE).await?;
    asked.state.store.set_bootable(volume.id, bootable).await?;
    Ok(Done::Ok)
}

pub(super) async fn readonly(mut asked: Asked) -> Result<Done, ApiError> {
    let readonly = asked.fields.boolean("readonly")?.ok_or_else(|| missing("readonly"))?;
    asked.fields.none_left(asked.version)?;
    let volume = asked.volume(READONLY).await?;
    asked.state.store.set_readonly(volume.id, readonly).await?;
    Ok(Done::Accepted)
}

pub(super) async fn retype(mut asked: Asked) -> Result<Done, ApiError> {
    let wanted = asked.fields.required_text("new_type")?;
    let policy = asked.fields.text("migration_policy")?.unwrap_or_else(|| "never".to_owned());
    if !["never", "on-demand"].contains(&policy.as_str()) {
        let why = format!("'{policy}' is not one of ['on-demand', 'never']");
        return Err(invalid("migration_policy", &json!(policy), &why));
    }
    asked.fields.none_left(asked.version)?;
    let volume = asked.volume(RETYPE).await?;
    let new = asked.state.store.volume_type(&wanted, seen_by(&asked.context)).await?;
    asked.state.accept.retype_volume(volume.id, new, policy == "on-demand", asked.context.asker()).await?;
    Ok(Done::Accepted)
}

/// An administrator says what a volume is. `attach_status: detached` takes it from every host.
pub(super) async fn reset_status(mut asked: Asked) -> Result<Done, ApiError> {
    let status = asked.fields.text("status")?;
    let attach_status = asked.fields.text("attach_status")?;
    let migration = asked.fields.text("migration_status")?;
    if status.is_none() && attach_status.is_none() && migration.is_none() {
        let text = "Invalid input received: Must specify 'status', 'attach_status' or 'migration_status' for update.";
        return Err(ApiError::BadRequest(text.into()));
    }
    let parse = |word: String| {
        VolumeStatus::parse(&word.to_ascii_lowercase())
            .ok_or_else(|| invalid("status", &json!(word), &format!("'{word}' is not a volume's status")))
    };
    let status = status.map(parse).transpose()?;
    let detached = match attach_status.as_deref() {
        None => false,
        Some("detached") => true,
        Some("attached") => {
            let text = "Invalid input received: attach_status: an attachment is what makes a volume attached; create one";
            return Err(ApiError::BadRequest(text.into()));
        }
        Some(other) => {
            return Err(invalid("attach_status", &json!(other), &format!("'{other}' is not one of ['attached', 'detached']")));
        }
    };
    asked.fields.none_left(asked.version)?;
    let volume = asked.volume(RESET_STATUS).await?;
    if detached {
        for attachment in asked.state.store.attachments_of(&[volume.id]).await? {
            asked.state.accept.delete_attachment(attachment.id, asked.context.asker()).await?;
        }
    }
    let migration = migration.map(|word| Some(word).filter(|word| word != "none"));
    asked.state.store.reset_volume(volume.id, status, migration).await?;
    Ok(Done::Accepted)
}
