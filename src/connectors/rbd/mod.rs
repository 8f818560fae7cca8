//! RBD images that QEMU opens itself: nothing of them is ever on this host, so there is nothing to undo or to disconnect.
//!
//! | file | knows |
//! | --- | --- |
//! | `keyring` | where this host keeps a user's key |
//! | `info` | the `rbd` command, which says who an image is and how large |
//! | `error` | what can go wrong |
//!
//! Where the key comes from, the first that there is:
//!
//! ```text
//! connection info `keyring` ------------------------+--> ephemeral libvirt secret of Bowline's own, one a disk
//! /etc/ceph/<cluster>.client.<user>.keyring --------+
//! connection info `secret_uuid` -----------------------> the operator's libvirt secret, by reference; its key cannot be read,
//!                                                        so the image is looked at with what ceph.conf names for the user
//! ```

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod error;
mod info;
mod keyring;

use crate::model::{CephAuth, ConnectIntent, ConnectedDevice, ObservedIdentity, RbdConnection, RbdNetworkDevice, Secret};
use std::{path::PathBuf, time::Duration};

pub use error::RbdError;

/// Settings of the RBD connector.
#[derive(Debug, Clone)]
pub struct RbdConfig {
    /// Where Ceph's configuration and keyrings are.
    pub ceph_dir: PathBuf,
    /// Deadline for asking the cluster about an image, seconds.
    pub info_timeout_s: u64,
}

impl Default for RbdConfig {
    fn default() -> Self {
        Self { ceph_dir: "/etc/ceph".into(), info_timeout_s: 30 }
    }
}

/// The RBD connector.
#[derive(Debug)]
pub(super) struct Rbd {
    config: RbdConfig,
}

impl Rbd {
    pub(super) const fn new(config: RbdConfig) -> Self {
        Self { config }
    }

    /// What a connect would touch. Refuses names that a path or a command could misread.
    pub(super) fn intent(&self, connection: &RbdConnection) -> Result<ConnectIntent, RbdError> {
        check(connection)?;
        Ok(ConnectIntent::Rbd { image: connection.image.clone() })
    }

    /// Describes the image for QEMU, with the monitors as the service tells them now.
    pub(super) fn connect(&self, connection: &RbdConnection) -> Result<ConnectedDevice, RbdError> {
        check(connection)?;
        let mut secret = None;
        if let Some(auth) = &connection.auth
            && self.key(connection)?.is_none()
        {
            secret = Some(auth.secret_uuid.ok_or_else(|| RbdError::NoKey {
                user: auth.username.clone(),
                keyring: self.keyring_file(connection, auth),
            })?);
        }
        Ok(ConnectedDevice::RbdNetwork(RbdNetworkDevice {
            image: connection.image.clone(),
            monitors: connection.monitors.clone(),
            username: connection.auth.as_ref().map(|auth| auth.username.clone()),
            secret,
        }))
    }

    /// The user's key: the service's, else this host's.
    pub(super) fn key(&self, connection: &RbdConnection) -> Result<Option<Secret>, RbdError> {
        let Some(auth) = &connection.auth else { return Ok(None) };
        match &auth.key {
            Some(key) => Ok(Some(key.clone())),
            None => keyring::read(&self.keyring_file(connection, auth), &auth.username),
        }
    }

    /// Asks the cluster who the image is. `connection` is what the device was connected by.
    pub(super) async fn observe(
        &self,
        device: &RbdNetworkDevice,
        connection: Option<&RbdConnection>,
    ) -> Result<ObservedIdentity, RbdError> {
        let key = connection.map(|connection| self.key(connection)).transpose()?.flatten();
        let question = info::Question {
            image: &device.image,
            // Where the service has since told others, those of the device may be gone.
            monitors: connection.map_or(&device.monitors, |connection| &connection.monitors),
            cluster: connection.map_or("ceph", |connection| &connection.cluster),
            user: device.username.as_deref(),
            key: key.as_ref(),
        };
        info::ask(&question, Duration::from_secs(self.config.info_timeout_s)).await
    }

    fn keyring_file(&self, connection: &RbdConnection, auth: &CephAuth) -> PathBuf {
        self.config.ceph_dir.join(format!("{}.client.{}.keyring", connection.cluster, auth.username))
    }
}

fn check(connection: &RbdConnection) -> Result<(), RbdError> {
    let image = &connection.image;
    let names = [("pool", Some(&image.pool)), ("namespace", image.namespace.as_ref()), ("image", Some(&image.name))];
    let user = connection.auth.as_ref().map(|auth| &auth.username);
    for (what, name) in names.into_iter().chain([("cluster", Some(&connection.cluster)), ("user", user)]) {
        if let Some(name) = name
            && !is_plain(name)
        {
            return Err(RbdError::BadName { what, name: name.chars().take(128).collect() });
        }
    }
    if connection.monitors.is_empty() {
        return Err(RbdError::NoMonitors { image: image.to_string() });
    }
    Ok(())
}

/// Nothing that could be a path, an option, a snapshot or another image.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(['-', '.'])
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RbdImage;

    fn connection(name: &str, key: Option<&str>, secret_uuid: bool) -> RbdConnection {
        RbdConnection {
            image: RbdImage { pool: "volumes".into(), namespace: None, name: name.into() },
            monitors: vec!["127.0.0.1:6789".parse().unwrap()],
            cluster: "ceph".into(),
            auth: Some(CephAuth {
                username: "cinder".into(),
                secret_uuid: secret_uuid.then(uuid::Uuid::new_v4),
                key: key.map(Secret::new),
            }),
            read_only: false,
            discard: false,
            encrypted: false,
        }
    }

    fn rbd(dir: &std::path::Path) -> Rbd {
        Rbd::new(RbdConfig { ceph_dir: dir.into(), ..RbdConfig::default() })
    }

    fn wants_secret(rbd: &Rbd, connection: &RbdConnection) -> bool {
        rbd.connect(connection).unwrap().wants_secret()
    }

    #[test]
    fn the_key_is_the_services_then_the_hosts_then_the_operators_secret() {
        let dir = tempfile::tempdir().unwrap();
        let rbd = rbd(dir.path());
        assert!(!wants_secret(&rbd, &connection("v", None, true)), "only libvirt has the key");
        let error = rbd.connect(&connection("v", None, false)).unwrap_err();
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
