//! Waiting for an image, and for the guest that waits for it.

use super::{
    super::{
        Shared,
        ports::{Fetched, PortError, PortResult},
    },
    going::keep_going,
};
use crate::agent::api::GuestChange;
use crate::agent::journal::{Facts, FillTask};
use crate::model::{ErrorKind, LocalDisk, OperationId};
use std::sync::Arc;

/// Waits until the images of all disks are here and verified.
pub(in super::super) async fn fetch(
    shared: &Arc<Shared>,
    id: OperationId,
    task: &FillTask,
    facts: &mut Facts,
) -> PortResult<()> {
    for disk in &task.disks {
        fetch_one(shared, id, task, disk, facts).await?;
    }
    Ok(())
}

async fn fetch_one(
    shared: &Arc<Shared>,
    id: OperationId,
    task: &FillTask,
    disk: &LocalDisk,
    facts: &mut Facts,
) -> PortResult<()> {
    let Some(image) = disk.lazy.as_ref().map(|lazy| lazy.image.id) else { return Ok(()) };
    let guest = &task.guest_name;
    let mut fetching = shared.boot_sources.fetching(task.guest, disk).await?;
    let told = shared.telling(id, &disk.target);
    let going = keep_going(shared, task);
    tokio::pin!(going);
    let mut comes = false;
    loop {
        let news = tokio::select! {
            biased;
            news = fetching.next() => news,
            () = &mut going, if comes => continue,
        };
        match news {
            Fetched::Coming { done, total } => {
                told(done, total);
                comes = true;
            }
            Fetched::Whole => return Ok(()),
            Fetched::Lost { kind, problem } => {
                let message = format!(
                    "image {image}, which guest {guest} was booted from, does not come from the image service: {problem}. The guest is \
                     paused when it reads of what is not here, and goes on by itself when the image comes again"
                );
                let kind = if kind == ErrorKind::Timeout { kind } else { ErrorKind::Unavailable };
                return Err(PortError::new(kind, message));
            }
            Fetched::Damaged { problem } => {
                if shared.hypervisor.suspend_guest(task.guest).await? {
                    shared.registry.tell_guest(task.guest, guest.clone(), GuestChange::Paused);
                }
                facts.damaged.push(image);
                let message = format!(
                    "guest {guest} is paused, for what it read may be wrong: {problem}. Upload a right image, and bowline delete {guest} \
                     or bowline rebuild {guest} --image IMAGE"
                );
                tracing::error!(guest = %task.guest, %image, "{message}");
                return Err(PortError::new(ErrorKind::IdentityMismatch, message));
            }
            Fetched::Gone => {
                let message = format!("disk {} of guest {guest} was removed before it was filled", disk.target);
                return Err(PortError::new(ErrorKind::Cancelled, message));
            }
        }
    }
}
