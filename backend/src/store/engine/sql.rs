//! A statement and its values. `?` marks each value; PostgreSQL is given `$1`, `$2` … in their place, so no statement may
//! have a question mark of its own.

use uuid::Uuid;

/// A value to bind.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::store) enum Value {
    /// A whole number, or none.
    Int(Option<i64>),
    /// Text, or none.
    Text(Option<String>),
}

/// A statement with its values.
#[derive(Clone, Debug)]
pub(in crate::store) struct Sql {
    pub(super) text: String,
    pub(super) values: Vec<Value>,
    pub(super) for_update: bool,
    filtered: bool,
}

impl Sql {
    /// A statement; its values follow by `bind`.
    pub(in crate::store) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), values: Vec::new(), for_update: false, filtered: false }
    }

    /// The value of the next `?`.
    pub(in crate::store) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// More text.
    pub(in crate::store) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// More text that ends with a value.
    pub(in crate::store) fn push_bind(&mut self, text: &str, value: impl Into<Value>) -> &mut Self {
        self.text.push_str(text);
        self.text.push('?');
        self.values.push(value.into());
        self
    }

    /// Locks the rows that are read until the transaction ends, so that nothing changes between a question and the change.
    /// SQLite has one writer and needs no lock.
    pub(in crate::store) fn for_update(mut self) -> Self {
        self.for_update = true;
        self
    }

    /// `INSERT` of one row, column by column.
    pub(in crate::store) fn insert<const N: usize>(table: &str, columns: [(&str, Value); N]) -> Self {
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let marks = vec!["?"; N].join(", ");
        let text = format!("INSERT INTO {table} ({}) VALUES ({marks})", names.join(", "));
        Self { text, values: columns.into_iter().map(|(_, value)| value).collect(), for_update: false, filtered: false }
    }

    /// `UPDATE` of these columns; the conditions follow by `filter`.
    pub(in crate::store) fn update<const N: usize>(table: &str, columns: [(&str, Value); N]) -> Self {
        let sets: Vec<String> = columns.iter().map(|(name, _)| format!("{name} = ?")).collect();
        let text = format!("UPDATE {table} SET {}", sets.join(", "));
        Self { text, values: columns.into_iter().map(|(_, value)| value).collect(), for_update: false, filtered: false }
    }

    /// A condition; the first opens the `WHERE`, for a statement that has none of its own.
    pub(in crate::store) fn filter(mut self, condition: &str, value: impl Into<Value>) -> Self {
        self.push(if self.filtered { " AND " } else { " WHERE " });
        self.filtered = true;
        self.push_bind(condition, value);
        self
    }

    /// The text as PostgreSQL takes it.
    pub(super) fn for_postgres(&self) -> String {
        let mut text = String::with_capacity(self.text.len() + 16);
        for (number, part) in self.text.split('?').enumerate() {
            if number > 0 {
                text.push('$');
                text.push_str(&number.to_string());
            }
            text.push_str(part);
        }
        if self.for_update {
            text.push_str(" FOR UPDATE");
        }
        text
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(Some(value.into()))
    }
}

/// What does not fit is far beyond every limit there is, and stays so.
impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Int(Some(i64::try_from(value).unwrap_or(i64::MAX)))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Int(Some(value.into()))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(Some(value))
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(Some(value.clone()))
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        Self::Text(value)
    }
}

impl From<Option<&str>> for Value {
    fn from(value: Option<&str>) -> Self {
        Self::Text(value.map(str::to_owned))
    }
}

impl From<Uuid> for Value {
    fn from(value: Uuid) -> Self {
        Self::Text(Some(value.to_string()))
    }
}

impl From<Option<Uuid>> for Value {
    fn from(value: Option<Uuid>) -> Self {
        Self::Text(value.map(|id| id.to_string()))
    }
}

/// A document, as text.
impl From<&serde_json::Value> for Value {
    fn from(value: &serde_json::Value) -> Self {
        Self::Text(Some(value.to_string()))
    }
}

/// Pairs of text, as a JSON object.
impl From<&std::collections::BTreeMap<String, String>> for Value {
    fn from(pairs: &std::collections::BTreeMap<String, String>) -> Self {
        let object = pairs.iter().map(|(key, value)| (key.clone(), serde_json::Value::String(value.clone()))).collect();
        Self::Text(Some(serde_json::Value::Object(object).to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_numbered_for_postgres_and_stay_in_step_with_the_values() {
        let sql = Sql::update("t", [("a", 1i64.into()), ("b", "x".into())]).filter("id = ", "i").filter("c < ", 5i64);
        assert_eq!(sql.text, "UPDATE t SET a = ?, b = ? WHERE id = ? AND c < ?");
        assert_eq!(sql.for_postgres(), "UPDATE t SET a = $1, b = $2 WHERE id = $3 AND c < $4");
        assert_eq!(sql.values.len(), 4);
        assert_eq!(Sql::new("SELECT 1").for_update().for_postgres(), "SELECT 1 FOR UPDATE");
    }
}
