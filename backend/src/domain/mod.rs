//! What volumes and attachments are and which changes of state are allowed: pure, no I/O.
//!
//! ```text
//! statuses.rs    the words of both state machines, as the API spells them
//! volume.rs      the volume and its transitions
//! attachment.rs  the attachment, the connector it was asked for, its CHAP account
//! snapshot.rs    a volume's bytes as they were
//! backup.rs      a volume's bytes, kept outside of its storage; when one may be made, restored, deleted
//! encryption.rs  how a type's volumes are encrypted, and their keys
//! image.rs       bytes that volumes are made from
//! volume_type.rs a name for what a volume's place must be able to do
//! place.rs       host@backend#pool, what pools say of themselves, services
//! operation.rs   long actions as things of their own
//! person.rs      users, projects, and who is what where
//! message.rs     what owners are told afterwards
//! migration.rs   a volume on its way to another place
//! qos.rs         limits told to hosts with the volumes of a type
//! transfer.rs    a volume offered to another project
//! rules.rs       who may do what in which state
//! refusal.rs     why not, in the words the field's clients know
//! ```

pub mod attachment;
pub mod backup;
pub mod encryption;
pub mod image;
pub mod message;
pub mod migration;
pub mod operation;
pub mod person;
pub mod place;
pub mod qos;
pub mod refusal;
pub mod rules;
pub mod snapshot;
pub mod statuses;
pub mod transfer;
pub mod volume;
pub mod volume_type;

pub use attachment::{Attachment, ChapAccount, Connector, Lease};
pub use backup::{Backup, ImportedBackup, NewBackup};
pub use encryption::{NewKey, TypeEncryption};
pub use image::{Image, ImageFacts, ImageMember, ImageStatus, MemberStatus, Visibility};
pub use message::{Message, NewMessage, WhyNot};
pub use migration::{Migration, Phase};
pub use operation::{Asker, NewOperation, Operation, OperationKind, OperationState};
pub use person::{Assignment, DEFAULT_DOMAIN, IssuedToken, Project, User};
pub use place::{Pool, ServiceRow};
pub use qos::{QosConsumer, QosSpecs};
pub use refusal::Refusal;
pub use snapshot::{NewSnapshot, Snapshot};
pub use statuses::{AttachMode, AttachStatus, BackupStatus, SnapshotStatus, VolumeStatus};
pub use transfer::Transfer;
pub use volume::{NewVolume, Source, Volume};
pub use volume_type::VolumeType;
