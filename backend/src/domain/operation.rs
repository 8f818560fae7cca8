//! Long actions as things of their own: each has an id, a step, its progress and, where it failed, the cause.
//!
//! ```text
//!            accepted with its object's new status, in one transaction
//!                 │
//!                 ▼        claimed by a worker
//!              queued ────────────────────────▶ running ──▶ done
//!                 ▲                               │ │
//!                 └── handed to the next queue ───┘ └─────▶ failed
//!                     (or its worker died)
//! ```

use serde_json::Value;
use uuid::Uuid;

use super::migration::Migration;
use super::place::{ServiceRow, VOLUME_SERVICE, host_of_queue};
use super::statuses::words;

/// Set in the request of a re-image whose bytes are all there.
const WRITTEN: &str = "written";

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OperationKind {
    /// Choose a place for a volume and make its storage.
    VolumeCreate,
    /// Remove a volume's storage and forget it.
    VolumeDelete,
    /// Make a volume larger.
    VolumeExtend,
    /// Keep a volume's bytes as they are.
    SnapshotCreate,
    /// Remove a snapshot.
    SnapshotDelete,
    /// Read a volume into an image.
    VolumeUpload,
    /// Write an image over what a volume has.
    VolumeReimage,
    /// Show a volume to the host of an attachment.
    AttachmentConnect,
    /// Take a volume away from the host of an attachment and forget it.
    AttachmentDelete,
    /// Take a volume away from the host of an attachment that stays.
    AttachmentRevoke,
    /// Give a volume the bytes of its latest snapshot again.
    VolumeRevert,
    /// Move a volume to another place.
    VolumeMigrate,
    /// Move a volume to a place that does for another type.
    VolumeRetype,
    /// Read a volume into the backup store.
    BackupCreate,
    /// Write a backup into a volume.
    BackupRestore,
    /// Take a backup out of the store and forget it.
    BackupDelete,
    /// Look whether a backup that was exported elsewhere is in the store.
    BackupImport,
}

words!(OperationKind {
    VolumeCreate => "volume:create",
    VolumeDelete => "volume:delete",
    VolumeUpload => "volume:upload_image",
    VolumeReimage => "volume:reimage",
    VolumeExtend => "volume:extend",
    SnapshotCreate => "snapshot:create",
    SnapshotDelete => "snapshot:delete",
    AttachmentConnect => "attachment:connect",
    AttachmentDelete => "attachment:delete",
    AttachmentRevoke => "attachment:revoke",
    VolumeRevert => "volume:revert",
    VolumeMigrate => "volume:migrate",
    VolumeRetype => "volume:retype",
    BackupCreate => "backup:create",
    BackupRestore => "backup:restore",
    BackupDelete => "backup:delete",
    BackupImport => "backup:import",
});

impl OperationKind {
    /// What it is about: `volume`, `snapshot`, `attachment`, `backup`.
    pub fn object_type(self) -> &'static str {
        self.as_str().split(':').next().unwrap_or_default()
    }

    /// Whether what it is about is made by it.
    pub fn makes_its_object(self) -> bool {
        self.as_str().ends_with(":create")
    }

    /// Whether its worker may need the key of its volume, to write what is to be encrypted.
    pub fn writes_with_a_key(self) -> bool {
        matches!(self, Self::VolumeCreate | Self::VolumeReimage)
    }

    /// What its worker is doing, until it says more.
    pub fn first_step(self) -> &'static str {
        match self.as_str().split_once(':').map(|(_, action)| action) {
            Some("create") => "creating",
            Some("delete") => "deleting",
            Some("extend") => "extending",
            Some("connect") => "exporting",
            Some("revoke") => "revoking",
            Some("revert") => "reverting",
            Some("upload_image") => "uploading",
            Some("reimage") => "downloading",
            Some("migrate" | "retype") => "copying",
            _ => "working",
        }
    }
}

