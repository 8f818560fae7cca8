//! A volume type: a name for what a volume's place must be able to do.

use std::collections::BTreeMap;

use super::encryption::TypeEncryption;

/// One type.
#[derive(Clone, Debug, PartialEq)]
pub struct VolumeType {
    /// Its id.
    pub id: String,
    /// Its name, unique.
    pub name: String,
    /// Words about it.
    pub description: Option<String>,
    /// Whether every project may use it.
    pub is_public: bool,
    /// What a pool must offer, in the scheduler's language, and what drivers are told.
    pub extra_specs: BTreeMap<String, String>,
    /// Its quality-of-service specs.
    pub qos_specs_id: Option<String>,
    /// How its volumes are encrypted, where they are.
    pub encryption: Option<TypeEncryption>,
}

impl VolumeType {
    /// Whether volumes of it may be held by several attachments at once.
    pub fn multiattach(&self) -> bool {
        self.extra_specs.get("multiattach").is_some_and(|value| value.eq_ignore_ascii_case("<is> true"))
    }
}
