//! From a disk over an image that was coming to a disk as any other.

use super::{
    super::{
        Shared,
        locks::Key,
        ports::{PortError, PortResult},
    },
    going::keep_going,
};
use crate::agent::journal::{BootRecord, Facts, FillTask, OperationRecord, Task};
use crate::model::{BootedDisk, ErrorKind, LocalDisk, OperationId};
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
    for disk in &task.disks {
        let is_there =
            shared.registry.booted(task.guest).is_some_and(|booted| super::lazy_disks(&booted).any(|one| one == disk));
        if !is_there {
            let message = format!("disk {} of guest {} was removed before it was filled", disk.target, task.guest_name);
            return Err(PortError::new(ErrorKind::Cancelled, message));
        }
        let told = shared.telling(id, &disk.target);
        let filled = match shared.hypervisor.pull_disk(task.guest, disk, told).await? {
            true => LocalDisk { base: None, lazy: None, ..disk.clone() },
            false => put_over_cached(shared, task, disk).await?,
        };
        facts.disks.retain(|known| known.target != disk.target);
        facts.disks.push(filled.clone());
        shared.boot_sources.release_disk(task.guest, &filled).await?;
    }
    Ok(())
}

/// The guest is off: its disk is put over the image in the cache. Nobody may start it meanwhile, and whoever does all the same has it
/// tried again.
async fn put_over_cached(shared: &Shared, task: &FillTask, disk: &LocalDisk) -> PortResult<LocalDisk> {
    let _lock = shared.locks.lock(Key::Instance(task.guest)).await;
    let Some(()) = must_be_off(shared, task).await? else {
        // Undefined by hand: it has no definition that could name anything.
        return shared.boot_sources.rebase_disk(task.guest, disk).await;
    };
    let filled = shared.boot_sources.rebase_disk(task.guest, disk).await?;
    shared.hypervisor.undefine_disk(task.guest, disk).await?;
    shared.hypervisor.define_disk(task.guest, &filled).await?;
    must_be_off(shared, task).await?;
    Ok(filled)
}

/// `None`: it is not defined any more.
async fn must_be_off(shared: &Shared, task: &FillTask) -> PortResult<Option<()>> {
    match shared.hypervisor.guest(&task.guest.to_string()).await {
        Ok(guest) if guest.active => {
            let message = format!("guest {} was started while its disk was completed", task.guest_name);
            Err(PortError::new(ErrorKind::Unavailable, message))
        }
        Ok(_) => Ok(Some(())),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a fill makes of its guest.
pub(in super::super) fn filled_record(shared: &Shared, record: &OperationRecord) -> Option<BootRecord> {
    let Task::Fill(task) = &record.task else { return None };
    let mut booted = shared.registry.booted(task.guest)?;
    for disk in &mut booted.disks {
        if let BootedDisk::Local(local) = disk
            && local.lazy.is_some()
            && let Some(filled) = record.facts.disks.iter().find(|filled| filled.path == local.path)
        {
            *local = filled.clone();
        }
    }
    Some(booted)
}
