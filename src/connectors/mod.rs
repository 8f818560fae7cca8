//! From connection info to a device of this host, and back.
//!
//! ```text
//!            intent (journal it)      connect             observe               disconnect
//! ConnectionInfo ----> ConnectIntent ----> ConnectedDevice ----> ObservedIdentity ----> gone
//!                           \                  \
//!                            undo (cut midway)  state (what is real now)
//! ```
//! Nothing is remembered here between calls: each looks at what the host is now, so each can be run again after a crash. The
//! connectors know nothing of the journal, of guests or of D-Bus.

mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod head;
mod iscsi;
mod leftover;
mod locks;
mod nfs;
mod own_name;
mod properties;
mod rbd;
mod reach;
mod turns;
mod udev;
mod watch;

use crate::model::{
    ConnectIntent, ConnectedDevice, ConnectionInfo, ConnectorProperties, DeviceIdentity, Health, Initiator, IscsiConnection,
    ObservedIdentity, RbdConnection, Secret, SecretKind, VolumeId,
};
use std::{path::PathBuf, sync::Arc};

pub(crate) use crate::command;
pub use crate::command::{CommandError, commands_started};
pub use error::ConnectorError;
pub use iscsi::{InitiatorChoice, IscsiConfig, MultipathChoice, MultipathError, ProbeError};
pub use nfs::{NfsConfig, NfsError};
pub use rbd::{RbdConfig, RbdError};
pub use watch::HostEvents;

/// Settings of the connectors.
#[derive(Debug, Clone)]
pub struct ConnectorsConfig {
    /// iSCSI.
    pub iscsi: IscsiConfig,
    /// NFS.
    pub nfs: NfsConfig,
    /// RBD.
    pub rbd: RbdConfig,
    /// The address told to the volume service; `None` takes the one this host sends from.
    pub my_ip: Option<String>,
    /// The host name told to the volume service; `None` takes the system's.
    pub host: Option<String>,
    /// Bowline's folder for what ends with the host's uptime. The guests' disks are named below it.
    pub run_dir: PathBuf,
    /// Where sysfs is mounted.
    pub sysfs: PathBuf,
}

impl Default for ConnectorsConfig {
    fn default() -> Self {
        Self {
            iscsi: IscsiConfig::default(),
            nfs: NfsConfig::default(),
            rbd: RbdConfig::default(),
            my_ip: None,
            host: None,
            run_dir: "/run/bowline".into(),
            sysfs: "/sys".into(),
        }
    }
}

/// What is real of a device now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceState {
    /// This host has nothing of it. Always so for what QEMU opens itself.
    Absent,
    /// It is there and is the one that was meant.
    Present {
        /// What it says of itself.
        observed: ObservedIdentity,
    },
    /// At its place is another device.
    Foreign {
        /// What that one says of itself.
        observed: ObservedIdentity,
    },
}

/// What a disconnect did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disconnected {
    /// There was nothing to do.
    Unchanged,
    /// Something was there and is gone.
    Changed,
}

/// All connectors of this host. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connectors {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: ConnectorsConfig,
    iscsi: iscsi::Iscsi,
    nfs: nfs::Nfs,
    rbd: rbd::Rbd,
}

impl Connectors {
    /// Settles which initiator is used and starts listening to udev where needed.
    pub fn new(config: ConnectorsConfig) -> Result<Self, ConnectorError> {
        let iscsi = iscsi::Iscsi::new(&config)?;
        let nfs = nfs::Nfs::new(&config.nfs, &config.run_dir)?;
        let rbd = rbd::Rbd::new(&config)?;
        Ok(Self { inner: Arc::new(Inner { config, iscsi, nfs, rbd }) })
    }

    /// Who logs in to iSCSI targets.
    pub fn initiator(&self) -> Initiator {
        self.inner.iscsi.initiator()
    }

    /// What this host tells the volume service about itself. Starts no process.
    pub async fn properties(&self) -> Result<ConnectorProperties, ConnectorError> {
        let initiator = match self.inner.iscsi.initiator_name() {
            Ok(name) => Some(name),
            Err(ConnectorError::NoInitiatorName { .. }) => None,
            Err(error) => return Err(error),
        };
        let (multipath, enforce_multipath) = self.inner.iscsi.wants_multipath().await;
        Ok(ConnectorProperties { multipath, enforce_multipath, ..properties::read(&self.inner.config, initiator)? })
    }

    /// Finds out what the info leaves to be asked for: by which paths a target is reached. Touches nothing; a second time it
    /// does nothing. Before [`Self::intent`], so that what is journalled names every path.
    pub async fn settle(&self, info: &mut ConnectionInfo) -> Result<(), ConnectorError> {
        match info {
            ConnectionInfo::Iscsi(connection) => {
                let (all_paths, _) = self.inner.iscsi.wants_multipath().await;
                self.inner.iscsi.settle(connection, all_paths).await
            }
            _ => Ok(()),
        }
    }

