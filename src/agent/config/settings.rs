//! Settings after merging: every value present, checked, in the agent's own types.

use super::{
    guest::{self, GuestSettings, KeyManagerSettings},
    images::{self, ImageSettings},
    inputs::{Initiator, Inputs, Multipath, RbdClient},
};
use std::path::PathBuf;

/// No deadline may be longer: a day already means that nobody waits any more.
const MAX_TIMEOUT_S: u64 = 86_400;

/// Checked settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whose volumes.
    pub cloud: CloudSettings,
    /// `host.name`: what the volume service is told; `None` takes the kernel's host name.
    pub host_name: Option<String>,
    /// `host.my_ip`: address towards storage; `None` finds it out.
    pub my_ip: Option<String>,
    /// iSCSI.
    pub iscsi: IscsiSettings,
    /// NFS.
    pub nfs: NfsSettings,
    /// RBD.
    pub rbd: RbdSettings,
    /// libvirt.
    pub libvirt: LibvirtSettings,
    /// Guests.
    pub guest: GuestSettings,
    /// Key manager.
    pub key_manager: KeyManagerSettings,
    /// Operations.
    pub operations: OperationSettings,
    /// Volumes.
    pub volumes: VolumeSettings,
    /// Images and ephemeral disks.
    pub images: ImageSettings,
    /// Folders.
    pub paths: PathSettings,
    /// `bus.address`: a D-Bus address; `None` takes the system bus.
    pub bus_address: Option<String>,
    /// Health.
    pub health: HealthSettings,
    /// `metrics.listen`; `None` serves none.
    pub metrics: Option<MetricsListen>,
}

/// `[health]`
#[derive(Debug, Clone)]
pub struct HealthSettings {
    /// Seconds between looks at what tells no event.
    pub interval_s: u64,
    /// Seconds for one look at one attachment; what has not answered by then counts as lost.
    pub look_timeout_s: u64,
}

/// `metrics.listen`: where metrics are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricsListen {
    /// HTTP at this address and port.
    Tcp(std::net::SocketAddr),
    /// HTTP at a Unix socket.
    Unix(PathBuf),
}

impl MetricsListen {
    fn parse(text: &str) -> Result<Self, Refusal> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(absolute("metrics.listen", Some(path.into()), path)?));
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            ("metrics.listen", format!("{text:?} is neither ADDRESS:PORT, such as 127.0.0.1:9848, nor unix:/PATH"))
        })
    }
}

/// `[cloud]`
#[derive(Debug, Clone)]
pub struct CloudSettings {
    /// Entry of clouds.yaml.
    pub name: String,
    /// clouds.yaml; `None` looks where every OpenStack client looks.
    pub file: Option<PathBuf>,
    /// Entry of clouds.yaml whose token goes along as service token.
    pub service_name: Option<String>,
    /// Seconds to connect.
    pub connect_timeout_s: u64,
    /// Seconds for a request with its answer. An attachment update is one blocking call of the service.
    pub request_timeout_s: u64,
}

/// `[iscsi]`
#[derive(Debug, Clone)]
pub struct IscsiSettings {
    /// Who logs in.
    pub initiator: Initiator,
    /// Whether several paths are put together.
    pub multipath: Multipath,
    /// Seconds for a login.
    pub login_timeout_s: u64,
    /// Seconds for a scanned LUN to appear, or to vanish.
    pub device_timeout_s: u64,
    /// Seconds for a logout.
    pub logout_timeout_s: u64,
    /// The file with `InitiatorName=`.
    pub initiator_name_file: PathBuf,
    /// open-iscsi's interface for every login.
    pub iface: String,
    /// The file with what targets must prove themselves with (mutual CHAP); none asks it of no target.
    pub target_accounts_file: Option<PathBuf>,
}

/// `[nfs]`
#[derive(Debug, Clone)]
pub struct NfsSettings {
    /// Mount options for every export; the volume service's own win over them. Which are allowed, the connector knows.
    pub mount_options: Option<String>,
    /// Seconds for a mount, an unmount, and a look at a file.
    pub mount_timeout_s: u64,
}

