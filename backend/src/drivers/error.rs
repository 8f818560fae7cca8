//! Why storage could not do something.

use std::path::PathBuf;

use uuid::Uuid;

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
    /// A copy would mix bytes of different moments.
    #[error(
        "volume {volume_id} is in use and its file system cannot clone files (FICLONE), so a copy would not be consistent; detach \
         it first, or keep volumes on XFS or Btrfs"
    )]
    Inconsistent {
        /// The volume.
        volume_id: Uuid,
    },
    /// The storage cannot do this.
    #[error("volume {volume_id}: this storage cannot {operation}")]
    Unsupported {
        /// The volume.
        volume_id: Uuid,
        /// What was asked for.
        operation: &'static str,
    },
    /// The pieces to be written did not come, or do not fit.
    #[error("volume {volume_id}: cannot read what is to be written to it")]
    Source {
        /// The volume.
        volume_id: Uuid,
        /// Why.
        source: std::io::Error,
    },
    /// LVM could not do it.
    #[error(transparent)]
    Lvm(#[from] super::LvmError),
}
