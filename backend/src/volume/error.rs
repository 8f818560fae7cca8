//! Why the manager could not do something.

use crate::drivers::DriverError;
use crate::store::StoreError;
use crate::targets::TargetError;

/// A failure on the way through the manager.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// The database, or a rule asked in it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The storage.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The work was cut off because the service is stopping.
    #[error("the service is stopping")]
    Stopping,
}

/// An error and its causes in one line, for the log.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
