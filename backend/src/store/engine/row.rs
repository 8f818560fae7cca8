//! What comes back. Everything read is checked: a database that was edited by hand gives an error that names the column, not a
//! wrong answer.

use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::super::StoreError;

/// A row of either engine.
pub(in crate::store) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    fn get<T>(&self, column: &'static str) -> Result<T, StoreError>
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        let read = match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        };
        read.map_err(|_| self.unreadable(column))
    }

    /// The column's error; names the row by its id, where it has one.
    pub(in crate::store) fn unreadable(&self, column: &'static str) -> StoreError {
        let id: Option<String> = match self {
            Self::Sqlite(row) => row.try_get("id").ok(),
            Self::Postgres(row) => row.try_get("id").ok(),
        };
        StoreError::Unreadable { id: id.unwrap_or_else(|| "a row".into()), column }
    }

    /// The number in the column of this place, as sums and counts have no name.
    pub(super) fn number(&self, place: usize) -> Result<i64, StoreError> {
        let read = match self {
            Self::Sqlite(row) => row.try_get(place),
            Self::Postgres(row) => row.try_get(place),
        };
        read.map_err(StoreError::query("read a number"))
    }

    pub(in crate::store) fn int(&self, column: &'static str) -> Result<i64, StoreError> {
        self.get(column)
    }

    pub(in crate::store) fn optional_int(&self, column: &'static str) -> Result<Option<i64>, StoreError> {
        self.get(column)
    }

    pub(in crate::store) fn flag(&self, column: &'static str) -> Result<bool, StoreError> {
        Ok(self.int(column)? != 0)
    }

    pub(in crate::store) fn size(&self, column: &'static str) -> Result<u64, StoreError> {
        u64::try_from(self.int(column)?).map_err(|_| self.unreadable(column))
    }

    pub(in crate::store) fn text(&self, column: &'static str) -> Result<String, StoreError> {
        self.get(column)
    }

    pub(in crate::store) fn optional_text(&self, column: &'static str) -> Result<Option<String>, StoreError> {
        self.get(column)
    }

    pub(in crate::store) fn uuid(&self, column: &'static str) -> Result<Uuid, StoreError> {
        Uuid::parse_str(&self.text(column)?).map_err(|_| self.unreadable(column))
    }

    pub(in crate::store) fn optional_uuid(&self, column: &'static str) -> Result<Option<Uuid>, StoreError> {
        let text = self.optional_text(column)?;
        text.map(|text| Uuid::parse_str(&text)).transpose().map_err(|_| self.unreadable(column))
    }

    /// A word read by its own parser.
    pub(in crate::store) fn word<T>(&self, column: &'static str, parse: fn(&str) -> Option<T>) -> Result<T, StoreError> {
        parse(&self.text(column)?).ok_or_else(|| self.unreadable(column))
    }

    /// A document.
    pub(in crate::store) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        serde_json::from_str(&self.text(column)?).map_err(|_| self.unreadable(column))
    }

    /// A document, or none.
    pub(in crate::store) fn optional_json<T: DeserializeOwned>(&self, column: &'static str) -> Result<Option<T>, StoreError> {
        let text = self.optional_text(column)?;
        text.map(|text| serde_json::from_str(&text)).transpose().map_err(|_| self.unreadable(column))
    }
}
