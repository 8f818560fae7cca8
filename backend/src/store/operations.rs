//! Long actions in the database: accepted, claimed by a worker, handed to the next, ended.

use uuid::Uuid;

use super::engine::{Session, Sql, Value};
use super::{Store, StoreError, idempotency, keys, messages, now_us, rows};
use crate::domain::place::SCHEDULER_QUEUE;
use crate::domain::{NewMessage, NewOperation, Operation, OperationKind, OperationState, Refusal};

/// A worker that has not been heard of for longer has lost its operations, microseconds.
const CLAIM_STALE_US: i64 = 60_000_000;

/// How an operation ends.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// Why it failed; none when it did what it was to do.
    pub cause: Option<String>,
    /// What the owner is told.
    pub message: Option<NewMessage>,
}

impl Ending {
    /// It did what it was to do.
    pub fn done() -> Self {
        Self::default()
    }

    /// It failed, and its owner is told nothing beyond the object's status.
    pub fn failed(cause: impl Into<String>) -> Self {
        Self { cause: Some(cause.into()), message: None }
    }

    /// With a message to the owner.
    pub fn telling(self, message: NewMessage) -> Self {
        Self { message: Some(message), ..self }
    }
}

/// Which operations to list, newest first; `None` is any.
#[derive(Clone, Debug, Default)]
pub struct OperationFilter {
    /// Those of this project.
    pub project_id: Option<String>,
    /// Those about this object.
    pub object_id: Option<Uuid>,
    /// Those that do one of these; all where there is none.
    pub kinds: Vec<OperationKind>,
    /// Those in one of these states; all where there is none.
    pub states: Vec<OperationState>,
    /// Those that changed at this time or later, microseconds since the epoch.
    pub changed_from_us: Option<i64>,
    /// Those older than this one.
    pub marker: Option<Uuid>,
    /// At most so many.
    pub limit: u32,
}

impl OperationFilter {
    /// Whether an operation is one of those, whenever it changed.
    pub fn takes(&self, operation: &Operation) -> bool {
        self.project_id.as_ref().is_none_or(|project| *project == operation.project_id)
            && self.object_id.is_none_or(|object| object == operation.object_id)
            && (self.kinds.is_empty() || self.kinds.contains(&operation.kind))
            && (self.states.is_empty() || self.states.contains(&operation.state))
    }
}

impl Store {
    /// Reads one operation; refused as "not found" where there is none.
    pub async fn operation(&self, id: Uuid) -> Result<Operation, StoreError> {
        find(&mut self.read().await?, id).await
    }

