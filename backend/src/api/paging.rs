//! What a page of a list looks like: its things, the way to the next page where there may be one, and how many there are where that
//! was asked.

use axum::Json;
use axum::http::HeaderMap;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::query::Pairs;
use super::versions::origin;

/// A list that was asked for.
pub(super) struct Asked<'a> {
    /// How this client reaches the service.
    pub(super) headers: &'a HeaderMap,
    /// The list's path.
    pub(super) path: &'a str,
    /// What the client asked for with it.
    pub(super) pairs: &'a Pairs,
    /// The longest page.
    pub(super) limit: u32,
}

impl Asked<'_> {
    /// The answer. `last` is the id of the last thing on the page, `count` how many there are on all.
    pub(super) fn answer(&self, things: &str, list: Vec<Value>, last: Option<Uuid>, count: Option<i64>) -> Json<Value> {
        let full = self.limit > 0 && list.len() as u64 == u64::from(self.limit);
        let mut answer = Map::from_iter([(things.to_owned(), Value::Array(list))]);
        if let Some(last) = last.filter(|_| full) {
            let next = format!("{}{}?{}", origin(self.headers), self.path, self.pairs.next(last));
            answer.insert(format!("{things}_links"), json!([{ "rel": "next", "href": next }]));
        }
        if let Some(count) = count {
            answer.insert("count".into(), json!(count));
        }
        Json(Value::Object(answer))
    }
}
