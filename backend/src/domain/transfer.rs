//! A transfer: a volume offered to whoever in another project brings the key.

use uuid::Uuid;

/// One offer. Its key is known to who made it and to nobody else; only a salted digest is kept.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// Its id.
    pub id: Uuid,
    /// What is offered.
    pub volume_id: Uuid,
    /// Who offers it.
    pub project_id: String,
    /// The owner's name for it.
    pub name: Option<String>,
    /// Whether the volume was to go without its snapshots; then it has none.
    pub no_snapshots: bool,
    /// When it was made, microseconds since the epoch.
    pub created_at_us: i64,
}
