//! From a disk over an image that was coming to a disk as any other.

use super::{
    super::{
        Shared,
        locks::Key,
        ports::{PortError, PortResult},
    },
    going::keep_going,
    is_there, removed,
};
use crate::agent::journal::{Facts, FillTask};
use crate::model::{ErrorKind, LocalDisk, OperationId};
use std::sync::Arc;

/// Completes all disks, of a guest that is kept going meanwhile.
pub(in super::super) async fn complete(
    shared: &Arc<Shared>,
    id: OperationId,
    task: &FillTask,
    facts: &mut Facts,
) -> PortResult<()> {
    let completing = complete_all(shared, id, task, facts);
    tokio::pin!(completing);
    tokio::select! {
        biased;
        completed = &mut completing => completed,
        () = keep_going(shared, task) => completing.await,
    }
}

async fn complete_all(shared: &Arc<Shared>, id: OperationId, task: &FillTask, facts: &mut Facts) -> PortResult<()> {
    let mut is_any_there = false;
    for disk in &task.disks {
        if !is_there(shared, task, disk) {
            continue;
        }
        let told = shared.telling(id, &disk.target);
        let filled = match shared.hypervisor.pull_disk(task.guest, disk, told).await? {
            true => Some(LocalDisk { base: None, lazy: None, ..disk.clone() }),
            false => put_over_cached(shared, task, disk).await?,
        };
        let Some(filled) = filled else { continue };
        is_any_there = true;
        facts.disks.retain(|known| known.target != disk.target);
        facts.disks.push(filled.clone());
        shared.boot_sources.release_disk(task.guest, &filled).await?;
    }
    if is_any_there { Ok(()) } else { Err(removed(task)) }
}

/// The guest is off: its disk is put over the image in the cache. Nobody may start it meanwhile, and whoever does all the same has it
/// tried again. `None`: it was removed by whoever had the guest before.
async fn put_over_cached(shared: &Shared, task: &FillTask, disk: &LocalDisk) -> PortResult<Option<LocalDisk>> {
    let _lock = shared.locks.lock(Key::Instance(task.guest)).await;
    if !is_there(shared, task, disk) {
        return Ok(None);
    }
    let Some(()) = must_be_off(shared, task).await? else {
        // Undefined by hand: it has no definition that could name anything.
        return shared.boot_sources.rebase_disk(task.guest, disk).await.map(Some);
    };
    let filled = shared.boot_sources.rebase_disk(task.guest, disk).await?;
    shared.hypervisor.replace_disk(task.guest, disk, &filled).await?;
    must_be_off(shared, task).await?;
    Ok(Some(filled))
}

/// Nor may its memory be saved, which knows the disk as it was. `None`: it is not defined any more.
async fn must_be_off(shared: &Shared, task: &FillTask) -> PortResult<Option<()>> {
    match shared.hypervisor.guest(&task.guest.to_string()).await {
        Ok(guest) if guest.active => {
            let message = format!("guest {} was started while its disk was completed", task.guest_name);
            Err(PortError::new(ErrorKind::Unavailable, message))
        }
        Ok(_) => shared.hypervisor.check_unsaved(task.guest).await.map(Some),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
