//! The tables brought up to date, in one transaction: a start that is cut off leaves the database as it was. What was applied is
//! kept in the table that sqlx keeps for PostgreSQL, in the same form.

use std::collections::BTreeMap;

use rusqlite::{Connection, TransactionBehavior, params};
use sqlx::migrate::Migrator;

use super::super::super::StoreError;
use super::super::super::error::EngineError;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations/sqlite");

const RECORD: &str = "CREATE TABLE IF NOT EXISTS _sqlx_migrations (
    version        BIGINT PRIMARY KEY,
    description    TEXT NOT NULL,
    installed_on   TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success        BOOLEAN NOT NULL,
    checksum       BLOB NOT NULL,
    execution_time BIGINT NOT NULL
)";

/// Applies what is missing.
pub(super) fn run(connection: &Connection) -> Result<(), StoreError> {
    let failed = |source: rusqlite::Error| StoreError::Migrate(source.into());
    // A command beside a busy service need not wait for its turn to write, where there is nothing to write.
    if has_record(connection).map_err(failed)? && is_complete(&applied(connection).map_err(failed)?) {
        return Ok(());
    }
    // Two that start at once take turns.
    let tx = rusqlite::Transaction::new_unchecked(connection, TransactionBehavior::Immediate).map_err(failed)?;
    tx.execute_batch(RECORD).map_err(failed)?;
    let applied = applied(&tx).map_err(failed)?;
    if let Some(version) = applied.keys().find(|version| !MIGRATIONS.version_exists(**version)) {
        return Err(StoreError::TooNew { version: *version });
    }
    for migration in MIGRATIONS.iter() {
        match applied.get(&migration.version) {
            Some(checksum) if **checksum == *migration.checksum => {}
            Some(_) => {
                let changed: EngineError = format!("migration {} was applied with another text", migration.version).into();
                return Err(StoreError::Migrate(changed));
            }
            None => {
                tx.execute_batch(migration.sql.as_str()).map_err(failed)?;
                let record = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                              VALUES (?, ?, TRUE, ?, 0)";
                tx.execute(record, params![migration.version, migration.description, migration.checksum]).map_err(failed)?;
            }
        }
    }
    tx.commit().map_err(failed)
}

fn has_record(connection: &Connection) -> rusqlite::Result<bool> {
    let query = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'";
    Ok(connection.query_row(query, [], |row| row.get::<_, i64>(0))? > 0)
}

/// Whether exactly what is known was applied.
fn is_complete(applied: &BTreeMap<i64, Vec<u8>>) -> bool {
    let known = MIGRATIONS.iter().map(|migration| (migration.version, &*migration.checksum));
    known.eq(applied.iter().map(|(version, checksum)| (*version, checksum.as_slice())))
}

/// What was applied, by version, with its text's checksum.
fn applied(connection: &Connection) -> rusqlite::Result<BTreeMap<i64, Vec<u8>>> {
    let mut statement = connection.prepare("SELECT version, checksum FROM _sqlx_migrations")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}
