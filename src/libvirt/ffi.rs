//! The few libvirt calls that the `virt` crate does not wrap. The only unsafe code of Bowline.
//!
//! Callbacks come on the event loop's thread. Each gets a [`Sink`] of its own, boxed, which libvirt frees when the
//! callback is taken off or the connection dies.
#![allow(unsafe_code)]

use super::events::{GuestEvent, LifecycleChange};
use crate::model::GuestUuid;
use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::broadcast;
use uuid::Uuid;
use virt::{connect::Connect, domain::Domain, error::Error, secret::Secret, sys};

/// Where callbacks put what they hear.
#[derive(Clone)]
pub(super) struct Sink {
    pub(super) events: broadcast::Sender<GuestEvent>,
    pub(super) closed: Arc<AtomicBool>,
}

impl Sink {
    /// The connection is over; told once, by whoever notices first.
    pub(super) fn close(&self) {
        if !self.closed.swap(true, Ordering::SeqCst) {
            self.tell(GuestEvent::Disconnected);
        }
    }

    fn tell(&self, event: GuestEvent) {
        // No receiver means that nobody wants to know.
        let _ = self.events.send(event);
    }
}

/// The callbacks of one connection; dropping it takes them off, which also lets libvirt free the connection.
pub(super) struct Subscription {
    connect: Connect,
    callbacks: Vec<c_int>,
    watches_close: bool,
}

impl Subscription {
    /// Asks for lifecycle, unplug, I/O error and job events of all guests, and for the end of the connection.
    pub(super) fn new(connect: &Connect, sink: &Sink) -> Result<Self, Error> {
        let mut subscription = Self { connect: connect.clone(), callbacks: Vec::with_capacity(6), watches_close: false };
        subscription.watches_close = watch_close(connect, sink);
        // SAFETY: libvirt calls a callback with the signature that belongs to the event's number, so passing it under
        // the generic type is what VIR_DOMAIN_EVENT_CALLBACK() of its header does. Each number here goes with its type.
        let callbacks = unsafe {
            [
                (
                    sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                    mem::transmute::<sys::virConnectDomainEventCallback, sys::virConnectDomainEventGenericCallback>(Some(
                        on_lifecycle,
                    )),
                ),
                (
                    sys::VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON,
                    mem::transmute::<sys::virConnectDomainEventIOErrorReasonCallback, sys::virConnectDomainEventGenericCallback>(
                        Some(on_io_error),
                    ),
                ),
                (
                    sys::VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
                    mem::transmute::<sys::virConnectDomainEventDeviceRemovedCallback, sys::virConnectDomainEventGenericCallback>(
                        Some(on_device_removed),
                    ),
                ),
                (
                    sys::VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED,
                    mem::transmute::<
                        sys::virConnectDomainEventDeviceRemovalFailedCallback,
                        sys::virConnectDomainEventGenericCallback,
                    >(Some(on_device_removal_failed)),
                ),
                (
                    sys::VIR_DOMAIN_EVENT_ID_JOB_COMPLETED,
                    mem::transmute::<sys::virConnectDomainEventJobCompletedCallback, sys::virConnectDomainEventGenericCallback>(
                        Some(on_job_completed),
                    ),
                ),
                (
                    sys::VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2,
                    mem::transmute::<sys::virConnectDomainEventBlockJobCallback, sys::virConnectDomainEventGenericCallback>(
                        Some(on_block_job),
                    ),
                ),
            ]
        };
        for (event, callback) in callbacks {
            let opaque = Box::into_raw(Box::new(sink.clone())).cast();
            // SAFETY: the connection is alive (we hold a reference), a null domain means all of them, and `opaque` is
            // a Sink that belongs to libvirt from here on, freed by `free_sink`.
            let id = unsafe {
                sys::virConnectDomainEventRegisterAny(
                    connect.as_ptr(),
                    std::ptr::null_mut(),
                    event as c_int,
                    callback,
                    opaque,
                    Some(free_sink),
                )
            };
            if id < 0 {
                let error = Error::last_error();
                // SAFETY: libvirt did not take `opaque` over, so it is still ours to free, once.
                unsafe { free_sink(opaque) };
                return Err(error);
            }
            subscription.callbacks.push(id);
        }
        Ok(subscription)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        for id in &self.callbacks {
            // SAFETY: the connection is alive by our reference and the id came from it. On a dead connection the
            // daemon cannot be told and -1 comes back, but the callback is off on our side, which is what matters.
            unsafe { sys::virConnectDomainEventDeregisterAny(self.connect.as_ptr(), *id) };
        }
        if self.watches_close {
            // SAFETY: as above; the same function was registered.
            unsafe { sys::virConnectUnregisterCloseCallback(self.connect.as_ptr(), Some(on_close)) };
        }
    }
}

