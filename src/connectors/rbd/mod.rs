//! RBD images: opened by QEMU itself, which leaves nothing on this host, or mapped by the kernel.
//!
//! | file | knows |
//! | --- | --- |
//! | `keyring` | where this host keeps a user's key |
//! | `tool` | the `rbd` command, and how it gets the key |
//! | `info` | who an image is and how large |
//! | `holders` | who else holds an image |
//! | `kernel`, `sysfs`, `map_options`, `under_way` | images that the kernel maps |
//! | `monitors` | whether the cluster can be reached |
//! | `config`, `error` | the settings, and what can go wrong |
//!
//! Where the key comes from, the first that there is:
//!
//! ```text
//! connection info `keyring` ------------------------+--> ephemeral libvirt secret of Bowline's own, one a disk
//! /etc/ceph/<cluster>.client.<user>.keyring --------+
//! connection info `secret_uuid` -----------------------> the operator's libvirt secret, by reference; its key cannot be read,
//!                                                        so the image is looked at with what ceph.conf names for the user
//! ```
//! Monitors are taken as the service tells them at each connect. A running guest needs none of that: the client in QEMU and in the
//! kernel learns of new monitors from those it knows.

mod config;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod holders;
mod info;
mod kernel;
mod keyring;
mod map_options;
mod monitors;
mod sysfs;
mod tool;
mod under_way;

use super::{ConnectorsConfig, DeviceState, Disconnected};
use crate::model::{
    CephAuth, ConnectIntent, ConnectedDevice, DeviceIdentity, Fault, GIB, Health, Initiator, ObservedIdentity, RbdBlockDevice,
    RbdConnection, RbdImage, RbdNetworkDevice, Secret, VolumeId, is_plain_ceph_name,
};
use kernel::Kernel;
use std::{borrow::Cow, path::PathBuf, time::Duration};
use tool::Access;
use uuid::Uuid;

pub use config::RbdConfig;
pub use error::RbdError;

/// The RBD connector.
#[derive(Debug)]
pub(super) struct Rbd {
    config: RbdConfig,
    kernel: Kernel,
}

impl Rbd {
    pub(super) fn new(host: &ConnectorsConfig) -> Result<Self, RbdError> {
        let config = host.rbd.clone();
        if let Some(options) = &config.map_options {
            map_options::check(options)?;
        }
        if let Some(user) = &config.user
            && !is_plain_ceph_name(user)
        {
            return Err(RbdError::BadName { what: "user", name: user.clone() });
        }
        Ok(Self { kernel: Kernel::new(&config, host), config })
    }

    /// Who opens images that are connected from now on.
    pub(super) const fn client(&self) -> Initiator {
        self.config.client
    }

    /// What a connect would touch. Refuses names that a path or a command could misread.
    pub(super) fn intent(&self, connection: &RbdConnection) -> Result<ConnectIntent, RbdError> {
        check(connection)?;
        Ok(ConnectIntent::Rbd { initiator: self.config.client, image: connection.image.clone() })
    }

    /// Refuses an image that is held elsewhere, where only one may have it. For a volume that this host is about to get, not for
    /// one that it had before: what its own guests left is no reason to keep it from them.
    pub(super) async fn admit(&self, connection: &RbdConnection) -> Result<(), RbdError> {
        if connection.shared {
            return Ok(());
        }
        let connection = &*self.as_configured(connection);
        check(connection)?;
        let key = self.own_key(connection)?;
        self.operators_secret(connection, key.as_ref())?;
        let image = &connection.image;
        let holders = holders::ask(&self.access(connection, key.as_ref()), self.info_limit()).await?;
        match holders.check(image) {
            Err(error @ RbdError::OpenElsewhere { .. }) if self.config.allow_open_elsewhere => {
                tracing::warn!(%error, "attached all the same")
            }
            checked => checked?,
        }
        if let Some(owner) = holders.left_lock() {
            tracing::warn!(
                %image,
                "the image's lock is left from {owner}, which is gone: Ceph shuts that client out and hands the lock on at the first \
                 write, for which the user needs the capability 'profile rbd' on the monitors"
            );
        }
        Ok(())
    }

