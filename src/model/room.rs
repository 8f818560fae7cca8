//! How much room this host has for images and ephemeral disks.

/// A pool with less than this left gives no new disks: one that is full stops the guests it has. Percent that are taken, of data or of
/// metadata; LVM's own warnings begin there.
pub const POOL_FULL_PERCENT: f64 = 95.0;

/// The folder of images, and of ephemeral disks that are files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderRoom {
    /// Its path.
    pub folder: String,
    /// Free in its file system, bytes.
    pub free_bytes: u64,
    /// What the image cache holds, bytes.
    pub cached_bytes: u64,
    /// The most that it may hold, bytes.
    pub limit_bytes: u64,
}

/// The volume group of ephemeral disks.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupRoom {
    /// Its name.
    pub name: String,
    /// Free for linear volumes, and for a pool to grow, bytes.
    pub free_bytes: u64,
    /// The thin pool that disks are volumes of, where they are.
    pub pool: Option<PoolRoom>,
}

/// A thin pool.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolRoom {
    /// Its name.
    pub name: String,
    /// Percent of its data that are taken; `None` while it is not active.
    pub data_percent: Option<f64>,
    /// The same of its metadata.
    pub metadata_percent: Option<f64>,
    /// What it gives out reads as zeros.
    pub is_zeroing: bool,
}

impl PoolRoom {
    /// Of data and metadata the one that is fuller, percent.
    pub fn taken_percent(&self) -> Option<f64> {
        self.data_percent.into_iter().chain(self.metadata_percent).reduce(f64::max)
    }
}