/// Drivers without a daemon (`test:///default`) know no end of a connection, so false is no failure.
fn watch_close(connect: &Connect, sink: &Sink) -> bool {
    let opaque = Box::into_raw(Box::new(sink.clone())).cast();
    // SAFETY: the connection is alive, and `opaque` is a Sink that belongs to libvirt from here on.
    let status = unsafe { sys::virConnectRegisterCloseCallback(connect.as_ptr(), Some(on_close), opaque, Some(free_sink)) };
    if status < 0 {
        // SAFETY: libvirt did not take `opaque` over, so it is still ours to free, once.
        unsafe { free_sink(opaque) };
    }
    status >= 0
}

/// Asks the guest to let go of a device, without waiting for it. `flags`: `VIR_DOMAIN_AFFECT_*`.
pub(super) fn detach_by_alias(domain: &Domain, alias: &str, flags: u32) -> Result<(), Error> {
    let alias = CString::new(alias)?;
    // SAFETY: the domain is alive by the reference that `domain` holds; the string outlives the call.
    match unsafe { sys::virDomainDetachDeviceAlias(domain.as_ptr(), alias.as_ptr(), flags) } {
        0 => Ok(()),
        _ => Err(Error::last_error()),
    }
}

/// Gives a guest an I/O thread with this number. `flags`: `VIR_DOMAIN_AFFECT_*`.
pub(super) fn add_iothread(domain: &Domain, id: u32, flags: u32) -> Result<(), Error> {
    // SAFETY: the domain is alive by the reference that `domain` holds.
    match unsafe { sys::virDomainAddIOThread(domain.as_ptr(), id, flags) } {
        0 => Ok(()),
        _ => Err(Error::last_error()),
    }
}

/// How long the agent in the guest may take to answer what it is asked from here on, seconds.
pub(super) fn set_agent_timeout(domain: &Domain, timeout_s: i32) -> Result<(), Error> {
    // SAFETY: the domain is alive by the reference that `domain` holds.
    check(unsafe { sys::virDomainAgentSetResponseTimeout(domain.as_ptr(), timeout_s, 0) }).map(|_| ())
}

/// Freezes all filesystems of the guest; how many.
pub(super) fn freeze(domain: &Domain) -> Result<u32, Error> {
    // SAFETY: as above; no list of mount points means all of them.
    check(unsafe { sys::virDomainFSFreeze(domain.as_ptr(), std::ptr::null_mut(), 0, 0) })
}

/// Thaws all filesystems of the guest; how many were frozen.
pub(super) fn thaw(domain: &Domain) -> Result<u32, Error> {
    // SAFETY: as above.
    check(unsafe { sys::virDomainFSThaw(domain.as_ptr(), std::ptr::null_mut(), 0, 0) })
}

/// Begins the backup job that this XML describes.
pub(super) fn begin_backup(domain: &Domain, xml: &str) -> Result<(), Error> {
    let xml = CString::new(xml)?;
    // SAFETY: as above; the string outlives the call, and no checkpoint is wanted.
    check(unsafe { sys::virDomainBackupBegin(domain.as_ptr(), xml.as_ptr(), std::ptr::null(), 0) }).map(|_| ())
}

/// The backup job that runs.
pub(super) fn backup_xml(domain: &Domain) -> Result<String, Error> {
    // SAFETY: as above; what comes back is a string of our own, freed once by its owner.
    let raw = unsafe { sys::virDomainBackupGetXMLDesc(domain.as_ptr(), 0) };
    if raw.is_null() {
        return Err(Error::last_error());
    }
    // SAFETY: libvirt gives a valid string, allocated by malloc, which `free` takes back after it was copied.
    unsafe {
        let xml = text(raw).unwrap_or_default();
        nix::libc::free(raw.cast());
        Ok(xml)
    }
}

/// Ends the guest's job.
pub(super) fn abort_job(domain: &Domain) -> Result<(), Error> {
    // SAFETY: the domain is alive by the reference that `domain` holds.
    check(unsafe { sys::virDomainAbortJob(domain.as_ptr()) }).map(|_| ())
}

/// A guest's state, and the reason for it: libvirt's numbers.
pub(super) fn state(domain: &Domain) -> Result<(u32, u32), Error> {
    let (mut state, mut reason) = (0, 0);
    // SAFETY: as above; both numbers outlive the call.
    check(unsafe { sys::virDomainGetState(domain.as_ptr(), &raw mut state, &raw mut reason, 0) })?;
    Ok((u32::try_from(state).unwrap_or_default(), u32::try_from(reason).unwrap_or_default()))
}

