//! Where a guest boots from: block device mappings made into a plan, images kept on this host, and ephemeral disks made of them.
//!
//! ```text
//! mapping (JSON, clauses, the image's own) --> resolve --> BootPlan           pure
//! image service --bytes--> cache --looked into by inspect--> disks            files or logical volumes of this host, or on RBD
//! ```
//! | file | what it knows |
//! | --- | --- |
//! | `mapping/` | block device mapping v2 as Nova's API spells it, its rules, and what an image brings along |
//! | `resolve` | what each entry comes to, with images, volumes and snapshots at hand |
//! | `inspect/` | what bytes really are, before any other program opens them |
//! | `cache` | images of this host: downloaded once, verified, bounded |
//! | `turn` | whose turn it is at an image, and how far that one is |
//! | `telling` | who hears how far an image is |
//! | `intake` | how their bytes come into a file: written, digested and synced side by side |
//! | `disks` | ephemeral disks: made, and removed |
//! | `lvm/`, `rbd/` | those that are logical volumes, and those on RBD |
//! | `stored` | what there is of all that, whoever knows of it; taking away what nobody has |
//! | `lazy/` | disks whose image comes while their guest runs |
//! | `capture` | what is caught of an ephemeral disk for an image of its guest |
//!
//! The cache and the disks are in one folder, so that a disk holds its base by a hard link:
//!
//! ```text
//! DIR/cache/IMAGE.DIGEST           a verified image; .part while it comes, .lazy while guests read of it meanwhile
//! DIR/disks/GUEST/TARGET           an ephemeral disk; TARGET-xxxxxxxx where a rebuild made it
//! DIR/disks/GUEST/TARGET.base      the cached image below it: one file with that of the cache
//! DIR/snapshots/IMAGE              what was caught of a disk, until it is uploaded as that image
//! ```

mod cache;
mod capture;
mod disks;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod import;
mod inspect;
mod intake;
mod lazy;
mod lvm;
mod mapping;
mod rbd;
mod resolve;
mod stored;
mod telling;
mod turn;

pub use cache::{ImageCache, ImageSource, Piece, SourceError};
pub use capture::Captures;
pub use disks::{DiskForm, DiskMaker};
pub use error::BootSourceError;
pub use lazy::{Fetching, LazyDisks, Progress, Streaming};
pub use lvm::VolumeGroup;
pub use mapping::{Mapping, MappingError, Reference, Source, of_instance};
pub use rbd::{Pool, PoolError};
pub use resolve::{Facts, check_image_for_volume, content_of_image};
pub use telling::ImageProgress;
