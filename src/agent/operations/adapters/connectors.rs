//! This host's connectors. What changes the host goes on to its end even if nobody waits for it any more, as when a step takes too
//! long, and the next call for the same volume waits for that: nothing is cut midway, and no undoing meets a connect that is
//! still at work.

use super::super::{
    locks::{Key, Locks},
    ports::{ConnectorPort, PortError, PortResult, Presence},
};
use super::chain;
use crate::connectors::{ConnectorError, Connectors, DeviceState};
use crate::model::{
    ConnectIntent, ConnectedDevice, ConnectionInfo, ConnectorProperties, DeviceIdentity, ErrorKind, Health, ObservedIdentity,
    OwnName, Secret, SecretKind, VolumeId,
};
use async_trait::async_trait;

/// [`ConnectorPort`] by the connectors of this host.
pub struct HostConnectors {
    connectors: Connectors,
    /// Who changes what the host has of a volume.
    turns: Locks,
}

impl HostConnectors {
    /// Takes these.
    pub fn new(connectors: Connectors) -> Self {
        Self { connectors, turns: Locks::default() }
    }

    /// Does what changes the host, to its end.
    async fn change<T, F>(&self, volume: VolumeId, work: impl FnOnce(Connectors) -> F) -> PortResult<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ConnectorError>> + Send + 'static,
    {
        let turn = self.turns.lock(Key::Volume(volume)).await;
        let work = work(self.connectors.clone());
        let done = tokio::spawn(async move {
            let result = work.await;
            drop(turn);
            result
        });
        Ok(done.await.map_err(|error| PortError::new(ErrorKind::Internal, format!("the connector ended: {error}")))??)
    }
}

impl From<ConnectorError> for PortError {
    fn from(error: ConnectorError) -> Self {
        // Everything a connector does can be looked up on this host again: no outcome stays unknown.
        Self::new(error.kind(), chain(&error))
    }
}

#[async_trait]
impl ConnectorPort for HostConnectors {
    async fn properties(&self) -> PortResult<ConnectorProperties> {
        Ok(self.connectors.properties().await?)
    }

    async fn settle(&self, info: &mut ConnectionInfo) -> PortResult<()> {
        Ok(self.connectors.settle(info).await?)
    }

    async fn intent(&self, info: &ConnectionInfo) -> PortResult<ConnectIntent> {
        Ok(self.connectors.intent(info)?)
    }

    async fn late_call_ended(&self) {
        self.connectors.late_call_ended().await;
    }

    async fn connect(&self, volume: VolumeId, info: &ConnectionInfo) -> PortResult<ConnectedDevice> {
        let info = info.clone();
        self.change(volume, |connectors| async move { connectors.connect(volume, &info).await }).await
    }

    async fn adopt(&self, volume: VolumeId, info: &ConnectionInfo, given: &str) -> PortResult<ConnectedDevice> {
        let (info, given) = (info.clone(), given.to_owned());
        self.change(volume, |connectors| async move { connectors.adopt(volume, &info, &given).await }).await
    }

    async fn disown(&self, volume: VolumeId) -> PortResult<()> {
        self.change(volume, |connectors| async move { connectors.disown(volume) }).await
    }

    async fn disk_secret(&self, info: &ConnectionInfo) -> PortResult<Option<(SecretKind, Secret)>> {
        Ok(self.connectors.disk_secret(info)?)
    }

    async fn observe(&self, volume: VolumeId, device: &ConnectedDevice, info: &ConnectionInfo) -> PortResult<ObservedIdentity> {
        Ok(self.connectors.observe(volume, device, Some(info)).await?)
    }

    async fn head(&self, device: &ConnectedDevice, bytes: usize) -> PortResult<Option<Vec<u8>>> {
        Ok(self.connectors.head(device, bytes).await?)
    }

    async fn disconnect(
        &self,
        volume: VolumeId,
        device: &ConnectedDevice,
        identity: Option<&DeviceIdentity>,
    ) -> PortResult<()> {
        let (device, identity) = (device.clone(), identity.cloned());
        self.change(volume, |connectors| async move { connectors.disconnect(volume, &device, identity.as_ref()).await })
            .await?;
        Ok(())
    }

    async fn presence(&self, volume: VolumeId, device: &ConnectedDevice, identity: &DeviceIdentity) -> PortResult<Presence> {
        // QEMU logs in by itself whenever its guest starts: there is nothing of it that this host could lose.
        if device.host_path().is_none() {
            return Ok(Presence::Present);
        }
        Ok(match self.connectors.state(volume, device, Some(identity)).await? {
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
        let (info, before) = (info.clone(), before.clone());
        self.change(volume, |connectors| async move { connectors.reconnect(volume, &info, &before).await }).await
    }

    async fn grow(
        &self,
        volume: VolumeId,
        device: &ConnectedDevice,
        identity: &DeviceIdentity,
        info: &ConnectionInfo,
        size_gib: u64,
    ) -> PortResult<u64> {
        let (device, identity, info) = (device.clone(), identity.clone(), info.clone());
        let grow = |connectors: Connectors| async move { connectors.grow(volume, &device, &identity, &info, size_gib).await };
        self.change(volume, grow).await
    }

    async fn health(&self, volume: VolumeId, device: &ConnectedDevice, identity: &DeviceIdentity) -> PortResult<Health> {
        Ok(self.connectors.health(volume, device, identity).await?)
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
        let (device, identity, info) = (device.clone(), identity.clone(), info.clone());
        self.change(volume, |connectors| async move { connectors.repair(volume, &device, &identity, &info).await }).await
    }

    async fn undo_connect(&self, volume: VolumeId, intent: &ConnectIntent) -> PortResult<()> {
        let intent = intent.clone();
        self.change(volume, |connectors| async move { connectors.undo(volume, &intent).await }).await?;
        Ok(())
    }

    async fn own_names(&self) -> PortResult<Vec<OwnName>> {
        Ok(self.connectors.own_names()?)
    }

    async fn forget_own_name(&self, volume: VolumeId) -> PortResult<()> {
        self.change(volume, |connectors| async move { connectors.forget_own_name(volume) }).await
    }
}
