//! A guest that lets go of a disk only after its detach has failed for that: the detach was asked for, so it is gone on with.
//!
//! ```text
//! attached --detach: asked, no answer in time--> attached, wanted gone
//!                                                  |  lets go, however late             another detach, from its first step on
//!                                                  |---------------------------------> (journalled as any): gone
//!                                                  |  the guest's run ends before that
//!                                                  \---------------------------------> attached, as if never asked
//! ```
//! QEMU forgets what it asked of a guest when the guest's run ends, and so does this: a guest that is started again has its disk as
//! before. Whoever takes a disk away that nobody asked Bowline for is told of by `fsck`, and nothing is done about it.

use super::{Agent, Shared, executor::Run, locks::Key};
use crate::agent::api::{Failure, OperationState};
use crate::agent::journal::{AttachmentRecord, Change, DetachTask, Task};
use crate::model::GuestUuid;

impl Run {
    /// Ends a detach whose guest has not answered: it failed, and may come true yet.
    pub(super) async fn end_unanswered(&mut self, mut failure: Failure) {
        failure.remedy = format!("{}; if it lets go later while it runs, the detach goes on by itself", failure.remedy);
        let attached = self.shared.registry.attachment(self.record.task.volume(), self.record.task.guest());
        let wanted = attached.map(|record| Change::PutAttachment(Box::new(AttachmentRecord { wanted_gone: true, ..record })));
        self.record.state = OperationState::Failed;
        self.record.failure = Some(failure);
        self.finish(wanted.into_iter().collect()).await;
        // It may have let go after the last look and before anybody knew that this matters.
        self.shared.wanted_gone.notify_one();
    }
}

/// What has become of a disk that a guest was asked for.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// The guest may still let it go.
    None,
    /// It has.
    LetGo,
    /// It does not know any more that it was asked.
    Forgotten,
}

impl Agent {
    /// Goes on with what was not answered in time and is now, of one guest or of all.
    pub(super) async fn go_on_with_detaches(&self, guest: Option<GuestUuid>) {
        let attached = self.shared.registry.attachments();
        let wanted =
            attached.into_iter().filter(|record| record.wanted_gone && guest.is_none_or(|guest| record.guest == guest));
        for record in wanted {
            match answer(&self.shared, &record).await {
                Answer::None => {}
                Answer::LetGo => self.detach_late(&record).await,
                Answer::Forgotten => forget(&self.shared, &record).await,
            }
        }
    }

    async fn detach_late(&self, record: &AttachmentRecord) {
        let AttachmentRecord { volume, guest, guest_name, .. } = record;
        let task = DetachTask { volume: *volume, guest: *guest, guest_name: guest_name.clone() };
        match self.take_up_unasked(Task::Detach(task)).await {
            Ok(operation) => {
                tracing::info!(%operation, %volume, guest = guest_name, "the guest has let go at last: going on with its detach")
            }
            Err(error) => {
                tracing::warn!(%volume, guest = guest_name, %error, "the guest has let go at last, and its detach cannot go on now: detach it again");
            }
        }
    }
}

/// Where libvirt cannot be asked there is no answer yet: its return is told. Of a guest that is gone nothing is known.
async fn answer(shared: &Shared, record: &AttachmentRecord) -> Answer {
    match shared.hypervisor.guest(&record.guest.to_string()).await {
        Ok(guest) if guest.disk(record.volume).is_none_or(|disk| guest.active && !disk.live) => Answer::LetGo,
        Ok(guest) if !guest.active => Answer::Forgotten,
        Ok(_) | Err(_) => Answer::None,
    }
}

async fn forget(shared: &Shared, seen: &AttachmentRecord) {
    // An operation that has the volume may be this very detach, asked for again.
    let Some(_held) = shared.locks.try_lock(Key::Volume(seen.volume)) else { return };
    let Some(record) = shared.registry.still_attached(seen) else { return };
    let record = AttachmentRecord { wanted_gone: false, ..record };
    match shared.journal.commit_or_owe(vec![Change::PutAttachment(Box::new(record.clone()))]).await {
        Ok(()) => {
            tracing::info!(volume = %record.volume, guest = record.guest_name, "the guest ended before it let go: it keeps the disk")
        }
        Err(error) => tracing::error!(volume = %record.volume, %error, "not journalled yet"),
    }
    shared.registry.put_attachment(record);
}
