//! Attachments: recorded here, carried out by the volume's host, and answered when that is done.

use uuid::Uuid;

use super::{Accept, AcceptError};
use crate::domain::{Asker, Attachment, Connector};
use crate::store::NewAttachment;

impl Accept {
    /// Takes hold of a volume; with a connector its host may log in when this returns.
    pub async fn create_attachment(&self, new: NewAttachment, by: Asker) -> Result<Attachment, AcceptError> {
        self.run(move |accept| {
            Box::pin(async move {
                let (attachment, operation) = accept.store.reserve(new, by).await?;
                let Some(operation) = operation else { return Ok(attachment) };
                accept.send_and_wait(&operation).await?;
                Ok(accept.store.attachment(attachment.id).await?)
            })
        })
        .await
    }

    /// Names the host of an attachment; it may log in when this returns.
    pub async fn update_attachment(&self, id: Uuid, connector: Connector, by: Asker) -> Result<Attachment, AcceptError> {
        self.run(move |accept| {
            Box::pin(async move {
                let operation = accept.store.set_connector(id, &connector, by).await?;
                accept.send_and_wait(&operation).await?;
                Ok(accept.store.attachment(id).await?)
            })
        })
        .await
    }

    /// Records that the host has connected.
    pub async fn complete_attachment(&self, id: Uuid) -> Result<(), AcceptError> {
        self.run(move |accept| Box::pin(async move { Ok(accept.store.complete(id).await?) })).await
    }

    /// Takes a volume away from a host; gives the attachments that still hold it.
    pub async fn delete_attachment(&self, id: Uuid, by: Asker) -> Result<Vec<Attachment>, AcceptError> {
        self.run(move |accept| {
            Box::pin(async move {
                let (attachment, operation) = accept.store.begin_detach(id, by).await?;
                if let Some(operation) = operation {
                    accept.send_and_wait(&operation).await?;
                }
                Ok(accept.store.attachments_of(&[attachment.volume_id]).await?)
            })
        })
        .await
    }
}

/// The older way of attaching.
impl Accept {
    /// Lets a host in; gives what it is told when it may log in.
    pub async fn initialize_connection(
        &self,
        volume_id: Uuid,
        connector: Connector,
        by: Asker,
    ) -> Result<Attachment, AcceptError> {
        self.run(move |accept| {
            Box::pin(async move {
                let (id, operation) = accept.store.hold_for_host(volume_id, &connector, by).await?;
                accept.send_and_wait(&operation).await?;
                Ok(accept.store.attachment(id).await?)
            })
        })
        .await
    }

    /// Lets the host of an attachment in no more.
    pub async fn terminate_connection(&self, id: Uuid, by: Asker) -> Result<(), AcceptError> {
        self.run(move |accept| {
            Box::pin(async move {
                let operation = accept.store.begin_revoke(id, by).await?;
                accept.send_and_wait(&operation).await
            })
        })
        .await
    }
}
