//! A task for each attachment, and one that starts, wakes and ends them.
//!
//! ```text
//!            look (bounded) --> weigh --> publish what is new --> mend if it is time
//!              ^                                                        |
//!              +---- woken by an event (debounced), or time is over <---+
//! ```

use super::{
    Pace, Repair, Wards, Watched,
    concern::concerns,
    schedule::{DEBOUNCE, RepairSchedule, Schedule},
    weigh::{self, IoError},
};
use crate::agent::api::{AgentEvent, HealthState, HealthView};
use crate::model::{AttachmentId, Fault, GuestUuid, Health, HostEvent, VolumeId, disk_alias};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};
use tokio::{
    sync::{
        Notify,
        broadcast::{self, error::RecvError},
        mpsc,
    },
    task::JoinHandle,
    time::{Instant, timeout},
};

/// Where events come from.
pub struct Sources {
    /// The host's kernel.
    pub host: broadcast::Receiver<HostEvent>,
    /// A guest's I/O that QEMU could not do: the guest, the disk's alias, QEMU's reason.
    pub io_errors: mpsc::Receiver<(GuestUuid, String, String)>,
}

/// Looks after everything attached, for as long as the agent runs.
pub async fn watch(wards: Arc<dyn Wards>, sources: Sources, pace: Pace) {
    let Sources { host, mut io_errors } = sources;
    let mut host = Some(host);
    let mut changes = wards.changes();
    let mut tasks = Tasks { wards, pace, running: HashMap::new() };
    tasks.bring_in_line();
    loop {
        tokio::select! {
            change = changes.recv() => match change {
                Ok(AgentEvent::Attachment(_) | AgentEvent::AttachmentGone(_)) | Err(RecvError::Lagged(_)) => tasks.bring_in_line(),
                Ok(_) => {}
                Err(RecvError::Closed) => return,
            },
            event = next(&mut host) => match event {
                Ok(event) => tasks.host_event(&event),
                Err(RecvError::Lagged(_)) => tasks.host_event(&HostEvent::Missed),
                // Without events the slow looks go on.
                Err(RecvError::Closed) => host = None,
            },
            Some((guest, alias, reason)) = io_errors.recv() => tasks.io_error(guest, &alias, &reason),
        }
    }
}

/// The next event; never one from a source that has ended.
async fn next(host: &mut Option<broadcast::Receiver<HostEvent>>) -> Result<HostEvent, RecvError> {
    match host {
        Some(host) => host.recv().await,
        None => std::future::pending().await,
    }
}

struct Tasks {
    wards: Arc<dyn Wards>,
    pace: Pace,
    running: HashMap<AttachmentId, Running>,
}

struct Running {
    watched: Watched,
    nudge: Arc<Nudge>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How a task is told that something happened.
#[derive(Default)]
struct Nudge {
    woken: Notify,
    io_error: Mutex<Option<IoError>>,
}

impl Tasks {
    /// One task for each attachment there is. One that was connected anew is looked at soon.
    fn bring_in_line(&mut self) {
        let there = self.wards.watched();
        self.running.retain(|id, _| there.iter().any(|watched| watched.id == *id));
        for watched in there {
            if let Some(running) = self.running.get_mut(&watched.id) {
                // Connected anew, perhaps by the very task that looks after it: what that knows goes on.
                if running.watched != watched {
                    running.watched = watched;
                    running.nudge.woken.notify_one();
                }
                continue;
            }
            let nudge = Arc::new(Nudge::default());
            let keeper = Keeper {
                wards: Arc::clone(&self.wards),
                pace: self.pace,
                id: watched.id,
                volume: watched.volume,
                nudge: Arc::clone(&nudge),
            };
            let task = tokio::spawn(keeper.run());
            self.running.insert(watched.id, Running { watched, nudge, task });
        }
    }

    fn host_event(&self, event: &HostEvent) {
        for running in self.running.values().filter(|running| concerns(event, &running.watched)) {
            tracing::debug!(volume = %running.watched.volume, ?event, "looking at it");
            running.nudge.woken.notify_one();
        }
    }

    fn io_error(&self, guest: GuestUuid, alias: &str, reason: &str) {
        let hit = |running: &&Running| running.watched.guest == guest && disk_alias(running.watched.volume) == alias;
        for running in self.running.values().filter(hit) {
            let error = IoError { reason: reason.to_owned(), at: Instant::now() };
            *running.nudge.io_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            running.nudge.woken.notify_one();
        }
    }
}

/// Looks after one attachment.
struct Keeper {
    wards: Arc<dyn Wards>,
    pace: Pace,
    id: AttachmentId,
    volume: VolumeId,
    nudge: Arc<Nudge>,
}

impl Keeper {
    async fn run(self) {
        let mut known = HealthView::default();
        let (mut schedule, mut repairs) = (Schedule::new(self.pace.interval), RepairSchedule::default());
        loop {
            if let Some(found) = self.look().await {
                let view = weigh::view(&known, &found, SystemTime::now());
                if view != known {
                    self.tell(&known, &view);
                    known = view;
                    schedule.wake();
                    self.wards.publish(self.id, known.clone());
                }
            }
            let healthy = known.state == HealthState::Healthy;
            if healthy {
                repairs.reset();
            } else if repairs.is_due(Instant::now()) {
                self.repair().await;
            }
            if timeout(schedule.next(healthy), self.nudge.woken.notified()).await.is_ok() {
                tokio::time::sleep(DEBOUNCE).await;
                schedule.wake();
            }
        }
    }

    /// What is so now; `None` when it could not be found out, and what was known stays.
    async fn look(&self) -> Option<Health> {
        let found = match timeout(self.pace.limit, self.wards.look(self.id)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::debug!(volume = %self.volume, error, "its health could not be found out");
                return None;
            }
            Err(_) => Health::Lost(vec![Fault {
                part: "storage".to_owned(),
                problem: format!("it did not answer within {} s (health.look_timeout_s)", self.pace.limit.as_secs()),
            }]),
        };
        let mut io_error = self.nudge.io_error.lock().unwrap_or_else(PoisonError::into_inner);
        let well = found == Health::Healthy;
        if io_error.as_ref().is_some_and(|error| well && error.is_over(Instant::now(), self.pace.interval)) {
            *io_error = None;
        }
        Some(weigh::with_io_error(found, io_error.as_ref()))
    }

    async fn repair(&self) {
        match self.wards.repair(self.id).await {
            Ok(Repair::Tried) => {
                tracing::info!(volume = %self.volume, "tried to mend its connection");
                self.nudge.woken.notify_one();
            }
            Ok(Repair::NothingToDo | Repair::Busy) => {}
            Err(error) => tracing::warn!(volume = %self.volume, error, "its connection could not be mended; trying on"),
        }
    }

    fn tell(&self, before: &HealthView, now: &HealthView) {
        let (volume, was, is) = (self.volume, before.state.as_str(), now.state.as_str());
        let faults: Vec<_> = now.faults.iter().map(|fault| format!("{}: {}", fault.part, fault.problem)).collect();
        let faults = faults.join("; ");
        match now.state {
            HealthState::Lost => tracing::error!(%volume, was, faults, "its storage is {is}"),
            HealthState::Degraded => tracing::warn!(%volume, was, faults, "its storage is {is}"),
            HealthState::Healthy if before.state == HealthState::Unknown => tracing::debug!(%volume, "its storage is {is}"),
            HealthState::Healthy | HealthState::Unknown => tracing::info!(%volume, was, "its storage is {is}"),
        }
    }
}
