//! Attachments as an operator sees them, and how they fare.

use crate::model::{AttachmentId, DeviceIdentity, GuestUuid, Health, VolumeId};
use std::time::SystemTime;

/// A volume that a guest of this host has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachmentView {
    /// The volume service's attachment id.
    pub id: AttachmentId,
    /// The volume.
    pub volume: VolumeId,
    /// The guest.
    pub guest: GuestUuid,
    /// The guest's name when it was attached.
    pub guest_name: String,
    /// Target name in the guest's definition, such as `vdb`.
    pub target: String,
    /// `iscsi`, …
    pub protocol: String,
    /// `kernel` or `qemu`: who is the initiator.
    pub initiator: String,
    /// The host's block device; empty where QEMU is the initiator.
    pub device: String,
    /// Who the device proved to be.
    pub identity: DeviceIdentity,
    /// Capacity in bytes, as read from the device.
    pub size_bytes: u64,
    /// What the disk is for, as the request named it; empty if it did not.
    pub tag: String,
    /// How QEMU decrypts it: `luks`, `luks2`, or empty.
    pub encryption: String,
    /// When it was attached.
    pub attached_at: SystemTime,
    /// How it is doing.
    pub health: HealthView,
}

/// How an attachment's ways to its storage are doing, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthView {
    /// In one word.
    pub state: HealthState,
    /// Since when it is so.
    pub since: SystemTime,
    /// What is wrong; empty where it is healthy or unknown.
    pub faults: Vec<FaultView>,
}

impl Default for HealthView {
    /// Not looked at yet.
    fn default() -> Self {
        Self { state: HealthState::Unknown, since: SystemTime::UNIX_EPOCH, faults: vec![] }
    }
}

/// Health in one word.
///
/// ```text
/// Unknown --first look--> Healthy <--> Degraded <--> Lost      (and Healthy <--> Lost)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HealthState {
    /// Not looked at yet.
    Unknown,
    /// All of it works.
    Healthy,
    /// I/O gets through, but not all is as it was connected.
    Degraded,
    /// Nothing gets through.
    Lost,
}

impl HealthState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Unknown, Self::Healthy, Self::Degraded, Self::Lost];

    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Lost => "lost",
        }
    }
}

impl From<&Health> for HealthState {
    fn from(health: &Health) -> Self {
        match health {
            Health::Healthy => Self::Healthy,
            Health::Degraded(_) => Self::Degraded,
            Health::Lost(_) => Self::Lost,
        }
    }
}

/// One part of an attachment that does not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultView {
    /// Which part: a path, a mount, a monitor.
    pub part: String,
    /// What is wrong with it.
    pub problem: String,
    /// Since when this part has been broken.
    pub since: SystemTime,
}
