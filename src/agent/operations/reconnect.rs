//! Bringing back what attachments had: after a reboot of the host the sessions, devices and secrets are gone while guests
//! still have the disks in their definitions.
//!
//! A device is given back only under its own name and only if it is the very one that was journalled; its size may have grown
//! with the service's.
//!
//! Most starts find everything in its place, and a host may have a thousand attachments. So the service is asked only about those
//! that lost something, and libvirt once, for all secrets that it holds.

use super::{
    Shared, boot, disk,
    locks::Key,
    ports::{PortError, PortResult, Presence},
    steps,
};
use crate::agent::journal::{AttachmentRecord, Change};
use crate::model::{
    AttachmentId, ConnectedDevice, ConnectionInfo, ErrorKind, GIB, GuestUuid, ObservedIdentity, VerifiedDevice,
};
use futures_util::{StreamExt, stream};
use std::{collections::BTreeSet, time::Duration};
use uuid::Uuid;

/// How long an attachment waits for an operation on its volume before it is left for the next time.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Attachments brought back side by side.
const WIDTH: usize = 8;

/// Brings back every attachment that lost something, and the keys of ephemeral disks. Returns how many could not be brought back; each was logged.
pub(super) async fn reconnect_all(shared: &Shared) -> usize {
    let attachments = shared.registry.attachments();
    let in_place = &InPlace::look(shared, &attachments).await;
    let without_key = boot::give_keys(shared, &in_place.secrets).await;
    stream::iter(attachments)
        .map(|record| async move {
            match reconnect_but(shared, &record, in_place).await {
                Ok(false) => 0,
                Ok(true) => {
                    tracing::info!(volume = %record.volume, guest = record.guest_name, "connected again");
                    0
                }
                Err(error) => {
                    tracing::error!(volume = %record.volume, guest = record.guest_name, %error, "could not be connected again");
                    1
                }
            }
        })
        .buffer_unordered(WIDTH)
        .fold(without_key, |sum, failed| async move { sum + failed })
        .await
}

/// What libvirt has, asked once for all attachments.
#[derive(Default)]
struct InPlace {
    /// Secrets of Bowline's that have their values.
    secrets: BTreeSet<Uuid>,
    /// Guests that run.
    running: BTreeSet<GuestUuid>,
}

impl InPlace {
    /// Where libvirt cannot be asked now, nothing: whatever needs it finds out what is wrong.
    async fn look(shared: &Shared, attachments: &[AttachmentRecord]) -> Self {
        let mut found = Self::default();
        if attachments.iter().any(|record| record.secret.is_some() || record.encryption.is_some())
            && let Ok(facts) = shared.hypervisor.examine().await
        {
            found.secrets.extend(facts.secrets.into_iter().filter(|secret| !facts.unset_secrets.contains(secret)));
        }
        if attachments.iter().any(|record| matches!(record.device, ConnectedDevice::RbdNetwork(_)))
            && let Ok(guests) = shared.hypervisor.guests().await
        {
            found.running.extend(guests.into_iter().filter(|guest| guest.active).map(|guest| guest.uuid));
        }
        found
    }

    /// The secret is there, and may stay: an RBD image's name may lead to another one by the time a guest that is off is started.
    fn has_secret(&self, record: &AttachmentRecord, secret: Uuid) -> bool {
        let is_open = !matches!(record.device, ConnectedDevice::RbdNetwork(_)) || self.running.contains(&record.guest);
        is_open && self.secrets.contains(&secret)
    }
}

/// Brings back what one attachment lost, and gives libvirt its secrets anew. Returns whether a device was brought back.
pub(super) async fn reconnect(shared: &Shared, seen: &AttachmentRecord) -> PortResult<bool> {
    reconnect_but(shared, seen, &InPlace::default()).await
}

/// The same but for what is in its place.
async fn reconnect_but(shared: &Shared, seen: &AttachmentRecord, in_place: &InPlace) -> PortResult<bool> {
    let lock = shared.locks.lock(Key::Volume(seen.volume));
    let Ok(_guard) = tokio::time::timeout(LOCK_PATIENCE, lock).await else {
        return Err(PortError::new(ErrorKind::Conflict, "an operation on the volume is under way"));
    };
    // What was seen before the lock may have been detached, and attached anew, since.
    let Some(record) = shared.registry.still_attached(seen) else { return Ok(false) };
    let record = &record;
    // QEMU's clients of a disk whose secret is gone, and what is absent, need the connection info; the rest needs nobody.
    let presence = presence(shared, record).await?;
    if let Some(encryption) = record.encryption.filter(|encryption| !in_place.secrets.contains(&encryption.secret)) {
        let passphrase = disk::passphrase(shared, record.volume).await?;
        disk::define_passphrase(shared, encryption, record.volume, &passphrase).await?;
    }
    let secret = record.secret.filter(|secret| !in_place.has_secret(record, *secret));
    if presence == Presence::Present && secret.is_none() {
        return Ok(false);
    }
    let info = connection(shared, record).await?;
    if let Some(secret) = secret {
        prove_image(shared, record, secret, &info).await?;
        steps::define_secret(shared, secret, record.volume, &info).await?;
    }
    if presence == Presence::Present {
        return Ok(false);
    }
    // It may have been extended while this host was away.
    let before_gib = record.observed.size_bytes / GIB;
    let size_gib = shared.volumes.volume(record.volume).await?.size_gib.max(before_gib);
    let verified = connect_again(shared, record, &info, size_gib).await?;
    put_verified(shared, record, &verified).await?;
    Ok(true)
}

