//! Connections that read. Each goes back when its session is over; there are no more than may be of use at once.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::super::super::StoreError;
use super::super::sql::Sql;
use super::{ACQUIRE_TIMEOUT, Cells, connect, statement, too_busy};

/// More readers than this only wait for the same disk.
const READERS: usize = 4;

/// The connections.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    room: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

/// One of them.
pub(in crate::store) struct Reader {
    connection: Option<Connection>,
    home: Arc<Mutex<Vec<Connection>>>,
    _room: OwnedSemaphorePermit,
}

impl Readers {
    /// None is open yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, room: Arc::new(Semaphore::new(READERS)), idle: Arc::default() }
    }

    /// One that nobody has.
    pub(super) async fn take(&self) -> Result<Reader, StoreError> {
        const OPERATION: &str = "begin to read";
        let room = timeout(ACQUIRE_TIMEOUT, self.room.clone().acquire_owned()).await.map_err(|_| too_busy(OPERATION))?;
        let room = room.map_err(StoreError::query(OPERATION))?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(StoreError::query(OPERATION))?,
        };
        Ok(Reader { connection: Some(connection), home: self.idle.clone(), _room: room })
    }

    /// Closes those that nobody has.
    pub(super) fn close(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Reader {
    /// All rows of a query.
    pub(in crate::store::engine) fn all(&self, operation: &'static str, sql: &Sql) -> Result<Vec<Cells>, StoreError> {
        // It is there until the session is over.
        let Some(connection) = &self.connection else { return Ok(Vec::new()) };
        statement::all(connection, sql).map_err(StoreError::query(operation))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.home.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }
}
