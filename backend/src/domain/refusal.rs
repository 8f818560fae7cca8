//! Why something is not done. The texts are those that clients of the field's volume service know and,
//! now and then, look for.

use uuid::Uuid;

use super::statuses::VolumeStatus;

/// A request that the state of things does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such volume.
    #[error("Volume {0} could not be found.")]
    VolumeNotFound(String),
    /// No such attachment.
    #[error("Volume attachment could not be found with filter: attachment_id = {0}.")]
    AttachmentNotFound(String),
    /// No such volume type.
    #[error("Volume type with name {0} could not be found.")]
    VolumeTypeNotFound(String),
    /// No such metadata key on the volume.
    #[error("Metadata item was not found")]
    MetadataKeyNotFound,
    /// The volume is held, or not ready.
    #[error(
        "Invalid volume: Volume {volume_id} status must be available or downloading to reserve, but the current status is {status}."
    )]
    NotReservable {
        /// The volume.
        volume_id: Uuid,
        /// What it is instead.
        status: VolumeStatus,
    },
    /// The volume is in a state in which it cannot be deleted.
    #[error(
        "Invalid volume: Volume status must be available or error or error_restoring or error_extending or error_managing and \
         must not be migrating, attached, belong to a group, have snapshots, awaiting a transfer, or be disassociated from \
         snapshots after volume transfer."
    )]
    NotDeletable,
    /// The volume is in a state in which it cannot be extended.
    #[error("Invalid volume: Volume {volume_id} status must be '{wanted}' to extend, currently {status}.")]
    NotExtendable {
        /// The volume.
        volume_id: Uuid,
        /// In which it could be, for this client.
        wanted: &'static str,
        /// What it is instead.
        status: VolumeStatus,
    },
    /// The volume would not grow.
    #[error(
        "Invalid input received: New size for extend must be greater than current size. (current: {size_gib}, extended: {asked_gib})."
    )]
    NotLarger {
        /// What it has, GiB.
        size_gib: u64,
        /// What was asked for, GiB.
        asked_gib: u64,
    },
    /// The connector lacks what the target needs.
    #[error("Connector doesn't have required information: {0}")]
    ConnectorLacks(&'static str),
    /// The attachment is held by one host and another asks.
    #[error("Invalid volume attachment: attachment {0} is attached by another host; delete it and create a new one.")]
    AttachedElsewhere(Uuid),
    /// The attachment is on its way out.
    #[error("Invalid volume attachment: attachment {0} is being deleted.")]
    AttachmentGoing(Uuid),
    /// Nothing was ever exported for the attachment.
    #[error("Invalid volume attachment: attachment {0} has no connector; update it with one before completing it.")]
    NothingToComplete(Uuid),
    /// The request itself is wrong.
    #[error("{0}")]
    Invalid(String),
}
