//! The `[backends.NAME.nfs]` table: a directory of an NFS server.

use serde::Deserialize;

/// In which format a volume's file is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    /// The volume's bytes as they are, with holes.
    #[default]
    Raw,
    /// qcow2.
    Qcow2,
}

impl FileFormat {
    /// As QEMU and hosts know it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// What a backend with the NFS driver keeps its files on. Its `directory` says where that is mounted already; without one the
/// service mounts it below its state directory.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Nfs {
    /// `SERVER:/PATH`; an IPv6 address in brackets.
    pub share: String,
    /// Options of `mount`, for hosts and for the service.
    pub mount_options: String,
    /// In which format volumes are made.
    pub format: FileFormat,
}

impl Nfs {
    /// What cannot work: the key and what is wrong with it.
    pub(super) fn problem(&self) -> Option<(&'static str, &'static str)> {
        let plain = |text: &str| !text.starts_with('-') && !text.chars().any(|char| char.is_whitespace() || char.is_control());
        let parts = self.share.split_once(":/");
        if !plain(&self.share) || parts.is_none_or(|(server, _)| server.is_empty()) {
            return Some(("backends.*.nfs.share", "must be SERVER:/PATH"));
        }
        if !plain(&self.mount_options) {
            return Some(("backends.*.nfs.mount_options", "must be options separated by commas, as after `mount -o`"));
        }
        None
    }
}
