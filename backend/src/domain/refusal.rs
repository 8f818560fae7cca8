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
    /// There is a type of that name.
    #[error("Volume Type {0} already exists.")]
    VolumeTypeExists(String),
    /// No such snapshot.
    #[error("Snapshot {0} could not be found.")]
    SnapshotNotFound(String),
    /// No such backup.
    #[error("Backup {0} could not be found.")]
    BackupNotFound(String),
    /// No such message.
    #[error("Message {0} could not be found.")]
    MessageNotFound(String),
    /// No such operation.
    #[error("Operation {0} could not be found.")]
    OperationNotFound(String),
    /// No such service.
    #[error("Service {0} could not be found.")]
    ServiceNotFound(String),
    /// No such image, or none that the asker may see.
    #[error("Image {0} could not be found.")]
    ImageNotFound(String),
    /// There is an image of that id.
    #[error("Image ID {0} already exists!")]
    ImageExists(Uuid),
    /// The image is not in a state for it.
    #[error("Image {image_id} is {status}, so it cannot be {what}")]
    ImageState {
        /// The image.
        image_id: Uuid,
        /// What it is.
        status: super::ImageStatus,
        /// What was to be done, `uploaded` …
        what: &'static str,
    },
    /// The image must not be deleted.
    #[error("Image {0} is protected and cannot be deleted.")]
    ImageProtected(Uuid),
    /// No such user, project or role.
    #[error("Could not find {kind}: {id}.")]
    PersonNotFound {
        /// `user`, `project` …
        kind: &'static str,
        /// What was asked for.
        id: String,
    },
    /// The name is taken.
    #[error("Conflict occurred attempting to store {kind} - Duplicate entry found with name {name} at domain ID default.")]
    NameTaken {
        /// `user` or `project`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// The project still has things that would be nobody's.
    #[error("Project {project_id} still has {volumes} volumes and {images} images; delete them, or give them away, first.")]
    ProjectNotEmpty {
        /// The project.
        project_id: String,
        /// How many volumes.
        volumes: i64,
        /// How many images.
        images: i64,
    },
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
    /// No snapshot can be made of a volume in this state.
    #[error("Invalid volume: Volume {volume_id} status must be available, but current status is: {status}.")]
    NotSnapshotable {
        /// The volume.
        volume_id: Uuid,
        /// What it is instead.
        status: VolumeStatus,
    },
    /// The snapshot is in a state in which it cannot be deleted, or volumes are being made from it.
    #[error("Invalid snapshot: Snapshot status must be available or error or error_deleting to be deleted.")]
    SnapshotNotDeletable,
    /// A volume cannot be made from a snapshot or a volume in this state.
    #[error("Invalid {kind}: {kind} {id} status must be available, but current status is: {status}.")]
    SourceNotReady {
        /// `snapshot` or `volume`.
        kind: &'static str,
        /// Which.
        id: Uuid,
        /// What it is instead.
        status: String,
    },
    /// A volume cannot be smaller than what it is made from.
    #[error(
        "Invalid input received: Volume size '{asked_gib}'GB cannot be smaller than the {source_kind} size {source_gib}GB. They must \
         be >= original {source_kind} size."
    )]
    SmallerThanSource {
        /// What was asked for, in GiB.
        asked_gib: u64,
        /// What the source has, in GiB.
        source_gib: u64,
        /// `snapshot` or `source volume`.
        source_kind: &'static str,
    },
    /// The owner's quota is used up.
    #[error("{}", quota_text(resource, *requested, *in_use, *limit))]
    OverQuota {
        /// What there is too much of: `volumes`, `gigabytes`, `snapshots` …
        resource: String,
        /// What was asked for.
        requested: i64,
        /// What there is.
        in_use: i64,
        /// What may be.
        limit: i64,
    },
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
    /// There is no such thing, in the field's words for it.
    #[error("{0}")]
    NotFound(String),
    /// Something else stands in the way.
    #[error("{0}")]
    Conflict(String),
}

/// The field's sentences for a quota that is used up: one for things that are counted, one for what is measured in GiB.
fn quota_text(resource: &str, requested: i64, in_use: i64, limit: i64) -> String {
    let thing = resource.split('_').next().unwrap_or(resource);
    let kind = match thing {
        "volumes" => "Volume",
        "snapshots" => "Snapshot",
        "backups" => "Backup",
        "backup" => {
            return format!(
                "VolumeBackupSizeExceedsAvailableQuota: Requested backup exceeds allowed Backup gigabytes quota. Requested \
                 {requested}G, quota is {limit}G and {in_use}G has been consumed."
            );
        }
        _ => {
            return format!(
                "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed {resource} quota. Requested {requested}G, \
                 quota is {limit}G and {in_use}G has been consumed."
            );
        }
    };
    format!("{kind}LimitExceeded: Maximum number of {} allowed ({limit}) exceeded for quota '{resource}'.", thing)
}
