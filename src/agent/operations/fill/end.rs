//! How a fill ends, and what it makes of its guest.
//!
//! What is known of the guest's disks is changed while nothing else is done to the guest: a rebuild or a delete that ends at the same
//! moment changes the same record.

use super::{
    super::{Shared, executor::Run, locks::Key},
    is_same, with_lazy,
};
use crate::agent::api::{Failure, OperationState};
use crate::agent::journal::{BootRecord, Change, OperationRecord, Task};
use crate::model::{BootedDisk, ErrorKind};
use tokio::sync::OwnedMutexGuard;

/// What a fill makes of its guest.
pub(in super::super) fn filled_record(shared: &Shared, record: &OperationRecord) -> Option<BootRecord> {
    let Task::Fill(task) = &record.task else { return None };
    let mut booted = shared.registry.booted(task.guest)?;
    for disk in &mut booted.disks {
        if let BootedDisk::Local(local) = disk
            && task.disks.iter().any(|disk| is_same(disk, local))
            && let Some(filled) = record.facts.disks.iter().find(|filled| filled.path == local.path)
        {
            *local = filled.clone();
        }
    }
    Some(booted)
}

/// What one that is given up makes of its guest: what is not filled is not filled by itself any more.
pub(in super::super) fn given_up_record(shared: &Shared, record: &OperationRecord) -> Option<BootRecord> {
    let booted = damaged_record(filled_record(shared, record)?, record);
    Some(with_lazy(booted, |lazy| lazy.is_given_up = true))
}

/// The guest with its disks marked whose images the fill found to be damaged.
fn damaged_record(booted: BootRecord, record: &OperationRecord) -> BootRecord {
    with_lazy(booted, |lazy| lazy.is_damaged |= record.facts.damaged.contains(&lazy.image.id))
}

/// The guest, to be held while the end of a fill is told of it. Other operations have it already.
pub(in super::super) async fn guest_of(shared: &Shared, task: &Task) -> Option<OwnedMutexGuard<()>> {
    let Task::Fill(task) = task else { return None };
    Some(shared.locks.lock(Key::Instance(task.guest)).await)
}

impl Run {
    /// A fill that ends without filled disks.
    pub(in super::super) async fn fill_failed(&mut self, failure: Failure) {
        if failure.kind == ErrorKind::Cancelled {
            return self.end(OperationState::Cancelled, Some(failure)).await;
        }
        // What proved it is deleted, and whoever has the guest may have it for long.
        self.commit_or_log().await;
        let _guest = guest_of(&self.shared, &self.record.task).await;
        let booted = self.shared.registry.booted(self.record.task.guest());
        let booted = booted.map(|booted| damaged_record(booted, &self.record));
        self.record.state = OperationState::Failed;
        self.record.failure = Some(failure);
        self.finish(booted.map(|booted| Change::PutGuest(Box::new(booted))).into_iter().collect()).await;
    }
}
