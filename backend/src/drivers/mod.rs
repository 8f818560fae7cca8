//! Storage drivers: who keeps the bytes of volumes. One trait, one file a driver.

mod files;

use std::path::PathBuf;

use futures_util::future::BoxFuture;
use uuid::Uuid;

pub use files::FilesDriver;

/// Keeps the bytes of volumes. Every operation can be repeated: work that was cut off is simply done again.
pub trait VolumeDriver: Send + Sync {
    /// Makes a volume of `size_bytes`, all zeros. Where it exists already with that size, nothing happens.
    fn create(&self, id: Uuid, size_bytes: u64) -> BoxFuture<'_, Result<(), DriverError>>;

    /// Enlarges a volume to `size_bytes`; what is added is all zeros. Where it has that size or more, nothing happens: what
    /// somebody may have written is never cut off.
    fn extend(&self, id: Uuid, size_bytes: u64) -> BoxFuture<'_, Result<(), DriverError>>;

    /// The size it has now, bytes.
    fn size_bytes(&self, id: Uuid) -> BoxFuture<'_, Result<u64, DriverError>>;

    /// Removes a volume. Where there is none, nothing happens.
    fn delete(&self, id: Uuid) -> BoxFuture<'_, Result<(), DriverError>>;

    /// Where a target on this machine finds the volume.
    fn path(&self, id: Uuid) -> PathBuf;
}

/// A storage operation that failed.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// A file operation failed.
    #[error("volume {volume_id}: cannot {operation} {}", path.display())]
    File {
        /// The volume.
        volume_id: Uuid,
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something else already has the volume's place, and it may hold data.
    #[error("volume {volume_id}: {} exists with {found_bytes} bytes instead of {wanted_bytes}", path.display())]
    Occupied {
        /// The volume.
        volume_id: Uuid,
        /// Its place.
        path: PathBuf,
        /// What is there.
        found_bytes: u64,
        /// What was to be made.
        wanted_bytes: u64,
    },
}
