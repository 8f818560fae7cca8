//! What the parts of the agent talk about: plain values without I/O.
//!
//! This is the leaf of the import graph. Nothing here opens a file, a socket or a bus.

mod boot;
mod ceph;
mod connection_info;
mod connector_properties;
mod device;
mod difference;
mod disk;
mod disk_tuning;
mod encryption;
mod error_kind;
mod finding;
mod guest_run;
mod health;
mod host_event;
mod ids;
mod image;
pub mod qcow2;
mod room;
mod secret;
mod snapshot;
mod stored;
mod volume;

pub use boot::{
    BootPlan, BootRequest, BootedDisk, Filesystem, GuestDefinition, GuestTemplate, LazyBase, LocalContent, LocalDisk,
    LocalDiskPlan, LocalPlace, NewGuest, PlannedDisk, PlannedStorage, VolumeOrigin, ephemeral_disk_name,
};
pub use ceph::{ceph_key_of, is_plain_ceph_name, own_words_of_rbd};
pub use connection_info::{
    CephAuth, ChapCredentials, ConnectionInfo, DiskFormat, IscsiConnection, IscsiDiscovery, IscsiPath, NfsConnection,
    NfsExport, Portal, PortalError, RbdConnection, RbdImage, SecretKind,
};
pub use connector_properties::ConnectorProperties;
pub use device::{
    BlockDevice, ConnectIntent, ConnectedDevice, DeviceIdentity, ExpectedIdentity, FileDevice, IdentityMismatch, Initiator,
    IscsiNetworkDevice, MultipathMap, ObservedIdentity, RbdBlockDevice, RbdNetworkDevice, VerifiedDevice,
};
pub use difference::{Difference, Mending, OwnName};
pub use disk::{DiskAuth, DiskBus, DiskSource, DiskSpec, disk_alias};
pub use disk_tuning::{
    BlockSizes, DiskCache, DiskIo, DiskTuning, DiskWishes, IoLimit, IoThreads, IoTune, IoTuneError, VolumeTraits,
};
pub use encryption::{DiskEncryption, LUKS_HEAD_BYTES, LuksError, LuksVersion, VolumeEncryption, check_luks_header};
pub use error_kind::ErrorKind;
pub use finding::{Finding, Verdict};
pub use guest_run::GuestRun;
pub use health::{Fault, Health};
pub use host_event::HostEvent;
pub use ids::{AttachmentId, GuestUuid, IdError, ImageId, OperationId, SnapshotId, VolumeId};
pub use image::{DigestAlgorithm, ForeignFormat, Image, ImageDigest, ImageFile};
pub use room::{FolderRoom, GroupRoom, POOL_FULL_PERCENT, PoolRoom};
pub use secret::Secret;
pub use snapshot::{InstanceContent, InstanceDisk, NewImage, SnapshotRequest, SnapshotSource, Stillness};
pub use stored::{Part, Store, Stored, disk_of_name, is_disk_name};
pub use volume::{Attachment, AttachmentStatus, AttachmentSummary, NewVolume, Volume, VolumeAttachment, VolumeSnapshot};

/// Bytes in one GiB, the unit in which the volume service counts sizes.
pub const GIB: u64 = 1 << 30;

/// Bytes in one MiB, the unit of memory and of swap space.
pub const MIB: u64 = 1 << 20;
