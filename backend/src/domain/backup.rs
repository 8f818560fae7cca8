//! A backup: a volume's bytes, kept outside of its storage.
//!
//! ```text
//!              creating ──▶ available ◀──▶ restoring
//!                 │            │
//!                 ▼            ▼
//!               error ───▶ deleting ──▶ (gone)
//!                 ▲            │
//!                 └────────────┘
//! ```

use std::collections::BTreeMap;

use uuid::Uuid;

use super::statuses::{BackupStatus, SnapshotStatus, VolumeStatus};
use super::{NewKey, Refusal, Snapshot, Volume};

/// One backup.
#[derive(Clone, Debug)]
pub struct Backup {
    /// Its id.
    pub id: Uuid,
    /// Whose bytes it keeps; the nil UUID where it was imported.
    pub volume_id: Uuid,
    /// The snapshot it was made from.
    pub snapshot_id: Option<Uuid>,
    /// The backup it holds the differences from.
    pub parent_id: Option<Uuid>,
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
    pub status: BackupStatus,
    /// Why it is in error, or why its last restore was.
    pub fail_reason: Option<String>,
    /// Where in the store it is.
    pub container: String,
    /// How many chunks it has put into the store.
    pub object_count: u64,
    /// The zone of the backup service.
    pub availability_zone: String,
    /// The owner's key-value pairs.
    pub metadata: BTreeMap<String, String>,
    /// The SHA-256 of its manifest, in hexadecimal; none before it has one.
    pub manifest: Option<String>,
    /// The key that opens it, where its volume was encrypted, by the key manager's id.
    pub encryption_key_id: Option<String>,
    /// Its volume's type.
    pub volume_type_id: Option<String>,
    /// The volume it is, or was last, restored to.
    pub restore_volume_id: Option<Uuid>,
    /// Whether others hold the differences from it.
    pub has_dependents: bool,
    /// When the volume's bytes were what it keeps, microseconds since the epoch.
    pub data_at_us: i64,
    /// When it was accepted, microseconds since the epoch.
    pub created_at_us: i64,
    /// When it last changed, microseconds since the epoch.
    pub updated_at_us: Option<i64>,
}

/// A backup that was asked for and found valid.
#[derive(Clone, Debug)]
pub struct NewBackup {
    /// Whose bytes to keep.
    pub volume_id: Uuid,
    /// As they were in this snapshot.
    pub snapshot_id: Option<Uuid>,
    /// Only what differs from the latest backup of the volume.
    pub incremental: bool,
    /// Also while the volume is in use.
    pub force: bool,
    /// Where in the store.
    pub container: Option<String>,
    /// The owner's name for it.
    pub name: Option<String>,
    /// The owner's words about it.
    pub description: Option<String>,
    /// The owner's key-value pairs.
    pub metadata: BTreeMap<String, String>,
    /// The zone of the backup service.
    pub availability_zone: String,
    /// A copy of the volume's key, where it is encrypted.
    pub key: Option<NewKey>,
}

/// What another instance of the service exported, to be taken over with its bytes where they are.
#[derive(Clone, Debug)]
pub struct ImportedBackup {
    /// Its id, there and here.
    pub id: Uuid,
    /// The backup it holds the differences from.
    pub parent_id: Option<Uuid>,
    /// The volume's size, in GiB.
    pub size_gib: u64,
    /// Where in the store it is.
    pub container: String,
    /// How many chunks it has put into the store.
    pub object_count: u64,
    /// The owner's name for it.
    pub name: Option<String>,
    /// The owner's words about it.
    pub description: Option<String>,
    /// The SHA-256 of its manifest, in hexadecimal.
    pub manifest: String,
    /// When the volume's bytes were what it keeps, microseconds since the epoch.
    pub data_at_us: i64,
}

fn invalid(kind: &str, why: impl std::fmt::Display) -> Refusal {
    Refusal::Invalid(format!("Invalid {kind}: {why}"))
}

/// Whether a backup may be made of the volume as it is now.
pub fn may_back_up(volume: &Volume, force: bool) -> Result<(), Refusal> {
    match volume.status {
        VolumeStatus::Available => Ok(()),
        VolumeStatus::InUse if force => Ok(()),
        VolumeStatus::InUse => Err(invalid("volume", "Backing up an in-use volume must use the force flag.")),
        status => {
            let why = format!("Volume to be backed up must be available or in-use, but the current status is \"{status}\".");
            Err(invalid("volume", why))
        }
    }
}

