//! A pretended agent. What a volume is called decides what becomes of it:
//!
//! - `fail-<kind>`: the operation fails with that kind at its second step and is undone
//! - `refuse-<kind>`: the request is refused with that kind
//! - `held`: each step waits until the test lets it go, or the operation is cancelled
//! - `absent`: there is no such volume
//! - anything else: it succeeds

use async_trait::async_trait;
use bowline::{
    agent::api::*,
    model::{
        AttachmentId, DeviceIdentity, Difference, ErrorKind, Finding, GuestUuid, Mending, NewVolume, OperationId, Verdict,
        Volume, VolumeId,
    },
};
use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::sync::{Notify, Semaphore, broadcast};
use uuid::Uuid;

/// The volume whose operations wait for the test.
pub const HELD: &str = "held";

const STEPS: [&str; 3] = ["CreateAttachment", "ConnectVolume", "AttachDisk"];

/// Small, so that a test can make receivers lag.
const EVENTS: usize = 16;

pub struct FakeAgent {
    state: Mutex<State>,
    events: broadcast::Sender<AgentEvent>,
    /// One permit lets one held step go.
    pub gate: Semaphore,
    cancelled: Notify,
    deaf: AtomicBool,
    me: std::sync::Weak<Self>,
}

#[derive(Default)]
struct State {
    operations: Vec<OperationView>,
    attachments: Vec<AttachmentView>,
    requests: Vec<Request>,
    created: Vec<NewVolume>,
    cancels: usize,
}

/// The id that stands for a volume's name.
pub fn volume_id(name: &str) -> VolumeId {
    VolumeId(Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()))
}

impl FakeAgent {
    pub fn new() -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            state: Mutex::default(),
            events: broadcast::Sender::new(EVENTS),
            gate: Semaphore::new(0),
            cancelled: Notify::new(),
            deaf: AtomicBool::new(false),
            me: me.clone(),
        })
    }

    /// The requests that were taken up.
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// The volumes that were made.
    pub fn created(&self) -> Vec<NewVolume> {
        self.state().created.clone()
    }

    /// How often a cancellation was asked for.
    pub fn cancels(&self) -> usize {
        self.state().cancels
    }

    /// Takes cancellations and does nothing about them, as while a long step is under way.
    pub fn ignore_cancels(&self) {
        self.deaf.store(true, Ordering::Relaxed);
    }

    /// Forgets the finished operations.
    pub fn forget(&self, id: OperationId) {
        self.state().operations.retain(|view| view.id != id);
        self.tell(AgentEvent::OperationForgotten(id));
    }

    /// Puts finished operations there in one go, more than the event channel holds.
    pub fn flood(&self, count: usize) {
        for _ in 0..count {
            let view = OperationView { state: OperationState::Succeeded, ..view("attach", "flood") };
            let id = view.id;
            self.state().operations.push(view);
            self.tell(AgentEvent::Operation(id));
        }
    }

    /// A volume's storage goes away.
    pub fn lose(&self, volume: &str) {
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_002);
        let fault = FaultView { part: "10.0.0.1:3260".into(), problem: "it does not answer".into(), since };
        let mut state = self.state();
        let attachment = state.attachments.iter_mut().find(|entry| entry.volume == volume_id(volume)).unwrap();
        attachment.health = HealthView { state: HealthState::Lost, since, faults: vec![fault] };
        let id = attachment.id;
        drop(state);
        self.tell(AgentEvent::Attachment(id));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn tell(&self, event: AgentEvent) {
        let _ = self.events.send(event);
    }

    fn change(&self, id: OperationId, change: impl FnOnce(&mut OperationView)) {
        if let Some(view) = self.state().operations.iter_mut().find(|view| view.id == id) {
            change(view);
        }
        self.tell(AgentEvent::Operation(id));
    }

    async fn work(self: Arc<Self>, id: OperationId, volume: String) {
        self.change(id, |view| view.state = OperationState::Running);
        for index in 0..STEPS.len() {
            self.change(id, |view| view.steps[index].state = StepState::Started);
            if volume == HELD {
                tokio::select! {
                    permit = self.gate.acquire() => permit.unwrap().forget(),
                    () = self.cancelled.notified() => return self.unwind(id, index, OperationState::Cancelled, ErrorKind::Cancelled),
                }
            }
            if index == 1
                && let Some(kind) = volume.strip_prefix("fail-")
            {
                let kind = ErrorKind::from_word(kind);
                let state = if kind == ErrorKind::Stuck { OperationState::Stuck } else { OperationState::Failed };
                return self.unwind(id, index, state, kind);
            }
            self.change(id, |view| {
                view.steps[index].state = StepState::Succeeded;
                view.steps[index].duration_us = 41_250;
            });
        }
        let view = self.operation(id).unwrap();
        if view.kind == "attach" {
            let attachment = attachment(&view);
            let id = attachment.id;
            self.state().attachments.push(attachment);
            self.tell(AgentEvent::Attachment(id));
        } else if view.kind == "detach" {
            let gone: Vec<_> = self.attachments().into_iter().filter(|entry| entry.volume == view.volume).collect();
            self.state().attachments.retain(|entry| entry.volume != view.volume);
            gone.into_iter().for_each(|entry| self.tell(AgentEvent::AttachmentGone(entry.id)));
        }
        self.change(id, |view| {
            view.state = OperationState::Succeeded;
            view.duration_us = 113_000;
        });
    }

    fn unwind(&self, id: OperationId, at: usize, end: OperationState, kind: ErrorKind) {
        self.change(id, |view| {
            view.state = OperationState::Unwinding;
            view.steps[at].state = StepState::Failed;
            view.steps[at].duration_us = 3_100;
        });
        for index in (0..at).rev().filter(|_| end != OperationState::Stuck) {
            self.change(id, |view| view.steps[index].state = StepState::Undone);
        }
        self.change(id, |view| {
            view.state = end;
            view.duration_us = 50_000;
            view.failure =
                Some(Failure { kind, message: format!("the target said {kind}"), remedy: "look at the target".into() });
        });
    }
}

