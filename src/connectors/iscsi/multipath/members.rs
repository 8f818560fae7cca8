//! That the disks of a map are all the same device: multipathd goes by their WWID alone.

use super::{
    super::{KernelInitiator, device},
    MultipathError,
    maps::{self, Map},
};
use crate::{
    connectors::ConnectorError,
    model::{BlockDevice, DeviceIdentity, VolumeId},
};

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