    /// The same, where there may be none.
    pub async fn operation_if_any(&self, id: Uuid) -> Result<Option<Operation>, StoreError> {
        match self.operation(id).await {
            Ok(operation) => Ok(Some(operation)),
            Err(StoreError::Refused(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lists operations, newest first.
    pub async fn operations(&self, filter: &OperationFilter) -> Result<Vec<Operation>, StoreError> {
        let mut query = Sql::new("SELECT * FROM operations WHERE 1 = 1");
        if let Some(project) = &filter.project_id {
            query.push_bind(" AND project_id = ", project);
        }
        if let Some(object) = filter.object_id {
            query.push_bind(" AND object_id = ", object);
        }
        any_of(&mut query, "kind", filter.kinds.iter().map(|kind| kind.as_str()));
        any_of(&mut query, "state", filter.states.iter().map(|state| state.as_str()));
        if let Some(from) = filter.changed_from_us {
            query.push_bind(" AND updated_at_us >= ", from);
        }
        if let Some(marker) = filter.marker {
            query.push_bind(" AND seq < (SELECT seq FROM operations WHERE id = ", marker).push(")");
        }
        query.push_bind(" ORDER BY seq DESC LIMIT ", filter.limit);
        self.read().await?.all("list operations", query).await?.iter().map(rows::operation).collect()
    }

    /// What waits in a queue, or is being worked on there, oldest first.
    pub async fn unended_in(&self, queue: &str) -> Result<Vec<Operation>, StoreError> {
        let mut query = Sql::new("SELECT * FROM operations").filter("queue = ", queue);
        query.push(" AND state IN ('queued', 'running') ORDER BY seq");
        self.read().await?.all("list operations", query).await?.iter().map(rows::operation).collect()
    }

    /// Takes an operation that waits in `queue`, for `owner`. None where it is done, elsewhere, or somebody else has
    /// it who lives: then its message has nothing left to say. The worker sees to it that `owner` does nothing twice at once.
    pub async fn claim(&self, id: Uuid, queue: &str, owner: &str) -> Result<Option<Operation>, StoreError> {
        let mut tx = self.begin().await?;
        let now = now_us();
        let mut update = Sql::new("UPDATE operations SET state = 'running', attempts = attempts + 1");
        update.push_bind(", owner = ", owner).push_bind(", heartbeat_at_us = ", now).push_bind(", updated_at_us = ", now);
        update.push_bind(" WHERE id = ", id).push_bind(" AND queue = ", queue);
        update.push_bind(" AND (state = 'queued' OR (state = 'running' AND (owner = ", owner);
        update.push_bind(" OR heartbeat_at_us < ", now - CLAIM_STALE_US).push(")))");
        let claimed = tx.execute("claim an operation", update).await?;
        if claimed != 1 {
            return Ok(None);
        }
        let mut operation = find(&mut tx, id).await?;
        // A life before may have come further, and this one begins again.
        (operation.step, operation.progress) = (operation.kind.first_step().to_owned(), 0);
        let begun = Sql::update("operations", [("step", operation.kind.first_step().into()), ("progress", 0i64.into())]);
        tx.execute("begin an operation", begun.filter("id = ", id)).await?;
        tx.touched(id);
        tx.commit().await?;
        Ok(Some(operation))
    }

    /// Records what a running operation is doing, and how far that is in percent.
    pub async fn record_step(&self, id: Uuid, step: &str, progress: i64) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let now = now_us();
        let update = Sql::update(
            "operations",
            [
                ("step", step.into()),
                ("progress", progress.into()),
                ("heartbeat_at_us", now.into()),
                ("updated_at_us", now.into()),
            ],
        );
        tx.execute("record a step", update.filter("id = ", id).filter("state = ", "running")).await?;
        tx.touched(id);
        tx.commit().await
    }

    /// Ends an operation that changes nothing else.
    pub async fn end_operation(&self, operation: &Operation, ending: Ending) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        end(&mut tx, operation, ending).await?;
        tx.commit().await
    }

    /// Says that `owner` still works on what it has.
    pub async fn keep_claims(&self, owner: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let update = Sql::update("operations", [("heartbeat_at_us", now_us().into())]);
        tx.execute("keep operations", update.filter("owner = ", owner).filter("state = ", "running")).await?;
        tx.commit().await
    }

    /// Gives up what was running in `queue`, whose only worker is just starting: nobody can be at work there.
    pub async fn release_queue(&self, queue: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let update = Sql::update("operations", [("state", "queued".into()), ("owner", Value::Text(None))]);
        tx.execute("release operations", update.filter("queue = ", queue).filter("state = ", "running")).await?;
        tx.commit().await
    }

    /// The operations whose message may be lost, oldest first: queued, or held by a worker that has fallen silent, and untouched
    /// for `quiet_us`. They count as touched from now.
    pub async fn unheard_operations(&self, quiet_us: i64) -> Result<Vec<Operation>, StoreError> {
        let mut tx = self.begin().await?;
        let now = now_us();
        let mut query = Sql::new("SELECT * FROM operations WHERE ((state = 'queued'");
        query.push_bind(" AND updated_at_us <= ", now - quiet_us);
        query.push_bind(") OR (state = 'running' AND heartbeat_at_us < ", now - CLAIM_STALE_US);
        query.push_bind(" AND updated_at_us <= ", now - quiet_us);
        query.push(")) ORDER BY seq");
        let rows = tx.all("find operations", query.for_update()).await?;
        let unheard: Vec<Operation> = rows.iter().map(rows::operation).collect::<Result<_, _>>()?;
        for operation in &unheard {
            let touch = Sql::update("operations", [("updated_at_us", now.into())]).filter("id = ", operation.id);
            tx.execute("touch an operation", touch).await?;
        }
        tx.commit().await?;
        Ok(unheard)
    }

    /// Forgets operations that ended before `before_us`, messages that expired and keys that are old.
    pub async fn forget_ended(&self, before_us: i64) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let mut ended = Sql::new("DELETE FROM operations WHERE state IN ('done', 'failed')");
        ended.push_bind(" AND updated_at_us < ", before_us);
        tx.execute("forget operations", ended).await?;
        tx.execute("forget messages", Sql::new("DELETE FROM messages").filter("expires_at_us < ", now_us())).await?;
        idempotency::forget_old(&mut tx).await?;
        tx.commit().await
    }
}

fn any_of<'a>(query: &mut Sql, column: &str, words: impl Iterator<Item = &'a str>) {
    let words: Vec<&str> = words.collect();
    for (place, word) in words.iter().enumerate() {
        let before = if place == 0 { format!(" AND {column} IN (") } else { ", ".to_owned() };
        query.push_bind(&before, *word);
    }
    if !words.is_empty() {
        query.push(")");
    }
}

