//! What there is, compared with what the database says. It may run beside the service: the database is read before and after the
//! storage, and what both readings do not agree on is under way and no difference.
//!
//! ```text
//! storage.rs  volumes and snapshots of each backend of this machine
//! images.rs   the bytes of images
//! records.rs  statuses that nobody works on, counters that are not the sum they stand for
//! report.rs   what is told
//! ```
//!
//! Repairing never removes a byte. Statuses and counters follow from what there is, so they are set. What nobody knows of is moved
//! aside only where that is asked for; everything else is told, with what can be done about it.

mod images;
mod records;
mod report;
mod storage;

use crate::config::{Config, ConfigError};
use crate::image::ImageFilesError;
use crate::store::{Store, StoreError};

pub use report::{Difference, Report};

/// What may be mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Nothing: only look.
    Nothing,
    /// What follows from what there is.
    Safe,
    /// That, and what nobody knows of is moved aside.
    SafeAndQuarantine,
}

/// It could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The directory of images.
    #[error(transparent)]
    Images(#[from] ImageFilesError),
}

/// Compares everything that this machine can see.
pub async fn audit(config: &Config, store: &Store, repair: Repair) -> Result<Report, AuditError> {
    config.check()?;
    let mut report = Report::default();
    storage::compare(config, store, repair, &mut report).await?;
    images::compare(config, store, &mut report).await?;
    records::compare(store, repair, &mut report).await?;
    Ok(report)
}
