//! Settings of the image store.

use std::path::PathBuf;

use serde::Deserialize;

/// The `[images]` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Images {
    /// A Glance to use in place of the service's own images, `http://host:9292`; none where it is empty.
    pub glance_url: String,
    /// Where images are kept; `STATE_DIR/images` where it is not said. Shared by all roles where they run apart.
    pub directory: Option<PathBuf>,
    /// The largest image that is taken, in GiB.
    pub largest_gib: u64,
    /// The largest disk that an image may unfold to, in GiB.
    pub largest_disk_gib: u64,
    /// Of so many images a backend keeps a volume that others are cloned from; 0 is none.
    pub cached: u32,
}

impl Images {
    /// What cannot work: the key and what is wrong with it.
    pub(super) fn problem(&self) -> Option<(&'static str, &'static str)> {
        if self.directory.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Some(("images.directory", "must be an absolute path, for qemu-img is told paths in it"));
        }
        let url = &self.glance_url;
        let http = url.is_empty() || url.starts_with("http://") || url.starts_with("https://");
        (!http).then_some(("images.glance_url", "must be an http:// or https:// URL"))
    }
}

impl Default for Images {
    fn default() -> Self {
        Self { glance_url: String::new(), directory: None, largest_gib: 1024, largest_disk_gib: 16_384, cached: 16 }
    }
}
