//! Why a volume's host could not do something.

use uuid::Uuid;

use crate::backup::BackupError;
use crate::drivers::DriverError;
use crate::image::{ExportError, OpenError};
use crate::keys::VaultError;
use crate::luks::LuksError;
use crate::nova::NovaError;
use crate::store::StoreError;
use crate::targets::TargetError;

/// A failure on a volume's host.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The database, or a rule asked in it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The storage.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// An image that a volume is to be made from.
    #[error("the image cannot be used")]
    Image(#[from] OpenError),
    /// An image that is to be made from a volume.
    #[error("the volume could not be made an image")]
    Export(#[from] ExportError),
    /// The key of an encrypted volume.
    #[error(transparent)]
    Key(#[from] VaultError),
    /// The container of an encrypted volume.
    #[error("cannot make an encrypted volume")]
    Luks(#[from] LuksError),
    /// The key of an encrypted volume is nowhere.
    #[error("volume {0} is to be encrypted, and its key is not there")]
    NoKey(Uuid),
    /// A backup.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// Nova, which waits to hear of something.
    #[error(transparent)]
    Nova(#[from] NovaError),
    /// The target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Hosts would be held off for too long while it is copied.
    #[error(
        "volume {volume_id} is in use, its file system cannot clone files (FICLONE), and its hosts would wait too long while its {data_mib} \
         MiB of data are copied (targets.tgt.copy_held_max_mib is {limit_mib}); detach it first, or keep volumes on XFS or Btrfs"
    )]
    TooMuchToHold {
        /// The volume.
        volume_id: Uuid,
        /// What it has, MiB.
        data_mib: u64,
        /// The most that is copied so, MiB.
        limit_mib: u64,
    },
    /// Its storage is shown by a target, to initiators.
    #[error("attachment {0}: its host has no iSCSI initiator name, and its volume is reached by iSCSI")]
    NoInitiator(Uuid),
    /// The configuration has no such backend any more.
    #[error("this host has no backend for {host}; is it still in the configuration?")]
    NoBackend {
        /// Where the volume is.
        host: String,
    },
}

/// An error and its causes in one line, for the log.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