/// Records an operation, in the transaction that records what it is about.
pub(super) async fn accept(tx: &mut Session, new: NewOperation) -> Result<Operation, StoreError> {
    let id = Uuid::new_v4();
    let now = now_us();
    let insert = Sql::insert(
        "operations",
        [
            ("id", id.into()),
            ("kind", new.kind.as_str().into()),
            ("object_type", new.kind.object_type().into()),
            ("object_id", new.object_id.into()),
            ("project_id", new.by.project_id.into()),
            ("user_id", new.by.user_id.into()),
            ("request_id", new.by.request_id.into()),
            ("request", Value::from(&new.request)),
            ("queue", new.queue.into()),
            ("step", "accepted".into()),
            ("state", OperationState::Queued.as_str().into()),
            ("created_at_us", now.into()),
            ("updated_at_us", now.into()),
        ],
    );
    tx.execute("accept an operation", insert).await?;
    tx.accepted(id);
    if new.kind.makes_its_object() {
        tx.made(new.kind.object_type(), new.object_id);
    }
    find(tx, id).await
}

/// Passes an operation to another queue, in the transaction that records what was done so far.
pub(super) async fn hand_over(tx: &mut Session, id: Uuid, queue: &str, request: &serde_json::Value) -> Result<(), StoreError> {
    let step = if queue == SCHEDULER_QUEUE { "rescheduling" } else { "placed" };
    let update = Sql::update(
        "operations",
        [
            ("queue", queue.into()),
            ("step", step.into()),
            ("request", request.into()),
            ("state", OperationState::Queued.as_str().into()),
            ("owner", Value::Text(None)),
            ("updated_at_us", now_us().into()),
        ],
    );
    tx.execute("hand an operation over", update.filter("id = ", id)).await?;
    tx.touched(id);
    Ok(())
}

/// Ends an operation, in the transaction that records what came of it.
pub(super) async fn end(tx: &mut Session, operation: &Operation, ending: Ending) -> Result<(), StoreError> {
    let state = if ending.cause.is_some() { OperationState::Failed } else { OperationState::Done };
    let progress = if ending.cause.is_some() { operation.progress } else { 100 };
    let update = Sql::update(
        "operations",
        [
            ("state", state.as_str().into()),
            ("cause", ending.cause.into()),
            ("progress", progress.into()),
            ("owner", Value::Text(None)),
            ("updated_at_us", now_us().into()),
        ],
    );
    tx.execute("end an operation", update.filter("id = ", operation.id)).await?;
    tx.touched(operation.id);
    if operation.kind.writes_with_a_key() && !operation.is_written() {
        keys::forget_in_transit(tx, operation.object_id).await?;
    }
    if let Some(message) = ending.message {
        messages::tell(tx, operation, message).await?;
    }
    Ok(())
}

/// Whether an operation has not ended; it stays so until the transaction ends.
pub(super) async fn lock_unended(tx: &mut Session, id: Uuid) -> Result<bool, StoreError> {
    let query = Sql::new("SELECT state FROM operations WHERE state IN ('queued', 'running') AND id = ?").bind(id);
    Ok(tx.optional("read an operation", query.for_update()).await?.is_some())
}

/// Reads an operation and keeps others from changing it until the transaction ends; none where it is not queued in `queue`.
pub(super) async fn lock_queued(tx: &mut Session, id: Uuid, queue: &str) -> Result<Option<Operation>, StoreError> {
    let query = Sql::new("SELECT * FROM operations").filter("id = ", id).filter("queue = ", queue).filter("state = ", "queued");
    tx.optional("read an operation", query.for_update()).await?.as_ref().map(rows::operation).transpose()
}

async fn find(session: &mut Session, id: Uuid) -> Result<Operation, StoreError> {
    match session.optional("read an operation", Sql::new("SELECT * FROM operations").filter("id = ", id)).await? {
        Some(row) => rows::operation(&row),
        None => Err(Refusal::OperationNotFound(id.to_string()).into()),
    }
}
