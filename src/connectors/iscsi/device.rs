//! One SCSI disk of this host: what it says of itself, flushing it, deleting it.
//!
//! The kernel may hold any of these calls for as long as the target does not answer. So each runs on a thread of its own with a
//! deadline: past it, the caller goes on with an error and the thread ends when the kernel lets it. Until then the same call is not made
//! again, so that trying again and again holds one thread, not all of them.

use super::{
    identity::{PAGE_IDENTIFICATION, PAGE_SERIAL, identity},
    sessions::{Session, read},
};
use crate::{connectors::ConnectorError, model::ObservedIdentity};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, task::spawn_blocking, time::timeout};

/// The unit of a disk's size in sysfs, bytes; it is the same whatever the disk's own block size.
pub(super) const SYSFS_SECTOR_BYTES: u64 = 512;

/// Runs a blocking call with a deadline.
pub(super) async fn with_deadline<T: Send + 'static>(
    what: impl Into<String>,
    limit_s: u64,
    call: impl FnOnce() -> Result<T, ConnectorError> + Send + 'static,
) -> Result<T, ConnectorError> {
    let what = what.into();
    let Some(begun) = Begun::new(&what) else { return Err(ConnectorError::StillHeld { what }) };
    let call = move || {
        let _begun = begun;
        call()
    };
    match timeout(Duration::from_secs(limit_s), spawn_blocking(call)).await {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => Err(ConnectorError::system(what)(io::Error::other(error))),
        Err(_) => {
            outlived(&what);
            Err(ConnectorError::KernelTimeout { what, waited_s: limit_s })
        }
    }
}

/// The calls that are with the kernel, and whether each has outlived its deadline.
static BEGUN: Mutex<BTreeMap<String, bool>> = Mutex::new(BTreeMap::new());

/// One that has outlived its deadline has ended.
static ENDED: Notify = Notify::const_new();

/// Ends as soon as a call ends that has outlived its deadline.
pub(in crate::connectors) async fn late_call_ended() {
    ENDED.notified().await;
}

fn outlived(what: &str) {
    let mut begun = BEGUN.lock().unwrap_or_else(PoisonError::into_inner);
    begun.entry(what.to_owned()).and_modify(|is_late| *is_late = true);
}

/// One of them, until it is dropped.
struct Begun(String);

impl Begun {
    /// `None` while there is one of this name.
    fn new(what: &str) -> Option<Self> {
        match BEGUN.lock().unwrap_or_else(PoisonError::into_inner).entry(what.to_owned()) {
            Entry::Occupied(_) => None,
            Entry::Vacant(free) => {
                free.insert(false);
                Some(Self(what.to_owned()))
            }
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if BEGUN.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0) == Some(true) {
            ENDED.notify_waiters();
        }
    }
}

/// The kernel's name of a disk from its folder in sysfs.
pub(super) fn kernel_name(disk: &Path) -> Option<&str> {
    disk.file_name()?.to_str()
}

/// Identity and size of the LUN's disk, as the kernel read them when it found the disk.
pub(super) fn observe(session: &Session, lun: u64) -> Option<ObservedIdentity> {
    observe_unit(&session.lun_folder(lun), &session.disk(lun)?)
}

/// The same of a disk known by its kernel name.
pub(super) fn observe_disk(sysfs: &Path, kernel_name: &str) -> Option<ObservedIdentity> {
    let disk = sysfs.join("block").join(kernel_name);
    observe_unit(&disk.join("device"), &disk)
}

/// The same of a SCSI device and its disk, by their folders in sysfs.
pub(super) fn observe_unit(unit: &Path, disk: &Path) -> Option<ObservedIdentity> {
    let page = |code: u8| fs::read(unit.join(format!("vpd_pg{code:02x}"))).ok();
    let sectors: u64 = read(&disk.join("size"))?.parse().ok()?;
    Some(ObservedIdentity {
        identity: identity(page(PAGE_SERIAL).as_deref(), page(PAGE_IDENTIFICATION).as_deref()),
        size_bytes: sectors.saturating_mul(SYSFS_SECTOR_BYTES),
    })
}

