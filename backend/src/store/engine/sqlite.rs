//! SQLite in one file, mode 0600, for it holds CHAP passwords.
//!
//! One connection writes; a few others read, which WAL lets them do meanwhile. `synchronous = FULL`: what a client was told is
//! there after a power cut.

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, SqliteConnection};

use super::super::StoreError;
use super::Engine;

/// More readers than this only wait for the same disk.
const READERS: u32 = 4;

/// How long a request may queue for a connection before it is told that the service is too busy.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

/// SQLite's page cache per connection, in KiB (negative is KiB to SQLite). Its default of 2000 times five connections is
/// more memory than the rest of the service takes.
const CACHE_KIB: &str = "-512";

pub(super) async fn open(path: &Path) -> Result<Engine, StoreError> {
    private_file(path).map_err(|source| StoreError::Prepare { path: path.to_owned(), source })?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .pragma("cache_size", CACHE_KIB)
        .busy_timeout(Duration::from_secs(5));
    let failed = |source| StoreError::Open { database: path.display().to_string(), source };
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_release(|connection, _| Box::pin(between_transactions(connection)))
        .connect_with(options.clone())
        .await
        .map_err(failed)?;
    sqlx::migrate!("./migrations/sqlite").run(&writer).await.map_err(StoreError::Migrate)?;
    let readers = SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_with(options.read_only(true))
        .await
        .map_err(failed)?;
    Ok(Engine::Sqlite { writer, readers })
}

/// Whether the writing connection may be used again.
///
/// Where writing fails (the disk is full), SQLite itself rolls back. The driver's own ROLLBACK then fails, for there is no
/// transaction any more, and it goes on counting one: all later changes would seem to be committed, and never are. Such a
/// connection is closed; the next change opens another.
async fn between_transactions(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // Answered after the rollback that may still be queued.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

/// Makes sure the file exists and only its owner may read it, before SQLite writes anything into it: SQLite gives its log
/// and shared-memory files the same mode.
fn private_file(path: &Path) -> std::io::Result<()> {
    let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))
}