    /// What a connect with this info would touch.
    pub fn intent(&self, info: &ConnectionInfo) -> Result<ConnectIntent, ConnectorError> {
        match info {
            ConnectionInfo::Nfs(connection) => Ok(self.inner.nfs.intent(connection)?),
            ConnectionInfo::Rbd(connection) => Ok(self.inner.rbd.intent(connection)?),
            other => {
                let connection = iscsi_only(other)?;
                iscsi::Iscsi::check(connection)?;
                Ok(ConnectIntent::Iscsi { initiator: self.initiator(), paths: connection.paths.clone() })
            }
        }
    }

    /// Connects a volume. Run twice, it gives the same device. A failure leaves nothing behind that it could remove; what it
    /// could not, [`Self::undo`] tells.
    pub async fn connect(&self, volume: VolumeId, info: &ConnectionInfo) -> Result<ConnectedDevice, ConnectorError> {
        let ConnectionInfo::Rbd(connection) = info else { return self.connect_by(volume, info, self.initiator(), None).await };
        self.inner.rbd.admit(connection).await?;
        self.connect_by(volume, info, self.inner.rbd.client(), None).await
    }

    /// Connects a volume again whose device is gone, in the way it was connected before, whatever is chosen for new ones now.
    pub async fn reconnect(
        &self,
        volume: VolumeId,
        info: &ConnectionInfo,
        before: &ConnectedDevice,
    ) -> Result<ConnectedDevice, ConnectorError> {
        self.connect_by(volume, info, before.initiator(), Some(before)).await
    }

    async fn connect_by(
        &self,
        volume: VolumeId,
        info: &ConnectionInfo,
        initiator: Initiator,
        before: Option<&ConnectedDevice>,
    ) -> Result<ConnectedDevice, ConnectorError> {
        let before = before.and_then(|device| match device {
            ConnectedDevice::Block(block) => Some(block),
            _ => None,
        });
        match info {
            ConnectionInfo::Nfs(connection) => Ok(ConnectedDevice::File(self.inner.nfs.connect(volume, connection).await?)),
            ConnectionInfo::Rbd(connection) => Ok(self.inner.rbd.connect(volume, connection, initiator).await?),
            other => self.inner.iscsi.connect(volume, iscsi_only(other)?, initiator, before).await,
        }
    }

    /// Takes over what somebody else connected and gave a guest as `given`: a path, or `iscsi:<target>/<LUN> at <portal>`. It gets
    /// Bowline's own name; nothing else of this host is changed.
    pub async fn adopt(&self, volume: VolumeId, info: &ConnectionInfo, given: &str) -> Result<ConnectedDevice, ConnectorError> {
        self.inner.iscsi.adopt(volume, iscsi_only(info)?, given).await
    }

    /// Takes back what [`Self::adopt`] wrote down.
    pub fn disown(&self, volume: VolumeId) -> Result<(), ConnectorError> {
        self.inner.iscsi.disown(volume)
    }

    /// The password or key that QEMU needs for the volume: what the connection info carries, else what this host has for that
    /// user. None where it needs none, or where the operator has given libvirt one.
    pub fn disk_secret(&self, info: &ConnectionInfo) -> Result<Option<(SecretKind, Secret)>, ConnectorError> {
        match info {
            ConnectionInfo::Rbd(connection) => Ok(self.inner.rbd.key(connection)?.map(|key| (SecretKind::Ceph, key))),
            other => Ok(other.disk_secret().map(|(kind, secret)| (kind, secret.clone()))),
        }
    }

    /// Asks the device who it is and how large. The target itself is asked, with the credentials in `info`: for a block device the kernel's
    /// copy of its pages must say the same ([`ConnectorError::LunChanged`]), which stands alone where the target does not answer.
    pub async fn observe(
        &self,
        volume: VolumeId,
        device: &ConnectedDevice,
        info: Option<&ConnectionInfo>,
    ) -> Result<ObservedIdentity, ConnectorError> {
        match device {
            ConnectedDevice::Block(block) => {
                let connection = info.map(iscsi_only).transpose()?;
                self.inner.iscsi.observe_block(volume, block, connection).await?.ok_or(ConnectorError::NotConnected { volume })
            }
            ConnectedDevice::IscsiNetwork(network) => {
                let connection = info.map(iscsi_only).transpose()?;
                self.inner.iscsi.observe_network(network, connection).await
            }
            ConnectedDevice::RbdNetwork(network) => Ok(self.inner.rbd.observe(network, rbd_only(info)).await?),
            ConnectedDevice::RbdBlock(block) => {
                self.inner.rbd.observe_block(volume, block)?.ok_or(ConnectorError::NotConnected { volume })
            }
            ConnectedDevice::File(file) => self.inner.nfs.observe(file).await?.ok_or(ConnectorError::NotConnected { volume }),
        }
    }

