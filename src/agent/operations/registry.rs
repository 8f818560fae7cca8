//! What the agent knows now: operations and attachments as last journalled, and who is told of changes.

use crate::agent::api::{
    AgentEvent, AttachmentView, DiskProgress, GuestChange, HealthView, OperationView, StepState, StepView,
};
use crate::agent::journal::{AttachmentRecord, BootRecord, OperationRecord, Step, Task};
use crate::model::{AttachmentId, GuestUuid, OperationId, VolumeId};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

/// Events kept for a listener that is behind; after that it must read everything anew.
const EVENT_BACKLOG: usize = 1024;
/// How often it is told how far a disk is: nobody reads faster.
const TELL_PROGRESS: Duration = Duration::from_millis(500);

struct Entry {
    record: OperationRecord,
    cancel: CancellationToken,
    /// Cancelled by an operator who gives it up.
    abandon: CancellationToken,
    /// It has gone too far to be cancelled.
    committed: bool,
    /// How far the step under way is; never journalled.
    disks: Vec<DiskProgress>,
    disks_told: Option<Instant>,
}

impl Entry {
    /// With another step under way, how far the last one was says nothing any more.
    fn take(&mut self, record: &OperationRecord) {
        if self.record.steps != record.steps {
            self.disks.clear();
        }
        self.record = record.clone();
    }

    fn view(&self) -> OperationView {
        OperationView { disks: self.disks.clone(), ..operation_view(self.record.clone()) }
    }
}

#[derive(Default)]
struct State {
    operations: HashMap<OperationId, Entry>,
    attachments: BTreeMap<(VolumeId, GuestUuid), AttachmentRecord>,
    guests: BTreeMap<GuestUuid, BootRecord>,
    /// Known by looking, so never journalled.
    health: HashMap<AttachmentId, HealthView>,
}

/// The agent's knowledge. The lock is never held across an await.
pub(super) struct Registry {
    state: Mutex<State>,
    events: broadcast::Sender<AgentEvent>,
}

impl Registry {
    pub(super) fn new(attachments: Vec<AttachmentRecord>, guests: Vec<BootRecord>) -> Self {
        let attachments = attachments.into_iter().map(|record| ((record.volume, record.guest), record)).collect();
        let guests = guests.into_iter().map(|record| (record.guest, record)).collect();
        let state = Mutex::new(State { attachments, guests, ..State::default() });
        Self { state, events: broadcast::channel(EVENT_BACKLOG).0 }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: AgentEvent) {
        // Nobody listening is fine.
        let _ = self.events.send(event);
    }

    pub(super) fn events(&self) -> broadcast::Receiver<AgentEvent> {
        self.events.subscribe()
    }

    /// Takes an operation in, or its new state. Returns the token its cancellation comes by.
    pub(super) fn put_operation(&self, record: &OperationRecord) -> CancellationToken {
        let cancel = {
            let mut state = self.state();
            let entry = state.operations.entry(record.id).and_modify(|entry| entry.take(record)).or_insert_with(|| Entry {
                record: record.clone(),
                cancel: CancellationToken::new(),
                abandon: CancellationToken::new(),
                committed: false,
                disks: vec![],
                disks_told: None,
            });
            entry.cancel.clone()
        };
        self.tell(AgentEvent::Operation(record.id));
        cancel
    }

    pub(super) fn forget_operation(&self, id: OperationId) {
        if self.state().operations.remove(&id).is_some() {
            self.tell(AgentEvent::OperationForgotten(id));
        }
    }

    pub(super) fn put_attachment(&self, record: AttachmentRecord) {
        let id = record.id;
        self.state().attachments.insert((record.volume, record.guest), record);
        self.tell(AgentEvent::Attachment(id));
    }

