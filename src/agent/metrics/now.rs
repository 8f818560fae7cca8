//! What is so at the moment of a scrape: read from the agent, kept nowhere.

use super::Readings;
use crate::agent::api::{AgentApi, HealthState, OperationState};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// Reads it all at each scrape.
pub(super) struct Now {
    api: Arc<dyn AgentApi>,
    readings: Readings,
    started_at: SystemTime,
}

impl Now {
    pub(super) fn new(api: Arc<dyn AgentApi>, readings: Readings) -> Self {
        Self { api, readings, started_at: SystemTime::now() }
    }

    fn attachments(&self) -> BTreeMap<[(&'static str, String); 3], i64> {
        let mut counts = BTreeMap::new();
        for attachment in self.api.attachments() {
            let label = |health: HealthState| {
                [
                    ("protocol", attachment.protocol.clone()),
                    ("initiator", attachment.initiator.clone()),
                    ("health", health.as_str().to_owned()),
                ]
            };
            // All words, so that a rule sees a 0 and not an absence.
            for health in HealthState::ALL {
                *counts.entry(label(health)).or_default() += i64::from(health == attachment.health.state);
            }
        }
        counts
    }
}

impl fmt::Debug for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Now").finish_non_exhaustive()
    }
}

impl Collector for Now {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: i64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        let operations = self.api.operations();
        let count = |is: &dyn Fn(OperationState) -> bool| {
            i64::try_from(operations.iter().filter(|operation| is(operation.state)).count()).unwrap_or(i64::MAX)
        };
        gauge("operations_under_way", "Operations that have not ended", count(&|state| !state.is_final()))?;
        gauge(
            "operations_stuck",
            "Operations that can be neither finished nor undone yet",
            count(&|state| state == OperationState::Stuck),
        )?;
        let journal_bytes = std::fs::metadata(&self.readings.journal).map_or(0, |metadata| metadata.len());
        gauge("journal_size_bytes", "Size of the journal's file", i64::try_from(journal_bytes).unwrap_or(i64::MAX))?;
        let started_s = self.started_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let started_s = i64::try_from(started_s).unwrap_or(i64::MAX);
        gauge("start_time_seconds", "When the agent was started, seconds since 1970-01-01 UTC", started_s)?;

        let info = ConstGauge::new(1_i64);
        let mut family = encoder.encode_descriptor("build_info", "Version of the agent", None, info.metric_type())?;
        info.encode(family.encode_family(&[("version", env!("CARGO_PKG_VERSION"))])?)?;

        let attachments = self.attachments();
        if !attachments.is_empty() {
            let kind = ConstGauge::new(0_i64).metric_type();
            let mut family = encoder.encode_descriptor("attachments", "Attached volumes, by how they are doing", None, kind)?;
            for (labels, count) in attachments {
                ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
            }
        }

        let retries = ConstCounter::new((self.readings.retries)());
        retries.encode(encoder.encode_descriptor(
            "retries",
            "Steps that failed and were left for another try",
            None,
            retries.metric_type(),
        )?)?;
        let commands = (self.readings.commands)();
        if !commands.is_empty() {
            let kind = ConstCounter::new(0_u64).metric_type();
            let mut family = encoder.encode_descriptor("commands", "External commands that were started", None, kind)?;
            for (program, count) in commands {
                ConstCounter::new(count).encode(family.encode_family(&[("program", program)])?)?;
            }
        }
        Ok(())
    }
}
