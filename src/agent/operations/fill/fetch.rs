//! Waiting for an image, and for the guest that waits for it.

use super::{
    super::{
        Shared,
        ports::{Fetched, PortError, PortResult},
    },
    going::keep_going,
    is_there, removed,
};
use crate::agent::api::GuestChange;
use crate::agent::journal::{Facts, FillTask, Task};
use crate::model::{ErrorKind, ImageId, LocalDisk, OperationId};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};

/// How long an image may be lost before that is told: one broken connection is nothing.
const GRACE: Duration = Duration::from_secs(2);

/// Waits until the images of all disks that are left are here and verified.
pub(in super::super) async fn fetch(
    shared: &Arc<Shared>,
    id: OperationId,
    task: &FillTask,
    facts: &mut Facts,
) -> PortResult<()> {
    // What comes now may be right: the guest has read by what was not.
    let there = task.disks.iter().filter(|disk| is_there(shared, task, disk));
    let mut images = there.filter_map(|disk| disk.lazy.as_ref()).map(|lazy| lazy.image.id);
    if let Some(image) = images.find(|image| facts.damaged.contains(image)) {
        let problem = format!("image {image} proved to be damaged when all of it was here");
        return Err(pause_damaged(shared, task, image, &problem).await?);
    }
    let mut is_any_there = false;
    for disk in &task.disks {
        is_any_there |= fetch_one(shared, id, task, disk, facts).await?;
    }
    if is_any_there { Ok(()) } else { Err(removed(task)) }
}

/// `false`: the disk was removed.
async fn fetch_one(
    shared: &Arc<Shared>,
    id: OperationId,
    task: &FillTask,
    disk: &LocalDisk,
    facts: &mut Facts,
) -> PortResult<bool> {
    let Some(image) = disk.lazy.as_ref().map(|lazy| lazy.image.id) else { return Ok(true) };
    let guest = &task.guest_name;
    let mut fetching = shared.boot_sources.fetching(task.guest, disk).await?;
    let told = shared.telling(id, &disk.target);
    let going = keep_going(shared, task);
    tokio::pin!(going);
    // What it was lost to, and until when that is not worth a word.
    let mut lost: Option<(PortError, Instant)> = None;
    let mut comes = false;
    loop {
        let until = lost.as_ref().map_or_else(Instant::now, |(_, until)| *until);
        let news = tokio::select! {
            biased;
            news = fetching.next() => news,
            () = sleep_until(until), if lost.is_some() => match lost {
                Some((error, _)) => return Err(error),
                None => continue,
            },
            () = &mut going, if comes && lost.is_none() => continue,
        };
        match news {
            Fetched::Coming { done, total } => {
                told(done, total);
                comes = true;
                lost = None;
            }
            Fetched::Whole => return Ok(true),
            Fetched::Lost { kind, problem } => {
                let message = format!(
                    "image {image}, which guest {guest} was booted from, does not come from the image service: {problem}. The guest is \
                     paused when it reads of what is not here, and goes on by itself when the image comes again"
                );
                let kind = match kind {
                    ErrorKind::Timeout | ErrorKind::NotFound => kind,
                    _ => ErrorKind::Unavailable,
                };
                let until = lost.map_or_else(|| Instant::now() + GRACE, |(_, until)| until);
                lost = Some((PortError::new(kind, message), until));
            }
            Fetched::Damaged { problem } => {
                // Known before anything else is tried: the bytes that prove it are gone.
                facts.damaged.push(image);
                return Err(pause_damaged(shared, task, image, &problem).await?);
            }
            Fetched::Gone => return Ok(false),
        }
    }
}

/// Pauses a guest whose image is damaged. Returns what its fill fails by.
async fn pause_damaged(shared: &Shared, task: &FillTask, image: ImageId, problem: &str) -> PortResult<PortError> {
    let guest = &task.guest_name;
    if shared.hypervisor.suspend_guest(task.guest).await? {
        shared.registry.tell_guest(task.guest, guest.clone(), GuestChange::Paused);
    }
    let message = format!(
        "guest {guest} is paused, for what it read may be wrong: {problem}. Upload a right image, and bowline delete {guest} \
         or, once it is stopped (bowline stop {guest} --force), bowline rebuild {guest} --image IMAGE"
    );
    tracing::error!(guest = %task.guest, %image, "{message}");
    Ok(PortError::new(ErrorKind::IdentityMismatch, message))
}

/// Returns once an image that is lost now comes again. Where none is lost, never.
pub(in super::super) async fn comes_again(shared: &Shared, task: &Task) {
    let Task::Fill(task) = task else { return std::future::pending().await };
    for disk in &task.disks {
        let Ok(mut fetching) = shared.boot_sources.fetching(task.guest, disk).await else { continue };
        if !matches!(fetching.next().await, Fetched::Lost { .. }) {
            continue;
        }
        while let Fetched::Lost { .. } = fetching.next().await {}
        return;
    }
    std::future::pending().await
}
