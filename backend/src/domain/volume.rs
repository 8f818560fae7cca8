//! A volume as the service knows it.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::statuses::VolumeStatus;

/// Bytes in a GiB, the unit in which volumes are sized.
pub const GIB: u64 = 1 << 30;

/// One volume.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Its id, everywhere.
    pub id: Uuid,
    /// Grows by one with each volume and is never used twice. Orders lists and numbers iSCSI targets, so that a
    /// target keeps its number across restarts.
    pub seq: i64,
    /// The owner's name for it.
    pub name: Option<String>,
    /// The owner's words about it.
    pub description: Option<String>,
    /// Size in GiB, 1 or more.
    pub size_gib: u64,
    /// Where it is in its life.
    pub status: VolumeStatus,
    /// Whether several attachments may hold it at once.
    pub multiattach: bool,
    /// The availability zone it was asked for in.
    pub availability_zone: String,
    /// The owner's key-value pairs.
    pub metadata: BTreeMap<String, String>,
    /// When it was accepted, microseconds since the epoch.
    pub created_at_us: i64,
    /// When it last changed, microseconds since the epoch.
    pub updated_at_us: Option<i64>,
}

impl Volume {
    /// Size in bytes; `None` where that number does not fit.
    pub fn size_bytes(&self) -> Option<u64> {
        self.size_gib.checked_mul(GIB)
    }
}

/// A volume that was asked for and found valid.
#[derive(Clone, Debug)]
pub struct NewVolume {
    /// Chosen by the service.
    pub id: Uuid,
    /// The owner's name for it.
    pub name: Option<String>,
    /// The owner's words about it.
    pub description: Option<String>,
    /// Size in GiB, 1 or more.
    pub size_gib: u64,
    /// Whether several attachments may hold it at once.
    pub multiattach: bool,
    /// The availability zone.
    pub availability_zone: String,
    /// The owner's key-value pairs.
    pub metadata: BTreeMap<String, String>,
}
