//! Storage drivers: who keeps the bytes of volumes. One trait, one file or folder a driver.
//!
//! A new driver is a file or a folder here that implements [`VolumeDriver`], a variant of [`crate::config::DriverKind`] and a line in
//! [`open`]. What it cannot do it refuses with [`DriverError::Unsupported`], and the volume's owner is told.

mod error;
mod files;
mod lvm;
mod nfs;
mod place;
mod rbd;
pub(crate) mod sparse;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use serde_json::{Map, Value};
use uuid::Uuid;

pub use error::DriverError;
pub use files::FilesDriver;
pub use lvm::{LvmDriver, LvmError};
pub use nfs::NfsDriver;
pub use rbd::RbdDriver;

use crate::config::{Backend, DriverKind};
use crate::domain::ChapAccount;

/// A volume as its storage knows it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The id its storage knows it by.
    pub id: Uuid,
    /// Its size.
    pub size_bytes: u64,
    /// Whether a host may be writing to it just now.
    pub in_use: bool,
    /// What the driver asked to be kept when it was made.
    pub provider: Option<Value>,
}

/// A snapshot as its storage knows it.
#[derive(Clone, Debug)]
pub struct StoredSnapshot {
    /// Its id.
    pub id: Uuid,
    /// Whose bytes it keeps. The size is the volume's when the snapshot was made.
    pub volume: Stored,
    /// What the driver asked to be kept when it was made.
    pub provider: Option<Value>,
}

/// A piece of a volume. What no piece covers is zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where it begins.
    pub offset_bytes: u64,
    /// At most [`CHUNK_BYTES`].
    pub data: Vec<u8>,
}

/// The longest piece: what a stream holds in memory at once.
pub const CHUNK_BYTES: usize = 1 << 20;

/// How a host gets at a volume.
#[derive(Clone, Debug, PartialEq)]
pub enum Reach {
    /// A file or device of this machine, which a target shows to hosts.
    Local(PathBuf),
    /// Hosts go to the storage themselves, once they are let in: [`VolumeDriver::admit`].
    Direct,
}

/// The host of an attachment, which is to get at the storage itself.
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    /// The attachment's id.
    pub attachment_id: Uuid,
    /// Whether it may only read.
    pub read_only: bool,
    /// The account that is recorded for the attachment, which may be one of another kind of storage or another host's.
    pub account: Option<&'a ChapAccount>,
}

/// What a host that was let in is told.
#[derive(Clone, Debug, Default)]
pub struct Admitted {
    /// The connection info, with `driver_volume_type` and without secrets.
    pub info: Map<String, Value>,
    /// The account that it has for this attachment alone, to be recorded and told beside the info; none where it uses one that it
    /// has already.
    pub account: Option<ChapAccount>,
}

/// What a pool has, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// All there is.
    pub total_bytes: u64,
    /// What is free now.
    pub free_bytes: u64,
}

/// Something of ours that a storage has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub kind: FoundKind,
    /// The id of what it belongs to, as the storage knows it.
    pub id: Uuid,
    /// What the storage calls it, for people.
    pub name: String,
    /// Its size.
    pub size_bytes: u64,
}

impl Found {
    /// Refuses what another of the field's services may have made: they give the same names to volumes and snapshots, and may have the
    /// same pool or share. What is unfinished has names of this service's own.
    fn is_surely_ours(&self) -> Result<(), DriverError> {
        if self.kind == FoundKind::Unfinished {
            return Ok(());
        }
        let operation =
            "set aside what another service that shares the storage may have made; look whose it is, and remove it by hand";
        Err(DriverError::Unsupported { volume_id: self.id, operation })
    }
}

/// What something on a storage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FoundKind {
    /// A volume.
    Volume,
    /// A snapshot.
    Snapshot,
    /// Part of one of them that was being made.
    Unfinished,
}

/// What comes of making something: what the driver wants to find again, where there is anything.
pub type Provided = Result<Option<Value>, DriverError>;

/// Keeps the bytes of volumes. Every operation can be repeated: work that was cut off is simply done again.
pub trait VolumeDriver: Send + Sync {
    /// Makes sure, at the start, that the storage can be used, though it may not say how full it is; the error says what mends it. It is not
    /// cut off, however long it takes.
    fn prepare(&self) -> BoxFuture<'_, Result<(), DriverError>>;

    /// Makes a volume, all zeros. Where it exists already with that size, nothing happens.
    fn create<'a>(&'a self, volume: &'a Stored) -> BoxFuture<'a, Provided>;

    /// Removes a volume. Where there is none, nothing happens.
    fn delete<'a>(&'a self, volume: &'a Stored) -> BoxFuture<'a, Result<(), DriverError>>;

