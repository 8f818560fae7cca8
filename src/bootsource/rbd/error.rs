//! What can go wrong with ephemeral disks on RBD. No text in it holds a key.

use crate::{command::CommandError, model::ErrorKind};
use std::{io, path::PathBuf};

/// A failure at the pool of ephemeral disks. Images are told as `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The keyring cannot be read.
    #[error("cannot read {}, the keyring of client.{user}: put it there for the agent to read, or name it by rbd.keyring_file", file.display())]
    Keyring {
        /// The user, without `client.`.
        user: String,
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The keyring is there without the user's key.
    #[error("keyring {} holds no key for client.{user}: `ceph auth get client.{user}` tells it, and rbd.user names another", file.display())]
    KeyNotInKeyring {
        /// The user, without `client.`.
        user: String,
        /// The file.
        file: PathBuf,
    },
    /// There is no such pool.
    #[error(
        "the Ceph cluster has no pool {pool}: `ceph osd pool create {pool} && rbd pool init {pool}` makes it, and images.rbd_pool names another"
    )]
    NoPool {
        /// Its name.
        pool: String,
    },
    /// There is no such namespace.
    #[error(
        "pool {pool} has no namespace {namespace}: `rbd namespace create {pool}/{namespace}` makes it, and images.rbd_pool names another"
    )]
    NoNamespace {
        /// The pool.
        pool: String,
        /// The namespace.
        namespace: String,
    },
    /// The cluster does not take the user, or does not let it.
    #[error(
        "the Ceph cluster refused client.{user} for {image}: is its key in {}, and are its rights `mon 'profile rbd' osd 'profile rbd \
         pool={pool}'`? {said}", keyring.display()
    )]
    Refused {
        /// The user, without `client.`.
        user: String,
        /// Where its key is.
        keyring: PathBuf,
        /// For what.
        image: String,
        /// The pool.
        pool: String,
        /// Its words.
        said: String,
    },
    /// Nobody answers.
    #[error("cannot {operation} RBD image {image}: the Ceph cluster does not answer: {said}")]
    Silent {
        /// What was tried.
        operation: &'static str,
        /// Which image.
        image: String,
        /// What was heard.
        said: String,
    },
    /// There is no room.
    #[error(
        "pool {pool} is full, and disks in it stand still until there is room: `ceph df` and `ceph osd pool get-quota {pool}` tell why"
    )]
    Full {
        /// Its name.
        pool: String,
    },
    /// Somebody else has the name.
    #[error(
        "RBD image {image} is not Bowline's, for it has not the tag {tag} (`rbd image-meta`): it is left alone; rename or remove it"
    )]
    Foreign {
        /// Which.
        image: String,
        /// What Bowline's have.
        tag: &'static str,
    },
    /// Something has it open.
    #[error(
        "RBD image {image} is open yet: what has it open is to end first, and of one that died the cluster knows so after half a minute \
         (`rbd status {image}`)"
    )]
    InUse {
        /// Which.
        image: String,
    },
    /// It is not there.
    #[error("RBD image {image} is not there: the disk is lost, or images.rbd_pool's cluster is another now")]
    Gone {
        /// Which.
        image: String,
    },
    /// A command did not end by itself.
    #[error("cannot {operation} RBD image {image}{}", if matches!(source, CommandError::Start { .. }) { " (apt-get install ceph-common)" } else { "" })]
    Command {
        /// What was tried.
        operation: &'static str,
        /// Which image.
        image: String,
        /// What became of it.
        source: CommandError,
    },
    /// Ceph refused otherwise.
    #[error("cannot {operation} RBD image {image}: rbd said: {said}")]
    Rbd {
        /// What was tried.
        operation: &'static str,
        /// Which image.
        image: String,
        /// Its words.
        said: String,
    },
}

impl PoolError {
    /// What sort of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Keyring { .. } | Self::KeyNotInKeyring { .. } | Self::Refused { .. } => ErrorKind::AuthenticationFailed,
            Self::NoPool { .. } | Self::NoNamespace { .. } => ErrorKind::Unsupported,
            Self::Silent { .. } | Self::InUse { .. } => ErrorKind::Unavailable,
            Self::Full { .. } | Self::Foreign { .. } => ErrorKind::Conflict,
            Self::Gone { .. } => ErrorKind::NotFound,
            Self::Rbd { .. } => ErrorKind::Internal,
            Self::Command { source, .. } => match source {
                CommandError::Start { .. } => ErrorKind::Unsupported,
                CommandError::Timeout { .. } => ErrorKind::Timeout,
                CommandError::Wait { .. } => ErrorKind::Internal,
            },
        }
    }
}
