//! What this host's kernel has mapped, as sysfs tells it (the kernel's `Documentation/ABI/testing/sysfs-bus-rbd`). No question to it
//! waits for the cluster.

use super::RbdError;
use crate::model::RbdImage;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// `current_snap` of what is no snapshot.
const NO_SNAPSHOT: &str = "-";
/// The unit of a block device's `size`, bytes.
const SECTOR_BYTES: u64 = 512;

/// One mapped image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mapping {
    /// Its number: the device is `rbdNUMBER`.
    pub(super) number: u32,
    pub(super) image: RbdImage,
    pub(super) image_id: String,
    /// The cluster's `fsid`.
    pub(super) cluster: String,
    pub(super) size_bytes: u64,
}

impl Mapping {
    /// The kernel's name of the device.
    pub(super) fn kernel_name(&self) -> String {
        format!("rbd{}", self.number)
    }
}

/// The kernel's RBD client.
#[derive(Debug, Clone)]
pub(super) struct Bus {
    sysfs: PathBuf,
}

impl Bus {
    pub(super) fn new(sysfs: &Path) -> Self {
        Self { sysfs: sysfs.to_owned() }
    }

    /// The module is loaded.
    pub(super) fn is_there(&self) -> bool {
        self.folder().is_dir()
    }

    /// What is written into to unmap an image by its number.
    pub(super) fn removal_file(&self) -> PathBuf {
        self.folder().join("remove_single_major")
    }

    /// What is written into to make the kernel read an image's size anew.
    pub(super) fn refresh_file(&self, mapping: &Mapping) -> PathBuf {
        self.folder().join("devices").join(mapping.number.to_string()).join("refresh")
    }

    /// All mappings of the very image itself, not of its snapshots: the same pool, namespace and name. In another cluster there may be a
    /// namesake.
    pub(super) fn mappings_of(&self, image: &RbdImage) -> Result<Vec<Mapping>, RbdError> {
        let folder = self.folder().join("devices");
        let system = || RbdError::system(format!("read {}", folder.display()));
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
            Err(error) => return Err(system()(error)),
        };
        let mut found = vec![];
        for entry in entries {
            let device = entry.map_err(system())?.path();
            // One that is unmapped meanwhile is none.
            if let Some(mapping) = read(&device)
                && mapping.image == *image
            {
                found.push(mapping);
            }
        }
        Ok(found)
    }

    /// The size of the mapping's block device, bytes.
    pub(super) fn block_size_bytes(&self, mapping: &Mapping) -> Option<u64> {
        let text = fs::read_to_string(self.sysfs.join("block").join(mapping.kernel_name()).join("size")).ok()?;
        text.trim().parse::<u64>().ok()?.checked_mul(SECTOR_BYTES)
    }

    fn folder(&self) -> PathBuf {
        self.sysfs.join("bus/rbd")
    }
}

/// `None` for a snapshot, and for what is no mapping any more.
fn read(device: &Path) -> Option<Mapping> {
    let text = |name: &str| fs::read_to_string(device.join(name)).ok().map(|text| text.trim_end_matches('\n').to_owned());
    if text("current_snap")? != NO_SNAPSHOT {
        return None;
    }
    Some(Mapping {
        number: device.file_name()?.to_str()?.parse().ok()?,
        // Kernels before 4.19 know no namespaces.
        image: RbdImage {
            pool: text("pool")?,
            namespace: text("pool_ns").filter(|name| !name.is_empty()),
            name: text("name")?,
        },
        image_id: text("image_id")?,
        cluster: text("cluster_fsid")?,
        size_bytes: text("size")?.parse().ok()?,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Lays out a mapping as the kernel shows it.
    pub(in crate::connectors::rbd) fn mapped(sysfs: &Path, number: u32, place: [&str; 3], id: &str, snapshot: &str) {
        let device = sysfs.join("bus/rbd/devices").join(number.to_string());
        fs::create_dir_all(&device).unwrap();
        let [pool, pool_ns, name] = place;
        for (file, text) in [
            ("pool", pool),
            ("pool_ns", pool_ns),
            ("name", name),
            ("image_id", id),
            ("cluster_fsid", "5e0f3a52-6d7b-4a3c-9d1e-1b6f0c9a7d11"),
            ("current_snap", snapshot),
            ("size", "1073741824"),
        ] {
            fs::write(device.join(file), format!("{text}\n")).unwrap();
        }
    }

    #[test]
    fn an_image_is_found_and_none_of_its_namesakes() {
        let sysfs = tempfile::tempdir().unwrap();
        let bus = Bus::new(sysfs.path());
        let image = RbdImage { pool: "volumes".into(), namespace: None, name: "v".into() };
        assert!(!bus.is_there() && bus.mappings_of(&image).unwrap().is_empty());
        mapped(sysfs.path(), 0, ["others", "", "v"], "a", "-");
        mapped(sysfs.path(), 1, ["volumes", "ns", "v"], "b", "-");
        mapped(sysfs.path(), 2, ["volumes", "", "v"], "c", "snapshot");
        mapped(sysfs.path(), 3, ["volumes", "", "v"], "c", "-");
        fs::create_dir_all(sysfs.path().join("bus/rbd/devices/4")).unwrap();
        let found = bus.mappings_of(&image).unwrap();
        assert_eq!(found.iter().map(Mapping::kernel_name).collect::<Vec<_>>(), ["rbd3"]);
        assert_eq!((found[0].image_id.as_str(), found[0].size_bytes), ("c", 1 << 30));
        let in_namespace = RbdImage { namespace: Some("ns".into()), ..image };
        assert_eq!(bus.mappings_of(&in_namespace).unwrap()[0].number, 1);
    }
}
