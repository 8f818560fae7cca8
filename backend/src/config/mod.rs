//! What the service is told: a TOML file, every key with a default, unknown keys refused.

mod backends;
mod backup;
mod images;
mod key_manager;
mod keystone;
mod nfs;
mod rbd;
mod servers;
mod targets;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::domain::place::ISCSI;

pub use backends::{Backend, DriverKind, Lvm};
pub use backup::{BackupConfig, BackupStore, S3Config, SwiftConfig};
pub use images::Images;
pub use key_manager::{KeyManagerConfig, KeyManagerKind};
pub use keystone::Keystone;
pub use nfs::{FileFormat, Nfs};
pub use rbd::Rbd;
pub use servers::{BusConfig, Database};
pub use targets::{Lio, TargetKind, Targets, Tgt};

/// The configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen for HTTP. Loopback, unless told otherwise: there is no TLS here.
    pub listen: SocketAddr,
    /// Where everything is kept.
    pub state_dir: PathBuf,
    /// What this machine is called among the volume hosts; the kernel's host name where it is empty.
    pub host: String,
    /// The default volume type's name.
    pub volume_type: String,
    /// The availability zone of this machine's volumes, and of volumes that ask for none.
    pub availability_zone: String,
    /// Where what is known is kept.
    pub database: Database,
    /// How the roles reach each other.
    pub bus: BusConfig,
    /// How much a project may have, by resource (`volumes`, `gigabytes`, `snapshots` …); -1 is without limit.
    pub quota: BTreeMap<String, i64>,
    /// Where volumes are kept, by name. Without one, sparse files in the state directory, under the name `files`.
    pub backends: BTreeMap<String, Backend>,
    /// Who shows volumes to hosts.
    pub targets: Targets,
    /// Disk images.
    pub images: Images,
    /// Where backups are kept.
    pub backup: BackupConfig,
    /// A Keystone that knows the users, in place of the service's own.
    pub keystone: Keystone,
    /// Who has the keys of encrypted volumes.
    pub key_manager: KeyManagerConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8776)),
            state_dir: PathBuf::from("/var/lib/bowline-backend"),
            host: String::new(),
            volume_type: "files".into(),
            availability_zone: "nova".into(),
            database: Database::default(),
            bus: BusConfig::default(),
            quota: BTreeMap::new(),
            backends: BTreeMap::new(),
            targets: Targets::default(),
            images: Images::default(),
            backup: BackupConfig::default(),
            keystone: Keystone::default(),
            key_manager: KeyManagerConfig::default(),
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that the configuration names cannot be read.
    #[error("cannot read {}, which {key} names", path.display())]
    Named {
        /// The key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file says something that is not understood; the source names line and key.
    #[error("the configuration {} is wrong", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What and where.
        source: Box<toml::de::Error>,
    },
    /// A value cannot work.
    #[error("the configuration: {key} {problem}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Config {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })
    }

    /// Refuses what cannot work before anything is started.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key, problem| Err(ConfigError::Value { key, problem });
        let (tgt, lio) = (&self.targets.tgt, &self.targets.lio);
        let portals = [("targets.tgt.portal", &tgt.portal), ("targets.lio.portal", &lio.portal)].into_iter();
        let portals = portals.chain(tgt.extra_portals.iter().map(|portal| ("targets.tgt.extra_portals", portal)));
        let portals = portals.chain(lio.extra_portals.iter().map(|portal| ("targets.lio.extra_portals", portal)));
        for (key, portal) in portals {
            if portal.ip().is_unspecified() {
                return wrong(key, "is told to hosts, so it must be an address they can reach, not all addresses");
            }
            if portal.port() == 0 {
                return wrong(key, "is told to hosts, so its port must not be 0");
            }
        }
        if !self.state_dir.is_absolute() {
            return wrong("state_dir", "must be an absolute path, for tgtd is told paths in it");
        }
        if self.volume_type.is_empty() {
            return wrong("volume_type", "must not be empty");
        }
        let separators = ['@', '#', '/'];
        if self.host.contains(separators) || self.backends.keys().any(|name| name.is_empty() || name.contains(separators)) {
            return wrong("host and backends", "must have names without @, # and /, which separate them");
        }
        if self.backends.values().any(|backend| backend.directory.as_ref().is_some_and(|path| !path.is_absolute())) {
            return wrong("backends.*.directory", "must be an absolute path, for tgtd is told paths in it");
        }
        for backend in self.backends.values().filter(|backend| backend.driver == DriverKind::Lvm) {
            backend.lvm.check()?;
        }
        if let Some((key, problem)) = self.backends.values().find_map(Backend::problem) {
            return wrong(key, problem);
        }
        let in_state_dir = |backend: &&Backend| backend.driver == DriverKind::Files && backend.directory.is_none();
        if self.backends.values().filter(in_state_dir).count() > 1 {
            return wrong("backends.*.directory", "must be said for all backends but one, or they would share a directory");
        }
        if let Some((key, problem)) = self.keystone.problem().or_else(|| self.images.problem()) {
            return wrong(key, problem);
        }
        if !self.images.glance_url.is_empty() && self.keystone.auth_url.is_empty() {
            return wrong("images.glance_url", "needs [keystone] as well: a Glance believes nobody else's tokens");
        }
        if let Some((key, problem)) = self.key_manager.problem(!self.keystone.auth_url.is_empty()) {
            return wrong(key, problem);
        }
        if let Some((key, problem)) = self.backup.problem() {
            return wrong(key, problem);
        }
        if !self.bus.url.is_empty() && self.database.url.is_empty() {
            return wrong("bus.url", "needs database.url as well: a broker is for several processes, a file for one");
        }
        Ok(())
    }

    /// The backends of this machine, by name, with what they leave out filled in.
    pub fn all_backends(&self) -> BTreeMap<String, Backend> {
        let mut backends = self.backends.clone();
        if backends.is_empty() {
            backends.insert("files".to_owned(), Backend::default());
        }
        for (name, backend) in &mut backends {
            if backend.backend_name.is_empty() {
                backend.backend_name.clone_from(name);
            }
        }
        backends
    }

    /// Whether a target has to show volumes of this machine to hosts; where they all go to the storage themselves, none is needed.
    pub fn needs_target(&self) -> bool {
        self.all_backends().values().any(|backend| backend.driver.storage_protocol() == ISCSI)
    }

    /// What this machine is called among the volume hosts.
    pub fn host_name(&self) -> String {
        if !self.host.is_empty() {
            return self.host.clone();
        }
        match std::fs::read_to_string("/proc/sys/kernel/hostname") {
            Ok(name) => name.trim().to_owned(),
            Err(_) => "localhost".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_all_defaults_and_unknown_keys_are_named_with_their_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backend.toml");
        std::fs::write(&path, "").unwrap();
        let config = Config::read(&path).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8776");
        config.check().unwrap();

        std::fs::write(&path, "listen = \"127.0.0.1:1\"\n[targets.tgt]\nportall = \"127.0.0.1:3260\"\n").unwrap();
        let error = Config::read(&path).unwrap_err();
        let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
        assert!(text.contains("backend.toml") && text.contains("line 3") && text.contains("portall"), "{text}");
    }

    #[test]
    fn a_portal_must_be_reachable() {
        let config: Config = toml::from_str("[targets.tgt]\nportal = \"0.0.0.0:3260\"").unwrap();
        assert!(config.check().is_err());
        let config: Config = toml::from_str("[targets.tgt]\nextra_portals = [\"10.0.0.1:3260\", \"10.0.0.2:0\"]").unwrap();
        assert!(config.check().unwrap_err().to_string().contains("extra_portals"));
    }

    #[test]
    fn a_backend_is_told_what_its_driver_can_use() {
        let check = |text: &str| toml::from_str::<Config>(text).unwrap().check();
        check("[backends.a]\ndriver = \"rbd\"\n[backends.b]\ndriver = \"nfs\"\nnfs.share = \"[::1]:/\"\n[backends.c]").unwrap();
        for (wrong, key) in [
            ("driver = \"rbd\"\nrbd.pool = \"a/b\"", "rbd.pool"),
            ("driver = \"rbd\"\nrbd.user = \"\"", "rbd.user"),
            ("driver = \"rbd\"\nrbd.keyring_file = \"keyring\"", "rbd.keyring_file"),
            ("driver = \"nfs\"", "nfs.share"),
            ("driver = \"nfs\"\nnfs.share = \"server\"", "nfs.share"),
            ("driver = \"nfs\"\nnfs.share = \"a:/b\"\nnfs.mount_options = \"rw soft\"", "nfs.mount_options"),
        ] {
            let error = check(&format!("[backends.a]\n{wrong}")).unwrap_err().to_string();
            assert!(error.contains(key), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_glance_needs_a_keystone_and_no_answer_of_that_is_believed_for_hours() {
        let check = |text: &str| toml::from_str::<Config>(text).unwrap().check();
        let keystone = "[keystone]\nauth_url = \"http://k:5000/v3\"\npassword_file = \"/p\"\n";
        check(&format!("{keystone}[images]\nglance_url = \"http://g:9292\"")).unwrap();
        for (wrong, key) in [
            ("[images]\nglance_url = \"http://g:9292\"".to_owned(), "images.glance_url"),
            (format!("{keystone}[images]\nglance_url = \"g:9292\""), "images.glance_url"),
            (format!("{keystone}cache_s = 301"), "keystone.cache_s"),
        ] {
            let error = check(&wrong).unwrap_err().to_string();
            assert!(error.contains(key), "{wrong}: {error}");
        }
    }

    #[test]
    fn an_lvm_backend_names_a_group_and_a_pool_and_the_kernel_can_be_the_target() {
        let config = |group: &str, pool: &str| -> Result<Config, ConfigError> {
            let text = format!(
                "[targets]\nkind = \"lio\"\n[backends.fast]\ndriver = \"lvm\"\n[backends.fast.lvm]\nvolume_group = \"{group}\"\n\
                 thin_pool = \"{pool}\"\n[backends.files]\ndriver = \"files\""
            );
            let config: Config = toml::from_str(&text).unwrap();
            config.check().map(|()| config)
        };
        assert_eq!(config("fast", "thin-pool_0").unwrap().targets.kind, TargetKind::Lio);
        for (group, pool, key) in [("", "p", "volume_group"), ("g", "--all", "thin_pool"), ("a/b", "p", "volume_group")] {
            let error = config(group, pool).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
