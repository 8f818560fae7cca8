//! What can go wrong between connection info and a device.

use super::{command::CommandError, iscsi::ProbeError, nfs::NfsError, rbd::RbdError};
use crate::model::{DeviceIdentity, ErrorKind, IscsiPath, VolumeId};
use std::{io, path::PathBuf};

/// A failure of the connectors. No text in it holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectorError {
    /// The volume is of a protocol there is no connector for.
    #[error("volumes of type {protocol:?} are not supported: there is no connector for them")]
    UnsupportedProtocol {
        /// `driver_volume_type`.
        protocol: String,
    },
    /// The kernel's initiator was asked for and this host lacks it.
    #[error("this host cannot use the kernel's iSCSI initiator: {missing}; install it or set [iscsi] initiator = \"qemu\"")]
    NoKernelInitiator {
        /// What is missing.
        missing: &'static str,
    },
    /// No initiator name.
    #[error("cannot tell this host's iSCSI initiator name: {file} gives none and there is no machine id to derive one from")]
    NoInitiatorName {
        /// Where it was looked for.
        file: PathBuf,
    },
    /// Connection info without a usable path, or with a name that open-iscsi could misread.
    #[error("the connection info is unusable: {why}")]
    BadConnectionInfo {
        /// What is wrong.
        why: String,
    },
    /// The portal does not accept connections.
    #[error("cannot reach {path}")]
    PortalUnreachable {
        /// The path tried.
        path: IscsiPath,
        /// Why.
        source: io::Error,
    },
    /// The target refused the credentials.
    #[error("login refused: {path} does not accept the CHAP credentials the volume service gave")]
    LoginRefused {
        /// The path tried.
        path: IscsiPath,
    },
    /// open-iscsi could not log in or out.
    #[error("iSCSI {action} failed for {path}: iscsiadm ended with {code}: {stderr}")]
    Iscsiadm {
        /// `login` or `logout`.
        action: &'static str,
        /// The path.
        path: IscsiPath,
        /// Exit code, or -1 after a signal.
        code: i32,
        /// What it said.
        stderr: String,
    },
    /// An external command could not be run to its end.
    #[error("iSCSI {action} did not finish for {path}")]
    Command {
        /// `login` or `logout`.
        action: &'static str,
        /// The path.
        path: IscsiPath,
        /// What happened.
        source: CommandError,
    },
    /// Another tool's node record is in the way.
    #[error("{file} is a node record Bowline did not write; log in with it, or remove it with iscsiadm -m node -o delete")]
    ForeignRecord {
        /// The record.
        file: PathBuf,
    },
    /// The session exists, but commands do not reach the target.
    #[error("the session to {path} is {state}: the target does not answer")]
    SessionDown {
        /// The path.
        path: IscsiPath,
        /// The kernel's word for its state.
        state: String,
    },
    /// A login that an earlier run asked for has not ended yet.
    #[error("iscsid is still at an earlier login to {path}: it cannot be undone before it ends; try again")]
    LoginUnderWay {
        /// The path.
        path: IscsiPath,
    },
    /// The LUN's place is taken by a device that Bowline did not make for this volume.
    #[error("SCSI device {address} is there already and was not connected for volume {volume}: remove it before attaching")]
    ForeignDevice {
        /// The volume.
        volume: VolumeId,
        /// Host:channel:target:LUN.
        address: String,
    },
    /// The LUN did not show up.
    #[error("no device appeared for {path} within {waited_s} s of the scan: the target shows no such LUN to this host")]
    DeviceMissing {
        /// The path.
        path: IscsiPath,
        /// The deadline, seconds.
        waited_s: u64,
    },
    /// The device is gone.
    #[error("the device of volume {volume} is not connected")]
    NotConnected {
        /// The volume.
        volume: VolumeId,
    },
    /// The device to delete is not the one that was recorded.
    #[error("SCSI device {address} is {found:?}, but volume {volume} was recorded as {expected:?}: it is left alone")]
    NotTheVolume {
        /// The volume.
        volume: VolumeId,
        /// Host:channel:target:LUN.
        address: String,
        /// What was journalled.
        expected: Box<DeviceIdentity>,
        /// What the device says.
        found: Box<DeviceIdentity>,
    },
    /// The volume was extended and the target does not show it yet.
    #[error("{path} shows volume {volume} with {found_bytes} bytes still, instead of {wanted_gib} GiB")]
    StillSmall {
        /// The volume.
        volume: VolumeId,
        /// The path.
        path: IscsiPath,
        /// What the target shows.
        found_bytes: u64,
        /// The volume's size in the service, GiB.
        wanted_gib: u64,
    },
    /// Something on the host holds the device.
    #[error("{device} is in use on this host (mounted, or claimed by device mapper): it is not removed")]
    DeviceInUse {
        /// `/dev/sdX`.
        device: PathBuf,
    },
    /// Cached data could not be written out.
    #[error("cannot flush {device}")]
    Flush {
        /// `/dev/sdX`.
        device: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Work in the kernel did not come to an end.
    #[error("{what} did not finish within {waited_s} s")]
    KernelTimeout {
        /// What was waited for.
        what: String,
        /// The deadline, seconds.
        waited_s: u64,
    },
    /// A file of the system could not be read or written.
    #[error("cannot {action}")]
    System {
        /// What was tried, with its path.
        action: String,
        /// Why.
        source: io::Error,
    },
    /// The target answered our own initiator in an unexpected way.
    #[error("cannot verify {path}")]
    Probe {
        /// The path.
        path: IscsiPath,
        /// What happened.
        source: ProbeError,
    },
    /// A volume on NFS.
    #[error(transparent)]
    Nfs(#[from] NfsError),
    /// RBD.
    #[error(transparent)]
    Rbd(#[from] RbdError),
}

impl ConnectorError {
    /// The stable kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnsupportedProtocol { .. } | Self::NoKernelInitiator { .. } => ErrorKind::Unsupported,
            Self::BadConnectionInfo { .. } => ErrorKind::InvalidInput,
            Self::PortalUnreachable { .. } | Self::SessionDown { .. } | Self::StillSmall { .. } => ErrorKind::Unavailable,
            Self::LoginRefused { .. } => ErrorKind::AuthenticationFailed,
            Self::Iscsiadm { .. } => ErrorKind::Unavailable,
            Self::Command { source: CommandError::Timeout { .. }, .. } => ErrorKind::Timeout,
            Self::Command { .. } | Self::System { .. } | Self::NoInitiatorName { .. } => ErrorKind::Internal,
            Self::ForeignRecord { .. } | Self::ForeignDevice { .. } | Self::DeviceInUse { .. } => ErrorKind::Conflict,
            Self::DeviceMissing { .. } | Self::KernelTimeout { .. } | Self::LoginUnderWay { .. } => ErrorKind::Timeout,
            Self::NotConnected { .. } => ErrorKind::NotFound,
            Self::NotTheVolume { .. } => ErrorKind::IdentityMismatch,
            Self::Flush { .. } => ErrorKind::Unavailable,
            Self::Probe { source, .. } => source.kind(),
            Self::Nfs(error) => error.kind(),
            Self::Rbd(error) => error.kind(),
        }
    }

    /// For `map_err` on a system call: `action` completes "cannot …".
    pub(super) fn system(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::System { action, source }
    }

    /// Another path to the same LUN may do better.
    pub(super) fn is_about_this_path(&self) -> bool {
        matches!(self.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::NotFound)
    }
}
