//! How much of what there is, for whoever looks after the service.

use super::engine::Sql;
use super::{Store, StoreError, now_us, rows};
use crate::domain::Operation;

/// So many operations of one kind are in one state, or in one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The kind, or the queue.
    pub of: String,
    /// `queued`, `running`, `failed`.
    pub state: String,
    /// How many.
    pub count: i64,
}

impl Store {
    /// Operations that wait, run or have failed, by kind. Those that went well are history.
    pub async fn operations_by_kind(&self) -> Result<Vec<Count>, StoreError> {
        self.operations_by("kind", "'queued', 'running', 'failed'").await
    }

    /// Operations that wait or run, by queue.
    pub async fn operations_by_queue(&self) -> Result<Vec<Count>, StoreError> {
        self.operations_by("queue", "'queued', 'running'").await
    }

    async fn operations_by(&self, column: &str, states: &str) -> Result<Vec<Count>, StoreError> {
        let query = format!(
            "SELECT {column} AS counted, state, COUNT(*) AS count FROM operations WHERE state IN ({states}) \
             GROUP BY {column}, state ORDER BY {column}, state"
        );
        let rows = self.read().await?.all("count operations", Sql::new(query)).await?;
        rows.iter()
            .map(|row| Ok(Count { of: row.text("counted")?, state: row.text("state")?, count: row.int("count")? }))
            .collect()
    }

    /// Operations that have not ended and to which nothing has happened for so long, microseconds; oldest first.
    pub async fn silent_operations(&self, silent_us: i64) -> Result<Vec<Operation>, StoreError> {
        let mut query = Sql::new("SELECT * FROM operations WHERE state IN ('queued', 'running')");
        query.push_bind(" AND updated_at_us < ", now_us() - silent_us).push(" ORDER BY seq");
        self.read().await?.all("find silent operations", query).await?.iter().map(rows::operation).collect()
    }

    /// Attachments whose host may log in.
    pub async fn exports(&self) -> Result<i64, StoreError> {
        let query = Sql::new("SELECT COUNT(*) FROM attachments WHERE connector IS NOT NULL");
        self.read().await?.number("count exports", query).await
    }

    /// How many changes wait for their turn to be written; with PostgreSQL, how many connections are in use.
    pub fn waiting(&self) -> usize {
        self.engine.waiting()
    }
}
