//! Filling the disks of a guest that was booted before its images were here.
//!
//! ```text
//! FetchImage --all of it is here, and is what it should be--> CompleteDisks --> Succeeded: disks as any others
//!    |  the image service is away: tried on; QEMU pauses a guest that reads of what does not come, and it is resumed when it comes
//!    |  the image is damaged ----------------------------------------------> Failed: the guest is paused, its disk never used again
//!    \  the disks are deleted ---------------------------------------------> Cancelled
//! ```
//! It begins by itself when the boot has ended, and at each start of the agent where one is missing. It holds nothing while it waits: the guest can
//! be stopped, started and deleted meanwhile. A running guest's disk takes the image in (a block job of QEMU); that of a guest which
//! is off is put over the image in the cache.

mod complete;
mod fetch;
mod going;

pub(super) use complete::{complete, filled_record};
pub(super) use fetch::{comes_again, fetch};

use super::{
    Shared, boot,
    executor::{Run, new_record},
    ports::{PortError, PortResult},
};
use crate::agent::api::{Failure, OperationState};
use crate::agent::journal::{BootRecord, Change, FillTask, OperationRecord, Step, Task};
use crate::model::{BootedDisk, ErrorKind, GuestUuid, LocalDisk};
use std::sync::Arc;

/// The steps of a fill.
pub(super) const FILL: [Step; 2] = [Step::FetchImage, Step::CompleteDisks];

/// A step of a fill in words.
pub(super) fn describe(step: Step, guest: &str) -> String {
    match step {
        Step::FetchImage => format!("fetch what guest {guest} has not read yet of its images, and verify all of it"),
        Step::CompleteDisks => format!("make the disks of guest {guest} need the image service no more"),
        other => other.name().to_owned(),
    }
}

/// It ends the fill, however often it would be tried.
pub(super) fn is_final(task: &Task, error: &PortError) -> bool {
    matches!(task, Task::Fill(_)) && matches!(error.kind, ErrorKind::IdentityMismatch | ErrorKind::Cancelled)
}

/// Disks of the guest over images that are still coming, or came damaged.
fn lazy_disks(booted: &BootRecord) -> impl Iterator<Item = &LocalDisk> {
    booted.disks.iter().filter_map(|disk| match disk {
        BootedDisk::Local(disk) if disk.lazy.is_some() => Some(disk),
        _ => None,
    })
}

fn is_damaged(disk: &LocalDisk) -> bool {
    disk.lazy.as_ref().is_some_and(|lazy| lazy.is_damaged)
}

/// Serves the images of all disks that need it, before anything else is done: running guests wait for them.
pub(super) async fn serve_all(shared: &Shared, operations: &[OperationRecord]) {
    let booted = shared.registry.booted_guests();
    let booted = booted.iter().flat_map(|booted| lazy_disks(booted).map(|disk| (booted.guest, disk)));
    // A boot that was cut after its guest had started.
    let boots = operations.iter().filter(|record| matches!(record.task, Task::Boot(_)) && !record.state.is_over());
    let booting = boots.flat_map(|record| record.facts.disks.iter().map(|disk| (record.task.guest(), disk)));
    for (guest, disk) in booted.chain(booting) {
        if let Err(error) = shared.boot_sources.serve_disk(guest, disk).await {
            tracing::warn!(%guest, disk = disk.target, %error, "the image below it is not served now");
        }
    }
}

/// Sees to it that a guest which is about to start can read its disks.
pub(super) async fn make_ready(shared: &Shared, guest: GuestUuid) -> PortResult<()> {
    let Some(booted) = shared.registry.booted(guest) else { return Ok(()) };
    for disk in lazy_disks(&booted) {
        if is_damaged(disk) {
            return Err(PortError::new(ErrorKind::IdentityMismatch, damaged(&booted.guest_name, disk)));
        }
        shared.boot_sources.serve_disk(guest, disk).await?;
    }
    Ok(())
}

fn damaged(guest: &str, disk: &LocalDisk) -> String {
    let image = disk.lazy.as_ref().map(|lazy| lazy.image.id.to_string()).unwrap_or_default();
    format!(
        "disk {} of guest {guest} was booted from image {image}, which proved to be damaged when all of it was here: \
         bowline delete {guest}, or bowline rebuild {guest} --image IMAGE",
        disk.target
    )
}

/// Why a disk cannot be copied or replaced now, if so. One that is damaged may be replaced.
pub(super) fn check_filled(disk: &LocalDisk, guest: &str, may_be_damaged: bool) -> PortResult<()> {
    match disk.lazy.is_some() {
        true if is_damaged(disk) && may_be_damaged => Ok(()),
        true if is_damaged(disk) => Err(PortError::new(ErrorKind::IdentityMismatch, damaged(guest, disk))),
        true => {
            let message = format!(
                "disk {} of guest {guest} is still being filled with its image: wait for the end of that (bowline operations shows it)",
                disk.target
            );
            Err(PortError::new(ErrorKind::Conflict, message))
        }
        false => Ok(()),
    }
}

/// Begins to fill what is not being filled.
pub(super) async fn begin_all(shared: &Arc<Shared>) {
    for booted in shared.registry.booted_guests() {
        begin(shared, &booted).await;
    }
}

async fn begin(shared: &Arc<Shared>, booted: &BootRecord) {
    let disks: Vec<_> = lazy_disks(booted).filter(|disk| !is_damaged(disk)).cloned().collect();
    let is_under_way = |record: &OperationRecord| {
        matches!(record.task, Task::Fill(_)) && record.task.guest() == booted.guest && !record.state.is_over()
    };
    if disks.is_empty() || shared.registry.records().iter().any(is_under_way) {
        return;
    }
    let record = new_record(Task::Fill(FillTask { guest: booted.guest, guest_name: booted.guest_name.clone(), disks }));
    let change = Change::PutOperation(Box::new(record.clone()));
    // The next start of the agent finds that it is missing.
    if let Err(error) = shared.journal.commit(vec![change]).await {
        tracing::error!(guest = %booted.guest, %error, "its disks are not filled now");
        return;
    }
    boot::launch(shared, record);
}

impl Run {
    /// A fill that ends without filled disks.
    pub(super) async fn fill_failed(&mut self, failure: Failure) {
        if failure.kind == ErrorKind::Cancelled {
            return self.end(OperationState::Cancelled, Some(failure)).await;
        }
        let booted = self.shared.registry.booted(self.record.task.guest()).map(|mut booted| {
            for disk in &mut booted.disks {
                if let BootedDisk::Local(LocalDisk { lazy: Some(lazy), .. }) = disk {
                    lazy.is_damaged |= self.record.facts.damaged.contains(&lazy.image.id);
                }
            }
            booted
        });
        self.record.state = OperationState::Failed;
        self.record.failure = Some(failure);
        self.finish(booted.map(|booted| Change::PutGuest(Box::new(booted))).into_iter().collect()).await;
    }
}
