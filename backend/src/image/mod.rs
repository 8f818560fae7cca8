//! Disk images: their bytes in files, what those bytes really are, and raw disks made of them.
//!
//! ```text
//! format.rs    the formats there are, and which one bytes have
//! inspect/     a look into each format's headers: nothing that leads out of the file, no absurd sizes
//! unfit.rs     why bytes are not taken
//! files.rs     the directory: one file an image, in place whole or not at all
//! writer.rs    bytes on their way in: counted, digested, looked at
//! convert.rs   qemu-img, in a cage, for what is not raw
//! source.rs    an image as a stream of pieces for a volume
//! export.rs    a volume as an image
//! glance.rs    the same from and to a real Glance
//! ```

mod convert;
mod export;
mod files;
mod format;
mod glance;
mod inspect;
mod source;
mod unfit;
mod writer;

pub(crate) use convert::convert;
pub use export::{ExportError, export};
pub use files::{ImageFiles, ImageFilesError, ImageLimits};
pub use format::Format;
pub use glance::{Glance, GlanceError};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use inspect::fuzz_upload;
pub use source::{OpenError, Progress, open_as_raw};
pub use unfit::Unfit;
pub use writer::{ImageWriter, Whole, WriteError};