/// Whether the kernel sends I/O to the disk.
pub(super) fn is_running(sysfs: &Path, kernel_name: &str) -> bool {
    read(&sysfs.join("block").join(kernel_name).join("device/state")).as_deref() == Some("running")
}

/// Writes out what the host caches of a device that others on the host may lie on.
pub(super) fn sync(kernel_name: &str) -> Result<(), ConnectorError> {
    let device = PathBuf::from("/dev").join(kernel_name);
    let synced = fs::File::open(&device).and_then(|file| file.sync_all());
    synced.map_err(|source| ConnectorError::Flush { device, source })
}

/// Writes out what the host caches of the disk, and makes sure that nothing on the host has claimed it.
pub(super) fn flush(kernel_name: &str) -> Result<(), ConnectorError> {
    let device = PathBuf::from("/dev").join(kernel_name);
    // Exclusive: fails while a filesystem or device mapper holds the disk. QEMU does not open it that way.
    let opened = OpenOptions::new().read(true).custom_flags(nix::fcntl::OFlag::O_EXCL.bits()).open(&device);
    let synced = match opened {
        Ok(file) => file.sync_all(),
        // Without a node nobody has written through it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return Err(ConnectorError::DeviceInUse { device }),
        Err(error) => Err(error),
    };
    synced.map_err(|source| ConnectorError::Flush { device, source })
}

/// Tells the kernel to forget the LUN.
pub(super) fn delete(lun_folder: &Path) -> Result<(), ConnectorError> {
    let file = lun_folder.join("delete");
    match OpenOptions::new().write(true).open(&file).and_then(|mut file| io::Write::write_all(&mut file, b"1")) {
        // Gone in the meantime, which is what was wanted.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(ConnectorError::system(format!("write {}", file.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::sessions::{
            find,
            tests::{add_unit, fake_sysfs, path},
        },
        *,
    };

    #[test]
    fn identity_and_size_come_from_sysfs() {
        let sysfs = fake_sysfs();
        let unit = add_unit(sysfs.path(), 1, "0\n", Some("sdx"));
        fs::write(unit.join("vpd_pg80"), b"\0\x80\0\x06beaf11").unwrap();
        fs::write(unit.join("vpd_pg83"), b"\0\x83\0\x06\x01\x03\0\x02\xab\xcd").unwrap();
        fs::write(unit.join("block/sdx/size"), "4194304\n").unwrap();
        let session = find(sysfs.path(), &path("iqn.t", "[fd00::1]:3260")).unwrap().unwrap();
        let observed = observe(&session, 1).unwrap();
        assert_eq!((observed.identity.serial.as_deref(), observed.size_bytes), (Some("beaf11"), 2 << 30));
        assert_eq!(observed.identity.wwids, ["naa.abcd"]);
        assert_eq!(observe(&session, 2), None);
    }

    #[tokio::test]
    async fn a_call_the_kernel_does_not_answer_ends_at_its_deadline() {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let result = with_deadline("delete 3:0:0:1", 1, move || {
            let _ = held.recv();
            Ok(())
        })
        .await;
        let again = with_deadline("delete 3:0:0:1", 1, || Ok(())).await.unwrap_err();
        assert!(matches!(again, ConnectorError::StillHeld { .. }), "a second thread: {again}");
        assert!(with_deadline("delete 3:0:0:2", 1, || Ok(())).await.is_ok(), "another call is free");
        let ended = tokio::spawn(late_call_ended());
        // It waits by now: this runtime has one thread.
        tokio::task::yield_now().await;
        drop(release);
        timeout(Duration::from_secs(60), ended).await.unwrap().unwrap();
        with_deadline("delete 3:0:0:1", 60, || Ok(())).await.unwrap();
        let text = result.unwrap_err().to_string();
        assert_eq!(text, "delete 3:0:0:1 did not finish within 1 s");
    }

    #[test]
    fn deleting_what_is_gone_is_no_error() {
        assert!(delete(Path::new("/nonexistent")).is_ok());
    }
}
