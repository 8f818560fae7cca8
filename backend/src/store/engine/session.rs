//! Where statements run: in a transaction that writes, or on a connection that reads.

use std::sync::Arc;

use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, PgConnection, Postgres};
use tokio::sync::broadcast;
use uuid::Uuid;

use super::super::scope::RequestScope;
use super::super::{StoreError, idempotency};
use super::row::Row;
use super::sql::{Sql, Value};
use super::sqlite::{self, Reader};

/// A transaction or a reading connection.
pub(in crate::store) struct Session {
    held: Held,
    notes: Notes,
}

pub(super) enum Held {
    Sqlite(sqlite::Transaction),
    Postgres(sqlx::Transaction<'static, Postgres>),
    SqliteRead(Reader),
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

/// The statement as PostgreSQL takes it, its values bound. The text is the service's own, only values come from outside.
macro_rules! prepared {
    ($sql:expr) => {{
        let mut query = sqlx::query(AssertSqlSafe($sql.for_postgres()));
        for value in $sql.values {
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

    /// Whether this is PostgreSQL, for the few statements that differ.
    pub(in crate::store) fn is_postgres(&self) -> bool {
        matches!(self.held, Held::Postgres(_) | Held::PostgresRead(_))
    }

    /// Runs a statement; how many rows it concerned. `operation` completes "cannot …".
    pub(in crate::store) async fn execute(&mut self, operation: &'static str, sql: Sql) -> Result<u64, StoreError> {
        match &mut self.held {
            Held::Sqlite(transaction) => transaction.execute(operation, &sql),
            Held::Postgres(transaction) => executed(transaction, operation, sql).await,
            Held::SqliteRead(_) | Held::PostgresRead(_) => Err(StoreError::query(operation)("this connection only reads")),
        }
    }

    /// All rows.
    pub(in crate::store) async fn all(&mut self, operation: &'static str, sql: Sql) -> Result<Vec<Row>, StoreError> {
        let rows = match &mut self.held {
            Held::Sqlite(transaction) => transaction.all(operation, &sql)?,
            Held::SqliteRead(reader) => reader.all(operation, &sql)?,
            Held::Postgres(transaction) => return read(transaction, operation, sql).await,
            Held::PostgresRead(connection) => return read(connection, operation, sql).await,
        };
        Ok(rows.into_iter().map(Row::Sqlite).collect())
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
        match self.held {
            Held::Sqlite(transaction) => transaction.commit().await?,
            Held::Postgres(transaction) => transaction.commit().await.map_err(StoreError::query("commit a transaction"))?,
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

async fn executed(connection: &mut PgConnection, operation: &'static str, sql: Sql) -> Result<u64, StoreError> {
    let done = prepared!(sql).execute(connection).await.map_err(StoreError::query(operation))?;
    Ok(done.rows_affected())
}

async fn read(connection: &mut PgConnection, operation: &'static str, sql: Sql) -> Result<Vec<Row>, StoreError> {
    let rows = prepared!(sql).fetch_all(connection).await.map_err(StoreError::query(operation))?;
    Ok(rows.into_iter().map(Row::Postgres).collect())
}
