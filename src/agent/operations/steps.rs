//! Each step: what it does, and how it is undone. Every one can be run twice, and undone from wherever it got to.

use super::{
    Shared, boot, disk, extend, fill, late_unplug,
    locks::Key,
    ports::{PortError, PortResult},
    snapshot,
};
use crate::agent::journal::{AttachTask, DetachTask, Facts, OperationRecord, Step, Task};
use crate::model::{
    Attachment, AttachmentId, AttachmentStatus, ConnectedDevice, ConnectionInfo, DeviceIdentity, DiskSpec, ErrorKind,
    ExpectedIdentity, GuestUuid, Secret, VerifiedDevice, VolumeId, VolumeTraits,
};
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

/// Namespace of the UUIDs of libvirt secrets, each derived from its attachment's id, so that a secret is found again
/// after a crash. A random UUID of Bowline's own.
const SECRET_NAMESPACE: Uuid = Uuid::from_u128(0x6d0f_5b0c_7a4e_4f0e_9d55_b0f1_1e5e_c4e7);

/// What a run of steps holds in memory and never journals.
#[derive(Default)]
pub(super) struct Context {
    /// How to connect, with its secrets.
    connection: Option<ConnectionInfo>,
    /// What came with it.
    traits: VolumeTraits,
    verified: Option<VerifiedDevice>,
    /// Of an encrypted volume.
    passphrase: Option<Secret>,
    /// Held from the choice of a target name until the disk is plugged in.
    guest_lock: Option<OwnedMutexGuard<()>>,
}

impl Context {
    fn take(&mut self, attachment: Attachment) {
        self.connection = attachment.connection;
        self.traits = attachment.traits;
    }
}

pub(super) fn missing(what: &str) -> PortError {
    PortError::new(ErrorKind::Internal, format!("the operation's record lacks {what}"))
}

/// Finds out what must be journalled before the step begins. Touches nothing outside.
pub(super) async fn prepare(
    shared: &Shared,
    record: &mut OperationRecord,
    context: &mut Context,
    step: Step,
) -> PortResult<()> {
    let task = match &record.task {
        Task::Attach(task) => task,
        Task::Boot(task) if step == Step::GiveDisks => {
            record.facts.foreign = boot::foreign(shared, task);
            return boot::must_be_off(shared, task).await;
        }
        Task::Detach(task) if step == Step::DetachDisk => {
            record.facts.asked_run = late_unplug::run_of(shared, task.guest).await?;
            return Ok(());
        }
        _ => return Ok(()),
    };
    match step {
        Step::ConnectVolume => {
            connection(shared, &record.facts, context).await?;
            // Told before anything is connected, and worked out again where it is used.
            disk::tuning(shared, task, &context.traits)?;
            let attachment = record.facts.attachment.ok_or_else(|| missing("the attachment's id"))?;
            record.facts.encryption = disk::encryption(shared, task, &context.traits, attachment).await?;
            let info = connection(shared, &record.facts, context).await?;
            record.facts.intent = Some(shared.connectors.intent(info).await?);
            record.facts.protocol = Some(info.protocol().to_owned());
        }
        Step::AttachDisk => {
            // The key manager may be slow; other disks of the guest need not wait for it.
            if record.facts.encryption.is_some() {
                context.passphrase = Some(disk::passphrase(shared, task.volume).await?);
            }
            context.guest_lock = Some(shared.locks.lock(Key::Guest(task.guest)).await);
            let guest = shared.hypervisor.guest(&task.guest.to_string()).await?;
            let reserved: Vec<String> = shared
                .registry
                .attachments()
                .into_iter()
                .filter(|attachment| attachment.guest == task.guest && attachment.volume != task.volume)
                .map(|attachment| attachment.target)
                .collect();
            let facts = &mut record.facts;
            let kept = guest.disk(task.volume).map(|disk| disk.target.clone());
            facts.target = Some(kept.or_else(|| task.target.clone()).unwrap_or_else(|| guest.free_target(task.bus, &reserved)));
            facts.secret = match (&facts.device, facts.attachment) {
                (Some(device), Some(attachment)) if device.wants_secret() => {
                    Some(Uuid::new_v5(&SECRET_NAMESPACE, attachment.0.as_bytes()))
                }
                _ => None,
            };
        }
        _ => {}
    }
    Ok(())
}

