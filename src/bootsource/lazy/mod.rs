//! Disks over images that are still coming: a guest starts at once, and what it reads is fetched first.
//!
//! ```text
//! image service --download--> Store (bytes, and a map of them) --Stream: reads wait--> nbd --socket--> QEMU: the base of the overlay
//!                               | all here, its digest right, looked into
//!                               v
//!                             an ordinary image of the cache, which the disk is put over once its guest is off; a running guest's disk
//!                             takes all of it in (a block job of QEMU), and needs it no more
//! ```
//! | file | what it knows |
//! | --- | --- |
//! | `block_map`, `store` | what of an image is here, through crashes and power cuts |
//! | `stream` | reads that wait, and how the image is doing |
//! | `download` | the one download: what somebody waits for comes first |
//! | `nbd/`, `server` | the socket of each disk, and who may use it |
//! | `images` | an image's stream from its first use to its place in the cache |
//! | `disks` | the disks: made, served again after a restart, put over the cached image, removed |
//!
//! Before QEMU opens a byte the header is looked into, as of every image; what QEMU then reads are those very bytes.

mod block_map;
mod disks;
mod download;
mod images;
mod nbd;
mod server;
mod store;
mod stream;
#[cfg(test)]
mod tests;

pub use disks::{Fetching, LazyDisks};
pub use stream::{Progress, Streaming};