    pub(super) fn forget_attachment(&self, volume: VolumeId, guest: GuestUuid) {
        let gone = self.state().attachments.remove(&(volume, guest));
        if let Some(record) = gone {
            self.state().health.remove(&record.id);
            self.tell(AgentEvent::AttachmentGone(record.id));
        }
    }

    /// Tells what became of a guest.
    pub(super) fn tell_guest(&self, guest: GuestUuid, name: String, change: GuestChange) {
        self.tell(AgentEvent::Guest { guest, name, change });
    }

    pub(super) fn put_guest(&self, record: BootRecord) {
        self.state().guests.insert(record.guest, record);
    }

    pub(super) fn forget_guest(&self, guest: GuestUuid) {
        self.state().guests.remove(&guest);
    }

    /// What a boot made of the guest, if one did.
    pub(super) fn booted(&self, guest: GuestUuid) -> Option<BootRecord> {
        self.state().guests.get(&guest).cloned()
    }

    /// All guests that were booted.
    pub(super) fn booted_guests(&self) -> Vec<BootRecord> {
        self.state().guests.values().cloned().collect()
    }

    pub(super) fn record(&self, id: OperationId) -> Option<OperationRecord> {
        self.state().operations.get(&id).map(|entry| entry.record.clone())
    }

    /// An operation as an operator sees it.
    pub(super) fn operation_view(&self, id: OperationId) -> Option<OperationView> {
        self.state().operations.get(&id).map(Entry::view)
    }

    /// All operations as an operator sees them, oldest first.
    pub(super) fn operation_views(&self) -> Vec<OperationView> {
        let mut views: Vec<_> = self.state().operations.values().map(Entry::view).collect();
        views.sort_by_key(|view| view.created_at);
        views
    }

    /// Takes in how far the step under way is with a disk; the end of one is told at once, the rest now and then.
    pub(super) fn put_progress(&self, id: OperationId, disk: &str, done: u64, total: u64) {
        {
            let mut state = self.state();
            let Some(entry) = state.operations.get_mut(&id) else { return };
            let progress = DiskProgress { disk: disk.to_owned(), done, total };
            match entry.disks.iter_mut().find(|known| known.disk == disk) {
                Some(known) => *known = progress,
                None => entry.disks.push(progress),
            }
            if done < total && entry.disks_told.is_some_and(|told| told.elapsed() < TELL_PROGRESS) {
                return;
            }
            entry.disks_told = Some(Instant::now());
        }
        self.tell(AgentEvent::Operation(id));
    }

    /// Asks for a cancellation. `false`: it has gone too far, or is not known.
    pub(super) fn cancel(&self, id: OperationId) -> bool {
        match self.state().operations.get(&id) {
            Some(entry) if !entry.committed => {
                entry.cancel.cancel();
                true
            }
            _ => false,
        }
    }

    /// The token by which an operation learns that it was given up.
    pub(super) fn abandonment(&self, id: OperationId) -> CancellationToken {
        self.state().operations.get(&id).map(|entry| entry.abandon.clone()).unwrap_or_default()
    }

    /// From here on it cannot be cancelled. `false`: a cancellation was asked for before.
    pub(super) fn commit_to(&self, id: OperationId) -> bool {
        match self.state().operations.get_mut(&id) {
            Some(entry) if entry.cancel.is_cancelled() => false,
            Some(entry) => {
                entry.committed = true;
                true
            }
            None => true,
        }
    }

    /// All operations, oldest first.
    pub(super) fn records(&self) -> Vec<OperationRecord> {
        let mut records: Vec<_> = self.state().operations.values().map(|entry| entry.record.clone()).collect();
        records.sort_by_key(|record| record.created_at_us);
        records
    }

    pub(super) fn attachment(&self, volume: VolumeId, guest: GuestUuid) -> Option<AttachmentRecord> {
        self.state().attachments.get(&(volume, guest)).cloned()
    }

