//! Backstores: a volume's bytes as the kernel's targets have them. A block device is an `iblock`, a file a `fileio`.
//!
//! Its name, `bowline-<owner>-<volume id>`, is what says that a target is this service's: the targets' own names are those of the
//! field, and another volume service on this machine may have some as well. It is made before its target and removed after it.

use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use tracing::debug;
use uuid::Uuid;

use super::configfs;
use super::error::LioError;
use crate::targets::Export;

/// What the LUN says of itself: 8 and 16 characters at most, by SCSI.
const VENDOR: &str = "BOWLINE";
const PRODUCT: &str = "VOLUME";

/// What the kernel puts before a serial when it is read.
const SERIAL_HEADING: &str = "T10 VPD Unit Serial Number: ";

/// The backstores of one service.
#[derive(Clone, Debug)]
pub(super) struct Backstores {
    /// `/sys/kernel/config/target/core`.
    pub(super) core: PathBuf,
    /// `bowline-<owner>-`.
    pub(super) prefix: String,
}

/// What a volume's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bytes {
    Device,
    /// A file of this size.
    File(u64),
}

impl Backstores {
    /// Makes sure that a volume's backstore is there; gives it.
    pub(super) fn ensure(&self, export: &Export) -> Result<PathBuf, LioError> {
        let bytes = bytes_at(&export.path)?;
        let kind = if bytes == Bytes::Device { "iblock" } else { "fileio" };
        // A folder of its own for each, so that there is nothing to count: the number is the volume's.
        let adapter = self.core.join(format!("{kind}_{}", export.target_id));
        let store = adapter.join(self.name(export.volume_id));
        configfs::make(&adapter)?;
        configfs::make(&store)?;
        let place = export.path.to_string_lossy();
        if configfs::get(&store.join("enable"))? == "1" {
            let shown = configfs::get(&store.join("udev_path"))?;
            if shown != place {
                return Err(LioError::Foreign { path: store, problem: format!("it shows {shown} instead of {place}") });
            }
        } else {
            let control = match bytes {
                Bytes::Device => format!("udev_path={place}"),
                // Cached, as tgtd has it: a host that wants its writes to be safe says so.
                Bytes::File(size_bytes) => format!("fd_dev_name={place},fd_dev_size={size_bytes},fd_buffered_io=1"),
            };
            configfs::set(&store.join("control"), &control)?;
            configfs::set(&store.join("udev_path"), &place)?;
            configfs::set(&store.join("enable"), "1")?;
        }
        identify(&store, &export.scsi_serial())?;
        Ok(store)
    }

    /// Has the kernel see the size that a volume's bytes have now. It asks a device whenever it wants to know.
    pub(super) fn grow(&self, export: &Export) -> Result<(), LioError> {
        let Bytes::File(size_bytes) = bytes_at(&export.path)? else { return Ok(()) };
        for store in self.of_volume(export.volume_id)? {
            configfs::set(&store.join("control"), &format!("fd_dev_size={size_bytes}"))?;
        }
        Ok(())
    }

    /// Removes a volume's backstore, which no target may use.
    pub(super) fn remove(&self, volume_id: Uuid) -> Result<(), LioError> {
        for store in self.of_volume(volume_id)? {
            configfs::remove(&store)?;
            if let Some(adapter) = store.parent() {
                configfs::remove_if_empty(adapter)?;
            }
        }
        Ok(())
    }

    /// Whose volumes have one.
    pub(super) fn volumes(&self) -> Result<Vec<Uuid>, LioError> {
        let stores = self.all()?;
        Ok(stores.iter().filter_map(|store| configfs::name(store).strip_prefix(&self.prefix)?.parse().ok()).collect())
    }

    /// Whether this is the backstore of a volume.
    pub(super) fn is_of(&self, store: &Path, volume_id: Uuid) -> bool {
        configfs::name(store) == self.name(volume_id)
    }

    fn of_volume(&self, volume_id: Uuid) -> Result<Vec<PathBuf>, LioError> {
        let mut stores = self.all()?;
        stores.retain(|store| self.is_of(store, volume_id));
        Ok(stores)
    }

    fn all(&self) -> Result<Vec<PathBuf>, LioError> {
        let mut stores = Vec::new();
        for adapter in configfs::objects(&self.core)? {
            if ["iblock_", "fileio_"].iter().any(|kind| configfs::name(&adapter).starts_with(kind)) {
                stores.extend(configfs::objects(&adapter)?);
            }
        }
        Ok(stores)
    }

    fn name(&self, volume_id: Uuid) -> String {
        format!("{}{volume_id}", self.prefix)
    }
}

/// Gives the LUN its identity. The kernel takes none once hosts can see it, so what is right is left alone.
fn identify(store: &Path, serial: &str) -> Result<(), LioError> {
    let wwn = store.join("wwn");
    let attribute = wwn.join("vpd_unit_serial");
    if configfs::get(&attribute)?.strip_prefix(SERIAL_HEADING) == Some(serial) {
        return Ok(());
    }
    // Not all kernels let a target say who made it, nor do all devices take back what a guest discards.
    let optional =
        [(wwn.join("vendor_id"), VENDOR), (wwn.join("product_id"), PRODUCT), (store.join("attrib/emulate_tpu"), "1")];
    for (attribute, value) in optional {
        if let Err(error) = configfs::set(&attribute, value) {
            debug!("{error}: {}", error.source);
        }
    }
    // The last, so that it says that all is done.
    Ok(configfs::set(&attribute, serial)?)
}

fn bytes_at(path: &Path) -> Result<Bytes, LioError> {
    let found = std::fs::metadata(path).map_err(|source| LioError::Bytes { path: path.to_owned(), source })?;
    if found.file_type().is_block_device() {
        Ok(Bytes::Device)
    } else if found.is_file() {
        Ok(Bytes::File(found.len()))
    } else {
        Err(LioError::Kind { path: path.to_owned() })
    }
}
