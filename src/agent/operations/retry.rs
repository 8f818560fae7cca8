//! How what must be done, and does not work, is tried again: ever more seldom, and told of once it has lasted.

use backon::{BackoffBuilder, ExponentialBuilder};
use std::time::Duration;

/// How what must be done is tried again.
#[derive(Debug, Clone, Copy)]
pub(super) struct RetryPolicy {
    /// First delay: short, since most troubles pass.
    pub(super) first_delay: Duration,
    /// Longest delay.
    pub(super) longest_delay: Duration,
    /// How long it is tried quietly before it is shown as stuck.
    pub(super) patience: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first_delay: Duration::from_millis(250),
            longest_delay: Duration::from_secs(300),
            patience: Duration::from_secs(20),
        }
    }
}

impl RetryPolicy {
    /// Jitter keeps many operations from knocking at the same moment.
    pub(super) fn delays(&self) -> impl Iterator<Item = Duration> + use<> {
        ExponentialBuilder::default()
            .with_min_delay(self.first_delay)
            .with_max_delay(self.longest_delay)
            .with_jitter()
            .without_max_times()
            .build()
    }
}
