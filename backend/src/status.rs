//! `bowline-backend status`: which roles live where, what their pools have room for, what waits, and what is stuck.

use std::fmt;

use serde::Serialize;

use crate::store::{Store, StoreError, now_us};

/// An operation to which nothing has happened for so long is shown, microseconds. What works tells of itself more often.
const SILENT_US: i64 = 300_000_000;

/// All of it.
#[derive(Debug, Serialize)]
pub struct Status {
    services: Vec<Service>,
    pools: Vec<Pool>,
    queues: Vec<Queue>,
    stuck: Vec<Stuck>,
}

#[derive(Debug, Serialize)]
struct Service {
    binary: String,
    host: String,
    up: bool,
    disabled: bool,
    /// Why its storage cannot be used.
    problem: Option<String>,
    /// Since it was heard of.
    silent_s: i64,
}

#[derive(Debug, Serialize)]
struct Pool {
    name: String,
    total_gib: f64,
    free_gib: f64,
}

#[derive(Debug, Serialize)]
struct Queue {
    name: String,
    state: String,
    operations: i64,
}

#[derive(Debug, Serialize)]
struct Stuck {
    operation: String,
    kind: String,
    object: String,
    state: String,
    attempts: i64,
    silent_s: i64,
    cause: Option<String>,
}

impl Status {
    /// As the database has it.
    pub async fn read(store: &Store) -> Result<Self, StoreError> {
        let now = now_us();
        let since = |at_us: i64| now.saturating_sub(at_us).max(0) / 1_000_000;
        let rows = store.services().await?;
        let pools = rows.iter().flat_map(|service| &service.pools);
        let pools = pools.map(|pool| Pool { name: pool.name.clone(), total_gib: pool.total_gib, free_gib: pool.free_gib });
        let pools = pools.collect();
        let services = rows.into_iter().map(|row| Service {
            up: row.is_up(now),
            // What it said of its storage before it died is old.
            problem: row.problem.clone().filter(|_| row.is_heard_of(now)),
            silent_s: since(row.heartbeat_at_us),
            binary: row.name,
            host: row.host,
            disabled: row.disabled,
        });
        let queues = store.operations_by_queue().await?.into_iter();
        let stuck = store.silent_operations(SILENT_US).await?.into_iter().map(|one| Stuck {
            operation: one.id.to_string(),
            kind: one.kind.to_string(),
            object: one.object_id.to_string(),
            state: one.state.to_string(),
            attempts: one.attempts,
            silent_s: since(one.updated_at_us),
            cause: one.cause,
        });
        Ok(Self {
            services: services.collect(),
            pools,
            queues: queues.map(|count| Queue { name: count.of, state: count.state, operations: count.count }).collect(),
            stuck: stuck.collect(),
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for one in &self.services {
            let state = match (one.up, &one.problem, one.disabled) {
                (true, _, true) => "up, taken out of use".to_owned(),
                (true, _, false) => "up".to_owned(),
                (false, Some(problem), _) => format!("DOWN, its storage cannot be used: {problem}"),
                (false, None, _) => format!("DOWN, last heard of {} s ago", one.silent_s),
            };
            writeln!(f, "{:<17} {:<40} {state}", one.binary, one.host)?;
        }
        if self.services.is_empty() {
            writeln!(f, "no service was ever heard of: start one with bowline-backend serve")?;
        }
        for pool in &self.pools {
            writeln!(f, "pool              {:<40} {:.1} of {:.1} GiB free", pool.name, pool.free_gib, pool.total_gib)?;
        }
        for queue in &self.queues {
            writeln!(f, "queue             {:<40} {} {}", queue.name, queue.operations, queue.state)?;
        }
        for one in &self.stuck {
            let cause = one.cause.as_deref().map(|cause| format!(": {cause}")).unwrap_or_default();
            writeln!(
                f,
                "STUCK             {} of {}: {}, try {}, silent for {} s (operation {}){cause}",
                one.kind, one.object, one.state, one.attempts, one.silent_s, one.operation
            )?;
        }
        Ok(())
    }
}
