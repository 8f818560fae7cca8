//! A LUN that QEMU itself logs into, after it was extended: this host has no layer of it, so there is only to prove that the target
//! shows the new size. QEMU asks the target anew when it is told of a new size, and not before.

use super::Iscsi;
use crate::connectors::ConnectorError;
use crate::model::{DeviceIdentity, GIB, IscsiConnection, IscsiNetworkDevice, VolumeId};

impl Iscsi {
    /// The capacity that the target shows now, bytes.
    pub(in crate::connectors) async fn grow_network(
        &self,
        volume: VolumeId,
        device: &IscsiNetworkDevice,
        identity: &DeviceIdentity,
        connection: &IscsiConnection,
        size_gib: u64,
    ) -> Result<u64, ConnectorError> {
        let observed = self.observe_network(device, Some(connection)).await?;
        if observed.identity != *identity {
            return Err(ConnectorError::NotTheVolume {
                volume,
                address: device.path.to_string(),
                expected: Box::new(identity.clone()),
                found: Box::new(observed.identity),
            });
        }
        if observed.size_bytes / GIB < size_gib {
            let found_bytes = observed.size_bytes;
            return Err(ConnectorError::StillSmall { volume, path: device.path.clone(), found_bytes, wanted_gib: size_gib });
        }
        Ok(observed.size_bytes)
    }
}
