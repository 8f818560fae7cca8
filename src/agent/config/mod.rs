//! The agent's settings, in three stages: fragments as written ([`inputs`]), merged, then checked ([`settings`]).
//!
//! Fragments are `*.toml` files in `/usr/lib/bowline/bowlined.d` and `/etc/bowline/bowlined.d`. They are read in the order
//! of their file names over both folders; a file in `/etc` hides the one of the same name in `/usr/lib`; a key in a later
//! fragment wins over an earlier one. An unknown key is an error that names file and line.

mod guest;
mod images;
mod inputs;
mod settings;

pub use guest::{GuestSettings, KeyManagerSettings};
pub use images::{EphemeralDisks, ImageSettings, RbdDisks};
pub use inputs::{Initiator, Multipath, RbdClient};
pub use settings::{
    CloudSettings, HealthSettings, IscsiSettings, LibvirtSettings, MetricsListen, NfsSettings, OperationSettings, PathSettings,
    RbdSettings, Settings, VolumeSettings,
};

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Where fragments are looked for, the least important folder first.
pub const FRAGMENT_DIRS: [&str; 2] = ["/usr/lib/bowline/bowlined.d", "/etc/bowline/bowlined.d"];

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A folder or file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// Folder or file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// A fragment is not what it should be.
    #[error("{path}, line {line}: {message}")]
    Parse {
        /// File.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A value is out of range or contradicts another.
    #[error("{key}: {message} (merged from the fragments in {dirs})")]
    Invalid {
        /// Key such as `iscsi.login_timeout_s`.
        key: &'static str,
        /// What is wrong.
        message: String,
        /// Folders that were read.
        dirs: String,
    },
}

/// Reads, merges and checks the fragments of these folders. A folder that does not exist holds nothing.
pub fn load(dirs: &[PathBuf]) -> Result<Settings, ConfigError> {
    let mut files: BTreeMap<std::ffi::OsString, PathBuf> = BTreeMap::new();
    for dir in dirs {
        for path in fragments(dir)? {
            if let Some(name) = path.file_name() {
                files.insert(name.to_owned(), path);
            }
        }
    }
    let mut merged = inputs::Inputs::default();
    for path in files.values() {
        merged.merge(parse(path)?);
    }
    Settings::check(merged).map_err(|(key, message)| ConfigError::Invalid {
        key,
        message,
        dirs: dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", "),
    })
}

fn fragments(dir: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let read_error = |source| ConfigError::Read { path: dir.to_owned(), source };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(read_error(error)),
    };
    let mut paths = vec![];
    for entry in entries {
        let path = entry.map_err(read_error)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn parse(path: &Path) -> Result<inputs::Inputs, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start).min(text.len());
        let line = text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
        ConfigError::Parse { path: path.to_owned(), line, message: error.message().to_owned() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn nothing_written_gives_the_defaults() {
        let settings = load(&[PathBuf::from("/nonexistent")]).unwrap();
        assert_eq!(settings.paths.state_dir, PathBuf::from("/var/lib/bowline"));
        assert_eq!(settings.libvirt_uri(), "qemu:///system");
    }

    #[test]
    fn a_later_fragment_wins_key_by_key_and_etc_hides_its_namesake() {
        let usr = dir_with(&[
            ("10-a.toml", "[libvirt]\nuri = \"test:///a\"\ndetach_timeout_s = 7\n"),
            ("20-b.toml", "[guest]\ndisk_bus = \"scsi\"\n"),
        ]);
        let etc = dir_with(&[("20-b.toml", "[libvirt]\nuri = \"test:///b\"\n"), ("ignored.conf", "nonsense")]);
        let settings = load(&[usr.path().into(), etc.path().into()]).unwrap();
        assert_eq!(settings.libvirt_uri(), "test:///b");
        assert_eq!(settings.libvirt.detach_timeout_s, 7);
        assert_eq!(settings.guest.disk_bus, crate::model::DiskBus::Virtio);
    }

    #[test]
    fn a_wrong_key_is_told_with_file_and_line() {
        let dir = dir_with(&[("a.toml", "[iscsi]\n\nlogin_timeout = 3\n")]);
        let error = load(&[dir.path().into()]).unwrap_err().to_string();
        assert!(error.contains("a.toml, line 3") && error.contains("login_timeout"), "{error}");
    }

    #[test]
    fn a_wrong_type_and_broken_toml_are_told_with_file_and_line() {
        for (text, line) in [("[iscsi]\nlogin_timeout_s = \"x\"\n", 2), ("[iscsi\n", 1), ("\n[iscsi]\ninitiator = \"fc\"\n", 3)]
        {
            let dir = dir_with(&[("a.toml", text)]);
            let error = load(&[dir.path().into()]).unwrap_err().to_string();
            assert!(error.contains(&format!("a.toml, line {line}:")), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_value_out_of_range_names_its_key() {
        let dir = dir_with(&[("a.toml", "[libvirt]\ndetach_timeout_s = 0\n")]);
        let error = load(&[dir.path().into()]).unwrap_err().to_string();
        assert!(error.starts_with("libvirt.detach_timeout_s:"), "{error}");
    }
}
