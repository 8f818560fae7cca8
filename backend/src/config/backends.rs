//! Where volumes are kept.

use std::path::PathBuf;

use serde::Deserialize;

/// Which storage driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriverKind {
    /// Sparse files.
    #[default]
    Files,
}

/// A `[backends.NAME]` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backend {
    /// Which storage driver.
    pub driver: DriverKind,
    /// Where the files driver keeps its files; `STATE_DIR/volumes` for the first backend that does not say.
    pub directory: Option<PathBuf>,
    /// What types ask for as `volume_backend_name`; the table's name where it is empty.
    pub backend_name: String,
    /// How many times its size may be promised.
    pub max_over_subscription_ratio: f64,
    /// So much of it, in percent, is not given out.
    pub reserved_percentage: u32,
}

impl Default for Backend {
    fn default() -> Self {
        Self {
            driver: DriverKind::default(),
            directory: None,
            backend_name: String::new(),
            // The field's default.
            max_over_subscription_ratio: 20.0,
            reserved_percentage: 0,
        }
    }
}
