//! The words of the two state machines. Their spelling is the API's, and also the database's, so that
//! an operator who opens the database reads what the API says.
//!
//! ```text
//! volume:      available or in-use ──▶ extending ──▶ what its attachments make of it, or error_extending
//!
//!              creating ──▶ available ◀──────────────┐
//!                 │            │  ▲                  │
//!                 ▼            ▼  └── reserved ──┐   │
//!               error       deleting     │       │   │
//!                 │            ▲         ▼       │   │
//!                 └────────────┘     attaching ──┤   │
//!                                        ▼       ▼   │
//!                                     in-use ──▶ detaching
//!
//! attachment:  reserved ──▶ attaching ──▶ attached
//!                  └────────────┴────────────┴──▶ detaching ──▶ (gone)
//! ```

/// Implements the string forms of a status from one list, so that they cannot drift apart.
macro_rules! words {
    ($name:ident { $($variant:ident => $word:literal),+ $(,)? }) => {
        impl $name {
            /// Every status there is, in no particular order.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The word the API and the database use.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }

            /// Reads the word back; `None` for one that is not a status.
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some($name::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

/// Where a volume is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VolumeStatus {
    /// Accepted; its storage is being made.
    Creating,
    /// Made, attached to nothing.
    Available,
    /// Held for an attachment that has not told its host yet.
    Reserved,
    /// Exported to a host that is connecting.
    Attaching,
    /// At least one host has finished connecting.
    InUse,
    /// An attachment is being taken away.
    Detaching,
    /// Accepted for deletion; its storage is being removed.
    Deleting,
    /// Its storage could not be made.
    Error,
    /// Its storage could not be removed.
    ErrorDeleting,
    /// An image is being written into it.
    Downloading,
    /// It is being read into an image.
    Uploading,
    /// It is being made larger.
    Extending,
    /// It could not be made larger.
    ErrorExtending,
    /// It is being backed up.
    BackingUp,
    /// A backup is being written into it.
    RestoringBackup,
    /// A backup could not be written into it.
    ErrorRestoring,
    /// It is changing its type or its place.
    Retyping,
    /// It is going back to a snapshot.
    Reverting,
    /// It is offered to another project.
    AwaitingTransfer,
    /// Its place is being copied; nobody may use it.
    Maintenance,
}

words!(VolumeStatus {
    Creating => "creating",
    Available => "available",
    Reserved => "reserved",
    Attaching => "attaching",
    InUse => "in-use",
    Detaching => "detaching",
    Deleting => "deleting",
    Error => "error",
    ErrorDeleting => "error_deleting",
    Downloading => "downloading",
    Uploading => "uploading",
    Extending => "extending",
    ErrorExtending => "error_extending",
    BackingUp => "backing-up",
    RestoringBackup => "restoring-backup",
    ErrorRestoring => "error_restoring",
    Retyping => "retyping",
    Reverting => "reverting",
    AwaitingTransfer => "awaiting-transfer",
    Maintenance => "maintenance",
});

impl VolumeStatus {
    /// Whether a volume's attachments decide what it is. While something else is under way they do not: what it becomes is decided
    /// when that ends.
    pub fn follows_attachments(self) -> bool {
        use VolumeStatus::*;
        matches!(self, Available | Reserved | Attaching | InUse | Detaching)
    }

    /// Whether a volume may go from this status straight to `next`.
    pub fn may_become(self, next: VolumeStatus) -> bool {
        use VolumeStatus::*;
        matches!(
            (self, next),
            (Creating, Available | Downloading | RestoringBackup | Error)
                | (Downloading, Available | Error)
                | (Available | InUse, Uploading | Extending | BackingUp | Retyping | Maintenance)
                | (Uploading | BackingUp | Retyping | Maintenance, Available | InUse)
                | (Extending, Available | InUse | ErrorExtending)
                | (Available, RestoringBackup | Reverting | AwaitingTransfer)
                | (RestoringBackup, Available | ErrorRestoring | Error)
                | (Reverting, Available | Error)
                | (AwaitingTransfer, Available)
                | (Available, Reserved | Attaching | Deleting)
                | (Reserved, Attaching | Available | InUse | Detaching)
                | (Attaching, InUse | Available | Reserved | Detaching)
                | (InUse, Detaching | Available | Attaching | Reserved)
                | (Detaching, Available | InUse | Attaching | Reserved)
                | (Error | ErrorDeleting | ErrorExtending | ErrorRestoring, Deleting)
                | (Deleting, ErrorDeleting)
        )
    }
}

/// Where a snapshot is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SnapshotStatus {
    /// Accepted; its storage is being made.
    Creating,
    /// Made.
    Available,
    /// Accepted for deletion; its storage is being removed.
    Deleting,
    /// Its storage could not be made.
    Error,
    /// Its storage could not be removed.
    ErrorDeleting,
    /// A backup is reading it.
    BackingUp,
    /// Its volume is going back to it.
    Restoring,
}

words!(SnapshotStatus {
    Creating => "creating",
    Available => "available",
    Deleting => "deleting",
    Error => "error",
    ErrorDeleting => "error_deleting",
    BackingUp => "backing-up",
    Restoring => "restoring",
});

/// Where a backup is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BackupStatus {
    /// Accepted; the volume is being read.
    Creating,
    /// Whole.
    Available,
    /// It is being written into a volume.
    Restoring,
    /// Accepted for deletion; it is being taken out of the store.
    Deleting,
    /// It could not be made, imported or deleted.
    Error,
}

words!(BackupStatus {
    Creating => "creating",
    Available => "available",
    Restoring => "restoring",
    Deleting => "deleting",
    Error => "error",
});

/// Where an attachment is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttachStatus {
    /// Holds the volume; no host is known yet.
    Reserved,
    /// A host is known and may connect.
    Attaching,
    /// The host said that it has connected.
    Attached,
    /// Being taken away: the intent is recorded before the export is touched.
    Detaching,
}

words!(AttachStatus {
    Reserved => "reserved",
    Attaching => "attaching",
    Attached => "attached",
    Detaching => "detaching",
});

/// What the host may do with the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// Read and write.
    Rw,
    /// Read only.
    Ro,
}

words!(AttachMode { Rw => "rw", Ro => "ro" });

pub(super) use words;
