//! A snapshot: a volume's bytes as they were.

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use super::statuses::SnapshotStatus;

/// One snapshot.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its id.
    pub id: Uuid,
    /// Whose bytes it keeps.
    pub volume_id: Uuid,
    /// Whose it is.
    pub project_id: String,
    /// Who asked for it.
    pub user_id: String,
    /// The owner's name for it.
    pub name: Option<String>,
    /// The owner's words about it.
    pub description: Option<String>,
    /// The volume's size when it was made, in GiB.
    pub size_gib: u64,
    /// Where it is in its life.
    pub status: SnapshotStatus,
    /// How far its making is, in percent.
    pub progress: i64,
    /// The owner's key-value pairs.
    pub metadata: BTreeMap<String, String>,
    /// The volume's type.
    pub volume_type_id: Option<String>,
    /// What its driver wants to find again.
    pub provider: Option<Value>,
    /// When it was accepted, microseconds since the epoch.
    pub created_at_us: i64,
    /// When it last changed, microseconds since the epoch.
    pub updated_at_us: Option<i64>,
}

/// A snapshot that was asked for and found valid.
#[derive(Clone, Debug)]
pub struct NewSnapshot {
    /// Whose bytes to keep.
    pub volume_id: Uuid,
    /// Also while the volume is in use.
    pub force: bool,
    /// The owner's name for it.
    pub name: Option<String>,
    /// The owner's words about it.
    pub description: Option<String>,
    /// The owner's key-value pairs.
    pub metadata: BTreeMap<String, String>,
}