#[async_trait]
impl AgentApi for FakeAgent {
    async fn submit(&self, request: Request) -> Result<OperationId, ApiError> {
        let volume = volume_of(&request)?;
        let running = |view: &&OperationView| view.volume == volume_id(&volume) && !view.state.is_final();
        if let Some(view) = self.state().operations.iter().find(running) {
            return Ok(view.id);
        }
        let view = view(request.kind(), &volume);
        let id = view.id;
        let mut state = self.state();
        state.operations.push(view);
        state.requests.push(request);
        drop(state);
        self.tell(AgentEvent::Operation(id));
        tokio::spawn(self.me.upgrade().unwrap().work(id, volume));
        Ok(id)
    }

    async fn dry_run(&self, request: Request) -> Result<Plan, ApiError> {
        let volume = volume_of(&request)?;
        let view = view(request.kind(), &volume);
        Ok(Plan {
            kind: view.kind,
            volume: view.volume,
            guest: view.guest,
            guest_name: view.guest_name,
            steps: STEPS.map(|name| PlannedStep { name: name.into(), description: format!("{name} of {volume}") }).into(),
        })
    }

    async fn cancel(&self, operation: OperationId) -> Result<(), ApiError> {
        match self.operation(operation) {
            None => Err(ApiError::new(ErrorKind::NotFound, "no such operation")),
            Some(view) if view.state.is_final() => Err(ApiError::new(ErrorKind::Conflict, "it has ended")),
            Some(_) => {
                self.state().cancels += 1;
                if !self.deaf.load(Ordering::Relaxed) {
                    self.cancelled.notify_one();
                }
                Ok(())
            }
        }
    }

    async fn abandon(&self, operation: OperationId) -> Result<(), ApiError> {
        match self.operation(operation) {
            None => Err(ApiError::new(ErrorKind::NotFound, "no such operation")),
            Some(view) if view.state != OperationState::Stuck => {
                Err(ApiError::new(ErrorKind::Conflict, "only what is stuck can be given up"))
            }
            Some(_) => {
                self.change(operation, |view| {
                    view.state = OperationState::Abandoned;
                    let (kind, message) = (ErrorKind::Stuck, "left behind: a session".to_owned());
                    view.failure = Some(Failure { kind, message, remedy: "log out by hand".into() });
                });
                Ok(())
            }
        }
    }

    fn operations(&self) -> Vec<OperationView> {
        self.state().operations.clone()
    }

    fn operation(&self, operation: OperationId) -> Option<OperationView> {
        self.state().operations.iter().find(|view| view.id == operation).cloned()
    }

    fn attachments(&self) -> Vec<AttachmentView> {
        self.state().attachments.clone()
    }

    fn events(&self) -> broadcast::Receiver<AgentEvent> {
        self.events.subscribe()
    }

    async fn volumes(&self) -> Result<Vec<Volume>, ApiError> {
        Ok(vec![volume("one", 1), volume("steer\u{1b}[2Jer", 2)])
    }

