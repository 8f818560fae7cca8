//! Plugging a disk in.

use super::{
    Outcome,
    attach_plan::AttachPlan,
    connection::{Call, Connection},
    detach, disk_xml,
    error::{LibvirtError, failed},
    ffi,
    guest::{self, Sides},
};
use crate::model::{DiskSource, DiskSpec, GuestUuid, RbdImage, VolumeId};
use std::sync::Arc;
use virt::{connect::Connect, domain::Domain, sys};

/// What attaching did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// Whether anything had to be done.
    pub outcome: Outcome,
    /// The target name the disk has: the one asked for, or the one it had already.
    pub target: String,
}

/// Plugs the disk in on every side that lacks it. A failure leaves nothing.
pub(super) async fn attach(connection: &Arc<Connection>, guest: GuestUuid, disk: &DiskSpec) -> Result<Attached, LibvirtError> {
    match attach_once(connection, guest, disk).await {
        // Whatever took effect before the connection broke is found now, and completed.
        Err(LibvirtError::ConnectionLost { .. }) => attach_once(connection, guest, disk).await,
        done => done,
    }
}

async fn attach_once(connection: &Arc<Connection>, guest: GuestUuid, disk: &DiskSpec) -> Result<Attached, LibvirtError> {
    let operation = format!("attach volume {} to guest {guest} as {}", disk.volume, disk.target);
    let call = Call::new(operation, Some(guest), connection.config.attach_timeout_s);
    let spec = disk.clone();
    let plan = connection
        .read(call.clone(), move |connect| AttachPlan::new(guest, &Sides::read(&find(connect, guest)?)?, &spec))
        .await?;
    if !plan.changes() {
        return Ok(Attached { outcome: Outcome::Unchanged, target: plan.target });
    }
    let plan = Arc::new(plan);
    let (todo, spec, operation) = (Arc::clone(&plan), disk.clone(), call.operation.clone());
    let done = connection.run(call.clone(), move |connect| carry_out(&find(connect, guest)?, &todo, &spec, &operation)).await;
    // Other errors leave it open what took effect, and whoever undoes the operation detaches.
    if let Err(LibvirtError::Call { .. }) = &done {
        let (todo, volume) = (Arc::clone(&plan), disk.volume);
        let undone = match connection.read(call, move |connect| undo(&find(connect, guest)?, &todo, volume)).await {
            Ok(LeftInGuest(true)) => detach::detach(connection, guest, disk.volume, &|_| {}).await.map(drop),
            undone => undone.map(drop),
        };
        if let Err(error) = undone {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(%guest, volume = %disk.volume, error, "a failed attach may have left a disk");
        }
    }
    done.map(|()| Attached { outcome: Outcome::Changed, target: plan.target.clone() }).map_err(|error| explain(error, disk))
}

/// What QEMU says of a LUKS header and its key comes under libvirt's general number: it gets a name of its own here.
fn explain(error: LibvirtError, disk: &DiskSpec) -> LibvirtError {
    let error = match error {
        LibvirtError::Call { source, .. } if disk.encryption.is_some() && source.says_wrong_passphrase() => {
            return LibvirtError::WrongKey { volume: disk.volume, source };
        }
        LibvirtError::Call { source, .. } if disk.encryption.is_some() && source.says_not_luks() => {
            return LibvirtError::NotLuks { volume: disk.volume, source };
        }
        other => other,
    };
    match &disk.source {
        DiskSource::Rbd { image, .. } => explain_image(error, image),
        _ => error,
    }
}

/// Up to 9.0 at least, libvirt splits `POOL/NAMESPACE/IMAGE` at the first slash only, and QEMU looks for an image
/// `NAMESPACE/IMAGE`, a name no image can have.
pub(super) fn explain_image(error: LibvirtError, image: &RbdImage) -> LibvirtError {
    let Some(namespace) = &image.namespace else { return error };
    match error {
        LibvirtError::Call { source, .. } if source.says_no_image(&format!("{namespace}/{}", image.name)) => {
            LibvirtError::NoRbdNamespaces { image: image.to_string(), source }
        }
        other => other,
    }
}

fn find(connect: &Connect, guest: GuestUuid) -> Result<Domain, LibvirtError> {
    guest::by_uuid(connect, guest)?.ok_or_else(|| LibvirtError::GuestNotFound { guest: guest.to_string() })
}

fn carry_out(domain: &Domain, plan: &AttachPlan, disk: &DiskSpec, operation: &str) -> Result<(), LibvirtError> {
    if let Some((target, bus)) = &plan.stale {
        let old = disk_xml::disk_by_target(target, bus)?;
        domain
            .detach_device_flags(&old, sys::VIR_DOMAIN_AFFECT_CONFIG)
            .map_err(failed(format!("take the old disk {target} out of the guest's definition")))?;
    }
    for (ids, flag) in
        [(&plan.iothreads.add_live, sys::VIR_DOMAIN_AFFECT_LIVE), (&plan.iothreads.add_config, sys::VIR_DOMAIN_AFFECT_CONFIG)]
    {
        for id in ids {
            ffi::add_iothread(domain, *id, flag).map_err(failed(format!("give the guest I/O thread {id}")))?;
        }
    }
    let controller = plan.address.map_or(0, |address| address.controller);
    let flags = affect(plan.live_controller, plan.config_controller);
    if flags != 0 {
        domain
            .attach_device_flags(&disk_xml::controller(controller, disk.tuning.queues, plan.iothreads.thread)?, flags)
            .map_err(failed(format!("give the guest virtio-scsi controller {controller}")))?;
    }
    domain
        .attach_device_flags(&disk_xml::disk(disk, &plan.target, plan.place())?, affect(plan.live, plan.config))
        .map_err(failed(operation))
}

const fn affect(live: bool, config: bool) -> u32 {
    (if live { sys::VIR_DOMAIN_AFFECT_LIVE } else { 0 }) | (if config { sys::VIR_DOMAIN_AFFECT_CONFIG } else { 0 })
}

/// The running guest was given the disk by a call that failed afterwards; it must let go of it.
struct LeftInGuest(bool);

/// Takes the disk out of the definition again if only that came about, and tells if it is in the running guest. A controller
/// stays, as it does after a detach: a guest answers a request to give one up when it likes, and by then the next disk is on it.
fn undo(domain: &Domain, plan: &AttachPlan, volume: VolumeId) -> Result<LeftInGuest, LibvirtError> {
    let sides = Sides::read(domain)?;
    if plan.config
        && let Some(left) = sides.config.as_ref().and_then(|side| side.disk_of(volume))
    {
        domain
            .detach_device_flags(&disk_xml::disk_by_target(&left.target, &left.bus)?, sys::VIR_DOMAIN_AFFECT_CONFIG)
            .map_err(failed(format!("take volume {volume} out of the guest's definition again")))?;
    }
    Ok(LeftInGuest(plan.live && sides.live.as_ref().is_some_and(|side| side.disk_of(volume).is_some())))
}
