//! Ways in for the fuzz targets: what targets, sysfs and connection info say about iSCSI.

use super::{identity, node_record::NodeRecords, probe, sessions};
use crate::model::{ChapCredentials, DeviceIdentity, IscsiPath, ObservedIdentity};
use std::{io, path::Path};

pub use super::ProbeError;

/// Reads SCSI pages 0x80 and 0x83.
pub fn identity(serial_page: &[u8], identification_page: &[u8]) -> DeviceIdentity {
    identity::identity(Some(serial_page), Some(identification_page))
}

/// Asks the target at `path` who its LUN is, within a second.
///
/// # Errors
/// What the target did wrong.
pub async fn probe(path: &IscsiPath, chap: Option<&ChapCredentials>) -> Result<ObservedIdentity, ProbeError> {
    let login = probe::Login { initiator: "iqn.2026-01.org.bowline.test:fuzz", chap, target_chap: None };
    probe::identify(path, login, 1).await
}

/// Writes the node record of `path` below `etc_iscsi`.
///
/// # Errors
/// It cannot be written, or a name would become a line of its own.
pub fn write_record(etc_iscsi: &Path, path: &IscsiPath, chap: Option<&ChapCredentials>) -> io::Result<()> {
    NodeRecords::new(etc_iscsi, 30, 30).write(path, chap)
}

/// The folder in sysfs of the path's LUN, where there is a session.
///
/// # Errors
/// sysfs cannot be read.
pub fn lun_folder(sysfs: &Path, path: &IscsiPath) -> io::Result<Option<std::path::PathBuf>> {
    Ok(sessions::find(sysfs, path)?.map(|session| session.lun_folder(path.lun)))
}