    /// Describes the image for QEMU, or maps it, with the monitors as the service tells them now.
    pub(super) async fn connect(
        &self,
        volume: VolumeId,
        connection: &RbdConnection,
        client: Initiator,
    ) -> Result<ConnectedDevice, RbdError> {
        let connection = &*self.as_configured(connection);
        check(connection)?;
        let key = self.own_key(connection)?;
        if client == Initiator::Kernel {
            let access = self.access(connection, key.as_ref());
            // One mapping serves every guest of a shared volume, and a later one may write: libvirt holds the others to reading.
            let read_only = connection.read_only && !connection.shared;
            return Ok(ConnectedDevice::RbdBlock(self.kernel.connect(volume, &access, read_only).await?));
        }
        let secret = self.operators_secret(connection, key.as_ref())?;
        Ok(ConnectedDevice::RbdNetwork(RbdNetworkDevice {
            image: connection.image.clone(),
            monitors: connection.monitors.clone(),
            username: connection.auth.as_ref().map(|auth| auth.username.clone()),
            secret,
            conf_file: self.config.conf_file.clone(),
        }))
    }

    /// The user's key: the service's, else this host's.
    pub(super) fn key(&self, connection: &RbdConnection) -> Result<Option<Secret>, RbdError> {
        self.own_key(&self.as_configured(connection))
    }

    /// Asks the cluster who the image is. `connection` is what the device was connected by.
    pub(super) async fn observe(
        &self,
        device: &RbdNetworkDevice,
        connection: Option<&RbdConnection>,
    ) -> Result<ObservedIdentity, RbdError> {
        let connection = connection.map(|connection| self.as_configured(connection));
        let key = connection.as_ref().map(|connection| self.own_key(connection)).transpose()?.flatten();
        let access = Access {
            image: &device.image,
            // Where the service has since told others, those of the device may be gone.
            monitors: connection.as_ref().map_or(&device.monitors, |connection| &connection.monitors),
            cluster: connection.as_ref().map_or("ceph", |connection| &connection.cluster),
            conf_file: self.config.conf_file.as_deref(),
            user: device.username.as_deref(),
            key: key.as_ref(),
        };
        info::ask(&access, self.info_limit()).await
    }

    /// The size of the image in the cluster, once it is what was asked for. QEMU's client needs no more: the cluster tells it.
    pub(super) async fn grow(
        &self,
        device: &RbdNetworkDevice,
        connection: Option<&RbdConnection>,
        identity: &DeviceIdentity,
        size_gib: u64,
    ) -> Result<u64, RbdError> {
        let observed = self.observe(device, connection).await?;
        let image = || device.image.to_string();
        if observed.identity != *identity {
            return Err(RbdError::Replaced {
                image: image(),
                expected: Box::new(identity.clone()),
                found: Box::new(observed.identity),
            });
        }
        let wanted_bytes = size_gib.saturating_mul(GIB);
        if observed.size_bytes < wanted_bytes {
            return Err(RbdError::NotGrown { image: image(), found_bytes: observed.size_bytes, wanted_bytes });
        }
        Ok(observed.size_bytes)
    }

    /// Whether a monitor can be reached.
    pub(super) async fn health(&self, device: &RbdNetworkDevice) -> Health {
        monitors::health(&device.monitors).await
    }

    /// `None`: it is not mapped.
    pub(super) fn observe_block(
        &self,
        volume: VolumeId,
        device: &RbdBlockDevice,
    ) -> Result<Option<ObservedIdentity>, RbdError> {
        self.kernel.observe(volume, device)
    }

    pub(super) fn state_block(
        &self,
        volume: VolumeId,
        device: &RbdBlockDevice,
        identity: Option<&DeviceIdentity>,
    ) -> Result<DeviceState, RbdError> {
        self.kernel.state(volume, device, identity)
    }

    pub(super) async fn disconnect_block(
        &self,
        volume: VolumeId,
        device: &RbdBlockDevice,
        identity: Option<&DeviceIdentity>,
    ) -> Result<Disconnected, RbdError> {
        self.kernel.disconnect(volume, device, identity).await
    }

