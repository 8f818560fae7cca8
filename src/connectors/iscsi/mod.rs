//! iSCSI volumes, by the kernel's initiator or by QEMU's own.
//!
//! | file | knows |
//! | --- | --- |
//! | `support` | which of the two this host can use, and the initiator's name |
//! | `node_record`, `login` | open-iscsi's database and command |
//! | `sessions` | what sessions, LUNs and disks there are, by sysfs |
//! | `connect`, `scan` | the way in |
//! | `disconnect`, `device` | the way out |
//! | `own_name` | which device is ours |
//! | `identity` | SCSI pages 0x80 and 0x83 |
//! | `probe` | a small initiator that asks a target who its LUN is, for volumes the kernel does not see |

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod connect;
mod device;
mod disconnect;
mod identity;
mod login;
mod node_record;
mod own_name;
mod probe;
mod scan;
mod sessions;
mod support;

use super::{ConnectorError, ConnectorsConfig, DeviceState, Disconnected, locks::NamedLocks, udev::UdevMonitor};
use crate::model::{
    BlockDevice, ConnectedDevice, DeviceIdentity, Initiator, IscsiConnection, IscsiNetworkDevice, IscsiPath, ObservedIdentity,
    VolumeId,
};
use disconnect::Reason;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

pub use probe::ProbeError;

/// `[iscsi] initiator`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InitiatorChoice {
    /// The kernel's where it can be used, else QEMU's.
    #[default]
    Auto,
    /// The kernel's, or an error.
    Kernel,
    /// QEMU's.
    Qemu,
}

/// Settings of the iSCSI connector.
#[derive(Debug, Clone)]
pub struct IscsiConfig {
    /// Who logs in.
    pub initiator: InitiatorChoice,
    /// Deadline for reaching a portal and logging in, seconds; it goes into the node record too.
    pub login_timeout_s: u64,
    /// Deadline for a device to appear, to be flushed and to go, seconds each.
    pub device_timeout_s: u64,
    /// Deadline for a logout, seconds.
    pub logout_timeout_s: u64,
    /// open-iscsi's folder of settings and node records.
    pub etc_iscsi: PathBuf,
    /// The file with the initiator's name.
    pub initiator_name_file: PathBuf,
}

impl Default for IscsiConfig {
    fn default() -> Self {
        Self {
            initiator: InitiatorChoice::Auto,
            // open-iscsi's own default for both.
            login_timeout_s: 15,
            logout_timeout_s: 15,
            // A LUN is exported before its connection info is given out; this is for a slow target, not for a late export.
            device_timeout_s: 30,
            etc_iscsi: "/etc/iscsi".into(),
            initiator_name_file: "/etc/iscsi/initiatorname.iscsi".into(),
        }
    }
}

/// The iSCSI connector.
#[derive(Debug)]
pub(super) struct Iscsi {
    config: IscsiConfig,
    /// Who logs in for a new connect.
    choice: Initiator,
    /// There whenever the host can, whatever the choice: what an earlier choice connected must be seen and taken away.
    kernel: Option<KernelInitiator>,
}

/// The way through the host's kernel.
#[derive(Debug)]
struct KernelInitiator {
    config: IscsiConfig,
    sysfs: PathBuf,
    records: node_record::NodeRecords,
    names: own_name::OwnNames,
    locks: NamedLocks,
    monitor: UdevMonitor,
}

impl Iscsi {
    pub(super) fn new(config: &ConnectorsConfig) -> Result<Self, ConnectorError> {
        let iscsi = config.iscsi.clone();
        let choice = support::choose(iscsi.initiator, &config.sysfs)?;
        let kernel = match support::missing(&config.sysfs) {
            Some(_) => None,
            None => Some(KernelInitiator {
                records: node_record::NodeRecords::new(&iscsi.etc_iscsi, iscsi.login_timeout_s, iscsi.logout_timeout_s),
                names: own_name::OwnNames::new(&config.run_dir),
                locks: NamedLocks::default(),
                monitor: UdevMonitor::start().map_err(ConnectorError::system("listen to udev"))?,
                sysfs: config.sysfs.clone(),
                config: iscsi.clone(),
            }),
        };
        Ok(Self { config: iscsi, choice, kernel })
    }

    pub(super) fn initiator(&self) -> Initiator {
        self.choice
    }

    pub(super) fn initiator_name(&self) -> Result<String, ConnectorError> {
        support::initiator_name(&self.config.initiator_name_file)
    }

