//! How an operation ends: done, not done, or given up. What it makes of the attachments is journalled in the same breath.

use super::{abandon, boot, executor::Run, extend, fill, now_us, steps};
use crate::agent::api::{Failure, OperationState};
use crate::agent::journal::{AttachmentRecord, Change, OperationRecord, Task};
use crate::model::ErrorKind;

impl Run {
    /// It is done: journalled together with what it makes of the attachments.
    pub(super) async fn succeed(&mut self) {
        let guest = fill::guest_of(&self.shared, &self.record.task).await;
        let changes = match &self.record.task {
            Task::Attach(_) => match attachment_record(&self.record) {
                Some(attachment) => vec![Change::PutAttachment(Box::new(attachment))],
                None => {
                    let failure = Failure {
                        kind: ErrorKind::Internal,
                        message: "the finished attach lacks a part of its record".to_owned(),
                        remedy: String::new(),
                    };
                    return self.unwind(failure).await;
                }
            },
            Task::Detach(task) => vec![Change::DropAttachment(task.volume, task.guest)],
            Task::Extend(_) => {
                let grown = extend::grown_attachments(&self.shared, &self.record);
                grown.into_iter().map(|attachment| Change::PutAttachment(Box::new(attachment))).collect()
            }
            Task::Boot(_) => {
                boot::boot_record(&self.record).map(|guest| Change::PutGuest(Box::new(guest))).into_iter().collect()
            }
            Task::Delete(task) => vec![Change::DropGuest(task.guest)],
            Task::Rebuild(_) => boot::rebuilt_record(&self.shared, &self.record)
                .map(|guest| Change::PutGuest(Box::new(guest)))
                .into_iter()
                .collect(),
            Task::Fill(_) => fill::filled_record(&self.shared, &self.record)
                .map(|guest| Change::PutGuest(Box::new(guest)))
                .into_iter()
                .collect(),
            Task::Rescue(_) | Task::Unrescue(_) => boot::rescued_record(&self.shared, &self.record)
                .map(|guest| Change::PutGuest(Box::new(guest)))
                .into_iter()
                .collect(),
            Task::Start(task) => fill::taken_up_again(&self.shared, task.guest)
                .map(|guest| Change::PutGuest(Box::new(guest)))
                .into_iter()
                .collect(),
            Task::Reimage(_) | Task::Stop(_) | Task::Snapshot(_) => vec![],
        };
        self.record.state = OperationState::Succeeded;
        self.record.failure = None;
        self.finish(changes).await;
        drop(guest);
        if let Task::Boot(_) | Task::Start(_) = self.record.task {
            fill::begin(&self.shared, self.record.task.guest()).await;
        }
    }

    /// Journals the end together with what it makes of the attachments.
    pub(super) async fn finish(&mut self, changes: Vec<Change>) {
        self.record.duration_us = now_us().saturating_sub(self.record.created_at_us);
        // What is true outside must be known here even if the journal fails: recovery finds the rest.
        let mut all = changes.clone();
        all.push(Change::PutOperation(Box::new(self.record.clone())));
        if let Err(error) = self.shared.journal.commit_or_owe(all).await {
            tracing::error!(operation = %self.record.id, %error, "not journalled yet");
        }
        // First the attachment, then the end: whoever hears of the end finds the attachment as it is.
        for change in changes {
            match change {
                Change::PutAttachment(attachment) => self.shared.registry.put_attachment(*attachment),
                Change::DropAttachment(volume, guest) => self.shared.registry.forget_attachment(volume, guest),
                Change::PutGuest(guest) => self.shared.registry.put_guest(*guest),
                Change::DropGuest(guest) => self.shared.registry.forget_guest(guest),
                Change::PutOperation(_) | Change::DropOperation(_) => {}
            }
        }
        self.publish();
        self.shared.forget_old_operations().await;
    }

    /// Ends it without a word on the attachments.
    pub(super) async fn end(&mut self, state: OperationState, failure: Option<Failure>) {
        self.record.state = state;
        self.record.failure = failure;
        self.record.duration_us = now_us().saturating_sub(self.record.created_at_us);
        self.commit_or_log().await;
        self.shared.forget_old_operations().await;
    }

    /// Ends an operation that an operator has given up.
    pub(super) async fn give_up(&mut self) {
        let mut failure = abandon::told(&self.record);
        if abandon::has_let_go(&self.record)
            && let Err(error) = steps::forget_secrets(&self.shared, &self.record.facts).await
        {
            abandon::tell_secrets(&mut failure, &self.record, &error);
        }
        tracing::warn!(operation = %self.record.id, left = failure.message, "abandoned");
        let _guest = fill::guest_of(&self.shared, &self.record.task).await;
        self.record.state = OperationState::Abandoned;
        self.record.failure = Some(failure);
        let mut changes: Vec<_> = abandon::change(&self.record).into_iter().collect();
        if boot::is_replaced(&self.record) {
            changes.extend(boot::rebuilt_record(&self.shared, &self.record).map(|guest| Change::PutGuest(Box::new(guest))));
        }
        changes.extend(fill::given_up_record(&self.shared, &self.record).map(|guest| Change::PutGuest(Box::new(guest))));
        let given_up = extend::given_up_attachments(&self.shared, &self.record);
        changes.extend(given_up.into_iter().map(|attachment| Change::PutAttachment(Box::new(attachment))));
        self.finish(changes).await;
    }
}

/// What an attach makes of its volume, as far as it knows all of it: not before it has begun to plug the disk in.
pub(super) fn attachment_record(record: &OperationRecord) -> Option<AttachmentRecord> {
    let Task::Attach(task) = &record.task else { return None };
    let facts = &record.facts;
    Some(AttachmentRecord {
        id: facts.attachment?,
        volume: task.volume,
        guest: task.guest,
        guest_name: task.guest_name.clone(),
        bus: task.bus,
        target: facts.target.clone()?,
        read_only: task.read_only,
        protocol: facts.protocol.clone()?,
        device: facts.device.clone()?,
        observed: facts.observed.clone()?,
        secret: facts.secret,
        encryption: facts.encryption,
        wishes: task.wishes.clone(),
        given_up_gib: None,
        asked_run: None,
        by_hand: task.by_hand,
        attached_at_us: now_us(),
    })
}
