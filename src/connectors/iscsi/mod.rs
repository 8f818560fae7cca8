//! iSCSI volumes, by the kernel's initiator or by QEMU's own.
//!
//! | file | knows |
//! | --- | --- |
//! | `support` | which of the two this host can use, and the initiator's name |
//! | `node_record`, `iface`, `login` | open-iscsi's database, interfaces and command |
//! | `accounts` | what targets must prove themselves with |
//! | `discovery` | paths that the service leaves to be asked for |
//! | `sessions` | what sessions, LUNs and disks there are, by sysfs |
//! | `connect`, `paths`, `scan` | the way in, over one path or all of them |
//! | `turn` | whose turn it is with a volume; paths that come late |
//! | `multipath` | several paths as one map, by multipathd |
//! | `adopt` | what somebody else connected |
//! | `grow`, `health` | a volume that was extended; a path that was lost |
//! | `disconnect`, `device` | the way out |
//! | `fresh`, `look` | what a LUN is now, by its target; what there is of a volume |
//! | `identity` | SCSI pages 0x80 and 0x83 |
//! | `probe` | a small initiator that asks a target who its LUN is, and what targets there are |

mod accounts;
mod adopt;
mod connect;
mod device;
mod disconnect;
mod discovery;
mod fresh;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod grow;
mod grow_network;
mod health;
mod identity;
mod iface;
mod login;
mod look;
mod multipath;
mod node_record;
mod paths;
mod probe;
mod scan;
mod sessions;
mod support;
mod turn;

use super::{
    ConnectorError, ConnectorsConfig, DeviceState, Disconnected,
    locks::{NamedLocks, Users},
    own_name::OwnNames,
    udev::UdevMonitor,
};
use crate::model::{
    BlockDevice, ConnectedDevice, DeviceIdentity, Initiator, IscsiConnection, IscsiNetworkDevice, IscsiPath, ObservedIdentity,
    VolumeId,
};
use disconnect::Reason;
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, sync::Arc, time::Duration};

pub(super) use device::late_call_ended;
pub use multipath::{MultipathChoice, MultipathError};
pub use probe::ProbeError;

/// How long the paths that work wait for those that do not, yet. Long enough for a busy initiator to log in to a few portals, short
/// enough that a portal that is down is no reason to let a guest wait.
const PATH_GRACE: Duration = Duration::from_secs(5);

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
    /// Whether several paths are put together.
    pub multipath: MultipathChoice,
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
    /// open-iscsi's interface for every login: `default`, `iser`, or a file of its `ifaces`.
    pub iface: String,
    /// The file with what targets must prove themselves with (mutual CHAP).
    pub target_accounts_file: Option<PathBuf>,
}

impl Default for IscsiConfig {
    fn default() -> Self {
        Self {
            initiator: InitiatorChoice::Auto,
            multipath: MultipathChoice::Preferred,
            // open-iscsi's own default for both.
            login_timeout_s: 15,
            logout_timeout_s: 15,
            // A LUN is exported before its connection info is given out; this is for a slow target, not for a late export.
            device_timeout_s: 30,
            etc_iscsi: "/etc/iscsi".into(),
            initiator_name_file: "/etc/iscsi/initiatorname.iscsi".into(),
            iface: "default".to_owned(),
            target_accounts_file: None,
        }
    }
}

/// The iSCSI connector.
#[derive(Debug)]
pub(super) struct Iscsi {
    config: IscsiConfig,
    /// Who logs in for a new connect.
    choice: Initiator,
    /// By which interface; QEMU's own logins know none.
    iface: iface::Iface,
    accounts: accounts::TargetAccounts,
    /// There whenever the host can, whatever the choice: what an earlier choice connected must be seen and taken away.
    kernel: Option<Arc<KernelInitiator>>,
}

/// The way through the host's kernel.
#[derive(Debug)]
struct KernelInitiator {
    config: IscsiConfig,
    sysfs: PathBuf,
    records: node_record::NodeRecords,
    iface: iface::Iface,
    names: OwnNames,
    locks: NamedLocks,
    /// Of sessions: connects that wait for their LUN's disk.
    users: Users,
    latest: turn::Latest,
    monitor: UdevMonitor,
    multipathd: multipath::daemon::Multipathd,
}

impl Iscsi {
    pub(super) fn new(config: &ConnectorsConfig) -> Result<Self, ConnectorError> {
        let iscsi = config.iscsi.clone();
        let choice = support::choose(iscsi.initiator, &config.sysfs)?;
        let accounts = accounts::TargetAccounts::read(iscsi.target_accounts_file.as_ref())?;
        let iface = match choice {
            Initiator::Kernel => iface::Iface::read(&iscsi.etc_iscsi, &iscsi.iface)?,
            Initiator::Qemu => iface::Iface::default(),
        };
        let kernel = match support::missing(&config.sysfs) {
            Some(_) => None,
            None => Some(Arc::new(KernelInitiator {
                records: node_record::NodeRecords::new(&iscsi.etc_iscsi, iscsi.login_timeout_s, iscsi.logout_timeout_s)
                    .with_iface(iface.clone())
                    .with_accounts(accounts.clone()),
                iface: iface.clone(),
                names: OwnNames::new(&config.run_dir),
                locks: NamedLocks::default(),
                users: Users::default(),
                latest: turn::Latest::default(),
                monitor: UdevMonitor::start().map_err(ConnectorError::system("listen to udev"))?,
                sysfs: config.sysfs.clone(),
                multipathd: multipath::daemon::Multipathd::new(iscsi.device_timeout_s),
                config: iscsi.clone(),
            })),
        };
        Ok(Self { config: iscsi, choice, iface, accounts, kernel })
    }

