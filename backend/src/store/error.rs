//! What can go wrong between the service and its database.

use std::path::PathBuf;

use crate::domain::Refusal;

/// A failed operation on the database, or a rule that said no inside one.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The state of things does not allow it; nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The file could not be made private.
    #[error("cannot prepare the database file {}", path.display())]
    Prepare {
        /// The database.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file could not be opened as a database, or the server not be reached.
    #[error("cannot open the database {database}")]
    Open {
        /// The database.
        database: String,
        /// Why.
        source: sqlx::Error,
    },
    /// The tables could not be brought up to date.
    #[error("cannot bring the database up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A statement failed.
    #[error("database: cannot {operation}")]
    Query {
        /// What it was for.
        operation: &'static str,
        /// Why.
        source: sqlx::Error,
    },
    /// A row holds something this version cannot read.
    #[error("database: column {column} of {id} holds something unreadable")]
    Unreadable {
        /// The row's id.
        id: String,
        /// The column.
        column: &'static str,
    },
}

impl StoreError {
    /// For `map_err`: a statement failed while doing `operation`.
    pub(super) fn query(operation: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Query { operation, source }
    }
}
