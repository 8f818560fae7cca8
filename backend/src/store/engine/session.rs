//! Where statements run: in a transaction that writes, or on a connection that reads.

use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use super::super::StoreError;
use super::row::Row;
use super::sql::{Sql, Value};
use super::sqlite::{self, Reader};

/// A transaction or a reading connection.
pub(in crate::store) enum Session {
    Sqlite(sqlite::Transaction),
    Postgres(sqlx::Transaction<'static, Postgres>),
    SqliteRead(Reader),
    PostgresRead(PoolConnection<Postgres>),
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

impl Session {
    /// Whether this is PostgreSQL, for the few statements that differ.
    pub(in crate::store) fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres(_) | Self::PostgresRead(_))
    }

    /// Runs a statement; how many rows it concerned. `operation` completes "cannot …".
    pub(in crate::store) async fn execute(&mut self, operation: &'static str, sql: Sql) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(transaction) => transaction.execute(operation, &sql),
            Self::Postgres(transaction) => executed(transaction, operation, sql).await,
            Self::SqliteRead(_) | Self::PostgresRead(_) => Err(StoreError::query(operation)("this connection only reads")),
        }
    }

    /// All rows.
    pub(in crate::store) async fn all(&mut self, operation: &'static str, sql: Sql) -> Result<Vec<Row>, StoreError> {
        let rows = match self {
            Self::Sqlite(transaction) => transaction.all(operation, &sql)?,
            Self::SqliteRead(reader) => reader.all(operation, &sql)?,
            Self::Postgres(transaction) => return read(transaction, operation, sql).await,
            Self::PostgresRead(connection) => return read(connection, operation, sql).await,
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

    /// Makes the changes last.
    pub(in crate::store) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await,
            Self::Postgres(transaction) => transaction.commit().await.map_err(StoreError::query("commit a transaction")),
            Self::SqliteRead(_) | Self::PostgresRead(_) => Ok(()),
        }
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
