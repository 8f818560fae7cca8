//! What can go wrong between the service and its database.

use std::path::PathBuf;

use crate::domain::Refusal;

/// What an engine said.
pub type EngineError = Box<dyn std::error::Error + Send + Sync>;

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
        source: EngineError,
    },
    /// The tables could not be brought up to date.
    #[error("cannot bring the database up to date")]
    Migrate(#[source] EngineError),
    /// A newer version of the service has changed the tables.
    #[error(
        "the database was changed by a newer bowline-backend (its migration {version} is not known here): run that version, \
         or go back to a copy of the database from before"
    )]
    TooNew {
        /// The first migration that is not known.
        version: i64,
    },
    /// A statement failed.
    #[error("database: cannot {operation}")]
    Query {
        /// What it was for.
        operation: &'static str,
        /// Why.
        source: EngineError,
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
    pub(super) fn query<E: Into<EngineError>>(operation: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Query { operation, source: source.into() }
    }
}
