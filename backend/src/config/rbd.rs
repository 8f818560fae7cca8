//! The `[backends.NAME.rbd]` table: a pool of a Ceph cluster.

use std::path::PathBuf;

use serde::Deserialize;
use uuid::Uuid;

/// Where a backend with the RBD driver keeps its images, and as whom.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rbd {
    /// The pool.
    pub pool: String,
    /// The namespace in it; none where it is empty.
    pub namespace: String,
    /// The service's user, without `client.`.
    pub user: String,
    /// The cluster's configuration, for its monitors.
    pub conf_file: PathBuf,
    /// The user's keyring; where it is empty, what the configuration names, mostly `/etc/ceph/ceph.client.USER.keyring`.
    pub keyring_file: PathBuf,
    /// What hosts call the cluster.
    pub cluster_name: String,
    /// The libvirt secret under which hosts know the user's key, told to them; the key itself never is.
    pub secret_uuid: Option<Uuid>,
    /// Whether each attachment gets a Ceph user of its own, whose key opens its image alone and goes with it.
    pub attachment_keys: bool,
    /// A volume with more ancestors than this is made to stand on its own when it is made.
    pub max_clone_depth: u32,
    /// Whether a volume from a snapshot is made to stand on its own when it is made.
    pub flatten_from_snapshot: bool,
}

impl Default for Rbd {
    fn default() -> Self {
        Self {
            // The field's names.
            pool: "volumes".into(),
            namespace: String::new(),
            user: "cinder".into(),
            conf_file: PathBuf::from("/etc/ceph/ceph.conf"),
            keyring_file: PathBuf::new(),
            cluster_name: "ceph".into(),
            secret_uuid: None,
            attachment_keys: false,
            // The field's default.
            max_clone_depth: 5,
            flatten_from_snapshot: false,
        }
    }
}

impl Rbd {
    /// What cannot work: the key and what is wrong with it.
    pub(super) fn problem(&self) -> Option<(&'static str, &'static str)> {
        let words = [
            ("backends.*.rbd.pool", &self.pool, true),
            ("backends.*.rbd.namespace", &self.namespace, false),
            ("backends.*.rbd.user", &self.user, true),
            ("backends.*.rbd.cluster_name", &self.cluster_name, true),
        ];
        for (key, word, needed) in words {
            if needed && word.is_empty() {
                return Some((key, "must not be empty"));
            }
            if !word.is_empty() && !is_plain(word) {
                return Some((key, "must be of letters, digits, `.`, `_` and `-`, and begin with a letter or a digit"));
            }
        }
        let paths = [("backends.*.rbd.conf_file", &self.conf_file), ("backends.*.rbd.keyring_file", &self.keyring_file)];
        let relative = |path: &PathBuf| !path.as_os_str().is_empty() && !path.is_absolute();
        let found = paths.into_iter().find(|(_, path)| relative(path));
        found.map(|(key, _)| (key, "must be an absolute path"))
    }
}

/// It becomes part of an image's spec, of a user's rights and of an argument.
fn is_plain(word: &str) -> bool {
    word.starts_with(|char: char| char.is_ascii_alphanumeric())
        && word.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '.' | '_' | '-'))
}
