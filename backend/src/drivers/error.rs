//! Why storage could not do something.

use std::path::PathBuf;

use uuid::Uuid;

use super::LvmError;
use crate::command::CommandError;

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
    /// A tool of the storage failed.
    #[error("volume {volume_id}: cannot {operation}")]
    Tool {
        /// The volume.
        volume_id: Uuid,
        /// What was tried.
        operation: &'static str,
        /// Why.
        source: CommandError,
    },
    /// What a tool of the storage reads or writes as a stream was cut off.
    #[error("volume {volume_id}: {what}")]
    Stream {
        /// The volume.
        volume_id: Uuid,
        /// What is wrong.
        what: &'static str,
    },
    /// Nothing of the storage can be used. Says what mends it.
    #[error("{problem}")]
    Unready {
        /// What is wrong and what to do.
        problem: String,
        /// What was heard, where it was asked.
        source: Option<CommandError>,
    },
    /// LVM could not do it.
    #[error(transparent)]
    Lvm(#[from] LvmError),
}

impl DriverError {
    /// Whether what has the place may be somebody else's: it is left alone then.
    pub(crate) fn is_about_anothers(&self) -> bool {
        matches!(self, Self::Occupied { .. } | Self::Lvm(LvmError::Foreign { .. }))
    }

    /// What is to be written goes beyond the end of the volume.
    pub(super) fn too_large(volume_id: Uuid) -> Self {
        let source = std::io::Error::new(std::io::ErrorKind::FileTooLarge, "it is larger than the volume");
        Self::Source { volume_id, source }
    }
}