/// Whether a backup may be made of the volume as it was in a snapshot.
pub fn may_back_up_snapshot(volume: &Volume, snapshot: &Snapshot) -> Result<(), Refusal> {
    if snapshot.volume_id != volume.id {
        let why = format!("Volume {} does not match with snapshot.volume_id {}.", volume.id, snapshot.volume_id);
        return Err(invalid("volume", why));
    }
    match snapshot.status {
        SnapshotStatus::Available => Ok(()),
        status => {
            let why = format!("Snapshot to be backed up must be available, but the current status is \"{status}\".");
            Err(invalid("snapshot", why))
        }
    }
}

/// The backup that an incremental one holds the differences from: of all the project has of the volume, the one with the latest
/// bytes; of those before a snapshot, where it is made from one.
pub fn parent(backups: Vec<Backup>, before_us: Option<i64>) -> Result<Backup, Refusal> {
    let older = |backup: &Backup| before_us.is_none_or(|limit| backup.data_at_us < limit);
    let latest = backups.into_iter().filter(older).max_by_key(|backup| backup.data_at_us);
    let latest = latest.ok_or_else(|| invalid("backup", "No backups available to do an incremental backup."))?;
    // One that is just being restored is whole as well.
    match latest.status {
        BackupStatus::Available | BackupStatus::Restoring => Ok(latest),
        _ => Err(invalid("backup", "The parent backup must be available for incremental backup.")),
    }
}

/// Whether the backup may be deleted; `force` whatever its status. `is_read`: a volume is being made from it.
pub fn may_delete(backup: &Backup, is_read: bool, force: bool) -> Result<(), Refusal> {
    if is_read && !force {
        return Err(invalid("backup", "A volume is being made from it."));
    }
    if !force && !matches!(backup.status, BackupStatus::Available | BackupStatus::Error) {
        return Err(invalid("backup", "Backup status must be available or error"));
    }
    if backup.has_dependents {
        return Err(invalid("backup", "Incremental backups exist for this backup."));
    }
    Ok(())
}

/// Whether the backup may be written into a volume of this size; which volume is asked later.
pub fn may_restore(backup: &Backup) -> Result<(), Refusal> {
    match backup.status {
        BackupStatus::Available => Ok(()),
        _ => Err(invalid("backup", "Backup status must be available")),
    }
}

/// Whether the backup may be written into this volume.
pub fn may_restore_to(backup: &Backup, volume: &Volume) -> Result<(), Refusal> {
    may_restore(backup)?;
    if volume.status != VolumeStatus::Available {
        return Err(invalid("volume", "Volume to be restored to must be available"));
    }
    if backup.size_gib > volume.size_gib {
        let why = format!("volume size {} is too small to restore backup of size {}.", volume.size_gib, backup.size_gib);
        return Err(invalid("volume", why));
    }
    // The backup's bytes open with the key that its volume has still.
    let has_key = backup.encryption_key_id.is_some();
    if has_key != volume.encryption_key_id.is_some() || has_key && backup.volume_id != volume.id {
        let why =
            "an encrypted backup is restored to the volume it is of, or to a new one; one that is not, to no encrypted volume.";
        return Err(invalid("volume", why));
    }
    Ok(())
}

/// Whether somebody may be told where the backup is.
pub fn may_export(backup: &Backup) -> Result<&str, Refusal> {
    if backup.encryption_key_id.is_some() {
        return Err(invalid("backup", "it is encrypted, and its key is not told to another instance."));
    }
    match (&backup.manifest, backup.status) {
        (Some(manifest), BackupStatus::Available) => Ok(manifest),
        (_, status) => Err(invalid("backup", format!("Backup status must be available and not {status}."))),
    }
}

/// Whether an administrator may say that the backup has this status.
pub fn may_be_set_to(backup: &Backup, status: BackupStatus) -> Result<(), Refusal> {
    match status {
        BackupStatus::Error => Ok(()),
        BackupStatus::Available if backup.manifest.is_some() => Ok(()),
        BackupStatus::Available => {
            Err(invalid("backup", "it was never finished, so there is nothing that could be restored from it"))
        }
        other => Err(invalid("backup", format!("its status can be set to available or error, and not to {other}."))),
    }
}