/// Does a step.
pub(super) async fn perform(
    shared: &Arc<Shared>,
    record: &mut OperationRecord,
    context: &mut Context,
    step: Step,
) -> PortResult<()> {
    let OperationRecord { id, task, facts, .. } = record;
    match task {
        Task::Attach(task) => attach_step(shared, task, facts, context, step).await,
        Task::Detach(task) => detach_step(shared, task, facts, step).await,
        Task::Extend(task) => extend::extend_step(shared, task, facts, step).await,
        Task::Boot(task) => boot::boot_step(shared, *id, task, facts, step).await,
        Task::Delete(task) => boot::delete_step(shared, task, facts, step).await,
        Task::Rebuild(task) => boot::rebuild_step(shared, *id, task, facts, step).await,
        Task::Reimage(task) => boot::reimage_step(shared, task, facts, step).await,
        Task::Rescue(task) => boot::rescue_step(shared, *id, task, facts, step).await,
        Task::Unrescue(task) => boot::unrescue_step(shared, task, step).await,
        Task::Start(task) => boot::start_step(shared, task, step).await,
        Task::Stop(task) => boot::stop(shared, task, step).await,
        Task::Snapshot(task) => snapshot::snapshot_step(shared, *id, task, facts, step).await,
        Task::Fill(task) => match step {
            Step::FetchImage => fill::fetch(shared, *id, task, facts).await,
            Step::CompleteDisks => fill::complete(shared, *id, task, facts).await,
            other => Err(missing(other.name())),
        },
    }
}

/// A first step that failed leaves all as it was, unless it was done after all and only its end was not seen: what is says so.
pub(super) async fn look_again(shared: &Shared, record: &mut OperationRecord, step: Step, error: PortError) -> PortResult<()> {
    let is_done = match (&record.task, step) {
        (Task::Detach(task), Step::DetachDisk) => {
            let guest = shared.hypervisor.guest(&task.guest.to_string()).await;
            guest.is_ok_and(|guest| guest.disk(task.volume).is_none())
        }
        // It may have been asked: from there on the volume's old bytes are not to be had back for certain.
        (Task::Reimage(_), Step::RequestReimage) => error.outcome_unknown,
        (Task::Delete(task), Step::StopGuest) => {
            shared.hypervisor.guest(&task.guest.to_string()).await.is_ok_and(|guest| !guest.active)
        }
        (Task::Extend(task), Step::ExtendVolume) if error.outcome_unknown => {
            let volume = shared.volumes.volume(task.volume).await;
            let size_gib = volume.ok().map(|volume| volume.size_gib).filter(|size_gib| *size_gib >= task.size_gib);
            record.facts.size_gib = size_gib.or(record.facts.size_gib);
            size_gib.is_some()
        }
        _ => false,
    };
    if is_done {
        tracing::info!(step = step.name(), %error, "it is done all the same");
        return Ok(());
    }
    Err(error)
}

async fn attach_step(
    shared: &Shared,
    task: &AttachTask,
    facts: &mut Facts,
    context: &mut Context,
    step: Step,
) -> PortResult<()> {
    let attachment = || facts.attachment.ok_or_else(|| missing("the attachment's id"));
    match step {
        Step::CreateAttachment => {
            // A request that is made twice is two attachments.
            facts.attachment = facts.attachment.or(task.reservation);
            if facts.attachment.is_none() {
                let created = shared.volumes.create_attachment(task.volume, task.guest, task.read_only).await?;
                facts.attachment = Some(created.summary.id);
            }
        }
        Step::UpdateAttachment => {
            let mut properties = shared.connectors.properties().await?;
            properties.mode = Some(if task.read_only { "ro" } else { "rw" }.to_owned());
            properties.mountpoint = task.target.as_ref().map(|target| format!("/dev/{target}"));
            let updated = shared.volumes.update_attachment(attachment()?, &properties).await?;
            context.take(updated);
        }
        Step::ConnectVolume => {
            let mut info = connection(shared, facts, context).await?.clone();
            if task.multiattach {
                info.make_shared();
            }
            facts.device = Some(shared.connectors.connect(task.volume, &info).await?);
        }
        Step::VerifyDevice => {
            let verified = verify(shared, task.volume, task.size_gib, facts, context).await?;
            if let Some(encryption) = facts.encryption {
                disk::check_encrypted(shared, encryption, task.volume, &verified).await?;
            }
            facts.observed = Some(verified.observed().clone());
            context.verified = Some(verified);
        }
        Step::AttachDisk => {
            let verified = match context.verified.take() {
                Some(verified) => verified,
                None => verify(shared, task.volume, task.size_gib, facts, context).await?,
            };
            let target = facts.target.clone().ok_or_else(|| missing("the target name"))?;
            let info = connection(shared, facts, context).await?;
            if let Some(secret) = facts.secret {
                define_secret(shared, secret, task.volume, info).await?;
            }
            let (read_only, discard) = (info.read_only(), info.discard());
            if let Some(encryption) = facts.encryption {
                let passphrase = context.passphrase.clone().ok_or_else(|| missing("the passphrase"))?;
                disk::define_passphrase(shared, encryption, task.volume, &passphrase).await?;
            }
            let mut disk = DiskSpec::new(&verified, task.volume, task.bus, target, facts.secret);
            disk.tuning = disk::tuning(shared, task, &context.traits)?;
            disk.encryption = facts.encryption;
            disk.boot_order = task.wishes.boot_order;
            disk.read_only = task.read_only || read_only;
            disk.discard = discard;
            disk.shareable = task.multiattach;
            let attached = shared.hypervisor.attach_disk(task.guest, &disk).await;
            context.guest_lock = None;
            facts.target = Some(attached?);
        }
        Step::CompleteAttachment => shared.volumes.complete_attachment(attachment()?).await?,
        other => return Err(missing(other.name())),
    }
    Ok(())
}

