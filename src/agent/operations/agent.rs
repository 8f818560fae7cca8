//! The agent as the bus sees it.

use super::{
    Shared, adopt, boot, examine,
    executor::{self, Run},
    fill, fsck, growth_watch, plan,
    ports::{BootSourcePort, ConnectorPort, GuestFacts, HypervisorPort, VolumeServicePort},
    reconnect, recovery,
    retry::RetryPolicy,
    snapshot,
};
use crate::agent::api::{
    Adopted, AgentApi, AgentEvent, ApiError, AttachmentView, DeleteRequest, DetachRequest, OperationState, OperationView, Plan,
    Request, StartRequest, StopRequest,
};
use crate::agent::config::Settings;
use crate::agent::journal::{Change, Contents, Journal, OperationRecord, StartTask, StopTask, Task};
use crate::model::{BootRequest, Difference, ErrorKind, Finding, NewVolume, OperationId, SnapshotRequest, Volume, VolumeId};
use async_trait::async_trait;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::sync::{Mutex, broadcast};
use tokio_util::task::TaskTracker;

/// How long a stop waits for guests to be thawed. systemd's own patience is longer.
const THAW_PATIENCE: Duration = Duration::from_secs(40);
/// Between looks at how old the images in the cache are.
const IMAGES_INTERVAL: Duration = Duration::from_secs(3600);

/// What an agent is put together from.
pub struct Parts {
    /// The volume service.
    pub volumes: Arc<dyn VolumeServicePort>,
    /// The connectors.
    pub connectors: Arc<dyn ConnectorPort>,
    /// The hypervisor.
    pub hypervisor: Arc<dyn HypervisorPort>,
    /// Images, and ephemeral disks.
    pub boot_sources: Arc<dyn BootSourcePort>,
    /// The journal.
    pub journal: Journal,
    /// What was in it.
    pub contents: Contents,
}

/// The agent.
pub struct Agent {
    pub(super) shared: Arc<Shared>,
    /// Held from looking for an equal request until the new one is in the registry.
    submitting: Mutex<()>,
    running: TaskTracker,
}

impl Agent {
    /// Puts an agent together and mends what an earlier life left unfinished. Returns when that is done, or when it has
    /// taken as long as the service may be held back; the rest then goes on beside the service.
    pub async fn start(mut parts: Parts, settings: &Settings) -> Self {
        let operations = std::mem::take(&mut parts.contents.operations);
        Self::start_on(Shared::new(parts, settings, RetryPolicy::default()), operations).await
    }

    /// Starts with the operations that an earlier life left.
    pub(super) async fn start_on(shared: Shared, operations: Vec<OperationRecord>) -> Self {
        let shared = Arc::new(shared);
        let agent = Self { shared, submitting: Mutex::new(()), running: TaskTracker::new() };
        fill::serve_all(&agent.shared, &operations).await;
        recovery::recover(&agent.shared, &agent.running, operations).await;
        fill::begin_all(&agent.shared).await;
        agent
    }

    /// Brings back what a reboot or another restart took from attachments; to be called at start and whenever libvirtd
    /// comes back. Returns how many could not be brought back.
    pub async fn reconnect(&self) -> usize {
        reconnect::reconnect_all(&self.shared).await
    }

    /// Looks now and then whether somebody else has extended what is attached here, and grows it; for as long as the agent
    /// lives. Returns at once where the configuration wants no such watch.
    pub async fn watch(&self) {
        let Some(interval) = self.shared.watch_interval else { return };
        loop {
            tokio::time::sleep(growth_watch::pause(interval)).await;
            self.look().await;
        }
    }

    pub(super) async fn look(&self) {
        for task in growth_watch::look(&self.shared).await {
            if let Err(error) = self.take_up_unasked(task).await {
                tracing::warn!(%error, "a volume that was extended is not grown now");
            }
        }
    }

    /// Takes up what nobody asks for just now.
    pub(super) async fn take_up_unasked(&self, task: Task) -> Result<OperationId, ApiError> {
        let _submitting = self.submitting.lock().await;
        self.take_up(task).await
    }

