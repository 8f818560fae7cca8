//! Deleting a guest's disks: what a boot made goes, and what was there before stays.

use super::{
    super::{Shared, ports::PortResult, steps::missing},
    children,
    local::remove_disk,
    make::delete_volume,
};
use crate::agent::api::{ApiError, DeleteRequest};
use crate::agent::journal::{BootRecord, DeleteTask, Facts, OperationRecord, Step, Task};
use crate::model::{BootedDisk, ErrorKind, VolumeId};
use futures_util::future::join_all;
use std::sync::Arc;

/// Plans a delete. A volume that was detached meanwhile is the guest's no more, whatever was asked at its boot; one that was attached
/// later, or again, is detached, and stays.
pub(in super::super) async fn plan_delete(shared: &Shared, request: &DeleteRequest) -> Result<Task, ApiError> {
    let booted = match shared.hypervisor.guest(&request.guest).await {
        Ok(guest) => shared.registry.booted(guest.uuid),
        // It was undefined by hand: its disks are still there to be deleted.
        Err(error) if error.kind == ErrorKind::NotFound => {
            let all = shared.registry.booted_guests();
            all.into_iter().find(|guest| guest.guest_name == request.guest || guest.guest.to_string() == request.guest)
        }
        Err(error) => return Err(error.into()),
    };
    let Some(booted) = booted else { return Err(nothing_to_delete(shared, &request.guest)) };
    Ok(task_of(shared, booted))
}

/// The delete of the guest as it is now: whoever had it before may have given it another disk. `None`: it is gone.
pub(in super::super) fn delete_again(shared: &Shared, task: &DeleteTask) -> Option<Task> {
    shared.registry.booted(task.guest).map(|booted| task_of(shared, booted))
}

fn task_of(shared: &Shared, booted: BootRecord) -> Task {
    let goes = |volume| {
        booted
            .disks
            .iter()
            .any(|disk| matches!(disk, BootedDisk::Volume { volume: booted, delete_on_termination: true } if *booted == volume))
    };
    let attached = shared.registry.attachments().into_iter().filter(|attached| attached.guest == booted.guest);
    let volumes = attached.map(|attached| (attached.volume, !attached.by_hand && goes(attached.volume))).collect();
    let disks = booted.disks.into_iter().filter_map(|disk| match disk {
        BootedDisk::Local(disk) => Some(disk),
        BootedDisk::Volume { .. } => None,
    });
    let disks = disks.chain(booted.rescue).collect();
    let (guest, guest_name, mark) = (booted.guest, booted.guest_name, booted.mark);
    Task::Delete(DeleteTask { guest, guest_name, disks, volumes, mark })
}

/// Why there is nothing: it may be too early, or another guest's.
fn nothing_to_delete(shared: &Shared, guest: &str) -> ApiError {
    let is_booting = |record: &OperationRecord| {
        matches!(record.task, Task::Boot(_))
            && !record.state.is_over()
            && (record.task.guest_name() == guest || record.task.guest().to_string() == guest)
    };
    if let Some(boot) = shared.registry.records().into_iter().find(is_booting) {
        let id = boot.id;
        let message =
            format!("guest {guest} is being booted by operation {id}: wait for its end, or undo it (bowline cancel {id})");
        return ApiError::new(ErrorKind::Conflict, message);
    }
    let mut message = format!("guest {guest} was not booted by this host's Bowline: it has nothing to delete of it");
    // Its name was given to another, and only its UUID leads to its disks.
    if let Some(former) = shared.registry.booted_guests().into_iter().find(|former| former.guest_name == guest) {
        message = format!("{message}; a former guest of this name has disks left: bowline delete {}", former.guest);
    }
    ApiError::new(ErrorKind::NotFound, message)
}

/// Does a step of a delete. The guest is ours.
pub(in super::super) async fn delete_step(
    shared: &Arc<Shared>,
    task: &DeleteTask,
    facts: &mut Facts,
    step: Step,
) -> PortResult<()> {
    match step {
        Step::StopGuest => shared.hypervisor.stop_guest(task.guest).await,
        Step::DetachVolumes => {
            let detached = task.volumes.iter().map(|(volume, _)| children::detach(shared, *volume, task.guest));
            join_all(detached).await.into_iter().collect()
        }
        Step::UndefineDisks => {
            for disk in &task.disks {
                shared.hypervisor.undefine_disk(task.guest, disk).await?;
            }
            Ok(())
        }
        Step::DeleteVolumes => {
            let gone = task.volumes.iter().filter(|(_, delete)| *delete).map(|(volume, _)| delete_or_keep(shared, *volume));
            let kept: Vec<Option<VolumeId>> = join_all(gone).await.into_iter().collect::<PortResult<_>>()?;
            facts.kept = kept.into_iter().flatten().collect();
            Ok(())
        }
        Step::RemoveDisks => {
            let removed = task.disks.iter().map(|disk| remove_disk(shared, task.guest, disk.name(), Some(disk)));
            join_all(removed).await.into_iter().collect()
        }
        Step::UndefineGuest => match task.mark {
            Some(mark) => {
                children::detach_all(shared, task.guest).await?;
                shared.hypervisor.undefine_guest(task.guest, mark).await
            }
            None => Ok(()),
        },
        other => Err(missing(other.name())),
    }
}

/// Deletes a volume that was to go with the guest. One that has snapshots, as an image of the guest names them, is kept: the service
/// deletes none of those, and what they are for is somebody's to say. Returns it then.
async fn delete_or_keep(shared: &Shared, volume: VolumeId) -> PortResult<Option<VolumeId>> {
    match delete_volume(shared, volume).await {
        Err(error) if error.kind == ErrorKind::Conflict => {
            let snapshots = shared.volumes.snapshots().await?;
            if !snapshots.iter().any(|snapshot| snapshot.volume == volume) {
                return Err(error);
            }
            tracing::warn!(%volume, "kept, for it has snapshots: delete those, and then it");
            Ok(Some(volume))
        }
        other => other.map(|()| None),
    }
}
