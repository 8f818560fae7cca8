//! The one connection that writes. Changes take turns, so that "database is locked" is never heard, and share a commit: each is
//! a savepoint of a transaction that the disk is made to keep once for all who queue meanwhile. Nobody is told of a change before
//! that.
//!
//! ```text
//!            first of a batch                   the turn ends, its work kept or undone
//!   idle ───────────────────────▶ open ◀──┐ next in the queue
//!    ▲      BEGIN IMMEDIATE         │ └───┘ SAVEPOINT … RELEASE, or ROLLBACK TO
//!    │                              │
//!    └──────────────────────────────┘ the commit's own turn comes: COMMIT, and all of the batch are told
//! ```
//!
//! A commit queues like a change, so it takes along those who came before it and no others. Where an error made SQLite itself undo
//! the whole transaction (the disk is full), all of the batch are told that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use tokio::time::timeout;

use super::super::super::StoreError;
use super::super::sql::Sql;
use super::{ACQUIRE_TIMEOUT, Cells, statement, too_busy};

/// What became of a batch; none while that is open.
type Verdict = Option<Result<(), Arc<rusqlite::Error>>>;

const BEGIN: &str = "begin a transaction";
const COMMIT: &str = "commit a transaction";

/// Who wants to write queues here.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    turn: Arc<Mutex<Desk>>,
    waiting: Arc<AtomicUsize>,
}

/// What whose turn it is has.
#[derive(Debug)]
struct Desk {
    connection: Connection,
    /// Those whose changes are in the open transaction.
    batch: Option<watch::Sender<Verdict>>,
    /// Whether a commit is in the queue.
    commit_queued: bool,
}

/// A change under way. Dropped without a commit it leaves no trace.
pub(in crate::store) struct Transaction {
    writer: Writer,
    desk: Option<OwnedMutexGuard<Desk>>,
}

/// Counts one that waits.
struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Writer {
    pub(super) fn new(connection: Connection) -> Self {
        let desk = Desk { connection, batch: None, commit_queued: false };
        Self { turn: Arc::new(Mutex::new(desk)), waiting: Arc::default() }
    }

    /// How many wait for their turn.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Begins a change when its turn has come.
    pub(super) async fn begin(&self) -> Result<Transaction, StoreError> {
        let waiting = Waiting::new(&self.waiting);
        let turn = timeout(ACQUIRE_TIMEOUT, self.turn.clone().lock_owned()).await;
        drop(waiting);
        let mut desk = turn.map_err(|_| too_busy(BEGIN))?;
        if desk.connection.is_autocommit() {
            desk = match desk.open() {
                Ok(()) => desk,
                // Another process writes, and waiting for it must not hold up who only wants to read.
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => open_when_free(desk).await?,
                Err(error) => return Err(StoreError::query(BEGIN)(error)),
            };
        }
        // From here on it is undone where it is dropped.
        let transaction = Transaction { writer: self.clone(), desk: Some(desk) };
        transaction.connection()?.execute_batch("SAVEPOINT change").map_err(StoreError::query(BEGIN))?;
        Ok(transaction)
    }

    /// Folds the write-ahead log into the file.
    pub(super) async fn fold(&self) {
        let desk = self.turn.clone().lock_owned().await;
        // What cannot be folded now is folded at the next start.
        let _ = desk.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    }

    /// Puts a commit in the queue, in a task of its own: it comes about whoever goes away.
    fn queue_commit(&self) {
        let turn = self.turn.clone();
        tokio::spawn(async move {
            let mut desk = turn.lock_owned().await;
            tokio::task::spawn_blocking(move || {
                desk.commit_queued = false;
                desk.commit();
            });
        });
    }
}

async fn open_when_free(mut desk: OwnedMutexGuard<Desk>) -> Result<OwnedMutexGuard<Desk>, StoreError> {
    let opening = tokio::task::spawn_blocking(move || {
        desk.connection.busy_timeout(ACQUIRE_TIMEOUT)?;
        let opened = desk.open();
        desk.connection.busy_timeout(std::time::Duration::ZERO)?;
        opened.map(|()| desk)
    });
    opening.await.map_err(StoreError::query(BEGIN))?.map_err(StoreError::query(BEGIN))
}