    /// Checks what becomes a folder name and an argument below.
    pub(super) fn check(connection: &IscsiConnection) -> Result<(), ConnectorError> {
        let bad = |why: String| Err(ConnectorError::BadConnectionInfo { why });
        if connection.paths.is_empty() {
            return bad("it names no path".to_owned());
        }
        for IscsiPath { iqn, .. } in &connection.paths {
            let has_type = ["iqn.", "eui.", "naa."].iter().any(|kind| iqn.starts_with(kind));
            let plain = iqn.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_'));
            // 223 bytes: RFC 7143, 4.2.7.1.
            if !has_type || !plain || iqn.len() > 223 {
                let shown: String = iqn.chars().take(64).collect();
                return bad(format!("{shown:?} is not an iSCSI target name"));
            }
        }
        Ok(())
    }

    pub(super) async fn connect(
        &self,
        volume: VolumeId,
        connection: &IscsiConnection,
        initiator: Initiator,
    ) -> Result<ConnectedDevice, ConnectorError> {
        Self::check(connection)?;
        match initiator {
            Initiator::Kernel => {
                let kernel = self.kernel()?;
                kernel.connect(volume, &connection.paths, connection.chap.as_ref()).await.map(ConnectedDevice::Block)
            }
            Initiator::Qemu => {
                let path = first_reachable(&connection.paths, self.config.login_timeout_s).await?;
                Ok(ConnectedDevice::IscsiNetwork(IscsiNetworkDevice {
                    path: path.clone(),
                    initiator: self.initiator_name()?,
                    chap_username: connection.chap.as_ref().map(|chap| chap.username.clone()),
                }))
            }
        }
    }

    pub(super) async fn observe_network(
        &self,
        device: &IscsiNetworkDevice,
        connection: Option<&IscsiConnection>,
    ) -> Result<ObservedIdentity, ConnectorError> {
        let chap = connection.and_then(|connection| connection.chap.as_ref());
        probe::identify(&device.path, &device.initiator, chap, self.config.login_timeout_s)
            .await
            .map_err(|source| ConnectorError::Probe { path: device.path.clone(), source })
    }

    pub(super) fn observe_block(&self, volume_paths: &[IscsiPath]) -> Result<Option<ObservedIdentity>, ConnectorError> {
        let Some(kernel) = &self.kernel else { return Ok(None) };
        for path in volume_paths {
            if let Some(session) = kernel.session(path)?
                && let Some(observed) = device::observe(&session, path.lun)
            {
                return Ok(Some(observed));
            }
        }
        Ok(None)
    }

    pub(super) fn state(
        &self,
        volume: VolumeId,
        device: &BlockDevice,
        identity: Option<&DeviceIdentity>,
    ) -> Result<DeviceState, ConnectorError> {
        let Some(kernel) = &self.kernel else { return Ok(DeviceState::Absent) };
        for path in &device.paths {
            if let Some(session) = kernel.session(path)?
                && let Some(observed) = device::observe(&session, path.lun)
            {
                let is_it = match identity {
                    Some(identity) => observed.identity == *identity,
                    None => kernel.is_ours(volume, path, &session),
                };
                return Ok(if is_it { DeviceState::Present { observed } } else { DeviceState::Foreign { observed } });
            }
        }
        Ok(DeviceState::Absent)
    }

    pub(super) async fn disconnect(
        &self,
        volume: VolumeId,
        device: &BlockDevice,
        identity: Option<&DeviceIdentity>,
    ) -> Result<Disconnected, ConnectorError> {
        self.kernel()?.disconnect(volume, &device.paths, identity, Reason::Detach).await
    }

    pub(super) async fn undo(&self, volume: VolumeId, paths: &[IscsiPath]) -> Result<Disconnected, ConnectorError> {
        self.kernel()?.disconnect(volume, paths, None, Reason::Undo).await
    }

    fn kernel(&self) -> Result<&KernelInitiator, ConnectorError> {
        self.kernel.as_ref().ok_or(ConnectorError::NoKernelInitiator {
            missing: "the kernel's initiator was there when the agent connected, and is not now",
        })
    }
}

/// The first path whose portal answers; the first one's error when none does.
async fn first_reachable(paths: &[IscsiPath], timeout_s: u64) -> Result<&IscsiPath, ConnectorError> {
    let mut first_error = None;
    for path in paths {
        match super::reach::portal(path, timeout_s).await {
            Ok(_) => return Ok(path),
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    Err(first_error.unwrap_or_else(|| ConnectorError::BadConnectionInfo { why: "it names no path".to_owned() }))
}
