//! Disks over an image that is still coming: a guest that waits for it, and a disk that takes all of it in.
//!
//! ```text
//! over the image --pull--> job running --all of it is in the disk--> the disk alone
//!                            | guest gone, job failed or ended by hand
//!                            \--> over the image, with what came into the disk so far: to be pulled again
//! ```
//! A guest that was started over the cached image, which a try before had put its disk over, takes that in.
//! What is so is read in the running guest's definition; an event only says when to look.

use super::{
    Outcome,
    connection::{Call, Connection},
    domain_xml::DomainXml,
    error::{LibvirtError, failed},
    events::GuestEvent,
    ffi::{self, DiskFailure},
    guest,
};
use crate::model::{GuestUuid, LocalDisk};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::broadcast::error::RecvError,
    time::{Instant, timeout_at},
};
use virt::{connect::Connect, domain::Domain, error::ErrorNumber, sys};

/// How often it is told how far a job is.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What a disk is doing.
enum Seen {
    /// The guest is off, or gone.
    Off,
    /// It needs nothing below it.
    Alone,
    /// It takes in what is below it: bytes done, and in all.
    Pulling(u64, u64),
    /// It is over something.
    Over,
}

/// Has a running guest's disk take in all that is below it, and waits until it has. `Unchanged`: the guest is off.
pub(super) async fn pull(
    connection: &Arc<Connection>,
    uuid: GuestUuid,
    disk: &LocalDisk,
    tell: impl Fn(u64, u64) + Send,
) -> Result<Outcome, LibvirtError> {
    let target = disk.target.as_str();
    let mut events = connection.events();
    let mut is_begun = false;
    loop {
        match see(connection, uuid, disk).await? {
            Seen::Off => return Ok(Outcome::Unchanged),
            Seen::Alone => return Ok(Outcome::Changed),
            Seen::Pulling(done, all) => {
                is_begun = true;
                tell(done, all);
            }
            Seen::Over if is_begun => {
                return Err(LibvirtError::Pull { guest: uuid, target: target.to_owned() });
            }
            Seen::Over => {
                begin(connection, uuid, target).await?;
                is_begun = true;
            }
        }
        let tell_at = Instant::now() + TELL_EVERY;
        loop {
            match timeout_at(tell_at, events.recv()).await {
                Ok(Ok(GuestEvent::BlockJob { guest } | GuestEvent::Lifecycle { guest, .. })) if guest == uuid => break,
                Ok(Ok(GuestEvent::Connected) | Err(RecvError::Lagged(_) | RecvError::Closed)) | Err(_) => break,
                Ok(Ok(_)) => {}
            }
        }
    }
}

async fn see(connection: &Arc<Connection>, uuid: GuestUuid, disk: &LocalDisk) -> Result<Seen, LibvirtError> {
    let (target, path) = (disk.target.clone(), disk.path.clone());
    let operation = format!("see what disk {target} of guest {uuid} is over");
    let call = Call::new(operation.clone(), Some(uuid), connection.config.call_timeout_s);
    let work = move |connect: &Connect| {
        let Some(domain) = guest::by_uuid(connect, uuid)? else { return Ok(Seen::Off) };
        let told = || failed(operation.clone());
        if !domain.is_active().map_err(told())? {
            return Ok(Seen::Off);
        }
        if let Some((done, all)) = ffi::block_job(&domain, &target).map_err(told())? {
            return Ok(Seen::Pulling(done, all));
        }
        // Asked after the job: one that ends in between has changed this.
        let xml = domain.xml_desc(0).map_err(told())?;
        let now = DomainXml::parse(&xml)?;
        let source = now.disks.into_iter().find(|has| has.target == target).and_then(|has| has.source);
        if source.as_deref() != path.to_str() {
            return Err(LibvirtError::DiskOtherwise { guest: uuid, target: target.clone(), path: path.clone() });
        }
        Ok(if now.layered.contains(&target) { Seen::Over } else { Seen::Alone })
    };
    connection.read(call, work).await
}

async fn begin(connection: &Arc<Connection>, uuid: GuestUuid, target: &str) -> Result<(), LibvirtError> {
    let operation = format!("have disk {target} of guest {uuid} take in its image");
    let call = Call::new(operation.clone(), Some(uuid), connection.config.attach_timeout_s);
    let target = target.to_owned();
    let work = move |connect: &Connect| match guest::by_uuid(connect, uuid)? {
        Some(domain) => ffi::pull(&domain, &target).map_err(failed(operation)),
        None => Ok(()),
    };
    connection.run(call, work).await
}

/// Lets a guest go on that QEMU paused because it could not do the I/O of these disks. One that runs, is off, was paused by somebody, or
/// of whose disks only others have failed, or for want of room on this host, is left as it is.
pub(super) async fn resume_after_io_error(
    connection: &Arc<Connection>,
    uuid: GuestUuid,
    targets: Vec<String>,
) -> Result<Outcome, LibvirtError> {
    on_state(connection, uuid, "resume", move |domain, state, reason| {
        if (state, reason) != (sys::VIR_DOMAIN_PAUSED, sys::VIR_DOMAIN_PAUSED_IOERROR) {
            return Ok(Outcome::Unchanged);
        }
        // QEMU may go on telling of a failure after the guest has gone on, so other disks' failures prove nothing.
        let is_ours = |failure: &DiskFailure| !failure.is_for_room && targets.contains(&failure.target);
        match ffi::disk_failures(domain)?.iter().any(is_ours) {
            true => domain.resume().map(|()| Outcome::Changed),
            false => Ok(Outcome::Unchanged),
        }
    })
    .await
}

/// Pauses a guest, until somebody resumes it. One that is paused, or off, is left as it is.
pub(super) async fn suspend(connection: &Arc<Connection>, uuid: GuestUuid) -> Result<Outcome, LibvirtError> {
    on_state(connection, uuid, "pause", |domain, state, _| {
        if state == sys::VIR_DOMAIN_RUNNING { domain.suspend().map(|()| Outcome::Changed) } else { Ok(Outcome::Unchanged) }
    })
    .await
}

async fn on_state(
    connection: &Arc<Connection>,
    uuid: GuestUuid,
    verb: &str,
    act: impl Fn(&Domain, u32, u32) -> Result<Outcome, virt::error::Error> + Clone + Send + 'static,
) -> Result<Outcome, LibvirtError> {
    let operation = format!("{verb} guest {uuid}");
    let call = Call::new(operation.clone(), Some(uuid), connection.config.call_timeout_s);
    let work = move |connect: &Connect| {
        let Some(domain) = guest::by_uuid(connect, uuid)? else { return Ok(Outcome::Unchanged) };
        let (state, reason) = ffi::state(&domain).map_err(failed(operation.clone()))?;
        match act(&domain, state, reason) {
            // It ended, or went on, meanwhile.
            Err(error) if error.code().is(ErrorNumber::OperationInvalid) => Ok(Outcome::Unchanged),
            done => done.map_err(failed(operation.clone())),
        }
    };
    connection.read(call, work).await
}