/// Journals what a device that was brought back proved to be. Returns the attachment as it is then.
pub(super) async fn put_verified(
    shared: &Shared,
    record: &AttachmentRecord,
    verified: &VerifiedDevice,
) -> PortResult<AttachmentRecord> {
    put_device(shared, record, verified.device(), Some(verified.observed())).await
}

/// Journals what has become of an attachment's device, with every guest of this host that has the same one. Returns the
/// attachment as it is then. The volume's lock is held.
pub(super) async fn put_device(
    shared: &Shared,
    record: &AttachmentRecord,
    device: &ConnectedDevice,
    observed: Option<&ObservedIdentity>,
) -> PortResult<AttachmentRecord> {
    // QEMU's own clients are one each.
    let shares = |other: &AttachmentRecord| {
        other.guest == record.guest || record.device.host_path().is_some_and(|path| other.device.host_path() == Some(path))
    };
    let anew = |other: AttachmentRecord| AttachmentRecord {
        device: device.clone(),
        observed: observed.unwrap_or(&other.observed).clone(),
        ..other
    };
    let attached = shared.registry.attachments_of(record.volume);
    let changed: Vec<_> = attached
        .into_iter()
        .filter(shares)
        .map(|before| (before.clone(), anew(before)))
        .filter_map(|(before, after)| (before != after).then_some(after))
        .collect();
    if !changed.is_empty() {
        let changes = changed.iter().map(|record| Change::PutAttachment(Box::new(record.clone()))).collect();
        shared.journal.commit(changes).await.map_err(|error| PortError::new(error.kind(), error.to_string()))?;
        changed.into_iter().for_each(|record| shared.registry.put_attachment(record));
    }
    Ok(anew(record.clone()))
}

/// Journals every path that is about to be connected, beside those that were: a detach must find them all, wherever the agent is
/// cut.
pub(super) async fn put_paths(shared: &Shared, record: &AttachmentRecord, info: &ConnectionInfo) -> PortResult<()> {
    let mut device = record.device.clone();
    if let (ConnectedDevice::Block(block), ConnectionInfo::Iscsi(connection)) = (&mut device, info) {
        let new: Vec<_> = connection.paths.iter().filter(|path| !block.paths.contains(path)).cloned().collect();
        block.paths.extend(new);
    }
    put_device(shared, record, &device, None).await.map(|_| ())
}

async fn presence(shared: &Shared, record: &AttachmentRecord) -> PortResult<Presence> {
    let presence = shared.connectors.presence(record.volume, &record.device, &record.observed.identity).await?;
    if presence == Presence::Foreign {
        // It may be under a guest, and it is not ours to judge: it is left where it is.
        return Err(PortError::new(ErrorKind::IdentityMismatch, "another device is in the place of the one that was attached"));
    }
    Ok(presence)
}

/// How an attachment is connected, asked of the service.
pub(super) async fn connection(shared: &Shared, record: &AttachmentRecord) -> PortResult<ConnectionInfo> {
    connection_of(shared, record.id).await
}

/// The same of an attachment that the journal need not know.
pub(super) async fn connection_of(shared: &Shared, id: AttachmentId) -> PortResult<ConnectionInfo> {
    let mut info = shared.volumes.attachment(id).await?.connection.ok_or_else(|| {
        PortError::new(ErrorKind::Internal, "the volume service gives its attachment no connection info any more")
    })?;
    shared.connectors.settle(&mut info).await?;
    Ok(info)
}

/// Connects again what is absent, and proves that it is the volume, with this size. The volume's lock is held. Returns what it
/// proved to be; `None` where it was there.
pub(super) async fn bring_back(
    shared: &Shared,
    record: &AttachmentRecord,
    info: &ConnectionInfo,
    size_gib: u64,
) -> PortResult<Option<VerifiedDevice>> {
    if presence(shared, record).await? == Presence::Present {
        return Ok(None);
    }
    connect_again(shared, record, info, size_gib).await.map(Some)
}

/// The same for what is known to be absent.
async fn connect_again(
    shared: &Shared,
    record: &AttachmentRecord,
    info: &ConnectionInfo,
    size_gib: u64,
) -> PortResult<VerifiedDevice> {
    put_paths(shared, record, info).await?;
    let identity = record.observed.identity.clone();
    let device = shared.connectors.reconnect(record.volume, info, &record.device).await?;
    match steps::verify_device(shared, record.volume, size_gib, device.clone(), info, Some(identity)).await {
        Ok(verified) => Ok(verified),
        Err(error) => {
            // It was absent before, so this call has brought it.
            if error.kind == ErrorKind::IdentityMismatch {
                shared.connectors.disconnect(record.volume, &device, None).await?;
            }
            Err(error)
        }
    }
}

/// An RBD image that QEMU opens is found by its name whenever its guest starts, whatever has the name by then. As long as the guest is
/// off, it gets the key only for the image that was attached: without it the guest does not start.
async fn prove_image(shared: &Shared, record: &AttachmentRecord, secret: Uuid, info: &ConnectionInfo) -> PortResult<()> {
    if !matches!(record.device, ConnectedDevice::RbdNetwork(_)) {
        return Ok(());
    }
    // A guest that runs has had its image open since it was proved.
    if shared.hypervisor.guest(&record.guest.to_string()).await.is_ok_and(|guest| guest.active) {
        return Ok(());
    }
    let found = shared.connectors.observe(record.volume, &record.device, info).await?.identity;
    let expected = &record.observed.identity;
    if found == *expected {
        return Ok(());
    }
    shared.hypervisor.undefine_secret(secret).await?;
    Err(PortError::new(
        ErrorKind::IdentityMismatch,
        format!("the image is {found:?} now, but was recorded as {expected:?}: its guest gets no key for it"),
    ))
}