    /// Journals a new operation and lets it go. To be called while submitting.
    async fn take_up(&self, task: Task) -> Result<OperationId, ApiError> {
        if let Some(same) = self.unfinished_like(&task) {
            return match (&same.task, &task) {
                (Task::Boot(one), Task::Boot(other)) if one.request != other.request => Err(being_booted(&same)),
                _ => Ok(same.id),
            };
        }
        if self.running.is_closed() {
            return Err(ApiError::new(ErrorKind::Unavailable, "the agent is stopping; ask again when it is back"));
        }
        let record = executor::new_record(task);
        self.shared
            .journal
            .commit(vec![Change::PutOperation(Box::new(record.clone()))])
            .await
            .map_err(|error| ApiError::new(error.kind(), error.to_string()))?;
        let id = record.id;
        self.running.spawn(Run::new(self.shared.clone(), record).run());
        Ok(id)
    }

    /// Removes images that no disk has used for long, now and then; for as long as the agent lives.
    pub async fn tend_images(&self) {
        let mut interval = tokio::time::interval(IMAGES_INTERVAL);
        loop {
            interval.tick().await;
            if let Err(error) = self.shared.boot_sources.remove_old_images().await {
                tracing::warn!(%error, "old images stay in the cache for now");
            }
        }
    }

    /// Waits for the operations at work to end, but not longer than this. What is cut is mended at the next start, and what
    /// waits for another try is not waited for. Guests that stand still for a snapshot are thawed at once, and that is waited for.
    pub async fn finish(&self, patience: Duration) {
        self.running.close();
        self.shared.stopping.cancel();
        self.shared.keepers.close();
        let thawed = tokio::time::timeout(THAW_PATIENCE, self.shared.keepers.wait());
        let (quiet, thawed) = tokio::join!(self.shared.quiet_within(patience), thawed);
        if thawed.is_err() {
            tracing::error!("stopping with a guest that may be frozen: the next start thaws it");
        }
        if !quiet {
            tracing::warn!("stopping with operations under way: the next start goes on with them");
        }
    }

    /// Has whoever examines the host told that the metrics are not served, and why. The first word counts.
    pub fn tell_metrics_problem(&self, problem: String) {
        let _ = self.shared.metrics_problem.set(problem);
    }

    /// How often a step failed and was left for another try, since the start.
    pub fn retries(&self) -> u64 {
        self.shared.retries.load(Ordering::Relaxed)
    }

    pub(super) async fn task(&self, request: &Request) -> Result<Task, ApiError> {
        let shared = &self.shared;
        match request {
            Request::Attach(request) => {
                let (volume, guest) =
                    tokio::join!(shared.volumes.find_volume(&request.volume), shared.hypervisor.guest(&request.guest));
                let (mut volume, guest) = (volume?, guest?);
                // Another guest's operation is at it: what that makes of the status is judged when this one's turn has come.
                if volume.multiattach && self.is_at_work(volume.id) {
                    "in-use".clone_into(&mut volume.status);
                }
                let attached = shared.registry.attachment(volume.id, guest.uuid);
                plan::plan_attach(request, &volume, &guest, attached.as_ref(), shared.default_bus).map(Task::Attach)
            }
            Request::Detach(request) => {
                let volume = self.volume_id(&request.volume).await?;
                let guest = self.guest_of_detach(request, volume).await?;
                let attached = shared.registry.attachment(volume, guest.uuid);
                plan::plan_detach(volume, &guest, attached.as_ref())
            }
            Request::Extend(request) => {
                let volume = shared.volumes.find_volume(&request.volume).await?;
                plan::plan_extend(request.size_gib, &volume, &shared.registry.attachments_of(volume.id))
            }
            Request::Boot(request) => boot::plan_boot(shared, request).await,
            Request::Delete(request) => boot::plan_delete(shared, request).await,
            Request::Rebuild(request) => boot::plan_rebuild(shared, request).await,
            Request::Rescue(request) => boot::plan_rescue(shared, request).await,
            Request::Unrescue(request) => boot::plan_unrescue(shared, request).await,
            Request::Start(StartRequest { guest }) => {
                let GuestFacts { uuid: guest, name: guest_name, .. } = shared.hypervisor.guest(guest).await?;
                Ok(Task::Start(StartTask { guest, guest_name }))
            }
            Request::Stop(StopRequest { guest, force }) => {
                let GuestFacts { uuid: guest, name: guest_name, .. } = shared.hypervisor.guest(guest).await?;
                Ok(Task::Stop(StopTask { guest, guest_name, force: *force }))
            }
            Request::Snapshot(request) => snapshot::plan_snapshot(shared, request).await,
        }
    }

