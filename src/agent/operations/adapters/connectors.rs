//! This host's connectors.

use super::super::ports::{ConnectorPort, PortError, PortResult, Presence};
use super::chain;
use crate::connectors::{ConnectorError, Connectors, DeviceState};
use crate::model::{
    ConnectIntent, ConnectedDevice, ConnectionInfo, ConnectorProperties, DeviceIdentity, Health, ObservedIdentity, Secret,
    SecretKind, VolumeId,
};
use async_trait::async_trait;

/// [`ConnectorPort`] by the connectors of this host.
pub struct HostConnectors(pub Connectors);

impl From<ConnectorError> for PortError {
    fn from(error: ConnectorError) -> Self {
        // Everything a connector does can be looked up on this host again: no outcome stays unknown.
        Self::new(error.kind(), chain(&error))
    }
}

#[async_trait]
impl ConnectorPort for HostConnectors {
    async fn properties(&self) -> PortResult<ConnectorProperties> {
        Ok(self.0.properties().await?)
    }

    async fn settle(&self, info: &mut ConnectionInfo) -> PortResult<()> {
        Ok(self.0.settle(info).await?)
    }

    async fn intent(&self, info: &ConnectionInfo) -> PortResult<ConnectIntent> {
        Ok(self.0.intent(info)?)
    }

    async fn connect(&self, volume: VolumeId, info: &ConnectionInfo) -> PortResult<ConnectedDevice> {
        Ok(self.0.connect(volume, info).await?)
    }

    async fn disk_secret(&self, info: &ConnectionInfo) -> PortResult<Option<(SecretKind, Secret)>> {
        Ok(self.0.disk_secret(info)?)
    }

    async fn observe(&self, volume: VolumeId, device: &ConnectedDevice, info: &ConnectionInfo) -> PortResult<ObservedIdentity> {
        Ok(self.0.observe(volume, device, Some(info)).await?)
    }

    async fn head(&self, device: &ConnectedDevice, bytes: usize) -> PortResult<Option<Vec<u8>>> {
        Ok(self.0.head(device, bytes).await?)
    }

    async fn disconnect(
        &self,
        volume: VolumeId,
        device: &ConnectedDevice,
        identity: Option<&DeviceIdentity>,
    ) -> PortResult<()> {
        self.0.disconnect(volume, device, identity).await?;
        Ok(())
    }

    async fn presence(&self, volume: VolumeId, device: &ConnectedDevice, identity: &DeviceIdentity) -> PortResult<Presence> {
        // QEMU logs in by itself whenever its guest starts: there is nothing of it that this host could lose.
        if device.host_path().is_none() {
            return Ok(Presence::Present);
        }
        Ok(match self.0.state(volume, device, Some(identity)).await? {
            DeviceState::Present { .. } => Presence::Present,
            DeviceState::Absent => Presence::Absent,
            DeviceState::Foreign { .. } => Presence::Foreign,
        })
    }

    async fn reconnect(
        &self,
        volume: VolumeId,
        info: &ConnectionInfo,
        before: &ConnectedDevice,
    ) -> PortResult<ConnectedDevice> {
        Ok(self.0.reconnect(volume, info, before).await?)
    }

    async fn grow(
        &self,
        volume: VolumeId,
        device: &ConnectedDevice,
        identity: &DeviceIdentity,
        info: &ConnectionInfo,
        size_gib: u64,
    ) -> PortResult<u64> {
        Ok(self.0.grow(volume, device, identity, info, size_gib).await?)
    }

    async fn health(&self, volume: VolumeId, device: &ConnectedDevice, identity: &DeviceIdentity) -> PortResult<Health> {
        Ok(self.0.health(volume, device, identity).await?)
    }

    fn is_repairable(&self, device: &ConnectedDevice) -> bool {
        // What has one path only is opened by its guest: a device that comes back under its name is another one to that guest.
        matches!(device, ConnectedDevice::Block(block) if block.multipath.is_some())
    }

    async fn repair(
        &self,
        volume: VolumeId,
        device: &ConnectedDevice,
        identity: &DeviceIdentity,
        info: &ConnectionInfo,
    ) -> PortResult<ConnectedDevice> {
        Ok(self.0.repair(volume, device, identity, info).await?)
    }

    async fn undo_connect(&self, volume: VolumeId, intent: &ConnectIntent) -> PortResult<()> {
        self.0.undo(volume, intent).await?;
        Ok(())
    }
}
