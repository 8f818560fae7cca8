//! Who has the keys of encrypted volumes.

use std::path::PathBuf;

use serde::Deserialize;

/// The `[key_manager]` table.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyManagerConfig {
    /// Who.
    pub kind: KeyManagerKind,
    /// Where Barbican is, `https://host:9311`; where Keystone's catalog says, where it is empty.
    pub url: String,
    /// The file with the key under which keys are kept in the database; `master_key` in the state directory where it is not said.
    pub master_key_file: Option<PathBuf>,
}

/// Who has the keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyManagerKind {
    /// This service.
    #[default]
    Local,
    /// A Barbican.
    Barbican,
}

impl KeyManagerConfig {
    /// What cannot work: the key and what is wrong with it. `keystone`: a Keystone is configured.
    pub(super) fn problem(&self, keystone: bool) -> Option<(&'static str, &'static str)> {
        if self.kind == KeyManagerKind::Local {
            return (!self.url.is_empty()).then_some(("key_manager.url", "is a Barbican's: say kind = \"barbican\" as well"));
        }
        if !keystone {
            return Some(("key_manager.kind", "needs [keystone] as well: a Barbican believes nobody else's tokens"));
        }
        let wrong = !self.url.is_empty() && !self.url.starts_with("http://") && !self.url.starts_with("https://");
        wrong.then_some(("key_manager.url", "must be an http or https URL, such as https://host:9311"))
    }
}
