//! What can go wrong between an NFS export and a file a guest can have.

use crate::{
    connectors::command::CommandError,
    model::{DeviceIdentity, ErrorKind, NfsExport},
};
use std::{io, path::PathBuf};

/// A failure of the NFS connector.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NfsError {
    /// A mount option that is not known to be harmless.
    #[error("mount option {option:?} is not allowed: {why}")]
    Option {
        /// The option.
        option: String,
        /// Why.
        why: &'static str,
    },
    /// No NFS client.
    #[error("this host cannot mount NFS: {file} is missing; install the NFS client (Debian: nfs-common)")]
    NoClient {
        /// The mount program that was looked for.
        file: &'static str,
    },
    /// The server does not accept connections.
    #[error("cannot reach the NFS server of {export} at port {port}")]
    Unreachable {
        /// What.
        export: NfsExport,
        /// TCP port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// The server refused.
    #[error("cannot mount {export}: {said}")]
    Mount {
        /// What.
        export: NfsExport,
        /// What `mount` said.
        said: String,
    },
    /// Mounting, or waiting for another one who mounts the same, took too long.
    #[error("{export} was not mounted within {waited_s} s: its server does not answer")]
    MountTimeout {
        /// What.
        export: NfsExport,
        /// The deadline, seconds.
        waited_s: u64,
    },
    /// Nothing is mounted at our place.
    #[error("{export} is not mounted any more")]
    NotMounted {
        /// What should be.
        export: NfsExport,
    },
    /// Something else is mounted at our place.
    #[error("{found} is mounted at {mount_point}, where {export} should be: unmount it")]
    OtherMount {
        /// What should be.
        export: NfsExport,
        /// Where.
        mount_point: PathBuf,
        /// What is.
        found: String,
    },
    /// It cannot be unmounted, not even lazily.
    #[error("cannot unmount {mount_point}: {said}")]
    Unmount {
        /// Where.
        mount_point: PathBuf,
        /// What `umount` or systemd said.
        said: String,
    },
    /// systemd did not take the request.
    #[error("systemd could not be asked to {action}: {said}")]
    Systemd {
        /// What.
        action: String,
        /// Its, or the bus's, answer.
        said: String,
    },
    /// The file is not there.
    #[error("{export} has no file {file:?}")]
    NoFile {
        /// Where.
        export: NfsExport,
        /// Its name.
        file: String,
    },
    /// It is there, and is no plain file.
    #[error("{file:?} on {export} is {found}, not a regular file: it is refused, since it could lead anywhere on this host")]
    NotAFile {
        /// Where.
        export: NfsExport,
        /// Its name.
        file: String,
        /// What it is.
        found: &'static str,
    },
    /// The server does not answer.
    #[error("{export} did not answer within {waited_s} s")]
    NoAnswer {
        /// Which.
        export: NfsExport,
        /// The deadline, seconds.
        waited_s: u64,
    },
    /// The file could not be looked at.
    #[error("cannot read {file:?} on {export}: {said}")]
    Unreadable {
        /// Where.
        export: NfsExport,
        /// Its name.
        file: String,
        /// What the tool said.
        said: String,
    },
    /// The agent, who is root here, is nobody there.
    #[error(
        "root may not look at {file:?} on {export}: its server squashes root. Let others read the file (of a raw one: pass through its \
         folders), or export it with no_root_squash"
    )]
    RootSquashed {
        /// Where.
        export: NfsExport,
        /// Its name.
        file: String,
    },
    /// Another file has the name of the one that was recorded.
    #[error("{file:?} on {export} is {found:?}, but was recorded as {expected:?}: it is another file now")]
    Replaced {
        /// Where.
        export: NfsExport,
        /// Its name.
        file: String,
        /// What was journalled.
        expected: Box<DeviceIdentity>,
        /// What is there.
        found: Box<DeviceIdentity>,
    },
    /// The file has not the size that it was extended to.
    #[error("{file:?} on {export} holds a disk of {found_bytes} bytes, not the {wanted_bytes} that it was extended to")]
    NotGrown {
        /// Where.
        export: NfsExport,
        /// Its name.
        file: String,
        /// What a guest would see, bytes.
        found_bytes: u64,
        /// What it should see at least, bytes.
        wanted_bytes: u64,
    },
    /// The service says qcow2, and the file is not, or one that cannot be given to a guest.
    #[error("{file:?} on {export} is no qcow2 file that a guest can be given: {problem}")]
    Qcow2 {
        /// Where.
        export: NfsExport,
        /// Its name.
        file: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A tool could not be run.
    #[error("cannot {action}")]
    Command {
        /// What was tried.
        action: &'static str,
        /// What happened.
        source: CommandError,
    },
    /// A file of this host.
    #[error("cannot {action}")]
    System {
        /// What was tried, with its path.
        action: String,
        /// Why.
        source: io::Error,
    },
}

impl NfsError {
    /// The stable kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Option { .. } => ErrorKind::InvalidInput,
            Self::NoClient { .. } | Self::Qcow2 { .. } => ErrorKind::Unsupported,
            // The words of mount.nfs for the kernel's errno, which it does not pass on.
            Self::Mount { said, .. } if said.contains("access denied") || said.contains("not permitted") => {
                ErrorKind::PermissionDenied
            }
            Self::Mount { said, .. } if said.contains("No such file") => ErrorKind::NotFound,
            // Version 3 locks by a service of its own, and mount.nfs says what to do where it does not run.
            Self::Mount { said, .. } if said.contains("rpc.statd is not running") => ErrorKind::Unsupported,
            Self::Mount { said, .. } if said.contains("not supported") || said.contains("incorrect mount option") => {
                ErrorKind::Unsupported
            }
            Self::Unreachable { .. } | Self::Mount { .. } | Self::Unmount { .. } | Self::Systemd { .. } => {
                ErrorKind::Unavailable
            }
            Self::MountTimeout { .. } | Self::NoAnswer { .. } => ErrorKind::Timeout,
            Self::OtherMount { .. } => ErrorKind::Conflict,
            Self::NoFile { .. } | Self::NotMounted { .. } => ErrorKind::NotFound,
            Self::NotAFile { .. } | Self::Replaced { .. } => ErrorKind::IdentityMismatch,
            Self::RootSquashed { .. } => ErrorKind::PermissionDenied,
            Self::Unreadable { .. } | Self::NotGrown { .. } => ErrorKind::Unavailable,
            Self::Command { .. } | Self::System { .. } => ErrorKind::Internal,
        }
    }

    /// For `map_err` on a system call: `action` completes "cannot …".
    pub(super) fn system(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::System { action, source }
    }
}
