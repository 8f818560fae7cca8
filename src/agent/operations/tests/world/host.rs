//! The host of the simulated world: its connectors.

use super::{World, not_found};
use crate::agent::operations::ports::{ConnectorPort, PortError, PortResult, Presence};
use crate::model::*;
use async_trait::async_trait;

#[async_trait]
impl ConnectorPort for World {
    async fn properties(&self) -> PortResult<ConnectorProperties> {
        Ok(ConnectorProperties {
            host: "h".into(),
            ip: "127.0.0.1".into(),
            initiator: None,
            multipath: false,
            enforce_multipath: false,
            platform: "x86_64".into(),
            os_type: "linux".into(),
            system_uuid: None,
            nqn: None,
            nvme_native_multipath: false,
            do_local_attach: false,
            mode: None,
            mountpoint: None,
        })
    }
    async fn settle(&self, _info: &mut ConnectionInfo) -> PortResult<()> {
        Ok(())
    }

    async fn health(&self, _volume: VolumeId, _device: &ConnectedDevice, _identity: &DeviceIdentity) -> PortResult<Health> {
        Ok(Health::Healthy)
    }

    async fn intent(&self, info: &ConnectionInfo) -> PortResult<ConnectIntent> {
        let ConnectionInfo::Iscsi(iscsi) = info else { return Err(not_found("connector")) };
        Ok(ConnectIntent::Iscsi { initiator: Initiator::Qemu, paths: iscsi.paths.clone() })
    }
    async fn connect(&self, volume: VolumeId, info: &ConnectionInfo) -> PortResult<ConnectedDevice> {
        self.change("connect", |state| {
            let ConnectionInfo::Iscsi(iscsi) = info else { return Err(not_found("connector")) };
            if state.connected.insert(volume) {
                let bytes = state.volumes[&volume].size_gib * GIB;
                state.host_bytes.insert(volume, bytes);
                state.impostors.remove(&volume);
                // Another volume, or what this number was given to since.
                let other = state.volumes.keys().copied().find(|other| state.misleads && *other != volume);
                let behind = other.or_else(|| state.luns.get(&iscsi.paths[0].lun).copied());
                if let Some(behind) = behind.filter(|behind| *behind != volume) {
                    state.impostors.insert(volume, behind);
                }
            }
            Ok(ConnectedDevice::IscsiNetwork(IscsiNetworkDevice {
                path: iscsi.paths[0].clone(),
                initiator: "iqn.1993-08.org.debian:01:x".into(),
                chap_username: Some("u".into()),
            }))
        })
        .await
    }
    async fn adopt(&self, volume: VolumeId, info: &ConnectionInfo, given: &str) -> PortResult<ConnectedDevice> {
        if given != format!("iscsi:{volume}") {
            return Err(PortError::new(ErrorKind::IdentityMismatch, format!("{given} is not where {volume} is")));
        }
        ConnectorPort::connect(self, volume, info).await
    }
    async fn disown(&self, volume: VolumeId) -> PortResult<()> {
        self.change("disown", |state| {
            state.own_names.retain(|name| name.volume != volume);
            Ok(())
        })
        .await
    }
    async fn disk_secret(&self, info: &ConnectionInfo) -> PortResult<Option<(SecretKind, Secret)>> {
        Ok(info.disk_secret().map(|(kind, secret)| (kind, secret.clone())))
    }
    async fn observe(
        &self,
        volume: VolumeId,
        _device: &ConnectedDevice,
        _info: &ConnectionInfo,
    ) -> PortResult<ObservedIdentity> {
        self.change("observe", |state| {
            let behind = if state.lies { volume } else { state.behind(volume) };
            let serial = if state.wrong_serial { "wrong".to_owned() } else { behind.to_string() };
            let identity = DeviceIdentity { serial: Some(serial), wwids: vec![] };
            Ok(ObservedIdentity { identity, size_bytes: state.host_bytes[&volume] })
        })
        .await
    }
    async fn head(&self, _device: &ConnectedDevice, _bytes: usize) -> PortResult<Option<Vec<u8>>> {
        Ok(None)
    }
    async fn disconnect(
        &self,
        volume: VolumeId,
        _device: &ConnectedDevice,
        _identity: Option<&DeviceIdentity>,
    ) -> PortResult<()> {
        self.change("disconnect", |state| {
            // What proved to be another volume is under nobody.
            if state.behind(volume) == volume && state.guests.values().any(|guest| guest.disk(volume).is_some()) {
                state.crimes.push("a device was removed under a guest".into());
            }
            state.connected.remove(&volume);
            Ok(())
        })
        .await
    }
    async fn presence(&self, volume: VolumeId, _device: &ConnectedDevice, _identity: &DeviceIdentity) -> PortResult<Presence> {
        let state = self.state.lock().unwrap();
        Ok(match state.connected.contains(&volume) {
            true if state.behind(volume) != volume => Presence::Foreign,
            true => Presence::Present,
            false => Presence::Absent,
        })
    }
    async fn reconnect(
        &self,
        volume: VolumeId,
        info: &ConnectionInfo,
        _before: &ConnectedDevice,
    ) -> PortResult<ConnectedDevice> {
        ConnectorPort::connect(self, volume, info).await
    }
    async fn grow(
        &self,
        volume: VolumeId,
        _device: &ConnectedDevice,
        _identity: &DeviceIdentity,
        _info: &ConnectionInfo,
        _size_gib: u64,
    ) -> PortResult<u64> {
        self.change("grow", |state| {
            if !state.connected.contains(&volume) {
                state.crimes.push("what is not connected was grown".into());
            }
            let bytes = state.volumes[&volume].size_gib * GIB;
            state.host_bytes.insert(volume, bytes);
            Ok(bytes)
        })
        .await
    }
    async fn late_call_ended(&self) {
        self.late_call.notified().await;
    }
    async fn own_names(&self) -> PortResult<Vec<OwnName>> {
        let held = self.state.lock().unwrap().own_names_held.clone();
        if let Some(held) = held {
            let _ = held.acquire().await;
        }
        Ok(self.state.lock().unwrap().own_names.clone())
    }
    async fn forget_own_name(&self, volume: VolumeId) -> PortResult<()> {
        self.change("forget_own_name", |state| {
            state.own_names.retain(|name| name.volume != volume);
            Ok(())
        })
        .await
    }
    fn is_repairable(&self, device: &ConnectedDevice) -> bool {
        matches!(device, ConnectedDevice::Block(_))
    }
    async fn repair(
        &self,
        _volume: VolumeId,
        device: &ConnectedDevice,
        _identity: &DeviceIdentity,
        _info: &ConnectionInfo,
    ) -> PortResult<ConnectedDevice> {
        self.change("repair", |_| Ok(device.clone())).await
    }
    async fn undo_connect(&self, volume: VolumeId, _intent: &ConnectIntent) -> PortResult<()> {
        self.change("undo_connect", |state| {
            if state.guests.values().any(|guest| guest.disk(volume).is_some()) {
                state.crimes.push("a connect was undone under a guest".into());
            }
            state.connected.remove(&volume);
            Ok(())
        })
        .await
    }
}
