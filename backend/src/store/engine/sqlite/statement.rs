//! A statement run on a connection, its rows taken out.

use std::sync::Arc;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, params_from_iter};

use super::super::sql::{Sql, Value};

/// What a column of a row holds.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::store) enum Cell {
    Null,
    Int(i64),
    Text(String),
}

/// A row.
#[derive(Clone, Debug)]
pub(in crate::store) struct Cells {
    columns: Arc<[Box<str>]>,
    cells: Vec<Cell>,
}

impl Cells {
    /// What is in the column of this name.
    pub(in crate::store::engine) fn named(&self, column: &str) -> Option<&Cell> {
        let place = self.columns.iter().position(|name| **name == *column)?;
        self.cells.get(place)
    }

    /// What is in the column of this place.
    pub(in crate::store::engine) fn at(&self, place: usize) -> Option<&Cell> {
        self.cells.get(place)
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Int(Some(number)) => ValueRef::Integer(*number),
            Self::Text(Some(text)) => ValueRef::Text(text.as_bytes()),
            Self::Int(None) | Self::Text(None) => ValueRef::Null,
        }))
    }
}

/// How many rows a statement concerned.
pub(in crate::store::engine) fn execute(connection: &Connection, sql: &Sql) -> rusqlite::Result<u64> {
    let changed = connection.prepare_cached(&sql.text)?.execute(params_from_iter(&sql.values))?;
    Ok(changed as u64)
}

/// All rows of a query.
pub(in crate::store::engine) fn all(connection: &Connection, sql: &Sql) -> rusqlite::Result<Vec<Cells>> {
    let mut statement = connection.prepare_cached(&sql.text)?;
    let mut found = Vec::new();
    let mut columns = None;
    let mut rows = statement.query(params_from_iter(&sql.values))?;
    while let Some(row) = rows.next()? {
        let columns: &Arc<[Box<str>]> =
            columns.get_or_insert_with(|| row.as_ref().column_names().into_iter().map(Box::from).collect());
        let cells = (0..columns.len()).map(|place| match row.get_ref(place)? {
            ValueRef::Null => Ok(Cell::Null),
            ValueRef::Integer(number) => Ok(Cell::Int(number)),
            ValueRef::Text(text) => Ok(Cell::Text(std::str::from_utf8(text)?.to_owned())),
            other => {
                let name = columns.get(place).map(ToString::to_string).unwrap_or_default();
                Err(rusqlite::Error::InvalidColumnType(place, name, other.data_type()))
            }
        });
        found.push(Cells { columns: columns.clone(), cells: cells.collect::<rusqlite::Result<_>>()? });
    }
    Ok(found)
}