    pub(super) fn initiator(&self) -> Initiator {
        self.choice
    }

    pub(super) fn initiator_name(&self) -> Result<String, ConnectorError> {
        support::initiator_name(&self.config.initiator_name_file, &self.iface)
    }

    /// Asks for the paths that the connection leaves to discovery; with `every_path`, also for those beside a named one.
    pub(super) async fn settle(&self, connection: &mut IscsiConnection, every_path: bool) -> Result<(), ConnectorError> {
        let initiator = self.initiator_name()?;
        let login = probe::Login { initiator: &initiator, chap: None, target_chap: self.accounts.of_discovery() };
        discovery::settle(connection, login, every_path, self.config.login_timeout_s).await
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
        before: Option<&BlockDevice>,
    ) -> Result<ConnectedDevice, ConnectorError> {
        Self::check(connection)?;
        for path in &connection.paths {
            self.accounts.check(&path.iqn, connection.chap.as_ref(), initiator)?;
        }
        match initiator {
            Initiator::Kernel => {
                let kernel = self.kernel()?;
                let device = if kernel.takes_all_paths(connection, before).await {
                    kernel.connect_all(volume, connection, None).await
                } else {
                    kernel.connect_one(volume, connection, None).await
                };
                device.map(ConnectedDevice::Block)
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
        let login = probe::Login { initiator: &device.initiator, chap, target_chap: None };
        probe::identify(&device.path, login, self.config.login_timeout_s)
            .await
            .map_err(|source| ConnectorError::Probe { path: device.path.clone(), source })
    }

    /// Whether the volume service is to name every path, and whether one alone will not do.
    pub(super) async fn wants_multipath(&self) -> (bool, bool) {
        let kernel = self.kernel.as_ref().filter(|_| self.choice == Initiator::Kernel);
        match (kernel, self.config.multipath) {
            (None, _) | (_, MultipathChoice::Off) => (false, false),
            (Some(_), MultipathChoice::Required) => (true, true),
            (Some(kernel), MultipathChoice::Preferred) => (kernel.multipathd.runs().await, false),
        }
    }

    pub(super) async fn grow(
        &self,
        volume: VolumeId,
        device: &BlockDevice,
        identity: &DeviceIdentity,
        size_gib: u64,
    ) -> Result<u64, ConnectorError> {
        self.kernel()?.grow(volume, device, identity, size_gib).await
    }

    /// Connects what is missing of the device's paths.
    pub(super) async fn repair(
        &self,
        volume: VolumeId,
        device: &BlockDevice,
        identity: &DeviceIdentity,
        connection: &IscsiConnection,
    ) -> Result<BlockDevice, ConnectorError> {
        Self::check(connection)?;
        let kernel = self.kernel()?;
        if device.multipath.is_none() {
            return match self.state(volume, device, Some(identity)).await? {
                DeviceState::Absent => kernel.connect_one(volume, connection, Some(identity)).await,
                _ => Ok(device.clone()),
            };
        }
        let mut repaired = kernel.connect_all(volume, connection, Some(identity)).await?;
        // A path the service names no more may still have its disk here: it must be found at the detach.
        for path in &device.paths {
            if !repaired.paths.contains(path) {
                repaired.paths.push(path.clone());
            }
        }
        Ok(repaired)
    }

    pub(super) async fn disconnect(
        &self,
        volume: VolumeId,
        device: &BlockDevice,
        identity: Option<&DeviceIdentity>,
    ) -> Result<Disconnected, ConnectorError> {
        let wwid = device.multipath.as_ref().map(|map| map.wwid.as_str());
        self.kernel()?.disconnect(volume, &device.paths, wwid, identity, Reason::Detach).await
    }

    pub(super) async fn undo(&self, volume: VolumeId, paths: &[IscsiPath]) -> Result<Disconnected, ConnectorError> {
        self.kernel()?.disconnect(volume, paths, None, None, Reason::Undo).await
    }

    fn kernel(&self) -> Result<&Arc<KernelInitiator>, ConnectorError> {
        self.kernel.as_ref().ok_or(ConnectorError::NoKernelInitiator {
            missing: "the kernel's initiator was there when the agent connected, and is not now",
        })
    }
}

impl KernelInitiator {
    /// The name it logs in with.
    fn initiator_name(&self) -> Result<String, ConnectorError> {
        support::initiator_name(&self.config.initiator_name_file, &self.iface)
    }

    /// Whether a connect takes every path: as it was before, or as the settings, the service and multipathd have it.
    async fn takes_all_paths(&self, connection: &IscsiConnection, before: Option<&BlockDevice>) -> bool {
        match (before, self.config.multipath) {
            (Some(before), _) => before.multipath.is_some(),
            (None, MultipathChoice::Off) => false,
            (None, MultipathChoice::Required) => true,
            (None, MultipathChoice::Preferred) => connection.paths.len() > 1 && self.multipathd.runs().await,
        }
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
