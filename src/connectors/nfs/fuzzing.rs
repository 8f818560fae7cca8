//! Ways in for the fuzz targets: mount options, the mount table, and headers of files.

use super::{NfsError, mountinfo, options, qcow2};
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

/// The virtual size in a qcow2 header.
///
/// # Errors
/// Why the file is not taken.
pub fn virtual_size(head: &[u8]) -> Result<u64, &'static str> {
    qcow2::virtual_size(head)
}
