//! Where statements run: in a transaction that writes, or on a connection that reads.

use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Sqlite, SqliteConnection, Transaction};

use super::super::StoreError;
use super::row::Row;
use super::sql::{Sql, Value};

/// A transaction or a reading connection.
pub(in crate::store) enum Session {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
    SqliteRead(PoolConnection<Sqlite>),
    PostgresRead(PoolConnection<Postgres>),
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

impl Session {
    fn connection(&mut self) -> Connection<'_> {
        match self {
            Self::Sqlite(transaction) => Connection::Sqlite(transaction),
            Self::Postgres(transaction) => Connection::Postgres(transaction),
            Self::SqliteRead(connection) => Connection::Sqlite(connection),
            Self::PostgresRead(connection) => Connection::Postgres(connection),
        }
    }

    /// Whether this is PostgreSQL, for the few statements that differ.
    pub(in crate::store) fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres(_) | Self::PostgresRead(_))
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

    /// Makes the changes last.
    pub(in crate::store) async fn commit(self) -> Result<(), StoreError> {
        let failed = StoreError::query("commit a transaction");
        match self {
            Self::Sqlite(transaction) => transaction.commit().await.map_err(failed),
            Self::Postgres(transaction) => transaction.commit().await.map_err(failed),
            Self::SqliteRead(_) | Self::PostgresRead(_) => Ok(()),
        }
    }
}
