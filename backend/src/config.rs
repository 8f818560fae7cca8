//! What the service is told: a TOML file, every key with a default, unknown keys refused.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen for HTTP. Loopback, unless told otherwise: there is no TLS here.
    pub listen: SocketAddr,
    /// Where everything is kept.
    pub state_dir: PathBuf,
    /// The one volume type's name.
    pub volume_type: String,
    /// The one availability zone's name.
    pub availability_zone: String,
    /// Who shows volumes to hosts.
    pub targets: Targets,
}

/// The `[targets]` table.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Targets {
    /// The `[targets.tgt]` table.
    pub tgt: Tgt,
}

/// tgtd.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tgt {
    /// Whether to start and watch a tgtd of our own. Otherwise `control_socket` names one that runs.
    pub manage: bool,
    /// The program to start.
    pub program: PathBuf,
    /// Where hosts connect to. Our own tgtd listens there.
    pub portal: SocketAddr,
    /// Further addresses of the same, on other networks: hosts that want several paths are told of all.
    pub extra_portals: Vec<SocketAddr>,
    /// The control socket of a tgtd that somebody else runs.
    pub control_socket: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8776)),
            state_dir: PathBuf::from("/var/lib/bowline-backend"),
            volume_type: "files".into(),
            availability_zone: "nova".into(),
            targets: Targets::default(),
        }
    }
}

impl Default for Tgt {
    fn default() -> Self {
        Self {
            manage: true,
            program: PathBuf::from("tgtd"),
            portal: SocketAddr::from(([127, 0, 0, 1], 3260)),
            extra_portals: Vec::new(),
            control_socket: PathBuf::from("/var/run/tgtd/socket.0"),
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
        let tgt = &self.targets.tgt;
        let portals = tgt.extra_portals.iter().map(|portal| ("targets.tgt.extra_portals", portal));
        for (key, portal) in [("targets.tgt.portal", &tgt.portal)].into_iter().chain(portals) {
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
        Ok(())
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
}