    /// The first bytes of the device; `None` where this host has nothing of it, because QEMU opens it.
    pub async fn head(&self, device: &ConnectedDevice, bytes: usize) -> Result<Option<Vec<u8>>, ConnectorError> {
        let Some(path) = device.host_path() else { return Ok(None) };
        let config = &self.inner.config;
        let limit_s =
            if matches!(device, ConnectedDevice::File(_)) { config.nfs.mount_timeout_s } else { config.iscsi.device_timeout_s };
        Ok(Some(head::read(path, bytes, std::time::Duration::from_secs(limit_s)).await?))
    }

    /// What is real of the device now. With the journalled identity, that decides whether it is the one meant; without, whether
    /// Bowline made it for this volume.
    pub async fn state(
        &self,
        volume: VolumeId,
        device: &ConnectedDevice,
        identity: Option<&DeviceIdentity>,
    ) -> Result<DeviceState, ConnectorError> {
        match device {
            ConnectedDevice::Block(block) => self.inner.iscsi.state(volume, block, identity).await,
            ConnectedDevice::IscsiNetwork(_) | ConnectedDevice::RbdNetwork(_) => Ok(DeviceState::Absent),
            ConnectedDevice::RbdBlock(block) => Ok(self.inner.rbd.state_block(volume, block, identity)?),
            ConnectedDevice::File(file) => Ok(self.inner.nfs.state(volume, file, identity).await?),
        }
    }

    /// Ends as soon as a call to the kernel ends that was given up waiting for: what it held up may be tried again.
    pub async fn late_call_ended(&self) {
        iscsi::late_call_ended().await;
    }

    /// Flushes the device and takes it off this host. Refuses to touch one that is not the journalled one
    /// ([`ConnectorError::NotTheVolume`]) or that is in use here.
    pub async fn disconnect(
        &self,
        volume: VolumeId,
        device: &ConnectedDevice,
        identity: Option<&DeviceIdentity>,
    ) -> Result<Disconnected, ConnectorError> {
        match device {
            ConnectedDevice::Block(block) => self.inner.iscsi.disconnect(volume, block, identity).await,
            ConnectedDevice::IscsiNetwork(_) | ConnectedDevice::RbdNetwork(_) => Ok(Disconnected::Unchanged),
            ConnectedDevice::RbdBlock(block) => Ok(self.inner.rbd.disconnect_block(volume, block, identity).await?),
            ConnectedDevice::File(file) => Ok(self.inner.nfs.release(volume, &file.export, &file.mount_point).await?),
        }
    }

    /// After the volume was extended in the service: makes each layer of this host see the new size, from the outermost path
    /// to what the guest's disk is given, and checks that all agree. Returns that size in bytes. Run twice, it changes nothing.
    pub async fn grow(
        &self,
        volume: VolumeId,
        device: &ConnectedDevice,
        identity: &DeviceIdentity,
        info: &ConnectionInfo,
        size_gib: u64,
    ) -> Result<u64, ConnectorError> {
        match device {
            ConnectedDevice::Block(block) => self.inner.iscsi.grow(volume, block, identity, size_gib).await,
            ConnectedDevice::RbdNetwork(network) => {
                Ok(self.inner.rbd.grow(network, rbd_only(Some(info)), identity, size_gib).await?)
            }
            ConnectedDevice::RbdBlock(block) => Ok(self.inner.rbd.grow_block(volume, block, identity, size_gib).await?),
            ConnectedDevice::File(file) => {
                self.inner.nfs.grow(file, identity, size_gib).await?.ok_or(ConnectorError::NotConnected { volume })
            }
            ConnectedDevice::IscsiNetwork(network) => {
                self.inner.iscsi.grow_network(volume, network, identity, iscsi_only(info)?, size_gib).await
            }
        }
    }

    /// How the device's ways to its storage are doing now. Bounded, and without effect.
    pub async fn health(
        &self,
        volume: VolumeId,
        device: &ConnectedDevice,
        identity: &DeviceIdentity,
    ) -> Result<Health, ConnectorError> {
        match device {
            ConnectedDevice::Block(block) => self.inner.iscsi.health(volume, block, identity).await,
            ConnectedDevice::RbdNetwork(network) => Ok(self.inner.rbd.health(network).await),
            ConnectedDevice::RbdBlock(block) => Ok(self.inner.rbd.health_block(volume, block, identity).await?),
            ConnectedDevice::File(file) => Ok(self.inner.nfs.health(file).await),
            ConnectedDevice::IscsiNetwork(network) => Ok(self.inner.iscsi.network_health(network).await),
        }
    }

