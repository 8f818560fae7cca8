//! Backups: a volume's bytes as objects in a store, found again and believed only by their digests.
//!
//! ```text
//! manifest (its SHA-256 is in the database, and in what is exported)
//!   └── pages: 4 GiB of the volume each (by SHA-256; of this backup, or of an ancestor where nothing changed)
//!         └── chunks: 4 MiB each, zstd (by SHA-256 of the bytes they hold; of this backup, or of an ancestor)
//! ```
//!
//! A backup puts objects only under its own id and names those of its ancestors, which cannot be deleted before it. So deleting one
//! is deleting what is under its id, and can take nothing from another. What is all zeros is nowhere. Of a volume of any size a few
//! chunks and a page or two are in memory at once.
//!
//! ```text
//! object.rs    the names of objects, made of ids and numbers alone
//! manifest.rs  manifests and pages: their form, and what is refused
//! write.rs     a volume's pieces to objects; what an ancestor has is not written again
//! read.rs      objects to bytes: nothing is believed that does not have its digest
//! restore.rs   what has to be written to a volume so that it becomes what was backed up
//! stores/      where objects are: a directory, S3, Swift
//! record.rs    what another instance needs to take a backup over
//! role.rs      the backup service: orders the work, deletes, imports
//! error.rs     what goes wrong
//! ```
//!
//! The bytes are read and written on the host that has the volume (`volume/backups.rs`).

mod error;
mod manifest;
mod object;
mod read;
mod record;
mod restore;
mod role;
mod stores;
mod write;

pub use error::{BackupError, StoreFault};
pub use manifest::{CHUNK_BYTES, Digest, Manifest};
pub use object::Place;
pub use read::{open, verify_pages};
pub use record::{decode as decode_record, encode as encode_record};
pub use restore::{overwrite, pieces};
pub use role::{BackupService, not_restored};
pub use stores::{ObjectStore, open as open_store, remove_all};
pub use write::{Parent, write};
