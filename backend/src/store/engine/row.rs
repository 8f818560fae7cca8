//! What comes back. Everything read is checked: a database that was edited by hand gives an error that names the column, not a
//! wrong answer.

use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::super::StoreError;
use super::sqlite::{Cell, Cells};

/// A row of either engine.
pub(in crate::store) enum Row {
    Sqlite(Cells),
    Postgres(PgRow),
}

impl Row {
    /// The column's error; names the row by its id, where it has one.
    pub(in crate::store) fn unreadable(&self, column: &'static str) -> StoreError {
        let id = match self {
            Self::Sqlite(cells) => match cells.named("id") {
                Some(Cell::Text(id)) => Some(id.clone()),
                _ => None,
            },
            Self::Postgres(row) => row.try_get("id").ok(),
        };
        StoreError::Unreadable { id: id.unwrap_or_else(|| "a row".into()), column }
    }

    /// The number in the column of this place, as sums and counts have no name.
    pub(super) fn number(&self, place: usize) -> Result<i64, StoreError> {
        const OPERATION: &str = "read a number";
        match self {
            Self::Sqlite(cells) => match cells.at(place) {
                Some(Cell::Int(number)) => Ok(*number),
                _ => Err(StoreError::query(OPERATION)("there is none")),
            },
            Self::Postgres(row) => row.try_get(place).map_err(StoreError::query(OPERATION)),
        }
    }

    pub(in crate::store) fn int(&self, column: &'static str) -> Result<i64, StoreError> {
        self.optional_int(column)?.ok_or_else(|| self.unreadable(column))
    }

    pub(in crate::store) fn optional_int(&self, column: &'static str) -> Result<Option<i64>, StoreError> {
        match self {
            Self::Sqlite(cells) => match cells.named(column) {
                Some(Cell::Int(number)) => Ok(Some(*number)),
                Some(Cell::Null) => Ok(None),
                Some(Cell::Text(_)) | None => Err(self.unreadable(column)),
            },
            Self::Postgres(row) => row.try_get(column).map_err(|_| self.unreadable(column)),
        }
    }

    pub(in crate::store) fn flag(&self, column: &'static str) -> Result<bool, StoreError> {
        Ok(self.int(column)? != 0)
    }

    pub(in crate::store) fn size(&self, column: &'static str) -> Result<u64, StoreError> {
        u64::try_from(self.int(column)?).map_err(|_| self.unreadable(column))
    }

    pub(in crate::store) fn text(&self, column: &'static str) -> Result<String, StoreError> {
        self.borrowed(column)?.map(str::to_owned).ok_or_else(|| self.unreadable(column))
    }

    pub(in crate::store) fn optional_text(&self, column: &'static str) -> Result<Option<String>, StoreError> {
        Ok(self.borrowed(column)?.map(str::to_owned))
    }

    fn borrowed(&self, column: &'static str) -> Result<Option<&str>, StoreError> {
        match self {
            Self::Sqlite(cells) => match cells.named(column) {
                Some(Cell::Text(text)) => Ok(Some(text)),
                Some(Cell::Null) => Ok(None),
                Some(Cell::Int(_)) | None => Err(self.unreadable(column)),
            },
            Self::Postgres(row) => row.try_get(column).map_err(|_| self.unreadable(column)),
        }
    }

    /// What a text says, where it is there and can be read.
    fn read<T, E>(&self, column: &'static str, read: impl FnOnce(&str) -> Result<T, E>) -> Result<Option<T>, StoreError> {
        self.borrowed(column)?.map(read).transpose().map_err(|_| self.unreadable(column))
    }

    pub(in crate::store) fn uuid(&self, column: &'static str) -> Result<Uuid, StoreError> {
        self.optional_uuid(column)?.ok_or_else(|| self.unreadable(column))
    }

    pub(in crate::store) fn optional_uuid(&self, column: &'static str) -> Result<Option<Uuid>, StoreError> {
        self.read(column, Uuid::parse_str)
    }

    /// A word read by its own parser.
    pub(in crate::store) fn word<T>(&self, column: &'static str, parse: fn(&str) -> Option<T>) -> Result<T, StoreError> {
        self.borrowed(column)?.and_then(parse).ok_or_else(|| self.unreadable(column))
    }

    /// A document.
    pub(in crate::store) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        self.optional_json(column)?.ok_or_else(|| self.unreadable(column))
    }

    /// A document, or none.
    pub(in crate::store) fn optional_json<T: DeserializeOwned>(&self, column: &'static str) -> Result<Option<T>, StoreError> {
        self.read(column, |text| serde_json::from_str(text))
    }
}
