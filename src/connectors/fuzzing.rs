//! Ways in for the fuzz targets (`crate::fuzzing`), protocol by protocol. In no normal build.

pub use super::{iscsi::fuzzing as iscsi, nfs::fuzzing as nfs, rbd::fuzzing as rbd};
