//! Who knows the users, where it is not the service itself.

use std::path::PathBuf;

use serde::Deserialize;

/// The `[keystone]` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keystone {
    /// Where it is, `https://host:5000/v3`; the service's own users where it is empty.
    pub auth_url: String,
    /// As whom this service asks it.
    pub username: String,
    /// The file with that user's password.
    pub password_file: PathBuf,
    /// The project of that user.
    pub project_name: String,
    /// The domain of that user, by its name.
    pub user_domain_name: String,
    /// The domain of that project, by its name.
    pub project_domain_name: String,
    /// How long what it says of a token is believed, in seconds: a revoked token works no longer than that.
    pub cache_s: u64,
}

impl Default for Keystone {
    fn default() -> Self {
        Self {
            auth_url: String::new(),
            username: "cinder".into(),
            password_file: PathBuf::new(),
            project_name: "service".into(),
            user_domain_name: "Default".into(),
            project_domain_name: "Default".into(),
            cache_s: 60,
        }
    }
}
