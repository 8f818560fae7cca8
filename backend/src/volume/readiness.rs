//! Whether a backend's storage was seen to work since the start. One that was not keeps nobody else waiting: the service says that it
//! is down and why, tries it with its reports, and leaves its operations in their queue meanwhile.
//!
//! ```text
//! unseen ──▶ prepared ──▶ ready: its queues are worked on
//!     ▲         │ it fails: told as down
//!     └─────────┘ with the next report, later after a pause: of a minute at most
//! ```
//!
//! Each report measures what is ready. What cannot be measured is told as down, too, so that nothing new is put there; but its queues go on,
//! for a storage may work and not say how full it is, and whoever asks hears what is wrong.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tracing::{error, info};

use super::error::chain;
use crate::drivers::{Capacity, DriverError, VolumeDriver};

/// A storage that takes longer to say what it has is taken for silent.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// Between tries, after the second: doubled each time. The longest is a little less than a minute, for reports come every ten seconds.
const SHORTEST_PAUSE: Duration = Duration::from_secs(15);
const LONGEST_PAUSE: Duration = Duration::from_secs(55);

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
    /// When it is tried again, and how long the pause before was.
    next: Option<Instant>,
    pause: Duration,
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
        let is_new = tries.is_prepared && !self.is_ready.send_replace(true);
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
        if self.next.is_some_and(|next| Instant::now() < next)
            && let Some(problem) = &self.problem
        {
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
            Err(_) => {
                self.next = Some(Instant::now() + self.pause);
                self.pause = (self.pause * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
            }
        }
        prepared
    }
}

fn silent() -> String {
    format!("it did not answer within {} s", ANSWERS_WITHIN.as_secs())
}