    pub(super) async fn undo_map(&self, volume: VolumeId, image: &RbdImage) -> Result<Disconnected, RbdError> {
        self.kernel.undo(volume, image).await
    }

    /// As [`Self::grow`], where the kernel must see the size too.
    pub(super) async fn grow_block(
        &self,
        volume: VolumeId,
        device: &RbdBlockDevice,
        identity: &DeviceIdentity,
        size_gib: u64,
    ) -> Result<u64, RbdError> {
        if let DeviceState::Foreign { observed } = self.kernel.state(volume, device, Some(identity))? {
            return Err(RbdError::Replaced {
                image: device.image.to_string(),
                expected: Box::new(identity.clone()),
                found: Box::new(observed.identity),
            });
        }
        self.kernel.grow(volume, device, size_gib.saturating_mul(GIB)).await
    }

    /// Whether it is mapped, and a monitor can be reached.
    pub(super) async fn health_block(
        &self,
        volume: VolumeId,
        device: &RbdBlockDevice,
        identity: &DeviceIdentity,
    ) -> Result<Health, RbdError> {
        let fault = |problem: &str| Health::Lost(vec![Fault { part: device.image.to_string(), problem: problem.to_owned() }]);
        Ok(match self.kernel.state(volume, device, Some(identity))? {
            DeviceState::Present { .. } => monitors::health(&device.monitors).await,
            DeviceState::Absent => fault("the kernel has it mapped no more"),
            DeviceState::Foreign { .. } => fault("another image is mapped in its place"),
        })
    }

    /// The connection with the user of the configuration, for whom what the service has is no key.
    fn as_configured<'a>(&self, connection: &'a RbdConnection) -> Cow<'a, RbdConnection> {
        match (&self.config.user, &connection.auth) {
            (Some(user), Some(auth)) if auth.username != *user => {
                let auth = CephAuth { username: user.clone(), secret_uuid: None, key: None };
                Cow::Owned(RbdConnection { auth: Some(auth), ..connection.clone() })
            }
            _ => Cow::Borrowed(connection),
        }
    }

    fn own_key(&self, connection: &RbdConnection) -> Result<Option<Secret>, RbdError> {
        let Some(auth) = &connection.auth else { return Ok(None) };
        match &auth.key {
            Some(key) => Ok(Some(key.clone())),
            None => keyring::read(&self.keyring_file(connection, auth), &auth.username),
        }
    }

    /// The libvirt secret of the operator's, where nobody has given a key; an error where there is neither.
    fn operators_secret(&self, connection: &RbdConnection, key: Option<&Secret>) -> Result<Option<Uuid>, RbdError> {
        let Some(auth) = connection.auth.as_ref().filter(|_| key.is_none()) else { return Ok(None) };
        let no_key = || RbdError::NoKey { user: auth.username.clone(), keyring: self.keyring_file(connection, auth) };
        auth.secret_uuid.map(Some).ok_or_else(no_key)
    }

    fn access<'a>(&'a self, connection: &'a RbdConnection, key: Option<&'a Secret>) -> Access<'a> {
        Access {
            image: &connection.image,
            monitors: &connection.monitors,
            cluster: &connection.cluster,
            conf_file: self.config.conf_file.as_deref(),
            user: connection.auth.as_ref().map(|auth| auth.username.as_str()),
            key,
        }
    }

    fn info_limit(&self) -> Duration {
        Duration::from_secs(self.config.info_timeout_s)
    }

    fn keyring_file(&self, connection: &RbdConnection, auth: &CephAuth) -> PathBuf {
        let usual = || self.config.ceph_dir.join(format!("{}.client.{}.keyring", connection.cluster, auth.username));
        self.config.keyring_file.clone().unwrap_or_else(usual)
    }
}

