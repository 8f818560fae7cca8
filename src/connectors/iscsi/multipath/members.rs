//! That the disks of a map are all the same device: multipathd goes by their WWID alone.

use super::{
    super::{KernelInitiator, device, sessions::read},
    MultipathError,
    maps::{self, Map},
};
use crate::{
    connectors::ConnectorError,
    model::{BlockDevice, DeviceIdentity, VolumeId},
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A disk of a map, as it was at one moment.
#[derive(Debug)]
pub(in crate::connectors::iscsi) struct Member {
    /// Kernel name, `sdX`, which another disk may have later.
    pub name: String,
    /// The SCSI device's folder in sysfs, without symlinks.
    pub unit: PathBuf,
    /// The kernel gives no two disks the same (from 5.15 on).
    diskseq: Option<String>,
}

impl Member {
    /// The map's disks now.
    pub(in crate::connectors::iscsi) fn of(sysfs: &Path, map: &Map) -> Vec<Self> {
        let member = |name: String| {
            let disk = sysfs.join("block").join(&name);
            // One that is gone already has no folder; nor is it found there later.
            let unit = fs::canonicalize(disk.join("device")).unwrap_or_else(|_| disk.join("device"));
            Self { diskseq: read(&disk.join("diskseq")), unit, name }
        };
        map.disks().into_iter().map(member).collect()
    }

    /// Whether it is the same disk still, says it is `expected`, and nothing lies on it.
    pub(in crate::connectors::iscsi) fn is_still(&self, expected: Option<&DeviceIdentity>) -> bool {
        let disk = self.unit.join("block").join(&self.name);
        let is_free = fs::read_dir(disk.join("holders")).is_ok_and(|mut holders| holders.next().is_none());
        let found = device::observe_unit(&self.unit, &disk).map(|found| found.identity);
        is_free && read(&disk.join("diskseq")) == self.diskseq && expected.is_some() && found.as_ref() == expected
    }
}

impl KernelInitiator {
    /// Refuses a map with a disk that says it is another device. The kernel keeps what a disk said when it was found, so a dead path answers too.
    pub(in crate::connectors::iscsi) fn must_be_of(
        &self,
        volume: VolumeId,
        map: &Map,
        expected: &DeviceIdentity,
    ) -> Result<(), ConnectorError> {
        for disk in map.disks() {
            // One that is gone from sysfs at this moment is no path any more.
            if let Some(found) = device::observe_disk(&self.sysfs, &disk)
                && found.identity != *expected
            {
                return Err(MultipathError::ForeignPath {
                    volume,
                    map: map.kernel_name.clone(),
                    disk,
                    expected: Box::new(expected.clone()),
                    found: Box::new(found.identity),
                }
                .into());
            }
        }
        Ok(())
    }

    /// Who a device with a map is, by the first disk in it.
    pub(in crate::connectors::iscsi) fn identity_of(&self, device: &BlockDevice) -> Option<DeviceIdentity> {
        let map = maps::find(&self.sysfs, &device.multipath.as_ref()?.wwid)?;
        map.disks().iter().find_map(|disk| Some(device::observe_disk(&self.sysfs, disk)?.identity))
    }
}
