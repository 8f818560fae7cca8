//! Where backups are kept.

use std::path::PathBuf;

use serde::Deserialize;

/// The `[backup]` table. All backup services and volume hosts of an installation are told the same.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackupConfig {
    /// What keeps them.
    pub store: BackupStore,
    /// For `directory`: where; `STATE_DIR/backups` where it is not said. Shared by all roles where they run apart.
    pub directory: Option<PathBuf>,
    /// For `s3`: where, and as whom.
    pub s3: S3Config,
    /// For `swift`: where, and as whom.
    pub swift: SwiftConfig,
}

/// What keeps backups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupStore {
    /// A directory, perhaps of a file server.
    #[default]
    Directory,
    /// What speaks Amazon's S3.
    S3,
    /// OpenStack's object store.
    Swift,
}

/// The `[backup.s3]` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Config {
    /// `https://host[:port]`; the bucket comes after it in the path.
    pub endpoint: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The bucket, which must be there.
    pub bucket: String,
    /// The access key's id.
    pub access_key_id: String,
    /// The file with its secret.
    pub secret_key_file: PathBuf,
}

impl Default for S3Config {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            region: "us-east-1".into(),
            bucket: String::new(),
            access_key_id: String::new(),
            secret_key_file: PathBuf::new(),
        }
    }
}

/// The `[backup.swift]` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SwiftConfig {
    /// Keystone, `https://host:5000/v3`; or Swift's own `…/auth/v1.0`.
    pub auth_url: String,
    /// As whom; `account:user` for Swift's own.
    pub username: String,
    /// The file with the password, or the key.
    pub password_file: PathBuf,
    /// The project of that user, for Keystone.
    pub project_name: String,
    /// The domain of that user, by its name.
    pub user_domain_name: String,
    /// The domain of that project, by its name.
    pub project_domain_name: String,
    /// The region in Keystone's catalog; the first where it is empty.
    pub region: String,
    /// The container, made where it is not there.
    pub container: String,
}

impl Default for SwiftConfig {
    fn default() -> Self {
        Self {
            auth_url: String::new(),
            username: String::new(),
            password_file: PathBuf::new(),
            project_name: "service".into(),
            user_domain_name: "Default".into(),
            project_domain_name: "Default".into(),
            region: String::new(),
            container: "volumebackups".into(),
        }
    }
}

impl BackupConfig {
    /// The key that lacks a value, and what it should have, where the store cannot work without.
    pub(super) fn problem(&self) -> Option<(&'static str, &'static str)> {
        let http = |url: &str| url.starts_with("http://") || url.starts_with("https://");
        match self.store {
            BackupStore::Directory if self.directory.as_ref().is_some_and(|path| !path.is_absolute()) => {
                Some(("backup.directory", "must be an absolute path"))
            }
            BackupStore::Directory => None,
            BackupStore::S3 if !http(&self.s3.endpoint) => Some(("backup.s3.endpoint", "must be an http:// or https:// URL")),
            BackupStore::S3 if self.s3.bucket.is_empty() => Some(("backup.s3.bucket", "must name a bucket")),
            BackupStore::S3 if self.s3.access_key_id.is_empty() => {
                Some(("backup.s3.access_key_id", "must name the key whose secret is in backup.s3.secret_key_file"))
            }
            BackupStore::S3 => None,
            BackupStore::Swift if !http(&self.swift.auth_url) => {
                Some(("backup.swift.auth_url", "must be an http:// or https:// URL"))
            }
            BackupStore::Swift if self.swift.username.is_empty() || self.swift.container.is_empty() => {
                Some(("backup.swift.username and container", "must not be empty"))
            }
            BackupStore::Swift => None,
        }
    }
}