fn check(connection: &RbdConnection) -> Result<(), RbdError> {
    let image = &connection.image;
    let names = [("pool", Some(&image.pool)), ("namespace", image.namespace.as_ref()), ("image", Some(&image.name))];
    let user = connection.auth.as_ref().map(|auth| &auth.username);
    for (what, name) in names.into_iter().chain([("cluster", Some(&connection.cluster)), ("user", user)]) {
        if let Some(name) = name
            && !is_plain_ceph_name(name)
        {
            return Err(RbdError::BadName { what, name: name.chars().take(128).collect() });
        }
    }
    if connection.monitors.is_empty() {
        return Err(RbdError::NoMonitors { image: image.to_string() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn connection(name: &str, key: Option<&str>, secret_uuid: bool) -> RbdConnection {
        RbdConnection {
            image: RbdImage { pool: "volumes".into(), namespace: None, name: name.into() },
            monitors: vec!["127.0.0.1:6789".parse().unwrap()],
            cluster: "ceph".into(),
            auth: Some(CephAuth {
                username: "cinder".into(),
                secret_uuid: secret_uuid.then(Uuid::new_v4),
                key: key.map(Secret::new),
            }),
            read_only: false,
            discard: false,
            encrypted: false,
            shared: false,
        }
    }

    fn rbd(dir: &std::path::Path) -> Rbd {
        with(RbdConfig { ceph_dir: dir.into(), ..RbdConfig::default() })
    }

    fn with(rbd: RbdConfig) -> Rbd {
        Rbd::new(&ConnectorsConfig { rbd, ..Default::default() }).unwrap()
    }

    fn connect(rbd: &Rbd, connection: &RbdConnection) -> Result<ConnectedDevice, RbdError> {
        let volume = "94333fbd-2aab-4a5a-befd-e30c2f7377fd".parse().unwrap();
        rbd.connect(volume, connection, Initiator::Qemu).now_or_never().unwrap()
    }

    fn wants_secret(rbd: &Rbd, connection: &RbdConnection) -> bool {
        connect(rbd, connection).unwrap().wants_secret()
    }

    #[test]
    fn a_user_of_the_configuration_has_a_key_of_this_host_and_never_the_services() {
        let dir = tempfile::tempdir().unwrap();
        let keyring = dir.path().join("keyring");
        let config = RbdConfig { user: Some("host1".into()), keyring_file: Some(keyring.clone()), ..RbdConfig::default() };
        let (rbd, services) = (with(config), connection("v", Some("U0VSVklDRQ=="), true));
        let error = connect(&rbd, &services).unwrap_err().to_string();
        assert!(error.contains("client.host1") && error.contains("keyring"), "{error}");
        std::fs::write(keyring, "[client.host1]\nkey = SE9TVA==\n").unwrap();
        assert_eq!(rbd.key(&services).unwrap().unwrap().expose(), "SE9TVA==");
        let ConnectedDevice::RbdNetwork(device) = connect(&rbd, &services).unwrap() else { panic!("not for QEMU") };
        assert_eq!(device.username.as_deref(), Some("host1"));
    }

    #[test]
    fn the_key_is_the_services_then_the_hosts_then_the_operators_secret() {
        let dir = tempfile::tempdir().unwrap();
        let rbd = rbd(dir.path());
        assert!(!wants_secret(&rbd, &connection("v", None, true)), "only libvirt has the key");
        let error = connect(&rbd, &connection("v", None, false)).unwrap_err();
        assert!(error.to_string().contains("ceph.client.cinder.keyring"), "{error}");
        std::fs::write(dir.path().join("ceph.client.cinder.keyring"), "[client.cinder]\n\tkey = SE9TVA==\n").unwrap();
        let both = connection("v", None, true);
        assert!(wants_secret(&rbd, &both));
        assert_eq!(rbd.key(&both).unwrap().unwrap().expose(), "SE9TVA==");
        let services = connection("v", Some("U0VSVklDRQ=="), true);
        assert_eq!(rbd.key(&services).unwrap().unwrap().expose(), "U0VSVklDRQ==");
    }

    #[test]
    fn names_that_could_be_read_as_something_else_are_refused() {
        let rbd = rbd(std::path::Path::new("/nonexistent"));
        for name in ["", "-p", "../v", "a/b", "v@snapshot", "v\n", "v:conf=x", "v\\"] {
            let error = rbd.intent(&connection(name, Some("QQ=="), false)).unwrap_err();
            assert!(matches!(error, RbdError::BadName { what: "image", .. }), "{name:?}: {error}");
        }
        assert!(rbd.intent(&connection("volume-1.a_b", Some("QQ=="), false)).is_ok());
    }
}
