//! Messages: why something that was accepted did not become, told to its owner afterwards.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a pool was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyNot {
    /// The pool.
    pub pool: String,
    /// The filter that said no.
    pub filter: String,
    /// What it said.
    pub reason: String,
}

/// A message to be kept for its owner.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// What it is about: `VOLUME`, `VOLUME_SNAPSHOT` …
    pub resource_type: &'static str,
    /// Which.
    pub resource_id: Uuid,
    /// The action and the detail, as the field numbers them: `VOLUME_VOLUME_001_002`.
    pub event_id: String,
    /// What the owner reads.
    pub user_message: String,
    /// Per pool, where none would do.
    pub why_not: Option<Vec<WhyNot>>,
}

/// A message as kept.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its id.
    pub id: Uuid,
    /// The request that it follows from.
    pub request_id: Option<String>,
    /// What it is about.
    pub resource_type: String,
    /// Which.
    pub resource_id: Uuid,
    /// The action and the detail.
    pub event_id: String,
    /// `ERROR`.
    pub message_level: String,
    /// What the owner reads.
    pub user_message: String,
    /// Per pool, where none would do.
    pub why_not: Option<Vec<WhyNot>>,
    /// When, microseconds since the epoch.
    pub created_at_us: i64,
    /// Until when it is kept, microseconds since the epoch.
    pub expires_at_us: i64,
}
