//! The two database engines behind one face, so that no statement of the service is written twice: SQLite for one process,
//! PostgreSQL for several.
//!
//! ```text
//! sql.rs       a statement and its values; `?` marks a value on both engines
//! session.rs   where statements run: a transaction that writes, or a connection that reads
//! row.rs       what comes back, checked column by column
//! sqlite/      one connection that writes, a few that read
//! postgres.rs  one pool for both
//! ```
//!
//! What differs is here and nowhere else: placeholders, row locks, looking into JSON. Values are whole numbers, text and null;
//! truth values are 0 and 1, documents are JSON text, times are microseconds since the epoch.

mod postgres;
mod row;
mod session;
mod sql;
mod sqlite;

use std::path::Path;
use std::sync::Arc;

use session::Held;
use sqlx::PgPool;

pub(in crate::store) use row::Row;
pub(in crate::store) use session::Session;
pub(in crate::store) use sql::{Sql, Value};

use super::StoreError;
use sqlite::Sqlite;

/// An open database.
#[derive(Clone, Debug)]
pub(super) enum Engine {
    /// In one file. One connection writes and all changes queue for it, so that "database is locked" is never heard.
    Sqlite(Arc<Sqlite>),
    /// On a server, shared with other processes.
    Postgres(PgPool),
}

impl Engine {
    /// Opens a database file, making it or bringing it up to date as needed.
    pub(super) async fn sqlite(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::Sqlite(Arc::new(Sqlite::open(path).await?)))
    }

    /// Connects to a server and brings its tables up to date.
    pub(super) async fn postgres(url: &str) -> Result<Self, StoreError> {
        postgres::open(url).await
    }

    /// Whether a server lets this service in.
    pub(super) async fn reach(url: &str) -> Result<(), StoreError> {
        postgres::reach(url).await
    }

    /// A transaction that may write. Dropped without a commit it leaves no trace.
    pub(super) async fn begin(&self) -> Result<Session, StoreError> {
        Ok(match self {
            Self::Sqlite(file) => Held::Sqlite(file.begin().await?),
            Self::Postgres(pool) => Held::Postgres(pool.begin().await.map_err(StoreError::query("begin a transaction"))?),
        }
        .into())
    }

    /// A connection for reading. Each statement sees what was committed before it.
    pub(super) async fn read(&self) -> Result<Session, StoreError> {
        Ok(match self {
            Self::Sqlite(file) => Held::SqliteRead(file.read().await?),
            Self::Postgres(pool) => Held::PostgresRead(pool.acquire().await.map_err(StoreError::query("begin to read"))?),
        }
        .into())
    }

    /// How many changes wait for their turn; with PostgreSQL, how many of its connections are in use.
    pub(super) fn waiting(&self) -> usize {
        match self {
            Self::Sqlite(file) => file.waiting(),
            Self::Postgres(pool) => (pool.size() as usize).saturating_sub(pool.num_idle()),
        }
    }

    /// Closes it; SQLite folds its write-ahead log into the file.
    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite(file) => file.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}
