//! Filling the disks of a guest that was booted before its images were here.
//!
//! ```text
//! FetchImage --all of it is here, and is what it should be--> CompleteDisks --> Succeeded: disks as any others
//!    |  the image service is away: tried on; QEMU pauses a guest that reads of what does not come, and it is resumed when it comes
//!    |  the image is damaged ----------------------------------------------> Failed: the guest is paused, its disk never used again
//!    |  the disks are deleted, or replaced by a rebuild -------------------> Cancelled
//!    \  an operator gives it up ------------------------------------------> Abandoned: the guest reads on of what is here
//! ```
//! It begins by itself when the boot of its guest has ended, and at each start of the agent where one is missing. One that was given up
//! stays so, over other guests' boots and starts of the agent, until Bowline starts its guest again. It holds nothing while it waits: the guest
//! can be stopped, started, rebuilt and deleted meanwhile. A running guest's disk takes the image in (a block job of QEMU); that of
//! a guest which is off is put over the image in the cache.

mod begin;
mod complete;
mod end;
mod fetch;
mod going;

pub(super) use begin::{begin, begin_all, taken_up_again};
pub(super) use complete::complete;
pub(super) use end::{filled_record, given_up_record, guest_of};
pub(super) use fetch::{comes_again, fetch};

use super::{
    Shared,
    ports::{PortError, PortResult},
};
use crate::agent::api::StepState;
use crate::agent::journal::{BootRecord, FillTask, OperationRecord, Step, Task};
use crate::model::{BootedDisk, ErrorKind, GuestUuid, LazyBase, LocalDisk};

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

fn is_given_up(disk: &LocalDisk) -> bool {
    disk.lazy.as_ref().is_some_and(|lazy| lazy.is_given_up)
}

/// One disk over one image, whatever has become of it since.
fn is_same(one: &LocalDisk, other: &LocalDisk) -> bool {
    let image = |disk: &LocalDisk| disk.lazy.as_ref().map(|lazy| lazy.image.id);
    one.path == other.path && image(one) == image(other)
}

/// The guest with its disks over such images changed.
fn with_lazy(mut booted: BootRecord, change: impl Fn(&mut LazyBase)) -> BootRecord {
    for disk in &mut booted.disks {
        if let BootedDisk::Local(LocalDisk { lazy: Some(lazy), .. }) = disk {
            change(lazy);
        }
    }
    booted
}

/// The guest's fills that are under way: that of its disks, and perhaps one of disks that it had before.
fn under_way(shared: &Shared, guest: GuestUuid) -> impl Iterator<Item = (FillTask, OperationRecord)> {
    shared.registry.records().into_iter().filter_map(move |record| match &record.task {
        Task::Fill(task) if task.guest == guest && !record.state.is_over() => Some((task.clone(), record)),
        _ => None,
    })
}

/// The guest waits for what comes of an image.
pub(super) fn is_being_filled(shared: &Shared, guest: GuestUuid) -> bool {
    under_way(shared, guest).next().is_some()
}

/// It is known, to the guest's record or so far only to its fill, which tells it once nobody else has the guest.
fn is_known_damaged(shared: &Shared, guest: GuestUuid, disk: &LocalDisk) -> bool {
    let is_of = |task: &FillTask| task.disks.iter().any(|filled| is_same(filled, disk));
    let proved =
        |record: &OperationRecord| disk.lazy.as_ref().is_some_and(|lazy| record.facts.damaged.contains(&lazy.image.id));
    is_damaged(disk) || under_way(shared, guest).any(|(task, record)| is_of(&task) && proved(&record))
}

/// The guest has the disk that is to be filled, neither deleted nor replaced since.
fn is_there(shared: &Shared, task: &FillTask, disk: &LocalDisk) -> bool {
    shared.registry.booted(task.guest).is_some_and(|booted| lazy_disks(&booted).any(|one| is_same(one, disk)))
}

/// Disks that a fill was to fill are not there any more: that ends it, where none is left.
fn removed(task: &FillTask) -> PortError {
    let message = format!("the disks of guest {} were removed before they were filled", task.guest_name);
    PortError::new(ErrorKind::Cancelled, message)
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
        if is_known_damaged(shared, guest, disk) {
            return Err(PortError::new(ErrorKind::IdentityMismatch, damaged(&booted.guest_name, disk)));
        }
        shared.boot_sources.serve_disk(guest, disk).await?;
    }
    Ok(())
}

fn image_of(disk: &LocalDisk) -> String {
    disk.lazy.as_ref().map(|lazy| lazy.image.id.to_string()).unwrap_or_default()
}

fn damaged(guest: &str, disk: &LocalDisk) -> String {
    format!(
        "disk {} of guest {guest} was booted from image {}, which proved to be damaged when all of it was here: \
         bowline delete {guest}, or bowline rebuild {guest} --image IMAGE",
        disk.target,
        image_of(disk)
    )
}

/// Why a disk cannot be copied, or left for another for a while, if so.
pub(super) fn check_filled(disk: &LocalDisk, guest: &str) -> PortResult<()> {
    let (target, image) = (&disk.target, image_of(disk));
    match disk.lazy.is_some() {
        true if is_damaged(disk) => Err(PortError::new(ErrorKind::IdentityMismatch, damaged(guest, disk))),
        true if is_given_up(disk) => {
            let message = format!(
                "disk {target} of guest {guest} has not all of image {image}, whose coming was given up: bowline start {guest}, once it is \
                 stopped, goes on with it, and bowline rebuild {guest} --image IMAGE, or bowline delete {guest}, does without"
            );
            Err(PortError::new(ErrorKind::Conflict, message))
        }
        true => {
            let message = format!(
                "disk {target} of guest {guest} is still being filled with image {image}: wait for the end of that (bowline operations shows \
                 it); where the image does not come any more, bowline rebuild {guest} --image IMAGE once it is stopped, or bowline delete {guest}"
            );
            Err(PortError::new(ErrorKind::Conflict, message))
        }
        false => Ok(()),
    }
}

/// Why a disk cannot be replaced now, if so. One whose image is damaged, still comes, or never will, can be: nobody needs it any more.
pub(super) fn check_replaceable(shared: &Shared, guest: GuestUuid, disk: &LocalDisk, name: &str) -> PortResult<()> {
    let is_here = |record: &OperationRecord| {
        record.steps.iter().any(|step| step.step == Step::FetchImage && step.state == StepState::Succeeded)
    };
    let is_completed =
        |(task, record): (FillTask, OperationRecord)| is_here(&record) && task.disks.iter().any(|filled| is_same(filled, disk));
    match disk.lazy.is_some() && under_way(shared, guest).any(is_completed) {
        true => check_filled(disk, name),
        false => Ok(()),
    }
}
