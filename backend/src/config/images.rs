//! Settings of the image store.

use std::path::PathBuf;

use serde::Deserialize;

/// The `[images]` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Images {
    /// Where images are kept; `STATE_DIR/images` where it is not said. Shared by all roles where they run apart.
    pub directory: Option<PathBuf>,
    /// The largest image that is taken, in GiB.
    pub largest_gib: u64,
    /// The largest disk that an image may unfold to, in GiB.
    pub largest_disk_gib: u64,
    /// Of so many images a backend keeps a volume that others are cloned from; 0 is none.
    pub cached: u32,
}

impl Default for Images {
    fn default() -> Self {
        Self { directory: None, largest_gib: 1024, largest_disk_gib: 16_384, cached: 16 }
    }
}
