//! Extending: the service's part, the device's and the guest's, each settled by what is and not by what was answered.
//!
//! ```text
//! ExtendVolume --> GrowDevice --> ResizeDisk
//!   service          host          each running guest
//! ```
//! An extension can never be taken back, so what fails after the first step is tried until it works. Between two tries the
//! volume is let go: a detach need not wait for it, and each try looks anew who has the volume. A lost answer of the service is
//! settled by the size it has then.

use super::{
    Shared,
    locks::Key,
    plan,
    ports::{PortError, PortResult},
    reconnect, steps,
};
use crate::agent::api::StepState;
use crate::agent::journal::{AttachmentRecord, ExtendTask, Facts, OperationRecord, Step, StepRecord, Task};
use crate::model::{ConnectedDevice, ErrorKind, GIB, Volume, VolumeId};

/// Does a step of an extend. The volume's lock is held.
pub(super) async fn extend_step(shared: &Shared, task: &ExtendTask, facts: &mut Facts, step: Step) -> PortResult<()> {
    match step {
        Step::ExtendVolume => facts.size_gib = Some(extend_volume(shared, task).await?),
        Step::GrowDevice => {
            // Somebody may have extended it further meanwhile: what the service has is what the device has.
            let size_gib = shared.volumes.wait_extended(task.volume, shared.extend_timeout).await?.size_gib;
            facts.size_gib = Some(size_gib);
            facts.size_bytes = grow_devices(shared, task.volume, size_gib).await?;
        }
        Step::ResizeDisk => {
            if let Some(size_bytes) = facts.size_bytes {
                resize_disks(shared, task.volume, size_bytes).await?;
            }
        }
        other => return Err(steps::missing(other.name())),
    }
    Ok(())
}

/// The service's part. Returns the size it has then, GiB.
async fn extend_volume(shared: &Shared, task: &ExtendTask) -> PortResult<u64> {
    let large_enough = |volume: &Volume| (volume.size_gib >= task.size_gib).then_some(volume.size_gib);
    // An earlier life may have asked already, and somebody else may be at it.
    if let Some(size_gib) = large_enough(&shared.volumes.wait_extended(task.volume, shared.extend_timeout).await?) {
        return Ok(size_gib);
    }
    let asked = shared.volumes.extend_volume(task.volume, task.size_gib).await;
    if let Err(error) = asked {
        if !error.outcome_unknown {
            return Err(error);
        }
        // The service may still be at the request, so it is looked at a few times before it is believed that it is not.
        for pause in [0, 1, 4, 8].map(|times| shared.retry.first_delay * times) {
            tokio::time::sleep(pause).await;
            if let Some(size_gib) = large_enough(&shared.volumes.wait_extended(task.volume, shared.extend_timeout).await?) {
                return Ok(size_gib);
            }
        }
        return Err(error);
    }
    let volume = shared.volumes.wait_extended(task.volume, shared.extend_timeout).await?;
    large_enough(&volume).ok_or_else(|| {
        let message = format!(
            "the volume service took the request and ended it, but volume {} has {} GiB instead of {}",
            volume.id, volume.size_gib, task.size_gib
        );
        PortError::new(ErrorKind::Internal, message)
    })
}

/// The host's part. Guests that share a connection share its growth. Returns the size that every device has, bytes; `None` where
/// no guest of this host has the volume any more.
async fn grow_devices(shared: &Shared, volume: VolumeId, size_gib: u64) -> PortResult<Option<u64>> {
    let mut grown: Vec<(ConnectedDevice, u64)> = vec![];
    for record in shared.registry.attachments_of(volume) {
        // QEMU's own clients are one each, with an account each.
        if record.device.host_path().is_some() && grown.iter().any(|(device, _)| *device == record.device) {
            continue;
        }
        let info = reconnect::connection(shared, &record).await?;
        // After a reboot of the host the device is not there yet, and nobody else brings it back while the volume is ours.
        let record = match reconnect::bring_back(shared, &record, &info, size_gib).await? {
            Some(verified) => reconnect::put_verified(shared, &record, &verified).await?,
            None => record,
        };
        let identity = &record.observed.identity;
        let size_bytes = shared.connectors.grow(volume, &record.device, identity, &info, size_gib).await?;
        if size_bytes / GIB != size_gib {
            return Err(unequal(volume, "the volume service", size_gib * GIB, "the device", size_bytes));
        }
        if let Some((_, other)) = grown.iter().find(|(_, other)| *other != size_bytes) {
            return Err(unequal(volume, "one device", *other, "another", size_bytes));
        }
        grown.push((record.device, size_bytes));
    }
    Ok(grown.first().map(|(_, size_bytes)| *size_bytes))
}

/// The guests' part.
async fn resize_disks(shared: &Shared, volume: VolumeId, size_bytes: u64) -> PortResult<()> {
    for record in shared.registry.attachments_of(volume) {
        // A guest's disks are changed one at a time, as when they are plugged in.
        let _guest = shared.locks.lock(Key::Guest(record.guest)).await;
        let seen = match shared.hypervisor.resize_disk(record.guest, volume, size_bytes).await {
            // A guest that is gone has nothing to see.
            Err(error) if error.kind == ErrorKind::NotFound => None,
            other => other?,
        };
        if let Some(seen) = seen
            && seen != size_bytes
        {
            return Err(unequal(volume, "the device", size_bytes, &format!("guest {}", record.guest_name), seen));
        }
    }
    Ok(())
}

fn unequal(volume: VolumeId, one: &str, one_bytes: u64, other: &str, other_bytes: u64) -> PortError {
    let message = format!("volume {volume} has unequal sizes: {one} has {one_bytes} bytes and {other} has {other_bytes}");
    PortError::new(ErrorKind::Conflict, message)
}

/// Sets the record right for those who have the volume now that it is ours.
pub(super) fn refresh(shared: &Shared, record: &mut OperationRecord) {
    let Task::Extend(task) = &record.task else { return };
    let attached = shared.registry.attachments_of(task.volume);
    let now = Task::Extend(plan::extend_task(task.volume, task.size_gib, task.ask_service, &attached));
    if now != record.task {
        record.steps =
            plan::steps(&now).into_iter().map(|step| StepRecord { step, state: StepState::Pending, duration_us: 0 }).collect();
        record.task = now;
    }
}

/// What is attached, with the size that an abandoned extend gives up to reach.
pub(super) fn given_up_attachments(shared: &Shared, record: &OperationRecord) -> Vec<AttachmentRecord> {
    let Task::Extend(task) = &record.task else { return vec![] };
    let mut attached = shared.registry.attachments_of(task.volume);
    for attachment in &mut attached {
        attachment.given_up_gib = record.facts.size_gib.max(Some(task.size_gib));
    }
    attached
}

/// What is attached, with the size it has now. From here on that is what it must have after a reboot.
pub(super) fn grown_attachments(shared: &Shared, record: &OperationRecord) -> Vec<AttachmentRecord> {
    let Some(size_bytes) = record.facts.size_bytes else { return vec![] };
    let mut attached = shared.registry.attachments_of(record.task.volume());
    for attachment in &mut attached {
        attachment.observed.size_bytes = size_bytes;
        attachment.given_up_gib = None;
    }
    attached
}