    /// Makes a volume larger; a host may be using it. What is added is all zeros. Where it has that size or more, nothing
    /// happens: what somebody may have written is never cut off.
    fn extend<'a>(&'a self, volume: &'a Stored, size_bytes: u64) -> BoxFuture<'a, Result<(), DriverError>>;

    /// The size a volume has now, in bytes.
    fn size_bytes<'a>(&'a self, volume: &'a Stored) -> BoxFuture<'a, Result<u64, DriverError>>;

    /// Keeps a volume's bytes as they are at one moment.
    fn create_snapshot<'a>(&'a self, snapshot: &'a StoredSnapshot) -> BoxFuture<'a, Provided>;

    /// Removes a snapshot. Where there is none, nothing happens.
    fn delete_snapshot<'a>(&'a self, snapshot: &'a StoredSnapshot) -> BoxFuture<'a, Result<(), DriverError>>;

    /// Makes a volume with a snapshot's bytes, zeros beyond them.
    fn create_from_snapshot<'a>(&'a self, volume: &'a Stored, snapshot: &'a StoredSnapshot) -> BoxFuture<'a, Provided>;

    /// Makes a volume with another's bytes, zeros beyond them.
    fn clone_volume<'a>(&'a self, volume: &'a Stored, source: &'a Stored) -> BoxFuture<'a, Provided>;

    /// Gives a volume, which nobody uses, the bytes of its snapshot again. It keeps its size.
    fn revert<'a>(&'a self, volume: &'a Stored, snapshot: &'a StoredSnapshot) -> BoxFuture<'a, Result<(), DriverError>>;

    /// Writes pieces into a new volume. Gives the bytes that were written.
    fn copy_in<'a>(
        &'a self,
        volume: &'a Stored,
        pieces: BoxStream<'a, Result<Chunk, std::io::Error>>,
    ) -> BoxFuture<'a, Result<u64, DriverError>>;

    /// Reads a volume that nobody writes to, piece by piece, in order. Holes are left out.
    fn copy_out(&self, volume: &Stored) -> BoxStream<'static, Result<Chunk, DriverError>>;

    /// What there is and what is free, now.
    fn capacity(&self) -> BoxFuture<'_, Result<Capacity, DriverError>>;

    /// Everything of ours that there is, whoever knows of it.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Found>, DriverError>> {
        let operation = "list what it has";
        Box::pin(async move { Err(DriverError::Unsupported { volume_id: Uuid::nil(), operation }) })
    }

    /// The size of something of ours, where its row has this of it.
    fn size_of_found<'a>(&'a self, found: &'a Found, _provider: Option<&'a Value>) -> BoxFuture<'a, Result<u64, DriverError>> {
        Box::pin(std::future::ready(Ok(found.size_bytes)))
    }

    /// Moves something that nobody knows of aside, where an operator finds it: gives where.
    fn set_aside<'a>(&'a self, found: &'a Found) -> BoxFuture<'a, Result<String, DriverError>> {
        let operation = "set something aside";
        Box::pin(async move { Err(DriverError::Unsupported { volume_id: found.id, operation }) })
    }

    /// Takes back what this driver alone did to get at its storage, for one that is not to stay.
    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Refuses an encrypted volume where hosts could not open it.
    fn may_encrypt(&self, _volume_id: Uuid) -> Result<(), DriverError> {
        Ok(())
    }

    /// How a host gets at the volume.
    fn reach(&self, volume: &Stored) -> Reach;

    /// Lets a host get at the storage itself. Told again of the same host with the account it was given, it gives that again.
    fn admit<'a>(&'a self, volume: &'a Stored, _guest: Guest<'a>) -> BoxFuture<'a, Result<Admitted, DriverError>> {
        let (volume_id, operation) = (volume.id, "let hosts get at it themselves");
        Box::pin(async move { Err(DriverError::Unsupported { volume_id, operation }) })
    }

    /// Takes from an attachment what [`VolumeDriver::admit`] gave it. Where there is nothing, nothing happens.
    fn dismiss<'a>(&'a self, _volume: &'a Stored, _guest: Guest<'a>) -> BoxFuture<'a, Result<(), DriverError>> {
        Box::pin(async { Ok(()) })
    }
}

/// The driver of a backend. `default_directory` is for files, `mounts` for what is mounted here.
pub fn open(backend: &Backend, default_directory: PathBuf, mounts: &Path) -> Arc<dyn VolumeDriver> {
    match backend.driver {
        DriverKind::Files => Arc::new(FilesDriver::new(backend.directory.clone().unwrap_or(default_directory))),
        DriverKind::Rbd => Arc::new(RbdDriver::new(backend.rbd.clone())),
        DriverKind::Nfs => Arc::new(NfsDriver::new(backend.nfs.clone(), backend.directory.clone(), mounts)),
        DriverKind::Lvm => Arc::new(LvmDriver::new(backend.lvm.clone())),
    }
}