    /// The same attachment as it is now, if it is still there.
    pub(super) fn still_attached(&self, seen: &AttachmentRecord) -> Option<AttachmentRecord> {
        self.attachment(seen.volume, seen.guest).filter(|record| record.id == seen.id)
    }

    pub(super) fn attachments(&self) -> Vec<AttachmentRecord> {
        self.state().attachments.values().cloned().collect()
    }

    /// Who of this host's guests has the volume.
    pub(super) fn attachments_of(&self, volume: VolumeId) -> Vec<AttachmentRecord> {
        self.state().attachments.values().filter(|record| record.volume == volume).cloned().collect()
    }

    /// All attachments as an operator sees them.
    pub(super) fn attachment_views(&self) -> Vec<AttachmentView> {
        let state = self.state();
        let health = |id| state.health.get(&id).cloned().unwrap_or_default();
        state.attachments.values().map(|record| attachment_view(record.clone(), health(record.id))).collect()
    }

    /// Takes in how an attachment is doing. One that is gone meanwhile is left gone.
    pub(super) fn put_health(&self, id: AttachmentId, health: HealthView) {
        {
            let mut state = self.state();
            if !state.attachments.values().any(|record| record.id == id) {
                return;
            }
            state.health.insert(id, health);
        }
        self.tell(AgentEvent::Attachment(id));
    }

    /// Another guest of this host has the volume, so the connection must stay; or may have it, by an attach that a restart cut
    /// and that is not settled yet. Whatever that one comes to, it ends the connection itself if it is the last.
    pub(super) fn is_shared(&self, volume: VolumeId, but: GuestUuid) -> bool {
        let state = self.state();
        state.attachments.keys().any(|(other, guest)| *other == volume && *guest != but)
            || state.operations.values().any(|entry| may_have_connected(&entry.record, volume, but))
    }
}

fn may_have_connected(record: &OperationRecord, volume: VolumeId, but: GuestUuid) -> bool {
    !record.state.is_over()
        && matches!(&record.task, Task::Attach(task) if task.volume == volume && task.guest != but)
        && record
            .steps
            .iter()
            .any(|step| step.step == Step::ConnectVolume && !matches!(step.state, StepState::Pending | StepState::Undone))
}

fn time(us: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(us)
}

/// An operation as an operator sees it.
fn operation_view(record: OperationRecord) -> OperationView {
    OperationView {
        id: record.id,
        kind: record.task.kind().to_owned(),
        volume: record.task.volume(),
        guest: record.task.guest(),
        guest_name: record.task.guest_name().to_owned(),
        state: record.state,
        steps: record
            .steps
            .iter()
            .map(|step| StepView { name: step.step.name().to_owned(), state: step.state, duration_us: step.duration_us })
            .collect(),
        created_at: time(record.created_at_us),
        duration_us: record.duration_us,
        image: match &record.task {
            Task::Snapshot(task) => Some(task.image.id),
            _ => None,
        },
        disks: vec![],
        remarks: record.facts.kept.iter().map(kept).collect(),
        failure: record.failure,
    }
}

fn kept(volume: &VolumeId) -> String {
    format!("volume {volume} was to go with the guest and is kept, for it has snapshots: delete those, and then it")
}

/// An attachment as an operator sees it.
fn attachment_view(record: AttachmentRecord, health: HealthView) -> AttachmentView {
    AttachmentView {
        id: record.id,
        volume: record.volume,
        guest: record.guest,
        guest_name: record.guest_name,
        target: record.target,
        protocol: record.protocol,
        initiator: record.device.initiator().as_str().to_owned(),
        device: record.device.host_path().map(|path| path.display().to_string()).unwrap_or_default(),
        identity: record.observed.identity,
        size_bytes: record.observed.size_bytes,
        tag: record.wishes.tag.unwrap_or_default(),
        encryption: record.encryption.map(|encryption| encryption.version.as_str().to_owned()).unwrap_or_default(),
        attached_at: time(record.attached_at_us),
        health,
    }
}
