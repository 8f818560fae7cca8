//! What can go wrong between connection info and a device.

use super::{command::CommandError, iscsi::MultipathError, iscsi::ProbeError, nfs::NfsError, rbd::RbdError};
use crate::model::{DeviceIdentity, ErrorKind, IscsiPath, Portal, VolumeId};
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
    /// The start of a device could not be read.
    #[error("cannot read the start of {}: {problem}", path.display())]
    UnreadableStart {
        /// The device or file.
        path: PathBuf,
        /// What was said.
        problem: String,
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
    /// What a guest has is not what the volume service says that the volume is.
    #[error("the guest's disk is {given}, which is not where the volume service says that volume {volume} is")]
    NotGiven {
        /// The volume.
        volume: VolumeId,
        /// The disk's source in the guest's definition.
        given: String,
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
    /// The paths do not show the size that the volume was extended to.
    #[error(
        "volume {volume} has {smallest} to {largest} bytes on its paths after a rescan, {wanted} or more are wanted on all"
    )]
    NotGrown {
        /// The volume.
        volume: VolumeId,
        /// Bytes of the smallest path.
        smallest: u64,
        /// Bytes of the largest.
        largest: u64,
        /// Bytes the volume should have.
        wanted: u64,
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
    /// The same work is in the kernel still, from a try before.
    #[error(
        "{what} was begun before and is held by the kernel still: its storage has not written out what the guest wrote last, or does not answer. \
         It is not begun a second time; the next try comes as soon as the kernel lets go. Look at the target and the network \
         (iscsiadm -m session -P 3, the kernel's log); where the storage is only slow, iscsi.device_timeout_s gives it longer"
    )]
    StillHeld {
        /// What is held.
        what: String,
    },
    /// A file of the system could not be read or written.
    #[error("cannot {action}")]
    System {
        /// What was tried, with its path.
        action: String,
        /// Why.
        source: io::Error,
    },
    /// A portal could not be asked for its targets.
    #[error("cannot ask {portal} by which paths the target is reached (SendTargets)")]
    Discovery {
        /// The portal.
        portal: Portal,
        /// What happened.
        source: ProbeError,
    },
    /// Discovery brought other targets than the one that is meant.
    #[error("{portal} does not show target {iqn:?} to this host")]
    TargetNotShown {
        /// The portal that was asked.
        portal: Portal,
        /// The target.
        iqn: String,
    },
    /// Discovery brought no target, or several and none was named.
    #[error("the connection info names no target, and {portal} shows {count} to this host: which one is meant is not guessed")]
    TargetUnclear {
        /// The portal that was asked.
        portal: Portal,
        /// How many targets it shows.
        count: usize,
    },
    /// A target must prove itself, and cannot be made to.
    #[error("target {iqn:?} must prove itself (iscsi.target_accounts_file), but {problem}")]
    MutualChap {
        /// The target.
        iqn: String,
        /// Why it cannot.
        problem: &'static str,
    },
    /// The file with what targets must prove themselves with cannot be used.
    #[error("iscsi.target_accounts_file: {file} {why}")]
    AccountsFile {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The interface to log in by cannot be used.
    #[error("iscsi.iface: there is no usable open-iscsi interface {name:?}: {why}")]
    Iface {
        /// Its name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// Behind a device is another LUN than when the kernel found it.
    #[error(
        "SCSI device {address} was {kernel:?} when the kernel found it, and its target says now that it is {target:?}: the LUN number \
         was given to another volume; remove the device"
    )]
    LunChanged {
        /// Host:channel:target:LUN.
        address: String,
        /// What the kernel remembers.
        kernel: Box<DeviceIdentity>,
        /// What the target says.
        target: Box<DeviceIdentity>,
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
    /// Several paths to one LUN.
    #[error(transparent)]
    Multipath(#[from] MultipathError),
}

impl ConnectorError {
    /// The stable kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnsupportedProtocol { .. } | Self::NoKernelInitiator { .. } => ErrorKind::Unsupported,
            Self::BadConnectionInfo { .. } => ErrorKind::InvalidInput,
            Self::PortalUnreachable { .. } | Self::SessionDown { .. } | Self::StillSmall { .. } => ErrorKind::Unavailable,
            Self::LoginRefused { .. } | Self::MutualChap { .. } => ErrorKind::AuthenticationFailed,
            Self::AccountsFile { .. } | Self::Iface { .. } => ErrorKind::InvalidInput,
            Self::TargetNotShown { .. } => ErrorKind::NotFound,
            Self::TargetUnclear { .. } => ErrorKind::InvalidInput,
            Self::LunChanged { .. } => ErrorKind::IdentityMismatch,
            Self::Iscsiadm { .. } | Self::UnreadableStart { .. } => ErrorKind::Unavailable,
            Self::Command { source: CommandError::Timeout { .. }, .. } => ErrorKind::Timeout,
            Self::Command { .. } | Self::System { .. } | Self::NoInitiatorName { .. } => ErrorKind::Internal,
            Self::ForeignRecord { .. } | Self::ForeignDevice { .. } | Self::DeviceInUse { .. } => ErrorKind::Conflict,
            Self::DeviceMissing { .. }
            | Self::KernelTimeout { .. }
            | Self::StillHeld { .. }
            | Self::LoginUnderWay { .. }
            | Self::NotGrown { .. } => ErrorKind::Timeout,
            Self::NotConnected { .. } => ErrorKind::NotFound,
            Self::NotTheVolume { .. } | Self::NotGiven { .. } => ErrorKind::IdentityMismatch,
            Self::Flush { .. } => ErrorKind::Unavailable,
            Self::Probe { source, .. } | Self::Discovery { source, .. } => source.kind(),
            Self::Nfs(error) => error.kind(),
            Self::Rbd(error) => error.kind(),
            Self::Multipath(error) => error.kind(),
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
