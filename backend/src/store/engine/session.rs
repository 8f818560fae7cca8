//! Where statements run: in a transaction that writes, or on a connection that reads.

use std::sync::Arc;

use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Sqlite, SqliteConnection, Transaction};
use tokio::sync::broadcast;
use uuid::Uuid;

use super::super::scope::RequestScope;
use super::super::{StoreError, idempotency};
use super::row::Row;
use super::sql::{Sql, Value};

/// A transaction or a reading connection.
pub(in crate::store) struct Session {
    held: Held,
    notes: Notes,
}

pub(super) enum Held {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
    SqliteRead(PoolConnection<Sqlite>),
    PostgresRead(PoolConnection<Postgres>),
}

/// What is told when a transaction is committed, and only then.
#[derive(Default)]
struct Notes {
    /// The request that it is for.
    scope: Option<Arc<RequestScope>>,
    made: Option<(&'static str, Uuid)>,
    accepted: Option<Uuid>,
    touched: Vec<Uuid>,
    changes: Option<broadcast::Sender<Uuid>>,
}

/// The connection beneath.
enum Connection<'a> {
    Sqlite(&'a mut SqliteConnection),
    Postgres(&'a mut PgConnection),
}

/// The statement for one engine, its values bound. The text is the service's own, only values come from outside.
macro_rules! prepared {
    ($text:expr, $values:expr) => {{
        let mut query = sqlx::query(AssertSqlSafe($text));
        for value in $values {
            query = match value {
                Value::Int(value) => query.bind(value),
                Value::Text(value) => query.bind(value),
            };
        }
        query
    }};
}

impl From<Held> for Session {
    fn from(held: Held) -> Self {
        Self { held, notes: Notes::default() }
    }
}

impl Session {
    /// A transaction that tells, once it is committed, which operations it changed, and that belongs to the request at hand.
    pub(in crate::store) fn telling(mut self, changes: &broadcast::Sender<Uuid>) -> Self {
        self.notes.scope = RequestScope::current();
        self.notes.changes = Some(changes.clone());
        self
    }

    /// Notes what the request at hand has made.
    pub(in crate::store) fn made(&mut self, object_type: &'static str, id: Uuid) {
        self.notes.made = Some((object_type, id));
    }

    /// Notes an operation that the request at hand has begun.
    pub(in crate::store) fn accepted(&mut self, operation_id: Uuid) {
        self.notes.accepted = Some(operation_id);
        self.touched(operation_id);
    }

    /// Notes an operation that is not what it was.
    pub(in crate::store) fn touched(&mut self, operation_id: Uuid) {
        self.notes.touched.push(operation_id);
    }

    fn connection(&mut self) -> Connection<'_> {
        match &mut self.held {
            Held::Sqlite(transaction) => Connection::Sqlite(transaction),
            Held::Postgres(transaction) => Connection::Postgres(transaction),
            Held::SqliteRead(connection) => Connection::Sqlite(connection),
            Held::PostgresRead(connection) => Connection::Postgres(connection),
        }
    }

    /// Whether this is PostgreSQL, for the few statements that differ.
    pub(in crate::store) fn is_postgres(&self) -> bool {
        matches!(self.held, Held::Postgres(_) | Held::PostgresRead(_))
    }

    /// Runs a statement; how many rows it concerned. `operation` completes "cannot …".
    pub(in crate::store) async fn execute(&mut self, operation: &'static str, sql: Sql) -> Result<u64, StoreError> {
        let failed = StoreError::query(operation);
        Ok(match self.connection() {
            Connection::Sqlite(connection) => {
                prepared!(sql.text, sql.values).execute(connection).await.map_err(failed)?.rows_affected()
            }
            Connection::Postgres(connection) => {
                prepared!(sql.for_postgres(), sql.values).execute(connection).await.map_err(failed)?.rows_affected()
            }
        })
    }

    /// All rows.
    pub(in crate::store) async fn all(&mut self, operation: &'static str, sql: Sql) -> Result<Vec<Row>, StoreError> {
        let failed = StoreError::query(operation);
        Ok(match self.connection() {
            Connection::Sqlite(connection) => {
                let rows = prepared!(sql.text, sql.values).fetch_all(connection).await.map_err(failed)?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
            Connection::Postgres(connection) => {
                let rows = prepared!(sql.for_postgres(), sql.values).fetch_all(connection).await.map_err(failed)?;
                rows.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// The first row, where there is one.
    pub(in crate::store) async fn optional(&mut self, operation: &'static str, sql: Sql) -> Result<Option<Row>, StoreError> {
        Ok(self.all(operation, sql).await?.into_iter().next())
    }

    /// The one number a query gives; 0 where it gives none.
    pub(in crate::store) async fn number(&mut self, operation: &'static str, sql: Sql) -> Result<i64, StoreError> {
        match self.optional(operation, sql).await? {
            Some(row) => Ok(row.number(0)?),
            None => Ok(0),
        }
    }

    /// Makes the changes last, and tells of them.
    pub(in crate::store) async fn commit(mut self) -> Result<(), StoreError> {
        let notes = std::mem::take(&mut self.notes);
        if let Some(claim) = notes.scope.as_ref().and_then(|scope| scope.claim()) {
            idempotency::record(&mut self, claim, notes.made, notes.accepted).await?;
        }
        let failed = StoreError::query("commit a transaction");
        match self.held {
            Held::Sqlite(transaction) => transaction.commit().await.map_err(failed)?,
            Held::Postgres(transaction) => transaction.commit().await.map_err(failed)?,
            Held::SqliteRead(_) | Held::PostgresRead(_) => {}
        }
        if let Some(scope) = notes.scope {
            scope.committed(notes.accepted);
        }
        if let Some(changes) = notes.changes {
            for id in notes.touched {
                // Nobody may be watching.
                let _ = changes.send(id);
            }
        }
        Ok(())
    }
}
