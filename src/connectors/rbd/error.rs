//! What can go wrong with an RBD image.

use crate::connectors::command::CommandError;
use crate::model::ErrorKind;
use std::{io, path::PathBuf};

/// A failure of the RBD connector. No text in it holds a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RbdError {
    /// A name that a path or a command could misread.
    #[error("the connection info is unusable: {name:?} is not a plain RBD {what} name")]
    BadName {
        /// What it should name.
        what: &'static str,
        /// The name, shortened.
        name: String,
    },
    /// No monitor.
    #[error("the connection info is unusable: it names no monitor for RBD image {image}")]
    NoMonitors {
        /// The image, as `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`.
        image: String,
    },
    /// Nobody has the key.
    #[error(
        "no key for Ceph user client.{user}: the volume service gave neither a keyring nor a libvirt secret, and {keyring} is \
         not there"
    )]
    NoKey {
        /// The user, without `client.`.
        user: String,
        /// Where this host could have it.
        keyring: PathBuf,
    },
    /// The keyring cannot be read.
    #[error("cannot read keyring {file}")]
    Keyring {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The keyring is there without the user's key.
    #[error("keyring {file} holds no key for client.{user}")]
    KeyNotInKeyring {
        /// The file.
        file: PathBuf,
        /// The user, without `client.`.
        user: String,
    },
    /// The key could not be handed to the command.
    #[error("cannot put the key for RBD image {image} into memory")]
    HandOver {
        /// The image, as `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`.
        image: String,
        /// Why.
        source: io::Error,
    },
    /// Ceph's command is not installed.
    #[error("cannot look at RBD image {image}: this host has no `rbd` command; install the package ceph-common")]
    NoCommand {
        /// The image, as `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`.
        image: String,
    },
    /// The command did not end by itself.
    #[error("cannot look at RBD image {image}: the cluster at {monitors} did not answer")]
    Command {
        /// The image, as `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`.
        image: String,
        /// The monitors that were asked.
        monitors: String,
        /// What happened.
        source: CommandError,
    },
    /// The cluster does not take the user or the key.
    #[error("the cluster at {monitors} refused client.{user} for RBD image {image}: {stderr}")]
    Refused {
        /// The image, as `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`.
        image: String,
        /// The monitors that were asked.
        monitors: String,
        /// The user, without `client.`.
        user: String,
        /// What the command said.
        stderr: String,
    },
    /// There is no such image, or no such pool or namespace.
    #[error("RBD image {image} is not there: {stderr}")]
    NoImage {
        /// The image, as `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`.
        image: String,
        /// What the command said.
        stderr: String,
    },
    /// The cluster could not be asked.
    #[error("cannot look at RBD image {image} on the cluster at {monitors}: rbd ended with {code}: {stderr}")]
    Unavailable {
        /// The image, as `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`.
        image: String,
        /// The monitors that were asked.
        monitors: String,
        /// Exit code, or -1 after a signal.
        code: i32,
        /// What the command said.
        stderr: String,
    },
    /// What the command said makes no sense.
    #[error("what rbd says of image {image} cannot be used: {problem}")]
    Answer {
        /// The image, as `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`.
        image: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl RbdError {
    /// The stable kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::BadName { .. } | Self::NoMonitors { .. } => ErrorKind::InvalidInput,
            Self::NoKey { .. } | Self::KeyNotInKeyring { .. } | Self::Refused { .. } => ErrorKind::AuthenticationFailed,
            Self::NoCommand { .. } => ErrorKind::Unsupported,
            Self::Command { source: CommandError::Timeout { .. }, .. } => ErrorKind::Timeout,
            Self::Command { .. } | Self::Keyring { .. } | Self::HandOver { .. } | Self::Answer { .. } => ErrorKind::Internal,
            Self::NoImage { .. } => ErrorKind::NotFound,
            Self::Unavailable { .. } => ErrorKind::Unavailable,
        }
    }
}