/// `[rbd]`
#[derive(Debug, Clone)]
pub struct RbdSettings {
    /// Who opens images.
    pub client: RbdClient,
    /// Ceph's configuration; `None` takes the one of the system, by the cluster's name.
    pub conf_file: Option<PathBuf>,
    /// cephx user instead of the volume service's, without `client.`.
    pub user: Option<String>,
    /// Keyring with the user's key; `None` takes `/etc/ceph/<cluster>.client.<user>.keyring`.
    pub keyring_file: Option<PathBuf>,
    /// Options for images that the kernel maps. Which are allowed, the connector knows.
    pub map_options: Option<String>,
    /// An image that another host has open is attached with a warning.
    pub allow_open_elsewhere: bool,
    /// Seconds for a question about an image.
    pub info_timeout_s: u64,
    /// Seconds for mapping an image, and for unmapping one.
    pub map_timeout_s: u64,
}

/// `[libvirt]`
#[derive(Debug, Clone)]
pub struct LibvirtSettings {
    /// Connection URI.
    pub uri: String,
    /// Seconds to connect.
    pub connect_timeout_s: u64,
    /// Seconds for a call.
    pub call_timeout_s: u64,
    /// Seconds for a hot-plug.
    pub attach_timeout_s: u64,
    /// Seconds a guest has to let a disk go.
    pub detach_timeout_s: u64,
    /// Seconds after which a guest that ignores a request is asked again.
    pub detach_request_interval_s: u64,
    /// Seconds a guest has to shut down.
    pub shutdown_timeout_s: u64,
}

/// `[operations]`
#[derive(Debug, Clone)]
pub struct OperationSettings {
    /// Seconds any one step may take at the very most; longer than each deadline within one.
    pub step_timeout_s: u64,
    /// Seconds that recovery may hold back the start of the service; what is not mended by then goes on beside it.
    pub recovery_timeout_s: u64,
    /// Finished operations kept for `bowline operations --all`.
    pub keep_finished: usize,
}

/// `[volumes]`
#[derive(Debug, Clone)]
pub struct VolumeSettings {
    /// Seconds for a new volume to become available.
    pub create_timeout_s: u64,
    /// Seconds for a deleted volume to be gone.
    pub delete_timeout_s: u64,
    /// Seconds for the service to extend a volume.
    pub extend_timeout_s: u64,
    /// Seconds between looks at what size the service has for attached volumes; 0 looks never.
    pub watch_interval_s: u64,
}

/// `[paths]`
#[derive(Debug, Clone)]
pub struct PathSettings {
    /// Where the journal is.
    pub state_dir: PathBuf,
    /// Where the names of connected volumes are; must not survive a reboot.
    pub run_dir: PathBuf,
}

