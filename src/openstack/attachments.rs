//! Attachments: the record in the volume service that a guest on this host has a volume.
//!
//! ```text
//!  create (no connector) -> reserved --update(connector)--> attaching --complete--> attached --delete--> gone
//!                                \---------------------------- delete -----------------------------------/
//! ```
//! The answer to the update still says `reserved`: Cinder reads its record before it writes it. Nothing relies on that word.

use super::{
    OpenstackError, Operation, Outcome, VolumeService,
    volume_service::{Call, Repeat},
    wire::{AttachmentEnvelope, AttachmentPage, next_marker, with},
};
use crate::model::{
    Attachment, AttachmentId, AttachmentStatus, AttachmentSummary, ConnectorProperties, ErrorKind, GuestUuid, VolumeId,
};
use reqwest::Method;
use serde_json::json;

/// A bound on a service that links its pages in circles.
const PAGES_MAX: usize = 1000;

impl VolumeService {
    /// Reserves a volume for a guest. Sent again only to a service that keeps idempotency keys: after an error with [`OpenstackError::outcome_unknown`] look with
    /// [`VolumeService::attachments`] whether it was made.
    pub async fn create_attachment(
        &self,
        volume: VolumeId,
        guest: GuestUuid,
        read_only: bool,
    ) -> Result<Attachment, OpenstackError> {
        let operation = Operation::CreateAttachment { volume, guest };
        let mut attachment = json!({"volume_uuid": volume, "instance_uuid": guest});
        if read_only {
            attachment = with(attachment, "mode", "ro");
        }
        let call = Call {
            method: Method::POST,
            body: Some(json!({"attachment": attachment})),
            repeat: Repeat::Keyed,
            ..Call::get(operation, "attachments")
        };
        self.attachment_call(call).await
    }

    /// Tells the service who will connect; it exports the volume and answers how to connect.
    pub async fn update_attachment(
        &self,
        id: AttachmentId,
        connector: &ConnectorProperties,
    ) -> Result<Attachment, OpenstackError> {
        let call = Call {
            method: Method::PUT,
            body: Some(json!({"attachment": {"connector": connector}})),
            repeat: Repeat::Idempotent,
            ..Call::get(Operation::UpdateAttachment(id), format!("attachments/{id}"))
        };
        match self.attachment_call(call).await {
            // Cinder stores the connection info last. If it is there, an earlier request did arrive and its answer was
            // lost; where the volume has a second attachment, Cinder refuses to be told the same connector again
            // (500, "duplicate connectors").
            Err(error) if error.outcome_unknown() => match self.attachment(id).await {
                Ok(attachment) if attachment.connection.is_some() => Ok(attachment),
                _ => Err(error),
            },
            result => result,
        }
    }

    /// Tells the service that the guest has the volume. Completing what is attached already succeeds.
    pub async fn complete_attachment(&self, id: AttachmentId) -> Result<(), OpenstackError> {
        let call = Call {
            method: Method::POST,
            body: Some(json!({"os-complete": {}})),
            repeat: Repeat::Idempotent,
            ..Call::get(Operation::CompleteAttachment(id), format!("attachments/{id}/action"))
        };
        match self.call(call).await {
            Ok(_) => Ok(()),
            // Some releases refuse a second completion instead of answering 204 again.
            Err(error) if error.kind() == ErrorKind::Conflict => match self.attachment(id).await {
                Ok(attachment) if attachment.summary.status == AttachmentStatus::Attached => Ok(()),
                _ => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// The attachment with this id, its connection info included.
    pub async fn attachment(&self, id: AttachmentId) -> Result<Attachment, OpenstackError> {
        self.attachment_call(Call::get(Operation::ShowAttachment(id), format!("attachments/{id}"))).await
    }

    /// The attachments of one volume, or of every volume of the project.
    pub async fn attachments(&self, volume: Option<VolumeId>) -> Result<Vec<AttachmentSummary>, OpenstackError> {
        let operation = Operation::ListAttachments(volume);
        let volume_id = volume.map(|volume| volume.to_string());
        let mut found = Vec::new();
        let mut marker: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut query = Vec::new();
            query.extend(volume_id.as_deref().map(|id| ("volume_id", id)));
            query.extend(marker.as_deref().map(|marker| ("marker", marker)));
            let answer = self.call(Call { query: &query, ..Call::get(operation.clone(), "attachments") }).await?;
            let page: AttachmentPage = answer.json(&operation)?;
            let next = next_marker(&page.attachments_links);
            // Filtered again: another volume's attachment taken for this one's could be deleted by recovery.
            let ours = page.attachments.iter().map(|attachment| attachment.summary());
            found.extend(ours.filter(|summary| volume.is_none_or(|volume| summary.volume == volume)));
            if next.is_none() {
                return Ok(found);
            }
            if next == marker {
                return Err(answer.unintelligible(&operation, "a page that links to itself"));
            }
            marker = next;
        }
        Err(OpenstackError::Unintelligible {
            operation,
            status: 200,
            problem: format!("more than {PAGES_MAX} pages"),
            request_id: None,
        })
    }

    /// Deletes an attachment; the service takes its export down. Only after the host has proven to be off the device: the
    /// backend may give the same LUN to another volume at once.
    pub async fn delete_attachment(&self, id: AttachmentId) -> Result<Outcome, OpenstackError> {
        let call = Call {
            method: Method::DELETE,
            repeat: Repeat::Idempotent,
            as_service: true,
            ..Call::get(Operation::DeleteAttachment(id), format!("attachments/{id}"))
        };
        match self.call(call).await {
            Ok(_) => Ok(Outcome::Changed),
            Err(error) if error.status() == Some(404) => Ok(Outcome::Unchanged),
            Err(error) if self.has_service_user() => Err(error),
            Err(error) => Err(error.wanting_service_user()),
        }
    }

    async fn attachment_call(&self, call: Call<'_>) -> Result<Attachment, OpenstackError> {
        let operation = call.operation.clone();
        let answer = self.call(call).await?;
        answer.json::<AttachmentEnvelope>(&operation)?.attachment.into_attachment()
    }
}
