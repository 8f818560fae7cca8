//! Where volumes are kept.

use std::path::PathBuf;

use serde::Deserialize;

use super::{ConfigError, Nfs, Rbd};
use crate::domain::place::ISCSI;

/// Which storage driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriverKind {
    /// Sparse files.
    #[default]
    Files,
    /// Images of a Ceph cluster.
    Rbd,
    /// Files on an NFS server.
    Nfs,
    /// An LVM thin pool.
    Lvm,
}

/// A `[backends.NAME.lvm]` table.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lvm {
    /// The volume group.
    pub volume_group: String,
    /// The thin pool in it.
    pub thin_pool: String,
}

/// A `[backends.NAME]` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backend {
    /// Which storage driver.
    pub driver: DriverKind,
    /// Where the files driver keeps its files; `STATE_DIR/volumes` for the first backend that does not say. Where the NFS
    /// driver's share is mounted already.
    pub directory: Option<PathBuf>,
    /// Where the LVM driver keeps its volumes.
    pub lvm: Lvm,
    /// What types ask for as `volume_backend_name`; the table's name where it is empty.
    pub backend_name: String,
    /// How many times its size may be promised.
    pub max_over_subscription_ratio: f64,
    /// So much of it, in percent, is not given out.
    pub reserved_percentage: u32,
    /// What the RBD driver is told.
    pub rbd: Rbd,
    /// What the NFS driver is told.
    pub nfs: Nfs,
}

impl Lvm {
    /// Refuses what LVM takes as no name, and what would be taken as an option.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (key, name) in [("backends.*.lvm.volume_group", &self.volume_group), ("backends.*.lvm.thin_pool", &self.thin_pool)]
        {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'_' | b'.' | b'-');
            if name.is_empty() || name.starts_with(['-', '.']) || !name.bytes().all(allowed) {
                let problem =
                    "must name one that exists, of letters, digits, +, _, . and - (`vgs`, `lvs`), where driver = \"lvm\"";
                return Err(ConfigError::Value { key, problem });
            }
        }
        Ok(())
    }
}

impl Default for Backend {
    fn default() -> Self {
        Self {
            driver: DriverKind::default(),
            directory: None,
            lvm: Lvm::default(),
            backend_name: String::new(),
            // The field's default.
            max_over_subscription_ratio: 20.0,
            reserved_percentage: 0,
            rbd: Rbd::default(),
            nfs: Nfs::default(),
        }
    }
}

impl DriverKind {
    /// How hosts get at its volumes, in the field's words.
    pub fn storage_protocol(self) -> &'static str {
        match self {
            Self::Files | Self::Lvm => ISCSI,
            Self::Rbd => "ceph",
            Self::Nfs => "nfs",
        }
    }
}

impl Backend {
    /// What its driver could do nothing with: the key and what is wrong with it.
    pub(super) fn problem(&self) -> Option<(&'static str, &'static str)> {
        match self.driver {
            DriverKind::Files | DriverKind::Lvm => None,
            DriverKind::Rbd => self.rbd.problem(),
            DriverKind::Nfs => self.nfs.problem(),
        }
    }
}
