//! Taking over what Nova, os-brick or a hand attached: proved first, as an attach proves it, and then journalled, so that it is looked
//! after, checked and detached as if this agent had attached it.
//!
//! ```text
//! guest: one disk of the volume, the same live and defined --+
//! service: one attachment of the volume for the guest -------+-> the disk leads where the service says -> identity, size -> journal
//! ```
//! Nothing is touched but the volume's own name on this host. What cannot be proved is refused, and stays whose it was. A secret that
//! somebody gave libvirt for the disk stays theirs.

use super::{
    Shared,
    locks::Key,
    now_us,
    ports::{GivenDisk, PortError, PortResult},
    reconnect, steps,
};
use crate::agent::api::Adopted;
use crate::agent::journal::{AttachmentRecord, Change};
use crate::model::{AttachmentStatus, AttachmentSummary, DiskBus, DiskWishes, ErrorKind, GuestUuid, Volume, VolumeId};

pub(super) async fn adopt(shared: &Shared, volume: &str, guest: &str) -> PortResult<Adopted> {
    let refuse = |kind, message: String| Err(PortError::new(kind, message));
    let volume = shared.volumes.find_volume(volume).await?;
    let guest = shared.hypervisor.guest(guest).await?;
    let Some(_turn) = shared.locks.try_lock(Key::Volume(volume.id)) else {
        return refuse(ErrorKind::Conflict, format!("an operation on volume {} is under way", volume.id));
    };
    if shared.registry.attachment(volume.id, guest.uuid).is_some() {
        let message = format!("volume {} of guest {} is Bowline's already", volume.id, guest.name);
        return refuse(ErrorKind::Conflict, message);
    }
    if volume.encrypted {
        let message = format!("volume {} is encrypted: whether its disk is decrypted cannot be told from outside", volume.id);
        return refuse(ErrorKind::Unsupported, message);
    }
    let given = one_disk(volume.id, &guest.name, shared.hypervisor.given(guest.uuid, volume.id).await?)?;
    let bus: DiskBus = given.bus.parse().map_err(|_| {
        let message =
            format!("the disk {} of guest {} is on bus {}, which Bowline has no disks on", given.target, guest.name, given.bus);
        PortError::new(ErrorKind::Unsupported, message)
    })?;
    let attachment = one_attachment(&volume, &guest.name, guest.uuid, shared.volumes.attachments(volume.id).await?)?;
    let info = reconnect::connection_of(shared, attachment.id).await?;
    let device = shared.connectors.adopt(volume.id, &info, &given.source).await?;
    let verified = match steps::verify_device(shared, volume.id, volume.size_gib, device, &info, None).await {
        Ok(verified) => verified,
        Err(error) => return given_back(shared, volume.id, error).await,
    };
    let remark = remark(&given, guest.persistent);
    let record = AttachmentRecord {
        id: attachment.id,
        volume: volume.id,
        guest: guest.uuid,
        guest_name: guest.name,
        bus,
        target: given.target,
        read_only: info.read_only(),
        protocol: info.protocol().to_owned(),
        device: verified.device().clone(),
        observed: verified.observed().clone(),
        secret: None,
        encryption: None,
        wishes: DiskWishes::default(),
        given_up_gib: None,
        asked_run: None,
        by_hand: true,
        attached_at_us: now_us(),
    };
    let change = Change::PutAttachment(Box::new(record.clone()));
    if let Err(error) = shared.journal.commit(vec![change]).await {
        return given_back(shared, volume.id, PortError::new(error.kind(), error.to_string())).await;
    }
    tracing::info!(volume = %record.volume, guest = record.guest_name, "taken over");
    let adopted = Adopted { attachment: record.id, remark };
    shared.registry.put_attachment(record);
    Ok(adopted)
}

/// Not taken over after all: by a name that stays, the device would be taken for Bowline's own later.
async fn given_back(shared: &Shared, volume: VolumeId, why: PortError) -> PortResult<Adopted> {
    if shared.registry.attachments_of(volume).is_empty() {
        shared.connectors.disown(volume).await?;
    }
    Err(why)
}

/// The volume's only disk. Where the running guest has another than its definition, nobody can know which is meant.
fn one_disk(volume: VolumeId, guest: &str, given: Vec<GivenDisk>) -> PortResult<GivenDisk> {
    let Some(first) = given.first().cloned() else {
        let message = format!(
            "guest {guest} has no disk of volume {volume}: a disk is known by the alias ua-{volume}, or by the volume's id as its serial"
        );
        return Err(PortError::new(ErrorKind::NotFound, message));
    };
    if given.iter().any(|other| *other != first) {
        let message = format!("guest {guest} has volume {volume} live and in its definition in different ways");
        return Err(PortError::new(ErrorKind::Conflict, message));
    }
    Ok(first)
}

/// The attachment that whoever attached the volume made: without it the service may give the volume to anybody.
fn one_attachment(
    volume: &Volume,
    guest_name: &str,
    guest: GuestUuid,
    all: Vec<AttachmentSummary>,
) -> PortResult<AttachmentSummary> {
    let of_guest: Vec<_> = all.into_iter().filter(|attachment| attachment.guest == Some(guest)).collect();
    let (kind, what) = match of_guest.as_slice() {
        [one] if one.status == AttachmentStatus::Attached => return Ok(one.clone()),
        [one] => (ErrorKind::Conflict, format!("one that is not complete, {} ({:?})", one.id, one.status)),
        [] => (ErrorKind::NotFound, "no attachment".to_owned()),
        several => (ErrorKind::Conflict, format!("{} attachments", several.len())),
    };
    let message = format!("of volume {} the service has {what} for guest {guest_name} ({guest})", volume.id);
    Err(PortError::new(kind, message))
}

/// What an operator should know of a definition that names a device as the kernel happens to have numbered it.
fn remark(given: &GivenDisk, is_persistent: bool) -> String {
    let name = given.source.strip_prefix("/dev/").unwrap_or_default();
    if !is_persistent || name.is_empty() || name.contains('/') {
        return String::new();
    }
    format!(
        "the guest's definition has it as {}, which may be another device after a reboot of this host: detach it and attach it anew \
         before that",
        given.source
    )
}
