//! SQLite in one file, mode 0600, for it holds CHAP passwords.
//!
//! One connection writes; a few others read, which WAL lets them do meanwhile. `synchronous = FULL`: what a client was told is
//! there after a power cut. Statements run where they are asked for: what they need is in memory as good as always, and handing
//! them to another thread would take longer than they do. Only a commit, which waits for the disk, has a thread of its own.
//!
//! ```text
//! migrate.rs    the tables brought up to date
//! readers.rs    the connections that read
//! writer.rs     the one that writes, and whose changes share a commit
//! statement.rs  a statement run, its rows taken out
//! ```

mod migrate;
mod readers;
mod statement;
mod writer;

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::super::StoreError;
use readers::Readers;
use writer::Writer;

pub(in crate::store) use readers::Reader;
pub(in crate::store) use statement::{Cell, Cells};
pub(in crate::store) use writer::Transaction;

/// How long a request may queue for a connection before it is told that the service is too busy.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long another process, such as `bowline-backend user`, may keep the file to itself.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// SQLite's page cache per connection, in KiB (negative is KiB to SQLite). Its default of 2000 times five connections is
/// more memory than the rest of the service takes.
const CACHE_KIB: i64 = -512;

/// Prepared statements that a connection keeps: the service has fewer.
const STATEMENTS: usize = 256;

/// An open database file.
#[derive(Debug)]
pub(in crate::store) struct Sqlite {
    writer: Writer,
    readers: Readers,
}

impl Sqlite {
    /// Opens a database file, making it or bringing it up to date as needed.
    pub(super) async fn open(path: &Path) -> Result<Self, StoreError> {
        private_file(path).map_err(|source| StoreError::Prepare { path: path.to_owned(), source })?;
        let at = path.to_owned();
        let opened = tokio::task::spawn_blocking(move || open_writer(&at)).await;
        let connection = opened.map_err(|gone| StoreError::Migrate(gone.into()))??;
        Ok(Self { writer: Writer::new(connection), readers: Readers::new(path.to_owned()) })
    }

    /// A transaction that may write.
    pub(super) async fn begin(&self) -> Result<Transaction, StoreError> {
        self.writer.begin().await
    }

    /// A connection for reading.
    pub(super) async fn read(&self) -> Result<Reader, StoreError> {
        self.readers.take().await
    }

    /// How many changes wait for their turn.
    pub(super) fn waiting(&self) -> usize {
        self.writer.waiting()
    }

    /// Folds the write-ahead log into the file.
    pub(super) async fn close(&self) {
        self.readers.close();
        self.writer.fold().await;
    }
}

fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(opening(path))?;
    let pragma = |name, value: &str| connection.pragma_update(None, name, value).map_err(opening(path));
    pragma("journal_mode", "wal")?;
    pragma("synchronous", "full")?;
    pragma("foreign_keys", "on")?;
    migrate::run(&connection)?;
    // From here on who waits for another process waits elsewhere: see `Writer::begin`.
    connection.busy_timeout(Duration::ZERO).map_err(opening(path))?;
    Ok(connection)
}

/// Opens the file with what both kinds of connections have.
fn connect(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "cache_size", CACHE_KIB)?;
    // Otherwise each new value for a LIMIT makes SQLite prepare the statement anew, which takes longer than the statement.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

fn opening(path: &Path) -> impl Fn(rusqlite::Error) -> StoreError {
    let database = PathBuf::from(path).display().to_string();
    move |source| StoreError::Open { database: database.clone(), source: source.into() }
}

/// A request had to wait for too long.
fn too_busy(operation: &'static str) -> StoreError {
    let source = format!("too many others wait; gave up after {} s", ACQUIRE_TIMEOUT.as_secs()).into();
    StoreError::Query { operation, source }
}

/// Makes sure the file exists and only its owner may read it, before SQLite writes anything into it: SQLite gives its log
/// and shared-memory files the same mode.
fn private_file(path: &Path) -> std::io::Result<()> {
    let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))
}