    async fn volume(&self, name_or_id: &str) -> Result<Volume, ApiError> {
        if name_or_id == "one" || name_or_id == volume_id("one").to_string() {
            return Ok(volume("one", 1));
        }
        Err(ApiError::new(ErrorKind::NotFound, format!("no volume {name_or_id}")))
    }

    async fn create_volume(&self, new: NewVolume) -> Result<Volume, ApiError> {
        self.state().created.push(new.clone());
        Ok(Volume { volume_type: new.volume_type, ..volume(&new.name, new.size_gib) })
    }

    async fn delete_volume(&self, name_or_id: &str) -> Result<(), ApiError> {
        self.volume(name_or_id).await.map(|_| ())
    }

    async fn examine(&self) -> Vec<Finding> {
        vec![
            Finding::ok("agent", "bowlined", "running"),
            Finding::new("cloud", "volume service", Verdict::Failure, "it is away", "start it"),
        ]
    }

    async fn adopt(&self, volume: &str, guest: &str) -> Result<Adopted, ApiError> {
        if volume != "one" {
            return Err(ApiError::new(ErrorKind::NotFound, format!("guest {guest} has no disk of volume {volume}")));
        }
        let attachment = attachment(&view("adopt", volume));
        let id = attachment.id;
        self.state().attachments.push(attachment);
        self.tell(AgentEvent::Attachment(id));
        Ok(Adopted { attachment: id, remark: "attach it anew before a reboot".into() })
    }

    async fn check(&self, repair: bool) -> Result<Vec<Difference>, ApiError> {
        Ok(vec![Difference {
            area: "host".into(),
            volume: Some(volume_id("one")),
            guest: "guest-1".into(),
            found: "the device is gone".into(),
            meaning: "no I/O".into(),
            remedy: "bowline fsck --repair".into(),
            mending: if repair { Mending::Done } else { Mending::Possible },
        }])
    }
}

fn volume_of(request: &Request) -> Result<String, ApiError> {
    let volume = match request {
        Request::Attach(request) => request.volume.clone(),
        Request::Detach(request) => request.volume.clone(),
        Request::Extend(request) => request.volume.clone(),
        // Refused by its guest's name, as the others by their volume's.
        Request::Boot(request) => request.guest.clone(),
        Request::Delete(request) => request.guest.clone(),
        Request::Rebuild(request) => request.guest.clone(),
        Request::Rescue(request) => request.guest.clone(),
        Request::Unrescue(request) => request.guest.clone(),
        Request::Start(request) => request.guest.clone(),
        Request::Stop(request) => request.guest.clone(),
        Request::Snapshot(request) => request.guest.clone(),
    };
    match volume.strip_prefix("refuse-") {
        Some(kind) => Err(ApiError::new(ErrorKind::from_word(kind), format!("refused as {kind}"))),
        None if volume == "absent" => Err(ApiError::new(ErrorKind::NotFound, "no volume absent")),
        None => Ok(volume),
    }
}

fn view(kind: &str, volume: &str) -> OperationView {
    OperationView {
        id: OperationId::random(),
        kind: kind.into(),
        volume: volume_id(volume),
        guest: GuestUuid(Uuid::new_v5(&Uuid::NAMESPACE_OID, b"guest")),
        guest_name: "guest".into(),
        state: OperationState::Queued,
        steps: STEPS.map(|name| StepView { name: name.into(), state: StepState::Pending, duration_us: 0 }).into(),
        created_at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        duration_us: 0,
        failure: None,
        image: None,
        remarks: vec![],
        disks: vec![],
    }
}

fn attachment(operation: &OperationView) -> AttachmentView {
    AttachmentView {
        id: AttachmentId(Uuid::new_v4()),
        volume: operation.volume,
        guest: operation.guest,
        guest_name: operation.guest_name.clone(),
        target: "vdb".into(),
        protocol: "iscsi".into(),
        initiator: "kernel".into(),
        device: "/dev/sda".into(),
        identity: DeviceIdentity { serial: Some("S1".into()), wwids: vec!["naa.6001405".into()] },
        size_bytes: 2 << 30,
        tag: String::new(),
        encryption: String::new(),
        attached_at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_001),
        health: HealthView::default(),
    }
}

fn volume(name: &str, size_gib: u64) -> Volume {
    Volume {
        id: volume_id(name),
        name: name.into(),
        size_gib,
        status: "available".into(),
        multiattach: false,
        bootable: false,
        encrypted: false,
        volume_type: None,
        created_at: "2026-01-02T03:04:05.000000".into(),
        attachments: vec![],
    }
}
