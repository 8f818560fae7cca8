//! Attachments. The database first, then the target, for what is added; the intent in the database, the target, then the
//! database again, for what is taken away. Whatever is cut off between is finished at the next start.

use tracing::{info, warn};
use uuid::Uuid;

use super::error::{ManagerError, chain};
use super::exports;
use super::manager::{Manager, Parts};
use crate::domain::{Attachment, Connector, Refusal, Volume};
use crate::store::{NewAttachment, StoreError};

impl Manager {
    /// Takes hold of a volume; with a connector its host may log in when this returns.
    pub async fn create_attachment(&self, new: NewAttachment) -> Result<Attachment, ManagerError> {
        self.run(move |parts| {
            Box::pin(async move {
                let _turn = parts.locks.lock(new.volume_id).await;
                let (volume, attachment) = parts.store.reserve(new).await?;
                if attachment.connector.is_none() {
                    return Ok(attachment);
                }
                if let Err(error) = show(&parts, &volume).await {
                    // The client never learns this attachment's id, so it must not stay.
                    let undone = async {
                        parts.store.begin_detach(attachment.id).await?;
                        take_away(&parts, &volume, &attachment).await
                    };
                    if let Err(undo_error) = undone.await {
                        warn!(attachment = %attachment.id, "cannot undo a failed attachment, it is undone at the next start: {}", chain(&undo_error));
                    }
                    return Err(error);
                }
                info!(volume = %volume.id, attachment = %attachment.id, "shown to its host");
                Ok(attachment)
            })
        })
        .await
    }

    /// Names the host of an attachment; it may log in when this returns.
    pub async fn update_attachment(&self, id: Uuid, connector: Connector) -> Result<Attachment, ManagerError> {
        self.run(move |parts| {
            Box::pin(async move {
                let before = parts.store.attachment(id).await?;
                let _turn = parts.locks.lock(before.volume_id).await;
                let before = parts.store.attachment(id).await?;
                let (volume, attachment) = parts.store.set_connector(id, &connector).await?;
                if before.initiator().is_some_and(|initiator| Some(initiator) != attachment.initiator()) {
                    let stay = parts.store.attachments_of(&[volume.id]).await?;
                    revoke(&parts, &volume, &before, &stay).await?;
                }
                show(&parts, &volume).await?;
                info!(volume = %volume.id, attachment = %id, "shown to its host");
                Ok(attachment)
            })
        })
        .await
    }

    /// Records that the host has connected.
    pub async fn complete_attachment(&self, id: Uuid) -> Result<(), ManagerError> {
        self.run(move |parts| Box::pin(async move { Ok(parts.store.complete(id).await?) })).await
    }

    /// Takes a volume away from a host; gives the attachments that still hold it.
    pub async fn delete_attachment(&self, id: Uuid) -> Result<Vec<Attachment>, ManagerError> {
        self.run(move |parts| {
            Box::pin(async move {
                let volume_id = parts.store.attachment(id).await?.volume_id;
                let _turn = parts.locks.lock(volume_id).await;
                let attachment = parts.store.begin_detach(id).await?;
                let volume = parts.store.volume(volume_id).await?;
                take_away(&parts, &volume, &attachment).await?;
                info!(volume = %volume_id, attachment = %id, "taken away from its host");
                Ok(parts.store.attachments_of(&[volume_id]).await?)
            })
        })
        .await
    }
}

/// Makes the target agree with the volume's attachments.
async fn show(parts: &Parts, volume: &Volume) -> Result<(), ManagerError> {
    let attachments = parts.store.attachments_of(&[volume.id]).await?;
    Ok(parts.target.export(&exports::of(parts, volume, &attachments)).await?)
}

/// Takes an attachment that is already recorded as going away from the target, and forgets it. To be called in the volume's turn.
pub(super) async fn take_away(parts: &Parts, volume: &Volume, going: &Attachment) -> Result<(), ManagerError> {
    let stay = parts.store.attachments_of(&[volume.id]).await?;
    revoke(parts, volume, going, &stay).await?;
    match parts.store.finish_detach(going.id).await {
        Ok(()) | Err(StoreError::Refused(Refusal::AttachmentNotFound(_))) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn revoke(parts: &Parts, volume: &Volume, going: &Attachment, stay: &[Attachment]) -> Result<(), ManagerError> {
    if let Some(access) = exports::access(going) {
        parts.target.revoke(&exports::of(parts, volume, stay), &access).await?;
    }
    Ok(())
}
