//! Operations: taken up, queued, planned, carried out step by step, undone when they fail, finished after a crash.
//!
//! [`Agent`] is what the bus sees ([`crate::agent::api::AgentApi`]). Requests become records ([`plan`]), a task per
//! operation carries its record through the [`executor`], whose single steps are in [`steps`]; [`recovery`] does the same
//! for what an earlier life left. What they need of the world is in [`ports`]; the real parts stand behind it in
//! [`adapters`].

mod abandon;
pub mod adapters;
mod adopt;
mod agent;
mod boot;
mod disk;
mod ending;
mod examine;
mod executor;
mod extend;
mod faults;
mod fill;
mod fsck;
mod growth_watch;
mod guest_watch;
mod health;
mod late_unplug;
mod locks;
mod plan;
pub mod ports;
mod reconnect;
mod recovery;
mod registry;
mod remedy;
mod retry;
mod rules;
mod snapshot;
mod steps;
#[cfg(test)]
mod tests;

pub use agent::{Agent, Parts};
pub use guest_watch::GuestNews;

use crate::agent::api::ApiError;
use crate::agent::config::{EphemeralDisks, Multipath, Settings};
use crate::agent::journal::{AttachTask, BootTask, Change, Journal, Task};
use crate::model::{DiskBus, DiskTuning, ErrorKind};
use locks::Locks;
use ports::{BootSourcePort, ConnectorPort, HypervisorPort, PortError, VolumeServicePort};
use registry::Registry;
use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, SystemTime},
};
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What every operation of this agent shares.
pub(super) struct Shared {
    volumes: Arc<dyn VolumeServicePort>,
    connectors: Arc<dyn ConnectorPort>,
    hypervisor: Arc<dyn HypervisorPort>,
    boot_sources: Arc<dyn BootSourcePort>,
    journal: Journal,
    registry: Registry,
    locks: Locks,
    /// Operations that are at work: neither waiting for a volume nor pausing before another try.
    busy: watch::Sender<usize>,
    default_bus: DiskBus,
    disk_tuning: DiskTuning,
    step_timeout: Duration,
    recovery_timeout: Duration,
    keep_finished: usize,
    retry: retry::RetryPolicy,
    create_timeout: Duration,
    delete_timeout: Duration,
    extend_timeout: Duration,
    /// The longest that a guest's filesystems are frozen.
    freeze_timeout: Duration,
    /// For all images of a boot to come, and to be copied.
    download_timeout: Duration,
    /// Between looks at the sizes that the service has; `None` looks never.
    watch_interval: Option<Duration>,
    setup: examine::Setup,
    /// Which guests of this boot of the host have had their start.
    autostarted: boot::Autostarted,
    /// Why the metrics are not served, though they should be.
    metrics_problem: std::sync::OnceLock<String>,
    /// A guest that did not let a disk go in time may have just then.
    wanted_gone: Notify,
    /// The agent is stopping.
    stopping: CancellationToken,
    /// Those who thaw what they have frozen.
    keepers: TaskTracker,
    /// Failures that were left for another try, since the start.
    retries: AtomicU64,
}

impl Shared {
    fn new(parts: Parts, settings: &Settings, retry: retry::RetryPolicy) -> Self {
        Self {
            volumes: parts.volumes,
            connectors: parts.connectors,
            hypervisor: parts.hypervisor,
            boot_sources: parts.boot_sources,
            journal: parts.journal,
            registry: Registry::new(parts.contents.attachments, parts.contents.guests),
            locks: Locks::default(),
            busy: watch::Sender::new(0),
            default_bus: settings.guest.disk_bus,
            disk_tuning: settings.guest.tuning.clone(),
            step_timeout: Duration::from_secs(settings.operations.step_timeout_s),
            recovery_timeout: Duration::from_secs(settings.operations.recovery_timeout_s),
            keep_finished: settings.operations.keep_finished,
            retry,
            create_timeout: Duration::from_secs(settings.volumes.create_timeout_s),
            delete_timeout: Duration::from_secs(settings.volumes.delete_timeout_s),
            extend_timeout: Duration::from_secs(settings.volumes.extend_timeout_s),
            freeze_timeout: Duration::from_secs(settings.guest.freeze_timeout_s),
            download_timeout: Duration::from_secs(settings.images.download_timeout_s),
            watch_interval: Some(settings.volumes.watch_interval_s).filter(|s| *s > 0).map(Duration::from_secs),
            setup: examine::Setup {
                initiator: settings.iscsi.initiator.as_str(),
                initiator_name_file: settings.iscsi.initiator_name_file.clone(),
                state_dir: settings.paths.state_dir.clone(),
                rbd_in_kernel: settings.rbd.client == crate::agent::config::RbdClient::Kernel,
                thin_disks: match &settings.images.disks {
                    EphemeralDisks::Files(_) | EphemeralDisks::Rbd(_) => None,
                    EphemeralDisks::Lvm { thin_pool, .. } => Some(thin_pool.is_some()),
                },
                wants_multipath: match settings.iscsi.multipath {
                    Multipath::Off => Some(false),
                    Multipath::Preferred => None,
                    Multipath::Required => Some(true),
                },
                ceph_files: [
                    ("rbd.conf_file", settings.rbd.conf_file.clone()),
                    ("rbd.keyring_file", settings.rbd.keyring_file.clone()),
                ]
                .into_iter()
                .filter_map(|(key, path)| Some((key, path?)))
                .collect(),
            },
            autostarted: boot::Autostarted::new(&settings.paths.run_dir),
            metrics_problem: std::sync::OnceLock::new(),
            wanted_gone: Notify::new(),
            stopping: CancellationToken::new(),
            keepers: TaskTracker::new(),
            retries: AtomicU64::new(0),
        }
    }

