//! The steps of a boot, and their undoing.

use super::{
    super::{
        Shared,
        ports::{PortError, PortResult},
        steps::missing,
    },
    children::{self, Wanted},
    local::{give_key, remove_disk},
    power::connect_volumes,
    volumes,
};
use crate::agent::journal::{BootTask, Facts, OperationRecord, Step, Task};
use crate::model::{
    DiskWishes, ErrorKind, LocalDisk, LocalDiskPlan, NewVolume, OperationId, PlannedDisk, PlannedStorage, Volume, VolumeId,
};
use futures_util::future::join_all;
use std::sync::Arc;

/// Does a step of a boot. The guest is ours.
pub(in super::super) async fn boot_step(
    shared: &Arc<Shared>,
    id: OperationId,
    task: &BootTask,
    facts: &mut Facts,
    step: Step,
) -> PortResult<()> {
    match step {
        Step::DefineGuest => {
            let new = task.new_guest.as_ref().ok_or_else(|| missing("the guest's definition"))?;
            shared.hypervisor.define_guest(new).await?;
        }
        Step::MakeDisks => {
            let made = join_all(task.plan.disks.iter().map(|disk| make_disk(shared, id, task, disk))).await;
            let mut disks = vec![];
            for made in made {
                disks.extend(made?);
            }
            facts.disks = disks;
        }
        Step::CreateVolumes => create_volumes(shared, id, task, facts).await?,
        Step::GiveDisks => give_disks(shared, task, facts).await?,
        Step::StartGuest => {
            // What the guest had before: a boot that waited over a reboot of the host comes before that is brought back.
            let own = volumes(task, facts);
            let is_own = |volume| !facts.foreign.contains(&volume) && own.iter().any(|(_, one)| *one == volume);
            let attached = shared.registry.attachments();
            if attached.iter().any(|record| record.guest == task.guest && !is_own(record.volume)) {
                connect_volumes(shared, task.guest).await?;
            }
            must_be_off(shared, task).await?;
            for disk in &facts.disks {
                give_key(shared, disk).await?;
            }
            shared.hypervisor.start_guest(task.guest).await?;
        }
        other => return Err(missing(other.name())),
    }
    Ok(())
}

