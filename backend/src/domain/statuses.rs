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

use std::fmt;

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

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
    /// Accepted for extension; its storage is being enlarged.
    Extending,
    /// Its storage could not be enlarged.
    ErrorExtending,
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
    Extending => "extending",
    ErrorExtending => "error_extending",
});

impl VolumeStatus {
    /// Whether a volume may go from this status straight to `next`.
    pub fn may_become(self, next: VolumeStatus) -> bool {
        use VolumeStatus::*;
        matches!(
            (self, next),
            (Creating, Available | Error)
                | (Available, Reserved | Attaching | Deleting | Extending)
                | (Reserved, Attaching | Available | InUse | Detaching)
                | (Attaching, InUse | Available | Reserved | Detaching)
                | (InUse, Detaching | Available | Attaching | Reserved | Extending)
                | (Extending, Available | InUse | ErrorExtending)
                | (Detaching, Available | InUse | Attaching | Reserved)
                | (Error | ErrorDeleting | ErrorExtending, Deleting)
                | (Deleting, ErrorDeleting)
        )
    }
}

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
