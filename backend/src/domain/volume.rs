//! A volume as the service knows it.

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use super::encryption::NewKey;
use super::statuses::VolumeStatus;
use super::volume_type::VolumeType;

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
    /// Whose it is.
    pub project_id: String,
    /// Who asked for it.
    pub user_id: String,
    /// `host@backend#pool` where it is; empty until the scheduler has chosen.
    pub host: String,
    /// Its type's id.
    pub volume_type_id: Option<String>,
    /// Its type's name.
    pub volume_type: Option<String>,
    /// Whether one can boot from it.
    pub bootable: bool,
    /// Whether hosts may only read it.
    pub readonly: bool,
    /// The secret its bytes are encrypted with, by the key manager's id.
    pub encryption_key_id: Option<String>,
    /// The properties of the image it was made from.
    pub image_metadata: Option<BTreeMap<String, String>>,
    /// The snapshot it was made from.
    pub snapshot_id: Option<Uuid>,
    /// The volume it was made from.
    pub source_volume_id: Option<Uuid>,
    /// The image it was, or is to be, made from.
    pub image_id: Option<Uuid>,
    /// The backup it was, or is to be, made from.
    pub backup_id: Option<Uuid>,
    /// The group it is in.
    pub group_id: Option<Uuid>,
    /// Where it is in a migration.
    pub migration_status: Option<String>,
    /// The id its storage knows it by, where that is not its own.
    pub name_id: Option<Uuid>,
    /// What its driver wants to find again.
    pub provider: Option<Value>,
    /// Whether its owner's quota pays for it.
    pub consumes_quota: bool,
}

impl Volume {
    /// Size in bytes; `None` where that number does not fit.
    pub fn size_bytes(&self) -> Option<u64> {
        self.size_gib.checked_mul(GIB)
    }

    /// Whether it is on its way to another place. How a migration ended says `migration_status`, too.
    pub fn is_migrating(&self) -> bool {
        self.migration_status.as_deref().is_some_and(|status| !matches!(status, "success" | "error" | "deleting"))
    }

    /// The id its storage knows it by.
    pub fn storage_id(&self) -> Uuid {
        self.name_id.unwrap_or(self.id)
    }

    /// What it is made from.
    pub fn source(&self) -> Source {
        if let Some(id) = self.snapshot_id {
            Source::Snapshot(id)
        } else if let Some(id) = self.source_volume_id {
            Source::Volume(id)
        } else if let Some(id) = self.image_id {
            Source::Image(id)
        } else if let Some(id) = self.backup_id {
            Source::Backup(id)
        } else {
            Source::Nothing
        }
    }
}

/// What a volume is made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Zeros.
    #[default]
    Nothing,
    /// A snapshot's bytes.
    Snapshot(Uuid),
    /// Another volume's bytes.
    Volume(Uuid),
    /// An image's bytes.
    Image(Uuid),
    /// A backup's bytes.
    Backup(Uuid),
}

/// A volume that was asked for and found valid.
#[derive(Clone, Debug)]
pub struct NewVolume {
    /// Chosen by the service.
    pub id: Uuid,
    /// Whose it is to be.
    pub project_id: String,
    /// Who asks.
    pub user_id: String,
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
    /// Its type.
    pub volume_type: VolumeType,
    /// What it is made from.
    pub source: Source,
    /// Its key, where it is to be encrypted.
    pub key: Option<NewKey>,
}