/// A disk whose I/O QEMU could not do, now or, by what QEMU keeps, at some time before.
pub(super) struct DiskFailure {
    pub(super) target: String,
    /// The host had no room for it.
    pub(super) is_for_room: bool,
}

/// The disks of a guest whose I/O could not be done.
pub(super) fn disk_failures(domain: &Domain) -> Result<Vec<DiskFailure>, Error> {
    // SAFETY: as above; without room for any, libvirt tells how many disks there are.
    let disks = check(unsafe { sys::virDomainGetDiskErrors(domain.as_ptr(), std::ptr::null_mut(), 0, 0) })?;
    let mut errors = vec![sys::virDomainDiskError { disk: std::ptr::null_mut(), error: 0 }; disks as usize];
    // SAFETY: as above; the room is as large as is said.
    let told = check(unsafe { sys::virDomainGetDiskErrors(domain.as_ptr(), errors.as_mut_ptr(), disks, 0) })?;
    let failures = errors.into_iter().take(told as usize).filter_map(|error| {
        // SAFETY: libvirt gives a valid string for each, allocated by malloc, which `free` takes back after it was copied.
        let target = unsafe {
            let target = text(error.disk);
            nix::libc::free(error.disk.cast());
            target?
        };
        Some(DiskFailure { target, is_for_room: error.error as u32 == sys::VIR_DOMAIN_DISK_ERROR_NO_SPACE })
    });
    Ok(failures.collect())
}

/// Begins a job that takes all that a disk has below it into the disk itself.
pub(super) fn pull(domain: &Domain, target: &str) -> Result<(), Error> {
    let target = CString::new(target)?;
    // SAFETY: as above; the string outlives the call. No limit of the bandwidth, no flags.
    check(unsafe { sys::virDomainBlockPull(domain.as_ptr(), target.as_ptr(), 0, 0) }).map(|_| ())
}

/// How far the disk's job is: bytes done, and in all. `None`: it has none.
pub(super) fn block_job(domain: &Domain, target: &str) -> Result<Option<(u64, u64)>, Error> {
    let target = CString::new(target)?;
    let mut info = mem::MaybeUninit::<sys::virDomainBlockJobInfo>::zeroed();
    // SAFETY: as above; libvirt writes no more than the structure has, whose fields are all numbers.
    let found = check(unsafe { sys::virDomainGetBlockJobInfo(domain.as_ptr(), target.as_ptr(), info.as_mut_ptr(), 0) })?;
    // SAFETY: zeroed before, and numbers are valid with any bits.
    let info = unsafe { info.assume_init() };
    Ok((found > 0).then_some((info.cur, info.end)))
}

fn check(status: c_int) -> Result<u32, Error> {
    u32::try_from(status).map_err(|_| Error::last_error())
}

/// What a secret is for. `Secret::usage_id` of virt 0.5.0 frees a string that belongs to the secret, which ends the
/// process with a double free.
pub(super) fn secret_usage(secret: &Secret) -> Result<String, Error> {
    // SAFETY: the secret is alive by the reference that `secret` holds, and the string lives as long as the secret.
    unsafe { text(sys::virSecretGetUsageID(secret.as_ptr())) }.ok_or_else(Error::last_error)
}

unsafe extern "C" fn free_sink(opaque: *mut c_void) {
    // SAFETY: called once, with the pointer that `Box::into_raw` gave for a Sink.
    drop(unsafe { Box::from_raw(opaque.cast::<Sink>()) });
}

unsafe extern "C" fn on_close(_connect: sys::virConnectPtr, _reason: c_int, opaque: *mut c_void) {
    // SAFETY: libvirt passes the Sink it was given, which lives until `free_sink`.
    unsafe { &*opaque.cast::<Sink>() }.close();
}

