//! Asks the kernel for one LUN and waits for its disk.
//!
//! Only that LUN is scanned: a whole-target scan would bring in other volumes' devices, even ones just detached. The wait is
//! for udev's event of the disk, subscribed to before the scan.

use super::{
    device::{kernel_name, with_deadline},
    sessions::Session,
};
use crate::{
    connectors::{
        ConnectorError,
        udev::{self, Subscription, UdevMonitor, Waited},
    },
    model::IscsiPath,
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::Instant;

/// Scans for the LUN of `path` if it is not there, and returns the folder of its disk once udev is done with it.
pub(super) async fn find_disk(
    sysfs: &Path,
    monitor: &UdevMonitor,
    session: &Session,
    path: &IscsiPath,
    timeout_s: u64,
) -> Result<PathBuf, ConnectorError> {
    let deadline = udev::deadline(Duration::from_secs(timeout_s));
    let mut events = monitor.subscribe();
    let is_new = !session.lun_folder(path.lun).exists();
    if is_new {
        let file = sysfs.join(format!("class/scsi_host/host{}/scan", session.host));
        let place = format!("0 {} {}", session.target, path.lun);
        with_deadline(format!("the scan for {path}"), timeout_s, move || {
            fs::write(&file, place).map_err(ConnectorError::system(format!("write {}", file.display())))
        })
        .await?;
    } else if let Some(disk) = session.disk(path.lun)
        && udev::is_settled(&disk)
    {
        return Ok(disk);
    }
    wait(&mut events, session, path, is_new, deadline, timeout_s).await
}

/// An event says more than udev's database, which may still hold an entry of an older disk of the same name.
async fn wait(
    events: &mut Subscription,
    session: &Session,
    path: &IscsiPath,
    is_new: bool,
    deadline: Instant,
    timeout_s: u64,
) -> Result<PathBuf, ConnectorError> {
    let lun_folder = session.lun_folder(path.lun);
    loop {
        match events.next(deadline).await {
            Waited::Event(event) if !event.removed && event.syspath.starts_with(&lun_folder) => {
                let diskseq = fs::read_to_string(event.syspath.join("diskseq")).ok().and_then(|text| text.trim().parse().ok());
                if event.diskseq == diskseq && event.syspath.exists() {
                    return Ok(event.syspath);
                }
            }
            Waited::Event(_) => {}
            Waited::Missed => {
                if let Some(disk) = session.disk(path.lun).filter(|disk| udev::is_settled(disk)) {
                    return Ok(disk);
                }
            }
            Waited::TimedOut => {
                // The disk may be there and only udev be late or gone: usable all the same once its node is there.
                return match session.disk(path.lun) {
                    Some(disk) if has_node(&disk) => {
                        tracing::warn!(%path, disk = %disk.display(), is_new, "udev did not announce the disk in time");
                        Ok(disk)
                    }
                    _ => Err(ConnectorError::DeviceMissing { path: path.clone(), waited_s: timeout_s }),
                };
            }
        }
    }
}

fn has_node(disk: &Path) -> bool {
    kernel_name(disk).is_some_and(|name| Path::new("/dev").join(name).exists())
}

/// Waits until the LUN is gone from sysfs; `events` was subscribed before its deletion was asked for.
pub(super) async fn wait_gone(
    events: &mut Subscription,
    session: &Session,
    lun: u64,
    timeout_s: u64,
) -> Result<(), ConnectorError> {
    let deadline = udev::deadline(Duration::from_secs(timeout_s));
    while session.lun_folder(lun).exists() {
        if let Waited::TimedOut = events.next(deadline).await {
            let what = format!("the removal of SCSI device {}", session.address(lun));
            return Err(ConnectorError::KernelTimeout { what, waited_s: timeout_s });
        }
    }
    Ok(())
}
