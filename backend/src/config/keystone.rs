//! Who knows the users, where it is not the service itself.

use std::path::PathBuf;

use serde::Deserialize;

use super::ConfigError;
use crate::secret::Secret;

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
    /// The region whose services are asked, where its catalog has several; any where it is empty.
    pub region: String,
    /// The domain of that user, by its name.
    pub user_domain_name: String,
    /// The domain of that project, by its name.
    pub project_domain_name: String,
    /// How long what it says of a token is believed, in seconds, at most 300: a revoked token works no longer than that, and none
    /// longer than it lives.
    pub cache_s: u64,
}

/// No answer about a token is believed for longer, in seconds: the field's default.
const LONGEST_CACHE_S: u64 = 300;

impl Keystone {
    /// What cannot work: the key and what is wrong with it.
    pub(super) fn problem(&self) -> Option<(&'static str, &'static str)> {
        if self.auth_url.is_empty() {
            return None;
        }
        if self.password_file.as_os_str().is_empty() {
            return Some(("keystone.password_file", "must name the file with the password of keystone.username"));
        }
        (self.cache_s > LONGEST_CACHE_S)
            .then_some(("keystone.cache_s", "must be at most 300: so long would a revoked token work"))
    }

    /// The password of the user.
    pub fn password(&self) -> Result<Secret, ConfigError> {
        let read = std::fs::read_to_string(&self.password_file);
        let path = self.password_file.clone();
        let text = read.map_err(|source| ConfigError::Named { key: "keystone.password_file", path, source })?;
        Ok(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

impl Default for Keystone {
    fn default() -> Self {
        Self {
            auth_url: String::new(),
            username: "cinder".into(),
            password_file: PathBuf::new(),
            project_name: "service".into(),
            region: String::new(),
            user_domain_name: "Default".into(),
            project_domain_name: "Default".into(),
            cache_s: 60,
        }
    }
}