/// Where an operation is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OperationState {
    /// Nobody works on it.
    Queued,
    /// A worker has it.
    Running,
    /// It reached its end.
    Done,
    /// It ended with a cause.
    Failed,
}

words!(OperationState {
    Queued => "queued",
    Running => "running",
    Done => "done",
    Failed => "failed",
});

impl OperationState {
    /// Whether nothing more happens to it.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Done | Self::Failed)
    }
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Its id, also the bus's message.
    pub id: Uuid,
    /// What it does.
    pub kind: OperationKind,
    /// To what.
    pub object_id: Uuid,
    /// Whose.
    pub project_id: String,
    /// Who asked.
    pub user_id: String,
    /// In which request.
    pub request_id: Option<String>,
    /// What was asked for, beyond what the object's row says.
    pub request: Value,
    /// Whose turn it is.
    pub queue: String,
    /// What is being done.
    pub step: String,
    /// How far that is, in percent.
    pub progress: i64,
    /// Where it is in its life.
    pub state: OperationState,
    /// Why it failed.
    pub cause: Option<String>,
    /// How often a worker took it.
    pub attempts: i64,
    /// The worker that has it.
    pub owner: Option<String>,
    /// When it was accepted, microseconds since the epoch.
    pub created_at_us: i64,
    /// When it last changed, microseconds since the epoch.
    pub updated_at_us: i64,
}

impl Operation {
    /// The ids of what it has on storage that no volume or snapshot is known by.
    pub fn storage_ids(&self) -> Vec<Uuid> {
        match self.kind {
            OperationKind::BackupCreate => vec![Self::clone_for_backup(self.object_id)],
            _ => Migration::of(self).map(|migration| vec![migration.from_id, migration.to_id]).unwrap_or_default(),
        }
    }

    /// The id of the clone that a backup of a volume in use reads.
    pub fn clone_for_backup(backup_id: Uuid) -> Uuid {
        Uuid::new_v5(&backup_id, b"clone")
    }

    /// An id that it was accepted with, or handed over with.
    pub fn id_in(&self, key: &str) -> Option<Uuid> {
        self.request.get(key).and_then(Value::as_str).and_then(|id| Uuid::parse_str(id).ok())
    }

    /// Which backup it writes into which volume, where it does: one that is there, or one that it has made for it.
    pub fn restores(&self) -> Option<(Uuid, Uuid)> {
        match self.kind {
            OperationKind::BackupRestore => Some((self.object_id, self.id_in("volume_id")?)),
            OperationKind::VolumeCreate => Some((self.id_in("backup_id")?, self.object_id)),
            _ => None,
        }
    }

    /// Whether it has written its image over its volume, and only tells of it now.
    pub fn is_written(&self) -> bool {
        self.request.get(WRITTEN).is_some()
    }

    /// The same, once that is so.
    pub fn with_image_written(mut self) -> Self {
        if let Value::Object(request) = &mut self.request {
            request.insert(WRITTEN.into(), true.into());
        }
        self
    }

    /// The volume service that has to go on with it and is down, where that is so.
    pub fn waits_for<'a>(&self, services: &'a [ServiceRow], now_us: i64) -> Option<&'a ServiceRow> {
        let host = host_of_queue(&self.queue).filter(|_| !self.state.is_end())?;
        let service = services.iter().find(|service| service.name == VOLUME_SERVICE && service.host == host)?;
        (!service.is_up(now_us)).then_some(service)
    }
}

/// An operation to be accepted.
#[derive(Clone, Debug)]
pub struct NewOperation {
    /// What it does.
    pub kind: OperationKind,
    /// To what.
    pub object_id: Uuid,
    /// Whose turn is first.
    pub queue: String,
    /// What is asked for, beyond what the object's row says.
    pub request: Value,
    /// Who asks, and for whom.
    pub by: Asker,
}

/// Who asked for something: what operations and messages remember of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asker {
    /// The project it is for.
    pub project_id: String,
    /// The user.
    pub user_id: String,
    /// The request.
    pub request_id: Option<String>,
}
