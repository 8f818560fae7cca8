//! The multipath maps of this host, as sysfs shows them now.
//!
//! ```text
//! /sys/block/dm-0/dm/uuid         mpath-360000000000000000e00000000010001
//! /sys/block/dm-0/slaves/sda      a path of it
//! /sys/block/sda/holders/dm-0     the same from the other side
//! ```

use super::super::{device::SYSFS_SECTOR_BYTES, sessions::read};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// How the UUIDs of multipath's maps begin (multipath-tools `UUID_PREFIX`). Partitions on a map have `part1-mpath-…`.
const UUID_PREFIX: &str = "mpath-";

/// One map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::connectors::iscsi) struct Map {
    /// `dm-N`.
    pub kernel_name: String,
    /// What follows `mpath-` in its UUID.
    pub wwid: String,
    /// Its folder in sysfs.
    folder: PathBuf,
}

impl Map {
    /// Kernel names of its paths, sorted.
    pub(in crate::connectors::iscsi) fn disks(&self) -> Vec<String> {
        names(&self.folder.join("slaves"))
    }

    /// Kernel names of what lies on it: partitions, volume groups.
    pub(in crate::connectors::iscsi) fn holders(&self) -> Vec<String> {
        names(&self.folder.join("holders"))
    }

    /// Its name now. Some of multipathd's commands take nothing else; no map is ever looked for by it.
    pub(in crate::connectors::iscsi) fn name(&self) -> Option<String> {
        read(&self.folder.join("dm/name"))
    }

    /// Its size, bytes.
    pub(in crate::connectors::iscsi) fn size_bytes(&self) -> Option<u64> {
        read(&self.folder.join("size"))?.parse().ok().map(|sectors: u64| sectors.saturating_mul(SYSFS_SECTOR_BYTES))
    }

    /// Whether it is there still, and still this one.
    pub(in crate::connectors::iscsi) fn exists(&self) -> bool {
        read(&self.folder.join("dm/uuid")).is_some_and(|uuid| uuid.strip_prefix(UUID_PREFIX) == Some(&self.wwid))
    }

    /// It has a table, and I/O on it is not held back.
    pub(in crate::connectors::iscsi) fn is_live(&self) -> bool {
        read(&self.folder.join("dm/suspended")).as_deref() == Some("0") && self.size_bytes().is_some_and(|size| size > 0)
    }

    /// Its folder in sysfs, without symlinks.
    pub(in crate::connectors::iscsi) fn syspath(&self) -> io::Result<PathBuf> {
        fs::canonicalize(&self.folder)
    }
}

/// All maps.
pub(in crate::connectors::iscsi) fn all(sysfs: &Path) -> Vec<Map> {
    names(&sysfs.join("block")).into_iter().filter_map(|name| map(sysfs, &name)).collect()
}

/// The map with this WWID.
pub(in crate::connectors::iscsi) fn find(sysfs: &Path, wwid: &str) -> Option<Map> {
    all(sysfs).into_iter().find(|map| map.wwid == wwid)
}

/// The map that holds a disk.
pub(in crate::connectors::iscsi) fn over(sysfs: &Path, disk: &str) -> Option<Map> {
    names(&sysfs.join("block").join(disk).join("holders")).into_iter().find_map(|name| map(sysfs, &name))
}

/// `None` where that is no multipath map, or is gone.
fn map(sysfs: &Path, kernel_name: &str) -> Option<Map> {
    if !kernel_name.starts_with("dm-") {
        return None;
    }
    let folder = sysfs.join("block").join(kernel_name);
    let wwid = read(&folder.join("dm/uuid"))?.strip_prefix(UUID_PREFIX)?.to_owned();
    Some(Map { kernel_name: kernel_name.to_owned(), wwid, folder })
}

/// File names of a folder, sorted; none where there is no such folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
pub(in crate::connectors::iscsi) mod tests {
    use super::*;

    /// Adds a map over these disks.
    pub(in crate::connectors::iscsi) fn add_map(sysfs: &Path, name: &str, uuid: &str, disks: &[&str]) {
        let folder = sysfs.join("block").join(name);
        fs::create_dir_all(folder.join("dm")).unwrap();
        fs::create_dir_all(folder.join("holders")).unwrap();
        fs::write(folder.join("dm/uuid"), format!("{uuid}\n")).unwrap();
        fs::write(folder.join("dm/suspended"), "0\n").unwrap();
        fs::write(folder.join("size"), "2097152\n").unwrap();
        for disk in disks {
            fs::create_dir_all(folder.join("slaves").join(disk)).unwrap();
            fs::create_dir_all(sysfs.join("block").join(disk).join("holders").join(name)).unwrap();
        }
    }

    #[test]
    fn a_map_is_known_by_its_uuid_and_by_its_disks_and_never_by_its_name() {
        let sysfs = tempfile::tempdir().unwrap();
        add_map(sysfs.path(), "dm-3", "mpath-3600a", &["sdb", "sda"]);
        add_map(sysfs.path(), "dm-4", "LVM-3600a", &["sdc"]);
        add_map(sysfs.path(), "dm-5", "part1-mpath-3600a", &["dm-3"]);
        let map = find(sysfs.path(), "3600a").unwrap();
        assert_eq!((map.kernel_name.as_str(), map.disks()), ("dm-3", vec!["sda".to_owned(), "sdb".to_owned()]));
        assert_eq!((map.size_bytes(), map.is_live(), map.holders()), (Some(1 << 30), true, vec!["dm-5".to_owned()]));
        assert_eq!(over(sysfs.path(), "sda"), Some(map));
        assert_eq!(over(sysfs.path(), "sdc"), None, "a volume group is no map");
        assert_eq!(find(sysfs.path(), "3600"), None);
        assert_eq!(all(sysfs.path()).len(), 1);
    }

    #[test]
    fn a_number_that_was_given_to_another_map_is_not_this_one() {
        let sysfs = tempfile::tempdir().unwrap();
        add_map(sysfs.path(), "dm-0", "mpath-3600a", &[]);
        let map = find(sysfs.path(), "3600a").unwrap();
        assert!(map.exists());
        add_map(sysfs.path(), "dm-0", "mpath-3600b", &[]);
        assert!(!map.exists());
    }
}
