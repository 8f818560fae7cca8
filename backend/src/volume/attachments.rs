//! Attachments on their volume's host. The database first, then the target, for what is added; the intent in the database, the
//! target, then the database again, for what is taken away. Whatever is cut off between is finished at the next start.

use serde_json::{Map, Value};
use tracing::{info, warn};

use super::connection_info;
use super::error::{VolumeError, chain};
use super::exports;
use super::host::{Parts, stored};
use crate::domain::{AttachMode, AttachStatus, Attachment, ChapAccount, Operation, Refusal, Volume};
use crate::drivers::{Guest, Reach};
use crate::operations::Next;
use crate::secret::Secret;
use crate::store::Replaced;
use crate::targets::Access;

impl Parts {
    /// Shows a volume to the host of an attachment; it may log in when this has ended.
    pub(super) async fn connect(&self, operation: &Operation) -> Result<Next, VolumeError> {
        let volume_id = self.store.attachment(operation.object_id).await?.volume_id;
        let _turn = self.locks.lock(volume_id).await;
        let attachment = self.store.attachment(operation.object_id).await?;
        if attachment.status == AttachStatus::Detaching {
            return Ok(self.fail(operation, Refusal::AttachmentGoing(attachment.id).to_string()).await?);
        }
        let volume = self.store.volume(volume_id).await?;
        let replaced = operation.request.get("replaces").cloned().and_then(|value| serde_json::from_value(value).ok());
        match self.show_to(&volume, &attachment, replaced).await {
            Ok(connection) => {
                self.store.end_connect(operation, &connection).await?;
                info!(volume = %volume.id, attachment = %attachment.id, "shown to its host");
                Ok(Next::Ended)
            }
            Err(error) => {
                if operation.request.get("undo").is_some() {
                    let undone = async {
                        self.store.mark_detaching(attachment.id).await?;
                        take_away(self, &volume, &attachment).await
                    };
                    if let Err(undo_error) = undone.await {
                        warn!(attachment = %attachment.id, "cannot undo a failed attachment, it is undone at the next start: {}", chain(&undo_error));
                    }
                }
                Err(error)
            }
        }
    }

    async fn show_to(
        &self,
        volume: &Volume,
        attachment: &Attachment,
        replaced: Option<Replaced>,
    ) -> Result<Map<String, Value>, VolumeError> {
        let attachments = self.store.attachments_of(&[volume.id]).await?;
        let Some(export) = exports::of(self, volume, &attachments)? else { return connection(self, volume, attachment).await };
        if attachment.initiator().is_none() {
            return Err(VolumeError::NoInitiator(attachment.id));
        }
        if let Some(Replaced { initiator, username }) = replaced {
            let chap = ChapAccount { username, password: Secret::new(String::new()) };
            let access = Access { initiator, chap };
            if !export.accesses.iter().any(|stays| stays.initiator == access.initiator) {
                self.target.revoke(&export, &access).await?;
            }
        }
        self.target.export(&export).await?;
        connection(self, volume, attachment).await
    }

    /// Takes a volume away from the host of an attachment, which stays without a host.
    pub(super) async fn revoke(&self, operation: &Operation) -> Result<Next, VolumeError> {
        let volume_id = self.store.attachment(operation.object_id).await?.volume_id;
        let _turn = self.locks.lock(volume_id).await;
        let attachment = self.store.attachment(operation.object_id).await?;
        let volume = self.store.volume(volume_id).await?;
        let mut stay = self.store.attachments_of(&[volume_id]).await?;
        stay.retain(|other| other.id != attachment.id);
        shut_out(self, &volume, &attachment, &stay).await?;
        self.store.end_revoke(operation).await?;
        info!(volume = %volume_id, attachment = %attachment.id, "its host is let in no more");
        Ok(Next::Ended)
    }

    /// Takes a volume away from the host of an attachment, and forgets the attachment.
    pub(super) async fn disconnect(&self, operation: &Operation) -> Result<Next, VolumeError> {
        let volume_id = self.store.attachment(operation.object_id).await?.volume_id;
        let _turn = self.locks.lock(volume_id).await;
        let attachment = self.store.attachment(operation.object_id).await?;
        let volume = self.store.volume(volume_id).await?;
        take_away(self, &volume, &attachment).await?;
        self.store.end_operation(operation, crate::store::Ending::done()).await?;
        info!(volume = %volume_id, attachment = %attachment.id, "taken away from its host");
        Ok(Next::Ended)
    }
}

/// What the host of an attachment is told of its volume, but for secrets.
pub(super) async fn connection(
    parts: &Parts,
    volume: &Volume,
    attachment: &Attachment,
) -> Result<Map<String, Value>, VolumeError> {
    let (driver, storage) = (parts.driver(&volume.host)?, stored(volume));
    let mut info = match driver.reach(&storage) {
        Reach::Local(_) => {
            let multipath = attachment.connector.as_ref().is_some_and(|connector| connector.flag("multipath"));
            connection_info::iscsi(volume, parts.target.portals(), multipath)
        }
        Reach::Direct => {
            let admitted = driver.admit(&storage, guest(attachment)).await?;
            if let Some(account) = admitted.account.filter(|account| attachment.chap.as_ref() != Some(account)) {
                parts.store.set_account(attachment.id, &account).await?;
            }
            admitted.info
        }
    };
    info.insert("encrypted".into(), volume.encryption_key_id.is_some().into());
    let qos = match &volume.volume_type_id {
        Some(id) => parts.store.qos_of_type(id).await?,
        None => None,
    };
    info.insert("qos_specs".into(), qos.map_or(Value::Null, |specs| specs.for_hosts()));
    Ok(info)
}

/// Takes an attachment that is already recorded as going away from the target, and forgets it. To be called in the volume's turn.
pub(super) async fn take_away(parts: &Parts, volume: &Volume, going: &Attachment) -> Result<(), VolumeError> {
    let stay = parts.store.attachments_of(&[volume.id]).await?;
    shut_out(parts, volume, going, &stay).await?;
    Ok(parts.store.finish_detach(going.id).await?)
}

/// The host of an attachment as the storage knows it.
fn guest(attachment: &Attachment) -> Guest<'_> {
    let read_only = connection_info::mode(attachment) == AttachMode::Ro;
    Guest { attachment_id: attachment.id, read_only, account: attachment.chap.as_ref() }
}

/// Lets the host of an attachment in no more. `stay` are the others.
async fn shut_out(parts: &Parts, volume: &Volume, going: &Attachment, stay: &[Attachment]) -> Result<(), VolumeError> {
    match (exports::of(parts, volume, stay)?, exports::access(going)) {
        (Some(export), Some(access)) => parts.target.revoke(&export, &access).await?,
        (Some(_), None) => {}
        (None, _) => parts.driver(&volume.host)?.dismiss(&stored(volume), guest(going)).await?,
    }
    Ok(())
}
