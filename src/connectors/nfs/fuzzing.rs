//! Ways in for the fuzz targets: mount options and the mount table.

use super::{NfsError, mountinfo, options};
use std::path::Path;

/// The options of a mount, of what the configuration and the service ask for.
///
/// # Errors
/// An option that is not allowed.
pub fn mount_options(configured: Option<&str>, asked: Option<&str>) -> Result<String, NfsError> {
    options::of_mount(configured, asked)
}

/// File system and source of what a mount table says is mounted there.
pub fn mounted(table: &[u8], mount_point: &Path) -> Option<(String, String)> {
    mountinfo::find(table, mount_point).map(|found| (found.kind, found.source))
}