    /// Waits until no operation is at work, but not longer than this. `false`: some still are.
    async fn quiet_within(&self, patience: Duration) -> bool {
        let mut busy = self.busy.subscribe();
        tokio::time::timeout(patience, busy.wait_for(|count| *count == 0)).await.is_ok()
    }

    /// Looks again whether a task can be done, now that it has its volume; an error says why not. `asks_others`: it has
    /// waited since it was planned, so the guest and the service are asked, too. Returns the task as it is planned now, where
    /// that was done: size, encryption and sharing may be others than when it was asked for.
    async fn check_again(&self, task: &Task, asks_others: bool) -> Result<Option<Task>, ApiError> {
        let attached = self.registry.attachment(task.volume(), task.guest());
        match task {
            Task::Attach(task) if asks_others => {
                let guest = self.hypervisor.guest(&task.guest.to_string()).await?;
                let mut volume = self.volumes.volume(task.volume).await?;
                plan::own_reservation(&mut volume, task.reservation);
                let request = crate::agent::api::AttachRequest {
                    volume: task.volume.to_string(),
                    guest: task.guest.to_string(),
                    bus: Some(task.bus),
                    target: task.target.clone(),
                    read_only: task.read_only,
                    wishes: task.wishes.clone(),
                };
                let planned = plan::plan_attach(&request, &volume, &guest, attached.as_ref(), self.default_bus)?;
                return Ok(Some(Task::Attach(AttachTask { reservation: task.reservation, ..planned })));
            }
            Task::Attach(task) if attached.is_some() => {
                let message = format!("volume {} is already attached to guest {}", task.volume, task.guest_name);
                return Err(ApiError::new(ErrorKind::Conflict, message));
            }
            Task::Detach(task) if attached.is_none() => {
                let message = format!("volume {} is not attached to guest {} any more", task.volume, task.guest_name);
                return Err(ApiError::new(ErrorKind::NotFound, message));
            }
            Task::Extend(task) if asks_others && task.ask_service => {
                let volume = self.volumes.volume(task.volume).await?;
                plan::plan_extend(task.size_gib, &volume, &self.registry.attachments_of(task.volume))?;
            }
            Task::Boot(BootTask { new_guest: Some(new), .. }) => boot::check_undefined(self, new).await?,
            Task::Boot(task) => {
                let guest = self.hypervisor.guest(&task.guest.to_string()).await?;
                boot::check_free(self, task.guest, &guest)?;
            }
            Task::Delete(task) if self.registry.booted(task.guest).is_none() => {
                let message = format!("guest {} is deleted already", task.guest_name);
                return Err(ApiError::new(ErrorKind::NotFound, message));
            }
            Task::Delete(task) => return Ok(boot::delete_again(self, task)),
            Task::Rebuild(task) => return boot::check_root(self, task).await.map(Some),
            Task::Reimage(task) => boot::check_root_volume(self, task).await?,
            Task::Rescue(task) => return boot::check_rescue(self, task).await.map(Some),
            Task::Unrescue(task) => boot::check_unrescue(self, task)?,
            Task::Snapshot(task) => snapshot::check_still(self, task)?,
            Task::Attach(_) | Task::Detach(_) | Task::Extend(_) | Task::Start(_) | Task::Stop(_) | Task::Fill(_) => {}
        }
        Ok(None)
    }

    /// Told how far an operation is with a disk, whoever is interested hears of it.
    fn telling(self: &Arc<Self>, operation: crate::model::OperationId, disk: &str) -> ports::Told {
        let (shared, disk) = (self.clone(), disk.to_owned());
        Arc::new(move |done, total| shared.registry.put_progress(operation, &disk, done, total))
    }

    /// Lets go of finished operations beyond the number that is kept.
    async fn forget_old_operations(&self) {
        let finished: Vec<_> =
            self.registry.records().into_iter().filter(|record| record.state.is_over()).map(|record| record.id).collect();
        let surplus = finished.len().saturating_sub(self.keep_finished);
        let old: Vec<_> = finished.into_iter().take(surplus).collect();
        if old.is_empty() {
            return;
        }
        let changes = old.iter().map(|id| Change::DropOperation(*id)).collect();
        if let Err(error) = self.journal.commit_or_owe(changes).await {
            tracing::error!(%error, "old operations are still in the journal");
        }
        for id in old {
            self.registry.forget_operation(id);
        }
    }
}

impl From<PortError> for ApiError {
    fn from(error: PortError) -> Self {
        Self::new(error.kind, error.message)
    }
}

/// Microseconds since the epoch.
fn now_us() -> u64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX)
}