    /// An operation of this agent has the volume, or waits for it.
    fn is_at_work(&self, volume: VolumeId) -> bool {
        let records = self.shared.registry.records();
        records.iter().any(|record| record.task.volume() == volume && is_unfinished(record))
    }

    /// A detach needs the service only for a name: an id that is attached here is known here.
    async fn volume_id(&self, name_or_id: &str) -> Result<VolumeId, ApiError> {
        if let Ok(id) = name_or_id.parse::<VolumeId>()
            && self.shared.registry.attachments().iter().any(|record| record.volume == id)
        {
            return Ok(id);
        }
        Ok(self.shared.volumes.find_volume(name_or_id).await?.id)
    }

    async fn guest_of_detach(&self, request: &DetachRequest, volume: VolumeId) -> Result<GuestFacts, ApiError> {
        let attachments = self.shared.registry.attachments();
        let of_volume: Vec<_> = attachments.iter().filter(|record| record.volume == volume).collect();
        let name = match (&request.guest, of_volume.as_slice()) {
            (Some(name), _) => name.clone(),
            (None, [one]) => one.guest.to_string(),
            (None, []) => {
                let message = format!("volume {volume} is not attached to any guest by this host's Bowline");
                return Err(ApiError::new(ErrorKind::NotFound, message));
            }
            (None, several) => {
                let names: Vec<_> = several.iter().map(|record| record.guest_name.as_str()).collect();
                let message =
                    format!("volume {volume} is attached to guests {}: name the one to detach it from", names.join(", "));
                return Err(ApiError::new(ErrorKind::InvalidInput, message));
            }
        };
        match self.shared.hypervisor.guest(&name).await {
            Ok(guest) => Ok(guest),
            // A guest that was undefined holds nothing any more, but its volume must still come off this host.
            Err(error) if error.kind == ErrorKind::NotFound => of_volume
                .iter()
                .find(|record| record.guest_name == name || record.guest.to_string() == name)
                .map(|record| GuestFacts {
                    uuid: record.guest,
                    name: record.guest_name.clone(),
                    active: false,
                    run: None,
                    persistent: false,
                    memory_mib: None,
                    disks: vec![],
                })
                .ok_or_else(|| error.into()),
            Err(error) => Err(error.into()),
        }
    }

    fn unfinished_like(&self, task: &Task) -> Option<OperationRecord> {
        self.shared.registry.records().into_iter().find(|record| {
            is_unfinished(record)
                && record.task.kind() == task.kind()
                && record.task.volume() == task.volume()
                && match (&record.task, task) {
                    (Task::Extend(one), Task::Extend(other)) => one.size_gib == other.size_gib,
                    (Task::Rebuild(one), Task::Rebuild(other)) => one.guest == other.guest && one.content == other.content,
                    (Task::Reimage(one), Task::Reimage(other)) => one.guest == other.guest && one.image == other.image,
                    (Task::Rescue(one), Task::Rescue(other)) => one.guest == other.guest && one.content == other.content,
                    (Task::Stop(one), Task::Stop(other)) => one.guest == other.guest && one.force == other.force,
                    (Task::Snapshot(one), Task::Snapshot(other)) => one.request == other.request,
                    // Each would be defined under a UUID of its own.
                    (Task::Boot(one), Task::Boot(other)) if one.new_guest.is_some() && other.new_guest.is_some() => {
                        one.guest_name == other.guest_name
                    }
                    (one, other) => one.guest() == other.guest(),
                }
        })
    }
}

fn being_booted(record: &OperationRecord) -> ApiError {
    let message = format!("guest {} is being booted from other disks by operation {}", record.task.guest_name(), record.id);
    ApiError::new(ErrorKind::Conflict, message)
}

/// An equal request joins it. What is stuck counts: it is still being tried.
fn is_unfinished(record: &OperationRecord) -> bool {
    !record.state.is_over()
}

