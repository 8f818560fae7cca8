//! iSCSI sessions of this host's kernel, as sysfs shows them now.
//!
//! ```text
//! /sys/class/iscsi_session/session2 -> …/platform/host0/session2/iscsi_session/session2   targetname, state, target_id
//! /sys/class/iscsi_connection/connection2:0                                        persistent_address, persistent_port
//! …/platform/host0/session2/target0:0:0/0:0:0:1/block/sda                          LUN 1 and its disk
//! ```
//! No list of sessions is kept in memory: after a crash, or when another tool logs in or out, sysfs is what is true.

use crate::model::{IscsiPath, Portal};
use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

/// SCSI peripheral types that are no storage of anybody: RAID controllers (tgt shows one as LUN 0), well-known units, and "no device".
const TYPES_WITHOUT_STORAGE: [&str; 3] = ["12", "30", "31"];

/// One session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    /// Its number, as in `session2`.
    pub id: u32,
    /// Number of the SCSI host it is on.
    pub host: u32,
    /// SCSI target number on that host.
    pub target: u32,
    /// `…/host0/session2`, without symlinks.
    folder: PathBuf,
    /// `LOGGED_IN`, `FAILED` or `FREE`.
    pub state: String,
}

impl Session {
    /// Whether commands reach the target.
    pub(super) fn is_up(&self) -> bool {
        self.state == "LOGGED_IN"
    }

    /// SCSI address of a LUN: host, channel (always 0 with iSCSI), target, LUN.
    pub(super) fn address(&self, lun: u64) -> String {
        format!("{}:0:{}:{lun}", self.host, self.target)
    }

    /// Where the LUN is in sysfs when the kernel knows it.
    pub(super) fn lun_folder(&self, lun: u64) -> PathBuf {
        self.folder.join(format!("target{}:0:{}", self.host, self.target)).join(self.address(lun))
    }

    /// The disk of a LUN: its folder in sysfs, such as `…/0:0:0:1/block/sda`.
    pub(super) fn disk(&self, lun: u64) -> Option<PathBuf> {
        let entries = fs::read_dir(self.lun_folder(lun).join("block")).ok()?;
        entries.flatten().map(|entry| entry.path()).next()
    }

    /// Addresses of all storage units on this session, whoever scanned them.
    pub(super) fn units(&self) -> io::Result<Vec<String>> {
        let folder = self.folder.join(format!("target{}:0:{}", self.host, self.target));
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut units = Vec::new();
        for entry in entries {
            let entry = entry?;
            let kind = read(&entry.path().join("type"));
            if kind.is_some_and(|kind| !TYPES_WITHOUT_STORAGE.contains(&kind.as_str()))
                && let Ok(name) = entry.file_name().into_string()
            {
                units.push(name);
            }
        }
        Ok(units)
    }
}

/// The session to a target through a portal, if there is one.
pub(super) fn find(sysfs: &Path, path: &IscsiPath) -> io::Result<Option<Session>> {
    let entries = match fs::read_dir(sysfs.join("class/iscsi_session")) {
        Ok(entries) => entries,
        // The module is not loaded: no session can be.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let link = entry.path();
        let id = entry.file_name().to_str().and_then(|name| name.strip_prefix("session")?.parse::<u32>().ok());
        let Some(id) = id else { continue };
        if read(&link.join("targetname")).as_deref() == Some(&path.iqn)
            && portal_of(sysfs, id).is_some_and(|found| same_portal(&found, &path.portal))
            && let Some(session) = read_session(&link, id)
        {
            return Ok(Some(session));
        }
    }
    Ok(None)
}

/// What the session of a path is called where several volumes share it, however its portal is spelled.
pub(super) fn name(path: &IscsiPath) -> String {
    let Portal { host, port } = &path.portal;
    match host.parse::<IpAddr>() {
        Ok(address) => format!("{} at {address} port {port}", path.iqn),
        Err(_) => format!("{} at {host} port {port}", path.iqn),
    }
}

/// Whether session `id` is still there.
pub(super) fn exists(sysfs: &Path, id: u32) -> bool {
    sysfs.join(format!("class/iscsi_session/session{id}")).exists()
}

/// `None` also when it vanishes while it is read.
fn read_session(link: &Path, id: u32) -> Option<Session> {
    // …/host0/session2/iscsi_session/session2
    let real = fs::canonicalize(link).ok()?;
    let folder = real.parent()?.parent()?.to_owned();
    let host = folder.parent()?.file_name()?.to_str()?.strip_prefix("host")?.parse().ok()?;
    let target = read(&link.join("target_id")).and_then(|text| text.parse().ok()).unwrap_or(0);
    Some(Session { id, host, target, folder, state: read(&link.join("state"))? })
}

