//! What can go wrong with images and disks of this host.

use super::{inspect::Unfit, rbd::PoolError};
use crate::{
    command::CommandError,
    model::{ErrorKind, ImageId},
};
use std::{io, path::PathBuf};

/// An error of the image cache or of ephemeral disks.
#[derive(Debug, thiserror::Error)]
pub enum BootSourceError {
    /// The image service did not give the image's bytes.
    #[error("image {image} could not be downloaded: {problem}")]
    Download {
        /// Which image.
        image: ImageId,
        /// What the image service, or the way to it, said.
        problem: String,
        /// Its kind.
        kind: ErrorKind,
    },
    /// The bytes are not those that the image service has a digest of.
    #[error(
        "image {image} is damaged or was changed: what came has {what} {found}, and the image service says {wanted}; it was thrown away"
    )]
    Mismatch {
        /// Which image.
        image: ImageId,
        /// `sha512`, `length`, …
        what: &'static str,
        /// What it is.
        found: String,
        /// What it should be.
        wanted: String,
    },
    /// The bytes must not become a disk.
    #[error("image {image} is refused: {source}")]
    Unfit {
        /// Which image.
        image: ImageId,
        /// What they are.
        source: Unfit,
    },
    /// There is no room, and nothing that could make way.
    #[error(
        "image {image} of {size_bytes} bytes does not fit into the image cache (images.limit_gib, {limit_bytes} bytes): what is there is in use"
    )]
    NoRoom {
        /// Which image.
        image: ImageId,
        /// Its size.
        size_bytes: u64,
        /// The most that the cache may hold.
        limit_bytes: u64,
    },
    /// The disk asked for is smaller than what is to be on it.
    #[error("disk {target} of {asked_bytes} bytes is too small: image {image} has a disk of {virtual_bytes} bytes")]
    TooSmall {
        /// Target name.
        target: String,
        /// Which image.
        image: ImageId,
        /// What was asked for.
        asked_bytes: u64,
        /// What the image needs.
        virtual_bytes: u64,
    },
    /// A file of this host could not be dealt with.
    #[error("cannot {operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// Which file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A tool did not end by itself.
    #[error("disk {target} could not be made")]
    Tool {
        /// Target name.
        target: String,
        /// What became of it.
        #[source]
        source: CommandError,
    },
    /// A tool could not make the disk.
    #[error("disk {target} could not be made: {program} said: {said}")]
    ToolFailed {
        /// Target name.
        target: String,
        /// Which program.
        program: &'static str,
        /// Its words.
        said: String,
    },
    /// The volume group is not there.
    #[error(
        "the agent sees no volume group {group} on this host ({said}): where `vgs` shows it, the agent's unit lacks the drop-in bowlined-lvm.conf, \
         or its disks came over the network; else `vgcreate {group} DEVICE` makes it, and images.volume_group names another"
    )]
    NoVolumeGroup {
        /// Its name.
        group: String,
        /// LVM's words.
        said: String,
    },
    /// The thin pool has no room.
    #[error(
        "thin pool {group}/{pool} is full: {percent} % of its data or metadata are taken, and one that runs full stops all guests that have disks in \
         it: `lvextend` makes it larger"
    )]
    PoolFull {
        /// The volume group.
        group: String,
        /// The pool.
        pool: String,
        /// Percent that are taken.
        percent: f64,
    },
    /// The thin pool is not there.
    #[error(
        "volume group {group} has no thin pool {pool}: `lvcreate --type thin-pool --extents 90%FREE --name {pool} {group}` makes it, and \
         images.thin_pool names another"
    )]
    NoThinPool {
        /// The volume group.
        group: String,
        /// The pool.
        pool: String,
    },
    /// A guest would be shown what another wrote.
    #[error(
        "thin pool {group}/{pool} does not zero what it gives out, so a disk of it would show what others held: `lvchange --zero y \
         {group}/{pool}` mends it"
    )]
    NotZeroed {
        /// The volume group.
        group: String,
        /// The pool.
        pool: String,
    },
    /// Somebody else has the name.
    #[error("logical volume {volume} is not Bowline's, for it has not the tag {tag}: it is left alone; rename or remove it")]
    ForeignVolume {
        /// `group/name`.
        volume: String,
        /// What Bowline's have.
        tag: &'static str,
    },
    /// A command of LVM did not end by itself.
    #[error("cannot {operation} logical volume {volume}{}", if matches!(source, CommandError::Start { .. }) { " (apt-get install lvm2)" } else { "" })]
    LvmCommand {
        /// What was tried.
        operation: &'static str,
        /// `group/name`.
        volume: String,
        /// What became of it.
        #[source]
        source: CommandError,
    },
    /// LVM refused.
    #[error("cannot {operation} logical volume {volume}: {program} said: {said}")]
    Lvm {
        /// What was tried.
        operation: &'static str,
        /// `group/name`.
        volume: String,
        /// Which program.
        program: &'static str,
        /// Its words.
        said: String,
    },
    /// An ephemeral disk on RBD.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// What was to be taken away may be needed.
    #[error("{} is left alone: {why}", path.display())]
    Kept {
        /// File, or device.
        path: PathBuf,
        /// What keeps it.
        why: String,
    },
    /// A part of the work was lost with its thread.
    #[error("the work on {} ended without a word", path.display())]
    Lost {
        /// On which file.
        path: PathBuf,
    },
}

impl BootSourceError {
    /// What sort of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Download { kind, .. } => *kind,
            Self::Mismatch { .. } => ErrorKind::IdentityMismatch,
            Self::Unfit { source, .. } => source.kind(),
            Self::NoRoom { .. } | Self::PoolFull { .. } | Self::ForeignVolume { .. } | Self::Kept { .. } => ErrorKind::Conflict,
            Self::NoVolumeGroup { .. } | Self::NoThinPool { .. } | Self::NotZeroed { .. } => ErrorKind::Unsupported,
            Self::TooSmall { .. } => ErrorKind::InvalidInput,
            Self::Pool(error) => error.kind(),
            Self::File { .. } | Self::ToolFailed { .. } | Self::Lvm { .. } | Self::Lost { .. } => ErrorKind::Internal,
            Self::Tool { source, .. } | Self::LvmCommand { source, .. } => match source {
                CommandError::Start { .. } => ErrorKind::Unsupported,
                CommandError::Timeout { .. } => ErrorKind::Timeout,
                CommandError::Wait { .. } => ErrorKind::Internal,
            },
        }
    }

    pub(super) fn file(operation: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { operation, path, source }
    }
}
