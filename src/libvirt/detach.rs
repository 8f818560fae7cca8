//! Taking a disk out: first the running guest lets go, then the persistent definition forgets it.
//!
//! In this order a crash in between leaves the definition naming a disk, which a repetition finds and removes. The
//! other way round the running guest would hold a volume that no definition shows.

use super::{
    Outcome,
    connection::{Call, Connection},
    disk_xml,
    error::{LibvirtError, failed},
    events::{GuestEvent, LifecycleChange},
    ffi,
    guest::{self, GuestDisk, Sides},
    unplug::{Action, Input, Unplug},
};
use crate::model::{GuestUuid, VolumeId, disk_alias};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, timeout_at},
};
use virt::{connect::Connect, domain::Domain, error::ErrorNumber, sys};

/// How a detach is coming along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DetachProgress {
    /// The guest was asked, for the n-th time.
    Asked {
        /// Counts from 1.
        request: u32,
    },
    /// QEMU still waits for the guest to answer an earlier request.
    Waiting,
    /// libvirt cannot be reached; it is tried again.
    Disconnected,
    /// The running guest has let go.
    LetGo,
}

/// Detaches a volume's disk from wherever the guest has it. A guest that is gone has let go.
pub(super) async fn detach(
    connection: &Arc<Connection>,
    guest: GuestUuid,
    volume: VolumeId,
    progress: &(impl Fn(DetachProgress) + Send + Sync),
) -> Result<Outcome, LibvirtError> {
    // Listening starts before the first look, so that nothing can happen unseen.
    let events = connection.events();
    let limit_s = connection.config.call_timeout_s;
    let mut outcome = Outcome::Unchanged;
    let live = match live_disk(connection, guest, volume, limit_s).await? {
        Some(disk) => Some(disk),
        None => {
            wait_for_others(connection, guest, volume, limit_s).await?;
            live_disk(connection, guest, volume, limit_s).await?
        }
    };
    if let Some(disk) = live {
        let alias = disk.alias.ok_or_else(|| LibvirtError::DomainXml {
            problem: format!("disk {} of running guest {guest} has no alias", disk.target),
        })?;
        Detaching { connection, guest, volume, target: disk.target, alias, events }.run(progress).await?;
        progress(DetachProgress::LetGo);
        outcome = Outcome::Changed;
    }
    let operation = format!("take volume {volume} out of the definition of guest {guest}");
    let call = Call::new(operation.clone(), Some(guest), limit_s);
    let forgotten = connection.read(call, move |connect| forget(connect, guest, volume, &operation)).await?;
    Ok(if forgotten { Outcome::Changed } else { outcome })
}

/// A guest that does not show the disk may be getting it just now: an attach that an agent asked for before it died goes on in
/// libvirtd, and shows only at its end. Asking for the disk's removal queues behind it, since a guest has one change at a time.
async fn wait_for_others(
    connection: &Arc<Connection>,
    guest: GuestUuid,
    volume: VolumeId,
    limit_s: u64,
) -> Result<(), LibvirtError> {
    let call = Call::new(format!("wait for changes of guest {guest} under way"), Some(guest), limit_s);
    let operation = call.operation.clone();
    let ask = move |connect: &Connect| {
        let Some(domain) = guest::by_uuid(connect, guest)? else { return Ok(()) };
        if !domain.is_active().map_err(failed(operation.clone()))? {
            return Ok(());
        }
        match ffi::detach_by_alias(&domain, &disk_alias(volume), sys::VIR_DOMAIN_AFFECT_LIVE) {
            Ok(()) => Ok(()),
            Err(error) => match failed(operation)(error) {
                LibvirtError::Call { source, .. }
                    // A driver that cannot unplug has no plugging under way either.
                    if source.says_absent() || source.unplug_underway() || source.is(ErrorNumber::NoSupport) =>
                {
                    Ok(())
                }
                error => Err(error),
            },
        }
    };
    connection.run(call, ask).await
}

async fn live_disk(
    connection: &Arc<Connection>,
    guest: GuestUuid,
    volume: VolumeId,
    limit_s: u64,
) -> Result<Option<GuestDisk>, LibvirtError> {
    let call = Call::new(format!("look at the disks of guest {guest}"), Some(guest), limit_s);
    let find = move |connect: &Connect| {
        let Some(sides) = sides_of(connect, guest)? else { return Ok(None) };
        Ok(sides.1.live.and_then(|side| side.disk_of(volume).cloned()))
    };
    connection.read(call, find).await
}

/// Nothing, if the guest is gone for good, even if it goes between the two calls.
fn sides_of(connect: &Connect, guest: GuestUuid) -> Result<Option<(Domain, Sides)>, LibvirtError> {
    let Some(domain) = guest::by_uuid(connect, guest)? else { return Ok(None) };
    match Sides::read(&domain) {
        Ok(sides) => Ok(Some((domain, sides))),
        Err(LibvirtError::Call { source, .. }) if source.is(ErrorNumber::NoDomain) => Ok(None),
        Err(error) => Err(error),
    }
}