    /// Connects what is missing of a connected device: paths that were down, or were lost. What works goes on working meanwhile.
    /// Returns the device as it is then; other paths than before mean that it is to be journalled anew.
    pub async fn repair(
        &self,
        volume: VolumeId,
        device: &ConnectedDevice,
        identity: &DeviceIdentity,
        info: &ConnectionInfo,
    ) -> Result<ConnectedDevice, ConnectorError> {
        match device {
            ConnectedDevice::Block(block) => {
                self.inner.iscsi.repair(volume, block, identity, iscsi_only(info)?).await.map(ConnectedDevice::Block)
            }
            other => Ok(other.clone()),
        }
    }

    /// Undoes a connect that did not come to its end, or whose device was not journalled. Removes only what that connect made.
    pub async fn undo(&self, volume: VolumeId, intent: &ConnectIntent) -> Result<Disconnected, ConnectorError> {
        match intent {
            ConnectIntent::Iscsi { initiator: Initiator::Kernel, paths } => self.inner.iscsi.undo(volume, paths).await,
            ConnectIntent::Iscsi { initiator: Initiator::Qemu, .. } | ConnectIntent::Rbd { initiator: Initiator::Qemu, .. } => {
                Ok(Disconnected::Unchanged)
            }
            ConnectIntent::Rbd { initiator: Initiator::Kernel, image } => Ok(self.inner.rbd.undo_map(volume, image).await?),
            ConnectIntent::Nfs { export, mount_point } => Ok(self.inner.nfs.release(volume, export, mount_point).await?),
        }
    }
}

fn iscsi_only(info: &ConnectionInfo) -> Result<&IscsiConnection, ConnectorError> {
    match info {
        ConnectionInfo::Iscsi(connection) => Ok(connection),
        other => Err(ConnectorError::UnsupportedProtocol { protocol: other.protocol().to_owned() }),
    }
}

fn rbd_only(info: Option<&ConnectionInfo>) -> Option<&RbdConnection> {
    match info {
        Some(ConnectionInfo::Rbd(connection)) => Some(connection),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::IscsiPath;

    fn qemu() -> Connectors {
        let iscsi = IscsiConfig { initiator: InitiatorChoice::Qemu, ..Default::default() };
        Connectors::new(ConnectorsConfig { iscsi, ..Default::default() }).unwrap()
    }

    fn info(iqn: &str) -> ConnectionInfo {
        let path = IscsiPath { portal: "127.0.0.1:1".parse().unwrap(), iqn: iqn.into(), lun: 1 };
        ConnectionInfo::Iscsi(IscsiConnection {
            paths: vec![path],
            discovery: None,
            chap: None,
            read_only: false,
            discard: false,
            encrypted: false,
            serial: None,
        })
    }

    #[test]
    fn target_names_that_could_become_a_path_or_an_option_are_refused() {
        for iqn in
            ["../../etc", "iqn.a/../../b", "-o", "", "iqn.a b", "iqn.a\nnode.startup", &format!("iqn.{}", "x".repeat(300))]
        {
            let error = qemu().intent(&info(iqn)).unwrap_err();
            assert!(matches!(error, ConnectorError::BadConnectionInfo { .. }), "{iqn:?}: {error}");
        }
        assert!(qemu().intent(&info("iqn.2010-10.org.openstack:volume-1")).is_ok());
    }

    #[tokio::test]
    async fn the_futures_can_move_between_threads_and_a_dead_portal_is_unavailable() {
        let volume = "94333fbd-2aab-4a5a-befd-e30c2f7377fd".parse().unwrap();
        let task = tokio::spawn(async move {
            let connectors = qemu();
            let intent = connectors.intent(&info("iqn.a")).unwrap();
            let error = connectors.connect(volume, &info("iqn.a")).await.unwrap_err();
            (error, connectors.undo(volume, &intent).await.unwrap())
        });
        let (error, undone) = task.await.unwrap();
        assert_eq!(error.kind(), crate::model::ErrorKind::Unavailable, "{error}");
        assert_eq!(undone, Disconnected::Unchanged);
    }

    #[test]
    fn an_unknown_protocol_is_named() {
        let info = ConnectionInfo::Unsupported { driver_volume_type: "fibre_channel".into() };
        assert!(qemu().intent(&info).unwrap_err().to_string().contains("\"fibre_channel\""));
    }
}
