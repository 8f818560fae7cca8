//! What the parts of the agent talk about: plain values without I/O.
//!
//! This is the leaf of the import graph. Nothing here opens a file, a socket or a bus.

mod connection_info;
mod connector_properties;
mod device;
mod disk;
mod error_kind;
mod ids;
mod secret;
mod volume;

pub use connection_info::{ChapCredentials, ConnectionInfo, IscsiConnection, IscsiPath, Portal, PortalError};
pub use connector_properties::ConnectorProperties;
pub use device::{
    BlockDevice, ConnectIntent, ConnectedDevice, DeviceIdentity, ExpectedIdentity, IdentityMismatch, Initiator,
    IscsiNetworkDevice, ObservedIdentity, VerifiedDevice,
};
pub use disk::{DiskBus, DiskSource, DiskSpec, IscsiDiskAuth, disk_alias};
pub use error_kind::ErrorKind;
pub use ids::{AttachmentId, GuestUuid, IdError, OperationId, VolumeId};
pub use secret::Secret;
pub use volume::{Attachment, AttachmentStatus, AttachmentSummary, NewVolume, Volume, VolumeAttachment};

/// Bytes in one GiB, the unit in which the volume service counts sizes.
pub const GIB: u64 = 1 << 30;