#[async_trait]
impl AgentApi for Agent {
    async fn submit(&self, request: Request) -> Result<OperationId, ApiError> {
        // An equal request that is under way changes what planning sees, so it is looked for first, by what can be known
        // without planning.
        let planned = self.task(&request).await;
        let _submitting = self.submitting.lock().await;
        let task = match planned {
            Ok(task) => task,
            Err(error) => return self.under_way(&request).await.ok_or(error),
        };
        self.take_up(task).await
    }

    async fn dry_run(&self, request: Request) -> Result<Plan, ApiError> {
        Ok(plan::describe(&self.task(&request).await?))
    }

    async fn cancel(&self, operation: OperationId) -> Result<(), ApiError> {
        let refuse = |kind, message: String| Err(ApiError::new(kind, message));
        let Some(record) = self.shared.registry.record(operation) else {
            return refuse(ErrorKind::NotFound, format!("there is no operation {operation}"));
        };
        match (&record.task, record.state) {
            (
                Task::Attach(_) | Task::Boot(_) | Task::Rebuild(_) | Task::Reimage(_) | Task::Rescue(_) | Task::Snapshot(_),
                OperationState::Unwinding,
            ) => return Ok(()),
            (_, state) if state.is_final() => {
                let message = match state {
                    OperationState::Stuck => {
                        format!("operation {operation} is stuck and is being tried again: it cannot be cancelled")
                    }
                    state => format!("operation {operation} is {state} already"),
                };
                return refuse(ErrorKind::Conflict, message);
            }
            _ => {}
        }
        if self.shared.registry.cancel(operation) {
            return Ok(());
        }
        let message = match record.task {
            Task::Attach(_) => format!("operation {operation} is at its last step: detach the volume instead"),
            Task::Detach(_) => {
                format!("operation {operation} has asked the guest to let the disk go, which cannot be taken back")
            }
            Task::Extend(_) => format!("operation {operation} has begun to extend the volume, which cannot be taken back"),
            Task::Boot(_) => format!("operation {operation} is starting the guest: delete it instead"),
            Task::Delete(_) => format!("operation {operation} has stopped the guest, which cannot be taken back"),
            Task::Rebuild(_) => format!("operation {operation} has replaced the root disk, which cannot be taken back"),
            Task::Reimage(_) => {
                format!(
                    "operation {operation} has asked for the image to be written over the volume, which cannot be taken back"
                )
            }
            Task::Rescue(_) => format!("operation {operation} is starting the guest: unrescue it instead"),
            Task::Unrescue(_) => format!("operation {operation} is ending the rescue, which cannot be taken back"),
            Task::Start(_) => format!("operation {operation} is starting the guest: stop it instead"),
            Task::Stop(_) => format!("operation {operation} has asked the guest to shut down, which cannot be taken back"),
            Task::Snapshot(_) => format!("operation {operation} has made the image: delete that instead"),
            Task::Fill(_) => {
                format!("operation {operation} fills disks that guest {} runs on: delete it instead", record.task.guest_name())
            }
        };
        refuse(ErrorKind::Conflict, message)
    }

    async fn abandon(&self, operation: OperationId) -> Result<(), ApiError> {
        let refuse = |kind, message: String| Err(ApiError::new(kind, message));
        // Before the first look, so that nothing falls between the two.
        let mut events = self.shared.registry.events();
        let mut asked = false;
        loop {
            let Some(record) = self.shared.registry.record(operation) else {
                return refuse(ErrorKind::NotFound, format!("there is no operation {operation}"));
            };
            match record.state {
                OperationState::Abandoned => return Ok(()),
                OperationState::Stuck if !asked => {
                    self.shared.registry.abandonment(operation).cancel();
                    asked = true;
                }
                state if state.is_over() => {
                    let when = if asked { "has become" } else { "is" };
                    let message = format!("operation {operation} {when} {state}: there is nothing to give up");
                    return refuse(ErrorKind::Conflict, message);
                }
                state if !asked => {
                    let message = format!("operation {operation} is {state}: only what is stuck can be given up, cancel it");
                    return refuse(ErrorKind::Conflict, message);
                }
                _ => {}
            }
            if let Err(broadcast::error::RecvError::Closed) = events.recv().await {
                return refuse(ErrorKind::Unavailable, "the agent is stopping; ask again when it is back".to_owned());
            }
        }
    }

    fn operations(&self) -> Vec<OperationView> {
        self.shared.registry.operation_views()
    }