unsafe extern "C" fn on_lifecycle(
    _connect: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    // FAILED: QEMU went without a word.
    let crashed = matches!(
        detail as sys::virDomainEventStoppedDetailType,
        sys::VIR_DOMAIN_EVENT_STOPPED_CRASHED | sys::VIR_DOMAIN_EVENT_STOPPED_FAILED
    );
    let by_io_error = detail as sys::virDomainEventSuspendedDetailType == sys::VIR_DOMAIN_EVENT_SUSPENDED_IOERROR;
    let change = match event as sys::virDomainEventType {
        sys::VIR_DOMAIN_EVENT_SUSPENDED if by_io_error => LifecycleChange::Paused,
        sys::VIR_DOMAIN_EVENT_DEFINED => LifecycleChange::Defined,
        sys::VIR_DOMAIN_EVENT_UNDEFINED => LifecycleChange::Undefined,
        sys::VIR_DOMAIN_EVENT_STARTED => LifecycleChange::Started,
        sys::VIR_DOMAIN_EVENT_STOPPED if !crashed => LifecycleChange::Stopped,
        sys::VIR_DOMAIN_EVENT_STOPPED | sys::VIR_DOMAIN_EVENT_CRASHED => LifecycleChange::Crashed,
        _ => LifecycleChange::Other,
    };
    // SAFETY: domain and Sink are libvirt's and valid for the time of the callback.
    unsafe {
        if let Some(guest) = guest_uuid(domain) {
            (*opaque.cast::<Sink>()).tell(GuestEvent::Lifecycle { guest, change });
        }
    }
    0
}

unsafe extern "C" fn on_io_error(
    _connect: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _source: *const c_char,
    alias: *const c_char,
    _action: c_int,
    reason: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: domain, texts and Sink are libvirt's and valid for the time of the callback.
    unsafe {
        if let Some((guest, alias)) = guest_uuid(domain).zip(text(alias)) {
            let reason = text(reason).unwrap_or_default();
            (*opaque.cast::<Sink>()).tell(GuestEvent::IoError { guest, alias, reason });
        }
    }
}

unsafe extern "C" fn on_block_job(
    _connect: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _disk: *const c_char,
    _kind: c_int,
    _status: c_int,
    opaque: *mut c_void,
) {
    // SAFETY: domain and Sink are libvirt's and valid for the time of the callback.
    unsafe {
        if let Some(guest) = guest_uuid(domain) {
            (*opaque.cast::<Sink>()).tell(GuestEvent::BlockJob { guest });
        }
    }
}

unsafe extern "C" fn on_device_removed(
    _connect: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    alias: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: domain, alias and Sink are libvirt's and valid for the time of the callback.
    unsafe {
        if let Some((guest, alias)) = guest_uuid(domain).zip(text(alias)) {
            (*opaque.cast::<Sink>()).tell(GuestEvent::DeviceRemoved { guest, alias });
        }
    }
}

unsafe extern "C" fn on_device_removal_failed(
    _connect: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    alias: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: domain, alias and Sink are libvirt's and valid for the time of the callback.
    unsafe {
        if let Some((guest, alias)) = guest_uuid(domain).zip(text(alias)) {
            (*opaque.cast::<Sink>()).tell(GuestEvent::DeviceRemovalFailed { guest, alias });
        }
    }
}

unsafe extern "C" fn on_job_completed(
    _connect: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    params: sys::virTypedParameterPtr,
    count: c_int,
    opaque: *mut c_void,
) {
    let number = |name: &CStr| {
        let mut value = 0;
        // SAFETY: the parameters are libvirt's and valid for the time of the callback; the name is a valid string.
        let status = unsafe { sys::virTypedParamsGetInt(params, count, name.as_ptr(), &raw mut value) };
        (status == 1).then_some(value)
    };
    if number(c"operation") != i32::try_from(sys::VIR_DOMAIN_JOB_OPERATION_BACKUP).ok() {
        return;
    }
    let mut success = 0;
    let mut words = std::ptr::null();
    // SAFETY: as above. The text belongs to the parameters and is copied within the callback; domain and Sink are libvirt's.
    unsafe {
        sys::virTypedParamsGetBoolean(params, count, c"success".as_ptr(), &raw mut success);
        sys::virTypedParamsGetString(params, count, c"errmsg".as_ptr(), &raw mut words);
        if let Some(guest) = guest_uuid(domain) {
            let problem = (success == 0).then(|| text(words).unwrap_or_else(|| "QEMU gives no reason".to_owned()));
            (*opaque.cast::<Sink>()).tell(GuestEvent::BackupEnded { guest, problem });
        }
    }
}

/// # Safety
/// `domain` must be a valid domain.
unsafe fn guest_uuid(domain: sys::virDomainPtr) -> Option<GuestUuid> {
    let mut bytes = [0_u8; sys::VIR_UUID_BUFLEN as usize];
    // SAFETY: the caller vouches for the domain; the buffer has the size libvirt asks for.
    let status = unsafe { sys::virDomainGetUUID(domain, bytes.as_mut_ptr()) };
    (status == 0).then(|| GuestUuid(Uuid::from_bytes(bytes)))
}

/// # Safety
/// `text` must be null or a valid C string.
unsafe fn text(text: *const c_char) -> Option<String> {
    // SAFETY: the caller vouches for it, and null is sorted out first.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}
