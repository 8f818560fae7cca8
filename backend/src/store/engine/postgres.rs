//! PostgreSQL: one pool for reading and writing, shared with the service's other processes.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _};

use super::super::StoreError;
use super::Engine;

/// Connections of one process. A server takes 100 by default, for all roles together.
const CONNECTIONS: u32 = 8;

/// How long a request may queue for a connection before it is told that the service is too busy.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) async fn open(url: &str) -> Result<Engine, StoreError> {
    let (options, database) = options(url)?;
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_with(options)
        .await
        .map_err(|source| StoreError::Open { database, source: source.into() })?;
    // Several processes may start at once: the migrator takes an advisory lock.
    sqlx::migrate!("./migrations/postgres").run(&pool).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) => StoreError::TooNew { version },
        other => StoreError::Migrate(other.into()),
    })?;
    Ok(Engine::Postgres(pool))
}

/// Connects once, and changes nothing.
pub(super) async fn reach(url: &str) -> Result<(), StoreError> {
    let (options, database) = options(url)?;
    let connected = options.connect().await.map_err(|source| StoreError::Open { database, source: source.into() })?;
    connected.close().await.map_err(StoreError::query("close a connection"))
}

/// How to connect, and how to call it in errors: the URL may hold a password.
fn options(url: &str) -> Result<(PgConnectOptions, String), StoreError> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|source| StoreError::Open { database: "[database] url".into(), source: source.into() })?
        .application_name("bowline-backend");
    let database = format!("{} on {}", options.get_database().unwrap_or("postgres"), options.get_host());
    Ok((options, database))
}
