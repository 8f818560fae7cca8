//! Whether a backend's storage was seen to work since the start. One that was not keeps nobody else waiting: the service says that it
//! is down and why, tries it with its reports, and leaves its operations in their queue meanwhile.
//!
//! ```text
//! unseen ──▶ prepared and measured ──▶ ready: its queues are worked on
//!     ▲            │ it fails: told as down
//!     └────────────┘ with the next report, later with fewer of them: once a minute at least
//! ```
//!
//! What fails later is told in the same way, and its queues go on: whoever asks hears what is wrong.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tracing::{error, info};

use super::error::chain;
use crate::drivers::{Capacity, DriverError, VolumeDriver};

/// A storage that takes longer to say what it has is taken for silent.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// It is tried with every sixth report at least: once a minute.
const MOST_SKIPPED: u32 = 5;

/// One backend's.
#[derive(Default)]
pub(super) struct Readiness {
    is_ready: watch::Sender<bool>,
    tries: Mutex<Tries>,
}

#[derive(Default)]
struct Tries {
    is_prepared: bool,
    /// What takes longer than it may goes on: LVM's work must not be cut off.
    under_way: Option<JoinHandle<Result<(), DriverError>>>,
    /// Reports that are still let pass, and how many were the last time.
    skip: u32,
    skipped: u32,
    /// What is wrong with it, where something is.
    problem: Option<String>,
}

impl Readiness {
    /// Becomes true when the storage was seen to work.
    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.is_ready.subscribe()
    }

    /// Whether it was.
    pub(super) fn is_ready(&self) -> bool {
        *self.is_ready.borrow()
    }

    /// What a backend's storage has now, or what is wrong with it. Whether this made it ready is told beside.
    pub(super) async fn measure(&self, name: &str, driver: &Arc<dyn VolumeDriver>) -> (Result<Capacity, String>, bool) {
        let mut tries = self.tries.lock().await;
        let measured = tries.measure(driver).await;
        match (&measured, &tries.problem) {
            (Err(problem), known) if known.as_ref() != Some(problem) => {
                error!(backend = name, "its storage is down: {problem}")
            }
            (Ok(_), Some(_)) => info!(backend = name, "its storage works again"),
            _ => {}
        }
        tries.problem = measured.as_ref().err().cloned();
        let is_new = measured.is_ok() && !self.is_ready.send_replace(true);
        (measured, is_new)
    }
}

impl Tries {
    async fn measure(&mut self, driver: &Arc<dyn VolumeDriver>) -> Result<Capacity, String> {
        if !self.is_prepared {
            self.prepare(driver).await?;
        }
        let measured = tokio::time::timeout(ANSWERS_WITHIN, driver.capacity()).await;
        measured.map_err(|_| silent())?.map_err(|error| chain(&error))
    }

    async fn prepare(&mut self, driver: &Arc<dyn VolumeDriver>) -> Result<(), String> {
        if self.skip > 0
            && let Some(problem) = &self.problem
        {
            self.skip -= 1;
            return Err(problem.clone());
        }
        let driver = driver.clone();
        let task = self.under_way.get_or_insert_with(|| tokio::spawn(async move { driver.prepare().await }));
        let prepared = tokio::time::timeout(ANSWERS_WITHIN, task).await.map_err(|_| silent())?;
        self.under_way = None;
        let prepared = match prepared {
            Ok(prepared) => prepared.map_err(|error| chain(&error)),
            Err(died) => Err(died.to_string()),
        };
        match &prepared {
            Ok(()) => self.is_prepared = true,
            Err(_) => (self.skip, self.skipped) = (self.skipped, (self.skipped * 2 + 1).min(MOST_SKIPPED)),
        }
        prepared
    }
}

fn silent() -> String {
    format!("it did not answer within {} s", ANSWERS_WITHIN.as_secs())
}
