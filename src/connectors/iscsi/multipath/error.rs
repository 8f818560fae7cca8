//! What can go wrong between the paths of a volume and its map.

use crate::model::{DeviceIdentity, ErrorKind, IscsiPath, VolumeId};
use std::io;

/// A failure of multipath.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MultipathError {
    /// multipathd cannot be reached.
    #[error("multipathd does not answer: start it (systemctl enable --now multipathd), or set [iscsi] multipath = \"off\"")]
    NotRunning {
        /// Why.
        source: io::Error,
    },
    /// multipathd took too long, or broke off.
    #[error("multipathd gave no answer to {command:?}")]
    NoAnswer {
        /// What it was asked.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// multipathd will not have the disk.
    #[error(
        "multipathd does not take {disk} for a path: see blacklist in /etc/multipath.conf, or set [iscsi] multipath = \"off\""
    )]
    NotAPath {
        /// Kernel name.
        disk: String,
    },
    /// No usable map came to be.
    #[error("no multipath map over {disks} was ready within {waited_s} s: see journalctl -u multipathd")]
    MapMissing {
        /// Kernel names of the disks.
        disks: String,
        /// The deadline, seconds.
        waited_s: u64,
    },
    /// A map of an earlier life that may still be in somebody's hands.
    #[error(
        "a multipath map {map} ({wwid}) was there before volume {volume} was connected, and Bowline did not make it: see who uses it, \
         then remove it with multipath -f {wwid}"
    )]
    StaleMap {
        /// The volume.
        volume: VolumeId,
        /// Kernel name, `dm-N`.
        map: String,
        /// Its WWID.
        wwid: String,
    },
    /// Paths of one connection info lead to different devices.
    #[error("volume {volume}: {path} leads to {found:?}, another path to {expected:?}: they are not put together")]
    PathsDisagree {
        /// The volume.
        volume: VolumeId,
        /// The odd one.
        path: IscsiPath,
        /// What the others are.
        expected: Box<DeviceIdentity>,
        /// What it is.
        found: Box<DeviceIdentity>,
    },
    /// A disk that answers no identity may be anything.
    #[error("{path} answers neither SCSI page 0x80 nor 0x83: it is not put together with other paths")]
    Anonymous {
        /// The path.
        path: IscsiPath,
    },
    /// The map holds a device that is not the volume.
    #[error("multipath map {map} of volume {volume} holds {disk}, which is {found:?} and not {expected:?}: it is left alone")]
    ForeignPath {
        /// The volume.
        volume: VolumeId,
        /// `dm-N`.
        map: String,
        /// `sdX`.
        disk: String,
        /// What was journalled, or the other paths are.
        expected: Box<DeviceIdentity>,
        /// What the disk says.
        found: Box<DeviceIdentity>,
    },
    /// multipath is off, and multipathd has taken the disk all the same.
    #[error(
        "multipathd has claimed {disk} although [iscsi] multipath is \"off\": exclude it in /etc/multipath.conf, or set \"preferred\""
    )]
    Claimed {
        /// Kernel name.
        disk: String,
    },
    /// Every path is lost, so cached data cannot be written out.
    #[error("every path of volume {volume} is lost, so that {map} cannot be flushed: mend a path, then it goes on")]
    AllPathsLost {
        /// The volume.
        volume: VolumeId,
        /// `dm-N`.
        map: String,
        /// What the flush said.
        source: Box<crate::connectors::ConnectorError>,
    },
    /// The map cannot be removed.
    #[error("multipath map {map} cannot be removed: {why}")]
    NotRemoved {
        /// `dm-N`.
        map: String,
        /// What was said.
        why: String,
    },
    /// The map did not take the new size.
    #[error("multipath map {map} has {found} bytes, its paths have {expected}")]
    NotResized {
        /// `dm-N`.
        map: String,
        /// The paths' bytes.
        expected: u64,
        /// The map's bytes.
        found: u64,
    },
}

impl MultipathError {
    /// The stable kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotRunning { .. } | Self::AllPathsLost { .. } => ErrorKind::Unavailable,
            Self::NoAnswer { .. } | Self::MapMissing { .. } => ErrorKind::Timeout,
            Self::NotAPath { .. } => ErrorKind::Unsupported,
            Self::StaleMap { .. } | Self::Claimed { .. } | Self::NotRemoved { .. } | Self::NotResized { .. } => {
                ErrorKind::Conflict
            }
            Self::PathsDisagree { .. } | Self::Anonymous { .. } | Self::ForeignPath { .. } => ErrorKind::IdentityMismatch,
        }
    }
}