async fn detach_step(shared: &Shared, task: &DetachTask, facts: &Facts, step: Step) -> PortResult<()> {
    match step {
        Step::DetachDisk => take_disk(shared, task.volume, task.guest).await,
        Step::DisconnectVolume => {
            // The guest has let go: its secrets go first, and whatever holds one up does not hold up the other.
            let forgotten = forget_secrets(shared, facts).await;
            disconnect(shared, task.volume, task.guest, facts).await?;
            forgotten
        }
        Step::DeleteAttachment => match facts.attachment {
            Some(attachment) => shared.volumes.delete_attachment(attachment).await,
            None => Err(missing("the attachment's id")),
        },
        other => Err(missing(other.name())),
    }
}

async fn take_disk(shared: &Shared, volume: VolumeId, guest: GuestUuid) -> PortResult<()> {
    match shared.hypervisor.detach_disk(guest, volume).await {
        // A guest that is gone holds nothing.
        Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
        // Lost sight of, not refused: what the guest has says what became of it.
        Err(error) => match shared.hypervisor.guest(&guest.to_string()).await {
            Ok(facts) if facts.disk(volume).is_none() => Ok(()),
            _ => Err(error),
        },
        Ok(()) => Ok(()),
    }
}

pub(super) async fn forget_secrets(shared: &Shared, facts: &Facts) -> PortResult<()> {
    for secret in facts.secret.into_iter().chain(facts.encryption.map(|encryption| encryption.secret)) {
        shared.hypervisor.undefine_secret(secret).await?;
    }
    Ok(())
}

async fn disconnect(shared: &Shared, volume: VolumeId, guest: GuestUuid, facts: &Facts) -> PortResult<()> {
    if shared.registry.is_shared(volume, guest) {
        return Ok(());
    }
    match (&facts.device, &facts.intent) {
        (Some(device), _) => {
            let identity = facts.observed.as_ref().map(|observed| &observed.identity);
            shared.connectors.disconnect(volume, device, identity).await
        }
        (None, Some(intent)) => shared.connectors.undo_connect(volume, intent).await,
        (None, None) => Ok(()),
    }
}

/// Undoes a step of an attach, a boot, a rebuild, a rescue or a snapshot, from wherever it got to. Where the id of an attachment was lost with an
/// answer, what the service has is searched for it.
pub(super) async fn undo(shared: &Arc<Shared>, record: &OperationRecord, step: Step) -> PortResult<()> {
    let facts = &record.facts;
    let task = match &record.task {
        Task::Attach(task) => task,
        Task::Rescue(task) => return boot::undo_rescue_step(shared, task, facts, step).await,
        Task::Rebuild(task) => return boot::undo_rebuild_step(shared, task, facts, step).await,
        Task::Reimage(task) => return boot::undo_reimage_step(shared, task, facts, step).await,
        Task::Snapshot(task) => return snapshot::undo_snapshot_step(shared, record, task, step).await,
        _ => return boot::undo_boot_step(shared, record, step).await,
    };
    match step {
        Step::AttachDisk => {
            take_disk(shared, task.volume, task.guest).await?;
            forget_secrets(shared, facts).await
        }
        Step::ConnectVolume => disconnect(shared, task.volume, task.guest, facts).await,
        Step::CreateAttachment => match facts.attachment {
            Some(attachment) => shared.volumes.delete_attachment(attachment).await,
            None => delete_leftovers(shared, task.volume, task.guest, &task.others).await,
        },
        // The attachment is deleted as a whole with CreateAttachment; looking at a device leaves nothing.
        _ => Ok(()),
    }
}