/// A key, and what is wrong with its value.
pub(super) type Refusal = (&'static str, String);

pub(super) fn seconds(key: &'static str, given: Option<u64>, default: u64) -> Result<u64, Refusal> {
    match given.unwrap_or(default) {
        0 => Err((key, "a deadline of 0 seconds would always have passed; give at least 1".into())),
        value if value > MAX_TIMEOUT_S => Err((key, format!("{value} seconds is more than a day ({MAX_TIMEOUT_S})"))),
        value => Ok(value),
    }
}

pub(super) fn not_empty(key: &'static str, given: Option<String>) -> Result<Option<String>, Refusal> {
    match given {
        Some(text) if text.trim().is_empty() => Err((key, "must not be empty; leave the key out for the default".into())),
        other => Ok(other),
    }
}

fn absolute_if_given(key: &'static str, given: Option<PathBuf>) -> Result<Option<PathBuf>, Refusal> {
    given.map(|path| absolute(key, Some(path), "")).transpose()
}

pub(super) fn absolute(key: &'static str, given: Option<PathBuf>, default: &str) -> Result<PathBuf, Refusal> {
    let path = given.unwrap_or_else(|| default.into());
    if path.is_absolute() { Ok(path) } else { Err((key, format!("{} is not an absolute path", path.display()))) }
}

impl Settings {
    /// The libvirt connection URI.
    pub fn libvirt_uri(&self) -> &str {
        &self.libvirt.uri
    }

    pub(super) fn check(inputs: Inputs) -> Result<Self, Refusal> {
        let settings = Self::of(inputs)?;
        let (libvirt, iscsi, rbd) = (&settings.libvirt, &settings.iscsi, &settings.rbd);
        // What one step may wait for in turn. The service's time to extend a volume is added to the bound of the steps that wait for it.
        let waits = [
            ("libvirt.attach_timeout_s", libvirt.attach_timeout_s),
            ("libvirt.detach_timeout_s", libvirt.detach_timeout_s),
            ("libvirt.shutdown_timeout_s", libvirt.shutdown_timeout_s),
            ("iscsi.login_timeout_s with iscsi.device_timeout_s", iscsi.login_timeout_s + iscsi.device_timeout_s),
            ("iscsi.device_timeout_s with iscsi.logout_timeout_s", iscsi.device_timeout_s + iscsi.logout_timeout_s),
            ("nfs.mount_timeout_s", settings.nfs.mount_timeout_s),
            ("rbd.info_timeout_s with rbd.map_timeout_s", rbd.info_timeout_s + rbd.map_timeout_s),
            ("cloud.request_timeout_s", settings.cloud.request_timeout_s),
        ];
        let longest = waits.into_iter().max_by_key(|(_, seconds)| *seconds);
        if let Some((key, seconds)) = longest.filter(|(_, seconds)| settings.operations.step_timeout_s <= *seconds) {
            return Err(("operations.step_timeout_s", format!("must be longer than {key} ({seconds}), which it would cut")));
        }
        Ok(settings)
    }

    fn of(inputs: Inputs) -> Result<Self, Refusal> {
        let Inputs {
            cloud,
            host,
            iscsi,
            nfs,
            rbd,
            libvirt,
            guest,
            key_manager,
            operations,
            volumes,
            images,
            paths,
            bus,
            health,
            metrics,
        } = inputs;
        let images = images::images(images, rbd.user.as_deref())?;
        Ok(Self {
            cloud: CloudSettings {
                name: not_empty("cloud.name", cloud.name)?.unwrap_or_else(|| "bowline".into()),
                file: cloud.file,
                service_name: not_empty("cloud.service_name", cloud.service_name)?,
                connect_timeout_s: seconds("cloud.connect_timeout_s", cloud.connect_timeout_s, 5)?,
                request_timeout_s: seconds("cloud.request_timeout_s", cloud.request_timeout_s, 60)?,
            },
            host_name: not_empty("host.name", host.name)?,
            my_ip: match not_empty("host.my_ip", host.my_ip)? {
                Some(text) if text.parse::<std::net::IpAddr>().is_err() => {
                    return Err(("host.my_ip", format!("{text:?} is not an IP address")));
                }
                other => other,
            },
            iscsi: IscsiSettings {
                initiator: iscsi.initiator.unwrap_or(Initiator::Auto),
                multipath: iscsi.multipath.unwrap_or(Multipath::Preferred),
                login_timeout_s: seconds("iscsi.login_timeout_s", iscsi.login_timeout_s, 30)?,
                device_timeout_s: seconds("iscsi.device_timeout_s", iscsi.device_timeout_s, 30)?,
                logout_timeout_s: seconds("iscsi.logout_timeout_s", iscsi.logout_timeout_s, 30)?,
                initiator_name_file: absolute(
                    "iscsi.initiator_name_file",
                    iscsi.initiator_name_file,
                    "/etc/iscsi/initiatorname.iscsi",
                )?,
                iface: not_empty("iscsi.iface", iscsi.iface)?.unwrap_or_else(|| "default".into()),
                target_accounts_file: iscsi
                    .target_accounts_file
                    .map(|file| absolute("iscsi.target_accounts_file", Some(file), ""))
                    .transpose()?,
            },
            nfs: NfsSettings {
                mount_options: not_empty("nfs.mount_options", nfs.mount_options)?,
                mount_timeout_s: seconds("nfs.mount_timeout_s", nfs.mount_timeout_s, 30)?,
            },
            rbd: RbdSettings {
                client: rbd.client.unwrap_or(RbdClient::Qemu),
                conf_file: absolute_if_given("rbd.conf_file", rbd.conf_file)?,
                user: not_empty("rbd.user", rbd.user)?,
                keyring_file: absolute_if_given("rbd.keyring_file", rbd.keyring_file)?,
                map_options: not_empty("rbd.map_options", rbd.map_options)?,
                allow_open_elsewhere: rbd.allow_open_elsewhere.unwrap_or(false),
                info_timeout_s: seconds("rbd.info_timeout_s", rbd.info_timeout_s, 30)?,
                map_timeout_s: seconds("rbd.map_timeout_s", rbd.map_timeout_s, 30)?,
            },
            libvirt: LibvirtSettings {
                uri: not_empty("libvirt.uri", libvirt.uri)?.unwrap_or_else(|| "qemu:///system".into()),
                connect_timeout_s: seconds("libvirt.connect_timeout_s", libvirt.connect_timeout_s, 10)?,
                call_timeout_s: seconds("libvirt.call_timeout_s", libvirt.call_timeout_s, 30)?,
                attach_timeout_s: seconds("libvirt.attach_timeout_s", libvirt.attach_timeout_s, 60)?,
                // What Nova allows in all: 8 attempts of 20 s.
                detach_timeout_s: seconds("libvirt.detach_timeout_s", libvirt.detach_timeout_s, 160)?,
                detach_request_interval_s: seconds("libvirt.detach_request_interval_s", libvirt.detach_request_interval_s, 5)?,
                // What Nova allows (shutdown_timeout).
                shutdown_timeout_s: seconds("libvirt.shutdown_timeout_s", libvirt.shutdown_timeout_s, 60)?,
            },
            guest: guest::guest(guest)?,
            key_manager: KeyManagerSettings {
                cloud: not_empty("key_manager.cloud", key_manager.cloud)?,
                endpoint: not_empty("key_manager.endpoint", key_manager.endpoint)?,
            },
            operations: OperationSettings {
                step_timeout_s: seconds("operations.step_timeout_s", operations.step_timeout_s, 300)?,
                recovery_timeout_s: seconds("operations.recovery_timeout_s", operations.recovery_timeout_s, 30)?,
                keep_finished: operations.keep_finished.unwrap_or(100),
            },
            volumes: VolumeSettings {
                create_timeout_s: seconds("volumes.create_timeout_s", volumes.create_timeout_s, 300)?,
                delete_timeout_s: seconds("volumes.delete_timeout_s", volumes.delete_timeout_s, 300)?,
                extend_timeout_s: seconds("volumes.extend_timeout_s", volumes.extend_timeout_s, 240)?,
                watch_interval_s: match volumes.watch_interval_s {
                    Some(0) => 0,
                    given => seconds("volumes.watch_interval_s", given, 60)?,
                },
            },
            images,
            paths: PathSettings {
                state_dir: absolute("paths.state_dir", paths.state_dir, "/var/lib/bowline")?,
                run_dir: absolute("paths.run_dir", paths.run_dir, "/run/bowline")?,
            },
            bus_address: not_empty("bus.address", bus.address)?,
            health: HealthSettings {
                // A look reads a few files of sysfs, or starts one process for a file on NFS.
                interval_s: seconds("health.interval_s", health.interval_s, 30)?,
                look_timeout_s: seconds("health.look_timeout_s", health.look_timeout_s, 10)?,
            },
            metrics: metrics.listen.as_deref().map(MetricsListen::parse).transpose()?,
        })
    }
}
