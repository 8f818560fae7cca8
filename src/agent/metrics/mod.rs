//! Metrics for Prometheus, served where the settings say so.
//!
//! | file | knows |
//! | --- | --- |
//! | `counted` | what happened since the start, counted as the agent tells its events |
//! | `now` | what is so at the moment of a scrape |
//! | `serve` | HTTP: one page |
//!
//! No label holds a name or an id of a volume, a guest or a host: every label's values are words that the agent itself chooses, so
//! that the number of series is bounded, and nothing of a tenant leaves by this door.

mod counted;
mod now;
mod serve;
#[cfg(test)]
mod tests;

pub use serve::{Listen, ServeError, serve};

use super::api::AgentApi;
use counted::Counted;
use now::Now;
use prometheus_client::{encoding::text::encode, registry::Registry};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// What every name begins with.
const PREFIX: &str = "bowline";

/// Numbers that others keep, read at each scrape.
pub struct Readings {
    /// Tries after a failed one, of all operations since the start.
    pub retries: Box<dyn Fn() -> u64 + Send + Sync>,
    /// External commands that were started since the start, by program.
    pub commands: Box<dyn Fn() -> BTreeMap<String, u64> + Send + Sync>,
    /// The journal's file.
    pub journal: PathBuf,
}

/// All metrics of an agent.
pub struct Metrics {
    registry: Registry,
    counted: Arc<Counted>,
    api: Arc<dyn AgentApi>,
}

impl Metrics {
    /// Of this agent. Nothing is counted before [`Metrics::follow`] runs.
    pub fn new(api: Arc<dyn AgentApi>, readings: Readings) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let counted = Arc::new(Counted::default());
        counted.register(&mut registry);
        registry.register_collector(Box::new(Now::new(Arc::clone(&api), readings)));
        Self { registry, counted, api }
    }

    /// Counts what the agent does, until it is gone.
    pub async fn follow(&self) {
        self.counted.follow(&*self.api).await;
    }

    /// The page, in the OpenMetrics text format.
    pub fn page(&self) -> String {
        let mut page = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut page, &self.registry);
        page
    }
}