/// Deletes the attachment that a lost answer may have left. The service may still be at the request, so it is looked for a few times
/// before it is believed that there is none.
pub(super) async fn delete_leftovers(
    shared: &Shared,
    volume: VolumeId,
    guest: GuestUuid,
    others: &[AttachmentId],
) -> PortResult<()> {
    for pause in [0, 1, 4, 8].map(|times| shared.retry.first_delay * times) {
        tokio::time::sleep(pause).await;
        let left = reservations(shared, volume, guest, others).await?;
        for attachment in &left {
            tracing::info!(%attachment, %volume, "deleting the attachment of a lost answer");
            shared.volumes.delete_attachment(*attachment).await?;
        }
        if !left.is_empty() {
            break;
        }
    }
    Ok(())
}

/// What reserves the volume for the guest and is none of these `others`: still only reserved, and known to nobody here. One with a
/// connector belongs to somebody who is using it.
pub(super) async fn reservations(
    shared: &Shared,
    volume: VolumeId,
    guest: GuestUuid,
    others: &[AttachmentId],
) -> PortResult<Vec<AttachmentId>> {
    let known = shared.registry.attachments();
    let there = shared.volumes.attachments(volume).await?.into_iter().filter(|attachment| {
        attachment.guest == Some(guest)
            && attachment.status == AttachmentStatus::Reserved
            && !others.contains(&attachment.id)
            && known.iter().all(|record| record.id != attachment.id)
    });
    Ok(there.map(|attachment| attachment.id).collect())
}

/// The connection info, complete: from memory, else asked of the service again.
async fn connection<'a>(shared: &Shared, facts: &Facts, context: &'a mut Context) -> PortResult<&'a ConnectionInfo> {
    if context.connection.is_none() {
        let attachment = facts.attachment.ok_or_else(|| missing("the attachment's id"))?;
        context.take(shared.volumes.attachment(attachment).await?);
    }
    match &mut context.connection {
        Some(info) => {
            shared.connectors.settle(info).await?;
            Ok(info)
        }
        None => {
            Err(PortError::new(ErrorKind::Internal, "the volume service gave the attachment no connection info".to_owned()))
        }
    }
}

/// Gives libvirt the password or key of a disk that has a secret of ours.
pub(super) async fn define_secret(shared: &Shared, secret: Uuid, volume: VolumeId, info: &ConnectionInfo) -> PortResult<()> {
    let Some((kind, value)) = shared.connectors.disk_secret(info).await? else {
        let message =
            format!("volume {volume} needs a password or key, and neither the volume service nor this host has it now");
        return Err(PortError::new(ErrorKind::AuthenticationFailed, message));
    };
    shared.hypervisor.define_secret(secret, kind, &format!("volume {volume}"), &value).await
}

/// Proves that the connected device is the volume.
async fn verify(
    shared: &Shared,
    volume: VolumeId,
    size_gib: u64,
    facts: &Facts,
    context: &mut Context,
) -> PortResult<VerifiedDevice> {
    let device = facts.device.clone().ok_or_else(|| missing("the connected device"))?;
    let info = connection(shared, facts, context).await?;
    verify_device(shared, volume, size_gib, device, info, facts.observed.as_ref().map(|observed| observed.identity.clone()))
        .await
}

/// Reads the device's identity and compares it with what the service and the journal say.
pub(super) async fn verify_device(
    shared: &Shared,
    volume: VolumeId,
    size_gib: u64,
    device: ConnectedDevice,
    info: &ConnectionInfo,
    journalled: Option<DeviceIdentity>,
) -> PortResult<VerifiedDevice> {
    let observed = shared.connectors.observe(volume, &device, info).await?;
    let serial = info.expected_serial().map(str::to_owned);
    // Another guest of this host may have the volume: then it must be the very same device.
    let (same, others): (Vec<_>, Vec<_>) =
        shared.registry.attachments().into_iter().partition(|record| record.volume == volume);
    let journalled = journalled.or_else(|| same.into_iter().next().map(|record| record.observed.identity));
    let others = others.into_iter().map(|record| (record.volume, record.observed.identity)).collect();
    VerifiedDevice::verify(device, observed, &ExpectedIdentity { size_gib, serial, journalled, others }).map_err(|mismatch| {
        PortError::new(ErrorKind::IdentityMismatch, format!("the device that was found is not volume {volume}: {mismatch}"))
    })
}
