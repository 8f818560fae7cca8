//! Catching a running guest's disk as it is at one moment, by a backup job of QEMU.
//!
//! The guest writes on, and its disk's chain of files stays as it is: QEMU copies what is about to be overwritten first. So whatever
//! cuts the job (the end of the guest, of the agent, of libvirtd) leaves nothing but a file that is thrown away. A job is known as ours
//! by that file.
//!
//! ```text
//! none --begin: the moment is now--> running --all copied--> none, file whole
//!                                      | aborted, guest gone, disk full
//!                                      \--> none, file worth nothing
//! ```
//! libvirt tells that all is copied before it has QEMU close the file, and until then QEMU may keep back where in the file the bytes
//! are: whoever reads it meanwhile finds nothing but zeros. So the end is waited for as well.

use super::{
    Outcome,
    connection::{Call, Connection},
    disk_xml,
    error::{LibvirtError, failed},
    events::{GuestEvent, LifecycleChange},
    ffi, guest,
};
use crate::model::GuestUuid;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, timeout_at},
};
use virt::{connect::Connect, domain::Domain, error::ErrorNumber};

/// How often it is told how far a job is.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// A job under way.
pub struct Backup {
    connection: Arc<Connection>,
    guest: GuestUuid,
    /// The disk, as the guest knows it.
    target: String,
    /// Heard from before the job began.
    events: Receiver<GuestEvent>,
}

/// Begins a job that copies one disk into a new qcow2 file. Once it returns, what is copied is the disk as it was then.
pub(super) async fn begin(
    connection: &Arc<Connection>,
    uuid: GuestUuid,
    target: &str,
    file: &Path,
) -> Result<Backup, LibvirtError> {
    let call = |operation: &str| Call::new(operation, Some(uuid), connection.config.attach_timeout_s);
    let find = move |connect: &Connect| {
        guest::by_uuid(connect, uuid)?.ok_or_else(|| LibvirtError::GuestNotFound { guest: uuid.to_string() })
    };
    let disks = move |connect: &Connect| Ok(guest::Sides::read(&find(connect)?)?.live.unwrap_or_default().disks);
    let disks = connection.read(call(&format!("read the disks of guest {uuid}")), disks).await?;
    let others: Vec<_> = disks.into_iter().map(|disk| disk.target).filter(|other| other != target).collect();
    let xml = disk_xml::backup(target, file, &others)?;
    // From here on a new connection is a loss of sight.
    let events = connection.events();
    let operation = format!("begin to copy disk {target} of guest {uuid}");
    let begin = call(&operation);
    let work = move |connect: &Connect| ffi::begin_backup(&find(connect)?, &xml).map_err(failed(operation));
    connection.run(begin, work).await?;
    Ok(Backup { connection: connection.clone(), guest: uuid, target: target.to_owned(), events })
}

impl Backup {
    /// Waits until the job has ended. `tell` hears how far it is: bytes that are copied, and bytes in all.
    ///
    /// # Errors
    /// [`LibvirtError::Backup`]: it failed, or what became of it is not known; libvirt, or the time limit.
    pub async fn wait(mut self, limit: Duration, tell: impl Fn(u64, u64) + Send) -> Result<(), LibvirtError> {
        let deadline = Instant::now() + limit;
        let mut tell_at = Instant::now() + TELL_EVERY;
        let failed = |problem: &str| LibvirtError::Backup { guest: self.guest, problem: problem.to_owned() };
        loop {
            match timeout_at(tell_at.min(deadline), self.events.recv()).await {
                Ok(Ok(GuestEvent::BackupEnded { guest, problem })) if guest == self.guest => {
                    return match problem {
                        Some(problem) => Err(failed(&problem)),
                        None => self.closed().await,
                    };
                }
                Ok(Ok(GuestEvent::Lifecycle { guest, change: LifecycleChange::Stopped })) if guest == self.guest => {
                    return Err(failed("the guest has stopped"));
                }
                Ok(Ok(GuestEvent::Connected) | Err(RecvError::Lagged(_))) => {
                    return Err(failed("libvirt was lost sight of, so what became of it is not known"));
                }
                Ok(Ok(_)) => {}
                Ok(Err(RecvError::Closed)) => return Err(failed("libvirt tells nothing any more")),
                Err(_) if Instant::now() >= deadline => {
                    return Err(failed(&format!("it has not ended within {} s", limit.as_secs())));
                }
                Err(_) => {
                    tell_at = Instant::now() + TELL_EVERY;
                    if let Some((done, all)) = progress(&self.connection, self.guest).await {
                        tell(done, all);
                    }
                }
            }
        }
    }

    /// Waits until QEMU has closed the file. libvirt takes the end of a job and the closing for one piece of work at the guest, and begins
    /// no other before that is done; figures of a disk are such another, asked of QEMU.
    async fn closed(&self) -> Result<(), LibvirtError> {
        let (uuid, target) = (self.guest, self.target.clone());
        let operation = format!("wait for the end of the copy of disk {target} of guest {uuid}");
        let call = Call::new(operation.clone(), None, self.connection.config.attach_timeout_s);
        let work = move |connect: &Connect| {
            let domain =
                guest::by_uuid(connect, uuid)?.ok_or_else(|| LibvirtError::GuestNotFound { guest: uuid.to_string() })?;
            domain.block_stats(&target).map(drop).map_err(failed(operation.clone()))
        };
        self.connection.read(call, work).await
    }
}

/// How far the guest's job is; it is only told, so nothing is made of a failure.
async fn progress(connection: &Arc<Connection>, uuid: GuestUuid) -> Option<(u64, u64)> {
    let call = Call::new(format!("see how far the copy of guest {uuid} is"), None, connection.config.call_timeout_s);
    let work = move |connect: &Connect| {
        let info = guest::by_uuid(connect, uuid)?.and_then(|domain| domain.job_info().ok());
        Ok(info.and_then(|info| info.disk_processed.zip(info.disk_total)))
    };
    connection.read(call, work).await.ok().flatten()
}

/// Ends the job that copies into this file. Where there is none, that is fine.
pub(super) async fn abort(connection: &Arc<Connection>, uuid: GuestUuid, file: PathBuf) -> Result<Outcome, LibvirtError> {
    let operation = format!("end the copy of a disk of guest {uuid}");
    let call = Call::new(operation.clone(), Some(uuid), connection.config.attach_timeout_s);
    let work = move |connect: &Connect| {
        let Some(domain) = guest::by_uuid(connect, uuid)? else { return Ok(Outcome::Unchanged) };
        if !is_ours(&domain, &file, &operation)? {
            return Ok(Outcome::Unchanged);
        }
        match ffi::abort_job(&domain) {
            Ok(()) => Ok(Outcome::Changed),
            // It has ended by itself meanwhile.
            Err(error) if error.code().is(ErrorNumber::OperationInvalid) => Ok(Outcome::Unchanged),
            Err(error) => Err(failed(operation.clone())(error)),
        }
    };
    connection.read(call, work).await
}

fn is_ours(domain: &Domain, file: &Path, operation: &str) -> Result<bool, LibvirtError> {
    match ffi::backup_xml(domain) {
        Ok(xml) => Ok(file.to_str().is_some_and(|file| xml.contains(file))),
        Err(error) if error.code().is(ErrorNumber::NoDomainBackup) || error.code().is(ErrorNumber::OperationInvalid) => {
            Ok(false)
        }
        Err(error) => Err(failed(operation)(error)),
    }
}
