//! Plugging a disk in.

use super::{
    Outcome,
    attach_plan::AttachPlan,
    connection::{Call, Connection},
    detach, disk_xml,
    error::{LibvirtError, failed},
    guest::{self, Sides},
};
use crate::model::{DiskSpec, GuestUuid};
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

/// An attach that failed, and whether the running guest was left with the disk.
struct Failure {
    error: LibvirtError,
    left_in_guest: bool,
}

impl From<LibvirtError> for Failure {
    fn from(error: LibvirtError) -> Self {
        Self { error, left_in_guest: false }
    }
}

/// Plugs the disk in on every side that lacks it. A failure leaves nothing; what the call did before the connection
/// broke is found and completed by the repetition.
pub(super) async fn attach(connection: &Arc<Connection>, guest: GuestUuid, disk: &DiskSpec) -> Result<Attached, LibvirtError> {
    let call = Call::new(
        format!("attach volume {} to guest {guest} as {}", disk.volume, disk.target),
        Some(guest),
        connection.config.attach_timeout_s,
    );
    let work = {
        let (disk, operation) = (disk.clone(), call.operation.clone());
        move |connect: &Connect| attach_now(connect, guest, &disk, &operation)
    };
    // The answer of the guest's side travels beside the error, since only an async caller can wait for a guest.
    let run = || {
        let work = work.clone();
        let call = call.clone();
        async move {
            let left_in_guest = Arc::new(std::sync::atomic::AtomicBool::new(false));
            let told = Arc::clone(&left_in_guest);
            let done = connection
                .run(call, move |connect| {
                    work(connect).map_err(|failure| {
                        told.store(failure.left_in_guest, std::sync::atomic::Ordering::SeqCst);
                        failure.error
                    })
                })
                .await;
            (done, left_in_guest.load(std::sync::atomic::Ordering::SeqCst))
        }
    };
    let (mut done, mut left_in_guest) = run().await;
    if matches!(done, Err(LibvirtError::ConnectionLost { .. })) {
        (done, left_in_guest) = run().await;
    }
    if left_in_guest && let Err(error) = detach::detach(connection, guest, disk.volume, &|_| {}).await {
        tracing::warn!(%guest, volume = %disk.volume, error = &error as &dyn std::error::Error, "a failed attach left a disk");
    }
    done
}

fn attach_now(connect: &Connect, guest: GuestUuid, disk: &DiskSpec, operation: &str) -> Result<Attached, Failure> {
    let domain = guest::by_uuid(connect, guest)?.ok_or_else(|| LibvirtError::GuestNotFound { guest: guest.to_string() })?;
    let plan = AttachPlan::new(guest, &Sides::read(&domain)?, disk)?;
    if !plan.changes() {
        return Ok(Attached { outcome: Outcome::Unchanged, target: plan.target });
    }
    carry_out(&domain, &plan, disk, operation).map_err(|error| undo(&domain, &plan, disk, error))?;
    Ok(Attached { outcome: Outcome::Changed, target: plan.target })
}

fn carry_out(domain: &Domain, plan: &AttachPlan, disk: &DiskSpec, operation: &str) -> Result<(), LibvirtError> {
    if let Some((target, bus)) = &plan.stale {
        let old = disk_xml::disk_by_target(target, bus)?;
        domain
            .detach_device_flags(&old, sys::VIR_DOMAIN_AFFECT_CONFIG)
            .map_err(failed(format!("take the old disk {target} out of the guest's definition")))?;
    }
    let controller = plan.address.map_or(0, |address| address.controller);
    let flags = affect(plan.live_controller, plan.config_controller);
    if flags != 0 {
        domain
            .attach_device_flags(&disk_xml::controller(controller)?, flags)
            .map_err(failed(format!("give the guest virtio-scsi controller {controller}")))?;
    }
    domain
        .attach_device_flags(&disk_xml::disk(disk, &plan.target, plan.address)?, affect(plan.live, plan.config))
        .map_err(failed(operation))
}

const fn affect(live: bool, config: bool) -> u32 {
    (if live { sys::VIR_DOMAIN_AFFECT_LIVE } else { 0 }) | (if config { sys::VIR_DOMAIN_AFFECT_CONFIG } else { 0 })
}

/// Takes the disk out of the definition again if only that came about, and tells if it is in the running guest. A
/// controller stays: it harms nobody and the next disk wants it.
fn undo(domain: &Domain, plan: &AttachPlan, disk: &DiskSpec, error: LibvirtError) -> Failure {
    let Ok(sides) = Sides::read(domain) else { return error.into() };
    let left_in_guest = plan.live && sides.live.as_ref().is_some_and(|side| side.disk_of(disk.volume).is_some());
    if plan.config
        && let Some(left) = sides.config.as_ref().and_then(|side| side.disk_of(disk.volume))
        && let Ok(xml) = disk_xml::disk_by_target(&left.target, &left.bus)
        && let Err(error) = domain.detach_device_flags(&xml, sys::VIR_DOMAIN_AFFECT_CONFIG)
    {
        tracing::warn!(volume = %disk.volume, message = error.message(), "a failed attach left a disk in a definition");
    }
    Failure { error, left_in_guest }
}
