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
//! before. The run is journalled, so that its end is known also where nobody saw it. Whoever takes a disk away that nobody asked Bowline
//! for is told of by `fsck`, and nothing is done about it.

use super::{Agent, Shared, executor::Run, locks::Key, ports::PortResult};
use crate::agent::api::{Failure, OperationState};
use crate::agent::journal::{AttachmentRecord, Change, DetachTask, Task};
use crate::model::{ErrorKind, GuestRun, GuestUuid};

/// The guest's run, before it is asked for anything. `None`: it is off, or gone.
pub(super) async fn run_of(shared: &Shared, guest: GuestUuid) -> PortResult<Option<GuestRun>> {
    match shared.hypervisor.guest(&guest.to_string()).await {
        Ok(guest) => Ok(guest.run),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Run {
    /// Ends a detach whose guest has not answered: it failed, and may come true yet.
    pub(super) async fn end_unanswered(&mut self, mut failure: Failure) {
        let asked_run = self.record.facts.asked_run;
        if asked_run.is_none() {
            return self.end(OperationState::Failed, Some(failure)).await;
        }
        failure.remedy = format!("{}; if it lets go later while it runs, the detach goes on by itself", failure.remedy);
        let attached = self.shared.registry.attachment(self.record.task.volume(), self.record.task.guest());
        let wanted = attached.map(|record| Change::PutAttachment(Box::new(AttachmentRecord { asked_run, ..record })));
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
            attached.into_iter().filter(|record| record.asked_run.is_some() && guest.is_none_or(|guest| record.guest == guest));
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
        Ok(guest) if guest.run != record.asked_run => Answer::Forgotten,
        Ok(guest) if guest.disk(record.volume).is_none_or(|disk| !disk.live) => Answer::LetGo,
        Ok(_) | Err(_) => Answer::None,
    }
}

async fn forget(shared: &Shared, seen: &AttachmentRecord) {
    // An operation that has the volume may be this very detach, asked for again. A later look finds the run ended just as well, and none
    // takes another run's doings for its answer.
    let Some(_held) = shared.locks.try_lock(Key::Volume(seen.volume)) else { return };
    // Nor is a detach forgotten that was asked for since.
    let same = |record: &AttachmentRecord| record.asked_run == seen.asked_run;
    let Some(record) = shared.registry.still_attached(seen).filter(same) else { return };
    let record = AttachmentRecord { asked_run: None, ..record };
    match shared.journal.commit_or_owe(vec![Change::PutAttachment(Box::new(record.clone()))]).await {
        Ok(()) => {
            tracing::info!(volume = %record.volume, guest = record.guest_name, "the guest ended before it let go: it keeps the disk")
        }
        Err(error) => tracing::error!(volume = %record.volume, %error, "not journalled yet"),
    }
    shared.registry.put_attachment(record);
}