impl Desk {
    /// Begins the transaction of a batch.
    fn open(&mut self) -> rusqlite::Result<()> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        self.batch = Some(watch::Sender::new(None));
        Ok(())
    }

    /// Makes the disk keep the batch, and tells those whose changes it had.
    fn commit(&mut self) {
        let Some(batch) = self.batch.take() else { return };
        let committed = self.connection.execute_batch("COMMIT").map_err(Arc::new);
        if committed.is_err() && !self.connection.is_autocommit() {
            // It fails only where SQLite has undone it already.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        batch.send_replace(Some(committed));
    }

    /// Ends a change that is not to be.
    fn undo(&mut self) {
        if self.connection.is_autocommit() {
            return;
        }
        let others = self.batch.as_ref().is_some_and(|batch| batch.receiver_count() > 0) || self.commit_queued;
        let undone = if others { "ROLLBACK TO change; RELEASE change" } else { "ROLLBACK" };
        if let Err(error) = self.connection.execute_batch(undone) {
            self.lost(error);
        } else if !others {
            self.batch = None;
        }
    }

    /// Where an error has ended the whole transaction, tells all of the batch.
    fn lost(&mut self, error: rusqlite::Error) {
        if !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        if let Some(batch) = self.batch.take() {
            batch.send_replace(Some(Err(Arc::new(error))));
        }
    }
}

impl Transaction {
    /// The connection, as long as the transaction is open: after an error that ended it, each statement would last by itself.
    fn connection(&self) -> Result<&Connection, StoreError> {
        let connection = self.desk.as_deref().map(|desk| &desk.connection);
        let open = connection.filter(|connection| !connection.is_autocommit());
        open.ok_or_else(|| StoreError::query("go on with a transaction")("an error has ended it"))
    }

    /// Runs a statement; how many rows it concerned.
    pub(in crate::store::engine) fn execute(&mut self, operation: &'static str, sql: &Sql) -> Result<u64, StoreError> {
        let done = statement::execute(self.connection()?, sql);
        done.map_err(|error| self.failed(operation, error))
    }

    /// All rows of a query.
    pub(in crate::store::engine) fn all(&mut self, operation: &'static str, sql: &Sql) -> Result<Vec<Cells>, StoreError> {
        let read = statement::all(self.connection()?, sql);
        read.map_err(|error| self.failed(operation, error))
    }

    /// Most errors end a statement; some end the whole transaction.
    fn failed(&mut self, operation: &'static str, error: rusqlite::Error) -> StoreError {
        if let Some(desk) = self.desk.as_deref_mut()
            && desk.connection.is_autocommit()
        {
            let told = error.sqlite_error().copied();
            let told = told.map_or(rusqlite::Error::UnwindingPanic, |code| rusqlite::Error::SqliteFailure(code, None));
            desk.lost(told);
        }
        StoreError::query(operation)(error)
    }

    /// Ends the turn, and returns when the disk has the change.
    pub(in crate::store::engine) async fn commit(mut self) -> Result<(), StoreError> {
        self.connection()?.execute_batch("RELEASE change").map_err(StoreError::query(COMMIT))?;
        let Some(mut desk) = self.desk.take() else { return Ok(()) };
        let Some(mut verdict) = desk.batch.as_ref().map(watch::Sender::subscribe) else { return Ok(()) };
        if desk.commit_queued {
            drop(desk);
        } else if self.writer.waiting() == 0 {
            // Nobody to wait for.
            tokio::task::spawn_blocking(move || desk.commit());
        } else {
            desk.commit_queued = true;
            self.writer.queue_commit();
            drop(desk);
        }
        let told = verdict.wait_for(Option::is_some).await.map_err(StoreError::query(COMMIT))?.clone();
        told.unwrap_or(Ok(())).map_err(StoreError::query(COMMIT))
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if let Some(desk) = self.desk.as_deref_mut() {
            desk.undo();
        }
    }
}