    fn operation(&self, operation: OperationId) -> Option<OperationView> {
        self.shared.registry.operation_view(operation)
    }

    fn attachments(&self) -> Vec<AttachmentView> {
        self.shared.registry.attachment_views()
    }

    fn events(&self) -> broadcast::Receiver<AgentEvent> {
        self.shared.registry.events()
    }

    async fn volumes(&self) -> Result<Vec<Volume>, ApiError> {
        Ok(self.shared.volumes.volumes().await?)
    }

    async fn volume(&self, name_or_id: &str) -> Result<Volume, ApiError> {
        Ok(self.shared.volumes.find_volume(name_or_id).await?)
    }

    async fn create_volume(&self, volume: NewVolume) -> Result<Volume, ApiError> {
        let created = self.shared.volumes.create_volume(&volume).await?;
        Ok(self.shared.volumes.wait_available(created.id, self.shared.create_timeout).await?)
    }

    async fn delete_volume(&self, name_or_id: &str) -> Result<(), ApiError> {
        let volume = self.shared.volumes.find_volume(name_or_id).await?;
        self.shared.volumes.delete_volume(volume.id).await?;
        Ok(self.shared.volumes.wait_gone(volume.id, self.shared.delete_timeout).await?)
    }

    async fn examine(&self) -> Vec<Finding> {
        examine::examine(&self.shared).await
    }

    async fn check(&self, repair: bool) -> Result<Vec<Difference>, ApiError> {
        Ok(fsck::check(&self.shared, repair).await)
    }

    async fn adopt(&self, volume: &str, guest: &str) -> Result<Adopted, ApiError> {
        Ok(adopt::adopt(&self.shared, volume, guest).await?)
    }
}

impl Agent {
    /// The unfinished operation that this very request started, where planning now refuses it because that operation has
    /// changed the world already: the volume is reserved, by us.
    async fn under_way(&self, request: &Request) -> Option<OperationId> {
        if let Request::Boot(BootRequest { guest, .. })
        | Request::Delete(DeleteRequest { guest })
        | Request::Snapshot(SnapshotRequest { guest, .. }) = request
        {
            let same = |record: &OperationRecord| match (&record.task, request) {
                (Task::Boot(task), Request::Boot(request)) => {
                    let (mut one, mut other) = (task.request.clone(), request.clone());
                    // The same guest by its name and by its UUID.
                    one.guest.clear();
                    other.guest.clear();
                    one == other
                }
                (Task::Delete(_), Request::Delete(_)) => true,
                (Task::Snapshot(task), Request::Snapshot(request)) => {
                    task.request.name == request.name && task.request.freeze == request.freeze
                }
                _ => false,
            };
            let of_guest =
                |record: &OperationRecord| record.task.guest_name() == guest || record.task.guest().to_string() == *guest;
            let records = self.shared.registry.records();
            return records
                .into_iter()
                .find(|record| is_unfinished(record) && same(record) && of_guest(record))
                .map(|record| record.id);
        }
        let (kind, volume, guest) = match request {
            Request::Attach(request) => ("attach", &request.volume, Some(&request.guest)),
            Request::Detach(request) => ("detach", &request.volume, request.guest.as_ref()),
            Request::Extend(request) => ("extend", &request.volume, None),
            Request::Boot(_)
            | Request::Delete(_)
            | Request::Rebuild(_)
            | Request::Rescue(_)
            | Request::Unrescue(_)
            | Request::Start(_)
            | Request::Stop(_)
            | Request::Snapshot(_) => return None,
        };
        let volume = match volume.parse::<VolumeId>() {
            Ok(id) => id,
            Err(_) => self.shared.volumes.find_volume(volume).await.ok()?.id,
        };
        let of_guest = |record: &OperationRecord| {
            let size_fits = match (&record.task, request) {
                (Task::Extend(task), Request::Extend(request)) => task.size_gib == request.size_gib,
                _ => true,
            };
            size_fits
                && guest.is_none_or(|guest| record.task.guest_name() == guest || record.task.guest().to_string() == *guest)
        };
        let records = self.shared.registry.records();
        records
            .into_iter()
            .find(|record| {
                is_unfinished(record) && record.task.kind() == kind && record.task.volume() == volume && of_guest(record)
            })
            .map(|record| record.id)
    }
}