/// Undoes a step of a boot, from wherever it got to.
pub(in super::super) async fn undo_boot_step(shared: &Arc<Shared>, record: &OperationRecord, step: Step) -> PortResult<()> {
    let Task::Boot(task) = &record.task else { return Ok(()) };
    match step {
        Step::StartGuest => shared.hypervisor.stop_guest(task.guest).await,
        Step::GiveDisks => {
            stop_if_it_has_them(shared, task, &record.facts).await?;
            for disk in &record.facts.disks {
                match shared.hypervisor.undefine_disk(task.guest, disk).await {
                    Err(error) if error.kind != ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            let volumes = volumes(task, &record.facts);
            let ours = volumes.iter().filter(|(_, volume)| !record.facts.foreign.contains(volume));
            all(join_all(ours.map(|(_, volume)| children::detach(shared, *volume, task.guest))).await)
        }
        Step::CreateVolumes => delete_volumes(shared, task, &record.facts).await,
        Step::MakeDisks => {
            let local = task.plan.disks.iter().filter(|disk| matches!(disk.storage, PlannedStorage::Local(_)));
            let made = |target: &str| record.facts.disks.iter().find(|made| made.target == target);
            let removed = local.map(|disk| remove_disk(shared, task.guest, &disk.target, made(&disk.target)));
            all(join_all(removed).await)
        }
        Step::DefineGuest => match &task.new_guest {
            Some(new) => {
                children::detach_all(shared, new.guest).await?;
                shared.hypervisor.undefine_guest(new.guest, new.mark).await
            }
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// The boot's volumes that the guest has already: an attach of somebody else's gave them, and no undoing may take them away.
pub(in super::super) fn foreign(shared: &Shared, task: &BootTask) -> Vec<VolumeId> {
    let given = task.plan.disks.iter().filter_map(|disk| match disk.storage {
        PlannedStorage::Volume(volume) => shared.registry.attachment(volume, task.guest).map(|_| volume),
        _ => None,
    });
    given.collect()
}

/// What runs has not all of its disks, or somebody else's idea of them.
pub(in super::super) async fn must_be_off(shared: &Shared, task: &BootTask) -> PortResult<()> {
    if shared.hypervisor.guest(&task.guest.to_string()).await?.active {
        let message = format!("guest {} was started by somebody else while it was being booted", task.guest_name);
        return Err(PortError::new(ErrorKind::Conflict, message));
    }
    Ok(())
}

/// Somebody started the guest while it was being booted: with disks that are about to go it cannot run on.
async fn stop_if_it_has_them(shared: &Shared, task: &BootTask, facts: &Facts) -> PortResult<()> {
    let guest = match shared.hypervisor.guest(&task.guest.to_string()).await {
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
        guest => guest?,
    };
    if guest.disks.iter().any(|disk| disk.live && facts.disks.iter().any(|made| made.target == disk.target)) {
        shared.hypervisor.stop_guest(task.guest).await?;
    }
    Ok(())
}

/// The first failure, once all have ended: what goes on beside a failure would be undone under its hands.
fn all(results: Vec<PortResult<()>>) -> PortResult<()> {
    results.into_iter().collect()
}

/// One after another, as the plan has them: a guest names its disks by their places on the bus, which libvirt gives out in turn.
async fn give_disks(shared: &Arc<Shared>, task: &BootTask, facts: &Facts) -> PortResult<()> {
    let volumes = volumes(task, facts);
    if let Some(volume) = facts.foreign.first() {
        let message = format!("volume {volume} was attached to guest {} by somebody else meanwhile", task.guest_name);
        return Err(PortError::new(ErrorKind::Conflict, message));
    }
    for disk in &task.plan.disks {
        if let Some(local) = facts.disks.iter().find(|made| made.target == disk.target) {
            shared.hypervisor.define_disk(task.guest, local).await?;
        } else if let Some((target, volume)) = volumes.iter().find(|(target, _)| *target == disk.target) {
            let wanted = Wanted {
                volume: *volume,
                guest: task.guest,
                bus: disk.bus,
                target: target.clone(),
                wishes: DiskWishes { tag: disk.tag.clone(), boot_order: None },
                reservation: None,
            };
            children::attach(shared, wanted).await?;
        }
    }
    Ok(())
}

async fn make_disk(
    shared: &Arc<Shared>,
    id: OperationId,
    task: &BootTask,
    disk: &PlannedDisk,
) -> PortResult<Option<LocalDisk>> {
    let PlannedStorage::Local(content) = &disk.storage else { return Ok(None) };
    let plan = LocalDiskPlan { guest: task.guest, target: disk.target.clone(), content: content.clone() };
    let made = match task.request.lazy {
        true => shared.boot_sources.make_lazy_disk(&plan, disk.bus).await,
        false => shared.boot_sources.make_disk(&plan, disk.bus, shared.telling(id, &disk.target)).await,
    };
    made.map(Some)
}

/// Has the service make the new volumes, side by side. One that an earlier try made is known by its name.
async fn create_volumes(shared: &Arc<Shared>, id: OperationId, task: &BootTask, facts: &mut Facts) -> PortResult<()> {
    let there = shared.volumes.volumes().await?;
    let created = join_all(task.plan.disks.iter().map(|disk| create_volume(shared, id, disk, &there))).await;
    let mut failure = None;
    for (disk, created) in task.plan.disks.iter().zip(created) {
        match created {
            Ok(Some(volume)) => {
                facts.volumes.retain(|(target, _)| *target != disk.target);
                facts.volumes.push((disk.target.clone(), volume));
            }
            Ok(None) => {}
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(()), Err)
}

async fn create_volume(
    shared: &Arc<Shared>,
    id: OperationId,
    disk: &PlannedDisk,
    there: &[Volume],
) -> PortResult<Option<VolumeId>> {
    let PlannedStorage::NewVolume { name, size_gib, volume_type, origin } = &disk.storage else { return Ok(None) };
    let tell = shared.telling(id, &disk.target);
    tell(0, 1);
    let volume = match there.iter().find(|volume| volume.name == *name) {
        Some(volume) => volume.id,
        None => {
            let new = NewVolume {
                name: name.clone(),
                size_gib: *size_gib,
                volume_type: volume_type.clone(),
                multiattach: false,
                origin: *origin,
            };
            shared.volumes.create_volume(&new).await?.id
        }
    };
    let named =
        |error: PortError| PortError { message: format!("volume {volume} for {}: {}", disk.target, error.message), ..error };
    shared.volumes.wait_available(volume, shared.create_timeout).await.map_err(named)?;
    tell(1, 1);
    Ok(Some(volume))
}

/// Deletes what the service made for this boot. The service may still be at a request whose answer was lost, so what is not there is
/// looked for a few times before it is believed that there is none.
async fn delete_volumes(shared: &Shared, task: &BootTask, facts: &Facts) -> PortResult<()> {
    let names: Vec<_> = task
        .plan
        .disks
        .iter()
        .filter_map(|disk| match &disk.storage {
            PlannedStorage::NewVolume { name, .. } => Some((name, &disk.target)),
            _ => None,
        })
        .collect();
    let mut looked_for = names.iter().filter(|(_, target)| facts.volumes.iter().all(|(made, _)| made != *target)).count();
    for pause in [0, 1, 4, 8].map(|times| shared.retry.first_delay * times) {
        tokio::time::sleep(pause).await;
        let volumes = shared.volumes.volumes().await?;
        let ours: Vec<_> = volumes.into_iter().filter(|volume| names.iter().any(|(name, _)| **name == volume.name)).collect();
        let known = |volume: &Volume| facts.volumes.iter().any(|(_, made)| *made == volume.id);
        looked_for = looked_for.saturating_sub(ours.iter().filter(|volume| !known(volume)).count());
        all(join_all(ours.iter().map(|volume| delete_made(shared, volume))).await)?;
        if looked_for == 0 {
            break;
        }
    }
    Ok(())
}

/// Deletes what may still be being made, as it is where a boot was cancelled: a service may refuse to until that has ended.
async fn delete_made(shared: &Shared, volume: &Volume) -> PortResult<()> {
    match delete_volume(shared, volume.id).await {
        Err(error) if !error.is_passing() && matches!(volume.status.as_str(), "creating" | "downloading") => {
            // What it comes to does not matter.
            let _ = shared.volumes.wait_available(volume.id, shared.create_timeout).await;
            delete_volume(shared, volume.id).await
        }
        done => done,
    }
}

/// Deletes a volume and waits until it is gone. One that is gone is fine.
pub(super) async fn delete_volume(shared: &Shared, volume: VolumeId) -> PortResult<()> {
    match shared.volumes.delete_volume(volume).await {
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    shared.volumes.wait_gone(volume, shared.delete_timeout).await
}