fn forget(connect: &Connect, guest: GuestUuid, volume: VolumeId, operation: &str) -> Result<bool, LibvirtError> {
    let Some((domain, sides)) = sides_of(connect, guest)? else { return Ok(false) };
    let Some(disk) = sides.config.as_ref().and_then(|side| side.disk_of(volume)) else { return Ok(false) };
    let removed = match &disk.alias {
        Some(alias) if *alias == disk_alias(volume) => ffi::detach_by_alias(&domain, alias, sys::VIR_DOMAIN_AFFECT_CONFIG),
        _ => domain.detach_device_flags(&disk_xml::disk_by_target(&disk.target, &disk.bus)?, sys::VIR_DOMAIN_AFFECT_CONFIG),
    };
    removed.map(|()| true).map_err(failed(operation))
}

/// One unplug from a running guest.
struct Detaching<'a> {
    connection: &'a Arc<Connection>,
    guest: GuestUuid,
    volume: VolumeId,
    target: String,
    alias: String,
    events: Receiver<GuestEvent>,
}

impl Detaching<'_> {
    async fn run(mut self, progress: &(impl Fn(DetachProgress) + Send + Sync)) -> Result<(), LibvirtError> {
        let timeout_s = self.connection.config.detach_timeout_s;
        let interval = Duration::from_secs(self.connection.config.detach_request_interval_s);
        let started = Instant::now();
        let mut unplug = Unplug::new(interval, Duration::from_secs(timeout_s));
        let mut lost = None;
        let mut action = Action::Ask;
        let (guest, volume) = (self.guest, self.volume);
        loop {
            let left_s = timeout_s.saturating_sub(started.elapsed().as_secs());
            let input = match action {
                Action::Ask => self.ask(left_s).await,
                Action::Look => self.look(left_s).await,
                Action::WaitUntil(until) => Ok(self.wait(started + until).await),
                Action::Gone => return Ok(()),
                Action::Refused => return Err(LibvirtError::GuestRefused { guest, volume, target: self.target }),
                Action::Ignored => {
                    let requests = unplug.requests();
                    return Err(LibvirtError::GuestIgnored { guest, volume, target: self.target, timeout_s, requests });
                }
                Action::LostSight => {
                    let source = lost.unwrap_or(LibvirtError::Broken { operation: format!("see guest {guest}") });
                    return Err(LibvirtError::LostSight { guest, volume, timeout_s, source: Box::new(source) });
                }
            };
            let input = match input {
                Ok(input) => input,
                Err(error) if error.is_passing() => {
                    lost = Some(error);
                    Input::Unreachable
                }
                Err(error) => return Err(error),
            };
            action = unplug.step(started.elapsed(), input);
            match input {
                Input::Asked => progress(DetachProgress::Asked { request: unplug.requests() }),
                Input::Underway => progress(DetachProgress::Waiting),
                Input::Unreachable => progress(DetachProgress::Disconnected),
                _ => {}
            }
        }
    }

    /// A call may take its usual time, but hardly longer than the whole detach.
    fn call(&self, operation: String, left_s: u64) -> Call {
        Call::new(operation, Some(self.guest), self.connection.config.call_timeout_s.min(left_s.max(1)))
    }

    async fn ask(&self, left_s: u64) -> Result<Input, LibvirtError> {
        let (guest, alias) = (self.guest, self.alias.clone());
        let call = self.call(format!("ask guest {guest} to let go of disk {}", self.target), left_s);
        let operation = call.operation.clone();
        let ask = move |connect: &Connect| {
            let Some(domain) = guest::by_uuid(connect, guest)? else { return Ok(Input::Missed) };
            match ffi::detach_by_alias(&domain, &alias, sys::VIR_DOMAIN_AFFECT_LIVE) {
                Ok(()) => Ok(Input::Asked),
                Err(error) => match failed(operation)(error) {
                    LibvirtError::Call { source, .. } if source.unplug_underway() => Ok(Input::Underway),
                    LibvirtError::Call { source, .. } if source.says_absent() => Ok(Input::Missed),
                    error => Err(error),
                },
            }
        };
        self.connection.run(call, ask).await
    }

    async fn look(&self, left_s: u64) -> Result<Input, LibvirtError> {
        let limit_s = self.connection.config.call_timeout_s.min(left_s.max(1));
        let disk = live_disk(self.connection, self.guest, self.volume, limit_s).await?;
        Ok(if disk.is_some() { Input::Present } else { Input::Absent })
    }

    async fn wait(&mut self, until: Instant) -> Input {
        loop {
            let event = match timeout_at(until, self.events.recv()).await {
                Err(_) => return Input::Tick,
                Ok(Err(RecvError::Lagged(_))) => return Input::Reconnected,
                // Cannot be: the connection we hold owns the sender.
                Ok(Err(RecvError::Closed)) => return Input::Tick,
                Ok(Ok(event)) => event,
            };
            match event {
                GuestEvent::DeviceRemoved { guest, alias } if guest == self.guest && alias == self.alias => {
                    return Input::Removed;
                }
                GuestEvent::DeviceRemovalFailed { guest, alias } if guest == self.guest && alias == self.alias => {
                    return Input::Refused;
                }
                GuestEvent::Lifecycle { guest, change: LifecycleChange::Stopped | LifecycleChange::Crashed }
                    if guest == self.guest =>
                {
                    return Input::Stopped;
                }
                GuestEvent::Connected => return Input::Reconnected,
                _ => {}
            }
        }
    }
}
