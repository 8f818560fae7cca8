//! What can go wrong with an RBD image.

use crate::connectors::command::CommandError;
use crate::model::{DeviceIdentity, ErrorKind, VolumeId};
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
    #[error("cannot {doing} RBD image {image}: this host has no `rbd` command; install the package ceph-common")]
    NoCommand {
        /// `look at` or `map`.
        doing: &'static str,
        /// The image, as `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`.
        image: String,
    },
    /// The command did not end by itself.
    #[error("cannot {doing} RBD image {image}: the cluster at {monitors} did not answer")]
    Command {
        /// `look at` or `map`.
        doing: &'static str,
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
    #[error("cannot {doing} RBD image {image} on the cluster at {monitors}: rbd ended with {code}: {stderr}")]
    Unavailable {
        /// `look at` or `map`.
        doing: &'static str,
        /// The image, as `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`.
        image: String,
        /// The monitors that were asked.
        monitors: String,
        /// Exit code, or -1 after a signal.
        code: i32,
        /// What the command said.
        stderr: String,
    },
    /// The cluster keeps this host out.
    #[error(
        "cannot open RBD image {image}: the cluster at {monitors} has this host's address on its blocklist, as after a fencing; see \
         `ceph osd blocklist ls`, and once nothing of before runs here any more, `ceph osd blocklist rm ADDRESS`"
    )]
    Blocklisted {
        /// The image, as `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`.
        image: String,
        /// The monitors that were asked.
        monitors: String,
    },
    /// Another host has the image open.
    #[error(
        "RBD image {image} is open on another host, by {clients}: detach it there; if that host is dead, the cluster forgets it \
         within a minute: try again then. [rbd] allow_open_elsewhere = true attaches all the same"
    )]
    OpenElsewhere {
        /// The image, as `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`.
        image: String,
        /// Whose, with their addresses.
        clients: String,
    },
    /// Somebody has locked the image by hand.
    #[error(
        "RBD image {image} is locked by {locker} at {address}: if that one is dead, remove its lock with: rbd lock rm {image} \
         {lock:?} {locker}"
    )]
    Locked {
        /// The image, as `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`.
        image: String,
        /// The lock's id.
        lock: String,
        /// Its owner.
        locker: String,
        /// Where that was.
        address: String,
    },
    /// The kernel's client is not loaded.
    #[error(
        "cannot map RBD image {image}: the kernel module rbd is not loaded; run `modprobe rbd`, and write rbd into \
         /etc/modules-load.d/rbd.conf"
    )]
    NoModule {
        /// The image, as `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`.
        image: String,
    },
    /// A mapping option that Bowline does not pass on.
    #[error("mapping option {option:?} is not allowed: only those of rbd(8) that tune a mapping are")]
    MapOption {
        /// The option.
        option: String,
    },
    /// The image is mapped already, by somebody else.
    #[error("RBD image {image} is mapped as /dev/{device} already, and not by Bowline: unmap it before attaching")]
    ForeignMapping {
        /// The image, as `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`.
        image: String,
        /// The kernel's name.
        device: String,
    },
    /// The image is not mapped.
    #[error("RBD image {image} is not mapped any more")]
    NotMapped {
        /// The image, as `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`.
        image: String,
    },
    /// The device to unmap is not the one that was recorded.
    #[error("/dev/{device} is {found:?}, but volume {volume} was recorded as {expected:?}: it is left alone")]
    NotTheVolume {
        /// The kernel's name.
        device: String,
        /// The volume.
        volume: VolumeId,
        /// What was journalled.
        expected: Box<DeviceIdentity>,
        /// What is there.
        found: Box<DeviceIdentity>,
    },
    /// Another image has the name of the one that was recorded.
    #[error("RBD image {image} is {found:?}, but was recorded as {expected:?}: it is another image now")]
    Replaced {
        /// The image, as `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`.
        image: String,
        /// What was journalled.
        expected: Box<DeviceIdentity>,
        /// What is there.
        found: Box<DeviceIdentity>,
    },
    /// The image has not the size that it was extended to.
    #[error("RBD image {image} has {found_bytes} bytes, not the {wanted_bytes} that it was extended to")]
    NotGrown {
        /// The image, as `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`.
        image: String,
        /// Its bytes.
        found_bytes: u64,
        /// What it should have at least.
        wanted_bytes: u64,
    },
    /// Something on the host holds the device.
    #[error("/dev/{device} is in use on this host (mounted, or open): it is not unmapped")]
    InUse {
        /// The kernel's name.
        device: String,
    },
    /// The kernel refused.
    #[error("the kernel's RBD client refused for /dev/{device} ({image}): {said}")]
    Kernel {
        /// The kernel's name.
        device: String,
        /// The image, as `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`.
        image: String,
        /// What it said.
        said: String,
    },
    /// The cluster does not answer the kernel.
    #[error(
        "/dev/{device} ({image}) could not be let go within {waited_s} s: its cluster does not answer, and the kernel holds it until \
         it does"
    )]
    KernelTimeout {
        /// The kernel's name.
        device: String,
        /// The image, as `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`.
        image: String,
        /// The deadline, seconds.
        waited_s: u64,
    },
    /// A killed `rbd map` is in the kernel's hands.
    #[error(
        "an rbd map of {image} that was killed is still at work in the kernel, and may map it yet: its cluster does not answer"
    )]
    MapUnderWay {
        /// The image, as `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`.
        image: String,
    },
    /// The kernel could not be told.
    #[error("cannot tell the kernel's RBD client about /dev/{device}")]
    Tee {
        /// The kernel's name.
        device: String,
        /// What happened.
        source: CommandError,
    },
    /// A file of this host.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: String,
        /// Why.
        source: io::Error,
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
            Self::BadName { .. } | Self::NoMonitors { .. } | Self::MapOption { .. } => ErrorKind::InvalidInput,
            Self::NoKey { .. } | Self::KeyNotInKeyring { .. } | Self::Refused { .. } => ErrorKind::AuthenticationFailed,
            Self::NoCommand { .. } | Self::NoModule { .. } => ErrorKind::Unsupported,
            // The kernel's own words; it has not all the features that librbd has.
            Self::Unavailable { stderr, .. } if stderr.contains("feature set mismatch") => ErrorKind::Unsupported,
            Self::Blocklisted { .. } => ErrorKind::PermissionDenied,
            Self::OpenElsewhere { .. } | Self::Locked { .. } | Self::ForeignMapping { .. } | Self::InUse { .. } => {
                ErrorKind::Conflict
            }
            Self::NotTheVolume { .. } | Self::Replaced { .. } => ErrorKind::IdentityMismatch,
            Self::KernelTimeout { .. } | Self::MapUnderWay { .. } => ErrorKind::Timeout,
            Self::NotGrown { .. } | Self::Kernel { .. } => ErrorKind::Unavailable,
            Self::Tee { .. } | Self::System { .. } => ErrorKind::Internal,
            Self::NotMapped { .. } => ErrorKind::NotFound,
            Self::Command { source: CommandError::Timeout { .. }, .. } => ErrorKind::Timeout,
            Self::Command { .. } | Self::Keyring { .. } | Self::HandOver { .. } | Self::Answer { .. } => ErrorKind::Internal,
            Self::NoImage { .. } => ErrorKind::NotFound,
            Self::Unavailable { .. } => ErrorKind::Unavailable,
        }
    }

    /// For `map_err` on a system call: `action` completes "cannot …".
    pub(super) fn system(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::System { action, source }
    }
}