fn portal_of(sysfs: &Path, session: u32) -> Option<Portal> {
    let folder = sysfs.join(format!("class/iscsi_connection/connection{session}:0"));
    let host = read(&folder.join("persistent_address"))?;
    let port = read(&folder.join("persistent_port"))?.parse().ok()?;
    Some(Portal { host, port })
}

/// Portals may spell one IPv6 address in several ways.
fn same_portal(one: &Portal, other: &Portal) -> bool {
    let address = |portal: &Portal| portal.host.parse::<IpAddr>();
    one.port == other.port
        && match (address(one), address(other)) {
            (Ok(one), Ok(other)) => one == other,
            _ => one.host == other.host,
        }
}

/// A sysfs attribute without its newline; `None` when it is not there or cannot be read.
pub(super) fn read(file: &Path) -> Option<String> {
    fs::read_to_string(file).ok().map(|text| text.trim_end().to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A sysfs with one session on host 3: session 7 to `iqn.t` at [fd00::1]:3260.
    pub(crate) fn fake_sysfs() -> tempfile::TempDir {
        let sysfs = tempfile::tempdir().unwrap();
        let root = sysfs.path();
        let session = root.join("devices/platform/host3/session7");
        let attributes = session.join("iscsi_session/session7");
        let connection = root.join("class/iscsi_connection/connection7:0");
        for folder in [&attributes, &connection, &root.join("class/iscsi_session")] {
            fs::create_dir_all(folder).unwrap();
        }
        for (file, text) in [("targetname", "iqn.t\n"), ("state", "LOGGED_IN\n"), ("target_id", "0\n")] {
            fs::write(attributes.join(file), text).unwrap();
        }
        fs::write(connection.join("persistent_address"), "fd00:0::1\n").unwrap();
        fs::write(connection.join("persistent_port"), "3260\n").unwrap();
        symlink(&attributes, root.join("class/iscsi_session/session7")).unwrap();
        sysfs
    }

    /// Adds a LUN of a SCSI type, with a disk of that name if any.
    pub(crate) fn add_unit(sysfs: &Path, lun: u64, scsi_type: &str, disk: Option<&str>) -> PathBuf {
        let folder = sysfs.join(format!("devices/platform/host3/session7/target3:0:0/3:0:0:{lun}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("type"), scsi_type).unwrap();
        if let Some(disk) = disk {
            fs::create_dir_all(folder.join("block").join(disk)).unwrap();
        }
        folder
    }

    pub(crate) fn path(iqn: &str, portal: &str) -> IscsiPath {
        IscsiPath { portal: portal.parse().unwrap(), iqn: iqn.into(), lun: 1 }
    }

    #[test]
    fn a_session_is_found_by_target_and_portal_alone() {
        let sysfs = fake_sysfs();
        let session = find(sysfs.path(), &path("iqn.t", "[fd00::1]:3260")).unwrap().unwrap();
        assert_eq!((session.id, session.host, session.address(5).as_str()), (7, 3, "3:0:0:5"));
        assert!(session.is_up());
        assert_eq!(name(&path("iqn.t", "[fd00:0::1]:3260")), name(&path("iqn.t", "[fd00::1]:3260")));
        for other in [path("iqn.t", "[fd00::2]:3260"), path("iqn.t", "[fd00::1]:3261"), path("iqn.t2", "[fd00::1]:3260")] {
            assert_eq!(find(sysfs.path(), &other).unwrap(), None, "{other}");
        }
    }

    #[test]
    fn a_host_without_the_module_has_no_sessions() {
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(find(empty.path(), &path("iqn.t", "[fd00::1]:3260")).unwrap(), None);
    }

    #[test]
    fn other_luns_count_and_the_targets_own_controller_does_not() {
        let sysfs = fake_sysfs();
        let session = find(sysfs.path(), &path("iqn.t", "[fd00::1]:3260")).unwrap().unwrap();
        assert_eq!(session.units().unwrap(), Vec::<String>::new());
        add_unit(sysfs.path(), 0, "12\n", None);
        add_unit(sysfs.path(), 1, "0\n", Some("sdx"));
        assert_eq!(session.units().unwrap(), ["3:0:0:1"]);
        assert!(session.disk(1).unwrap().ends_with("3:0:0:1/block/sdx"));
        assert_eq!(session.disk(2), None);
    }
}
