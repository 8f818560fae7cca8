//! The volume service's things, as much of them as the agent needs.

use super::{AttachmentId, ConnectionInfo, GuestUuid, SnapshotId, VolumeId, VolumeOrigin, VolumeTraits};

/// A volume as the service describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its id.
    pub id: VolumeId,
    /// Its name; empty when it has none.
    pub name: String,
    /// Size in GiB, the service's unit.
    pub size_gib: u64,
    /// The service's word: `available`, `reserved`, `attaching`, `in-use`, `error`, …
    pub status: String,
    /// May be attached more than once.
    pub multiattach: bool,
    /// Holds a boot disk.
    pub bootable: bool,
    /// Its data is encrypted and wants decrypting on the host.
    pub encrypted: bool,
    /// Volume type, if any.
    pub volume_type: Option<String>,
    /// Creation time as the service wrote it (UTC, RFC 3339 without zone).
    pub created_at: String,
    /// Who has it attached.
    pub attachments: Vec<VolumeAttachment>,
}

/// One entry of a volume's `attachments`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeAttachment {
    /// The attachment's id.
    pub attachment: AttachmentId,
    /// The instance, where the attachment has one.
    pub guest: Option<GuestUuid>,
    /// Host name as the connector gave it; only shown to administrators.
    pub host: Option<String>,
}

/// What is asked of the service for a new volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVolume {
    /// Name; empty for none.
    pub name: String,
    /// Size in GiB, at least 1.
    pub size_gib: u64,
    /// Volume type; `None` takes the service's default.
    pub volume_type: Option<String>,
    /// Several guests may have it at once. Cinder itself takes this from the volume type alone.
    pub multiattach: bool,
    /// What is in it at first.
    pub origin: VolumeOrigin,
}

/// A snapshot of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSnapshot {
    /// Its id.
    pub id: SnapshotId,
    /// Of which volume it was taken.
    pub volume: VolumeId,
    /// Its name; empty when it has none.
    pub name: String,
    /// The service's word: `available`, `creating`, `error`, …
    pub status: String,
    /// Size of the volume it was taken of, GiB.
    pub size_gib: u64,
}

/// Where an attachment stands in the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachmentStatus {
    /// The volume is held for it; no connector yet.
    Reserved,
    /// A connector was given, the host may connect.
    Attaching,
    /// Completed.
    Attached,
    /// Being taken away.
    Detaching,
    /// Gone, still listed.
    Detached,
    /// The service failed while preparing it.
    Error,
    /// A word this version does not know.
    Other,
}

/// An attachment record without its connection info, as lists give it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachmentSummary {
    /// Its id.
    pub id: AttachmentId,
    /// The volume.
    pub volume: VolumeId,
    /// The instance it was made for.
    pub guest: Option<GuestUuid>,
    /// Where it stands.
    pub status: AttachmentStatus,
}

/// An attachment record.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// What lists give too.
    pub summary: AttachmentSummary,
    /// How to connect; `None` until a connector was given.
    pub connection: Option<ConnectionInfo>,
    /// What connection info says beside that.
    pub traits: VolumeTraits,
}
