//! A volume on its way to another place, as the operation that moves it remembers it.
//!
//! ```text
//!          both places are one process's        the volume is in its new place
//!   copy ───────────────────────────────────────▶ clear ──▶ done
//!     │                                             ▲
//!     └──▶ take: the bytes are in the store of ─────┘
//!           │    backups, for the new place's host
//!           └──▶ undo ──▶ failed
//! ```
//! Until it is in its new place, under an id of its own there, nothing of the old one is touched; so whatever is cut off is done again.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::operation::{Operation, OperationKind};

/// What is moved from where to where, and what was charged for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// Where it is, `host@backend#pool`.
    pub from: String,
    /// Where it is to be.
    pub to: String,
    /// The id its storage knows it by.
    pub from_id: Uuid,
    /// The id its new storage is to know it by: both may be one directory.
    pub to_id: Uuid,
    /// Its size.
    pub size_gib: u64,
    /// Whose it is.
    pub project_id: String,
    /// Whether its owner's quota pays for it.
    pub consumes_quota: bool,
    /// The type it is to have, where it is another.
    pub new_type: Option<NewType>,
    /// What is to be done next.
    pub phase: Phase,
}

/// The type that a volume is to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewType {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether its volumes may be shared.
    pub multiattach: bool,
}

/// How far a migration is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The old place's host copies the bytes, to the new place or into the store of backups.
    Copy,
    /// The new place's host takes them from there.
    Take {
        /// The digest of what is to be taken.
        manifest: String,
    },
    /// The volume is in its new place. The old place's host removes what is left.
    Clear,
    /// It stays where it was. The old place's host removes what is in the store.
    Undo {
        /// Why.
        cause: String,
    },
}

impl Migration {
    /// What the operation was accepted with, and how far it came; none where it is no migration.
    pub fn of(operation: &Operation) -> Option<Self> {
        let moves = matches!(operation.kind, OperationKind::VolumeMigrate | OperationKind::VolumeRetype);
        moves.then(|| serde_json::from_value(operation.request.clone()).ok()).flatten()
    }

    /// The same in another phase, for the operation to remember.
    pub fn in_phase(&self, phase: Phase) -> Value {
        serde_json::json!(Self { phase, ..self.clone() })
    }
}
