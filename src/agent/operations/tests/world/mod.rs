//! A simulated world: a volume service, a host and a hypervisor in memory, which can fail, lose an answer, hang or stop dead at
//! any call, and which watch that nothing forbidden ever happens.

mod host;
mod hypervisor;
mod images;
mod service;
mod truth;

pub use hypervisor::is_rescue;

use crate::agent::api::StepState;
use crate::agent::journal::{Memory, OperationRecord, Step, faulty};
use crate::agent::operations::Shared;
use crate::agent::operations::ports::{GuestFacts, PortError, PortResult};
use crate::model::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, Weak},
    time::Duration,
};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// After so long a part gives up by itself.
const DEADLINE: Duration = Duration::from_secs(3600);

/// What goes wrong at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is refused; nothing was done.
    Refused,
    /// It is done, but the answer is lost.
    AnswerLost,
    /// The agent dies before it is done.
    DiesBefore,
    /// The agent dies after it is done, before it knows.
    DiesAfter,
    /// Nothing is done, and there is never an answer.
    HangsBefore,
    /// It is done, and there is never an answer.
    HangsAfter,
    /// It is done, and from now on the journal cannot be written.
    JournalFull,
}

#[derive(Debug, Clone, Default)]
pub struct State {
    pub volumes: BTreeMap<VolumeId, Volume>,
    /// Those that were there before the agent came.
    pub original: BTreeSet<VolumeId>,
    pub attachments: BTreeMap<AttachmentId, (VolumeId, GuestUuid, AttachmentStatus)>,
    pub connected: BTreeSet<VolumeId>,
    /// Which volume is behind which LUN; a number that is free again is given to the next.
    pub luns: BTreeMap<u64, VolumeId>,
    /// The LUN that a guest's disk leads to.
    pub guest_luns: BTreeMap<(GuestUuid, VolumeId), u64>,
    /// What is connected under a volume's name and is another one.
    pub impostors: BTreeMap<VolumeId, VolumeId>,
    /// The target shows another volume than was asked for.
    pub misleads: bool,
    /// A device says of itself what it is expected to say, whatever it is.
    pub lies: bool,
    /// A call that is said to be done, and does nothing.
    pub shirked: Option<&'static str>,
    pub guests: BTreeMap<GuestUuid, GuestFacts>,
    pub secrets: BTreeSet<Uuid>,
    /// Those that are defined and have no value.
    pub unset_secrets: BTreeSet<Uuid>,
    pub own_names: Vec<OwnName>,
    /// They are told only once this is closed.
    pub own_names_held: Option<Arc<Semaphore>>,
    /// What the host has seen of each volume's size, bytes.
    pub host_bytes: BTreeMap<VolumeId, u64>,
    /// What each running guest is given, bytes.
    pub guest_bytes: BTreeMap<(GuestUuid, VolumeId), u64>,
    /// Calls that change something, so far.
    pub calls: usize,
    pub names: Vec<&'static str>,
    /// What the agent was at, call by call.
    pub at: Vec<Option<At>>,
    pub fault: Option<(usize, Fault)>,
    /// More of them, by the call that they strike.
    pub faults: BTreeMap<usize, Fault>,
    /// How often it was asked something that changes nothing, where tests ask for that.
    pub questions: usize,
    /// A second one, that strikes what comes of the first.
    pub second_fault: Option<(usize, Fault)>,
    /// Calls that are refused as long as they are named here.
    pub refused: BTreeSet<&'static str>,
    /// Calls that are never answered, and do nothing, as long as they are named here.
    pub hanging: BTreeSet<&'static str>,
    /// The agent has been stopped at a call.
    pub dead: bool,
    pub wrong_serial: bool,
    /// The volume is encrypted: a disk has two secrets.
    pub encrypted: bool,
    /// libvirtd does not answer.
    pub hypervisor_away: bool,
    /// Where a guest's disk leads, where that is not to its volume.
    pub leads_elsewhere: Option<String>,
    /// Ephemeral disks of this host, by their target names.
    pub files: BTreeSet<String>,
    /// What a look at the host's stores of them finds.
    pub stored: Vec<Stored>,
    /// Words that guests have in their definitions, and those guests.
    pub mentions: BTreeMap<String, String>,
    /// Those whose image still comes.
    pub coming: BTreeSet<String>,
    /// Ephemeral disks of the guest's definition.
    pub defined: BTreeSet<String>,
    /// Guests that a boot defined, and their marks.
    pub marks: BTreeMap<GuestUuid, Uuid>,
    /// Guests whose memory was saved.
    pub saved: BTreeSet<GuestUuid>,
    /// Guests that were paused.
    pub suspended: BTreeSet<GuestUuid>,
    /// How often guests were started: their id alone is always the same.
    pub starts: u64,
    /// Images prove to be damaged.
    pub damages: bool,
    /// Guests that start with the host.
    pub autostart: BTreeSet<GuestUuid>,
    /// Guests that are asked to let a disk go do not answer.
    pub ignores_unplug: bool,
    /// Guests do not mind the power button.
    pub ignores_shutdown: bool,
    /// Somebody starts the guest while its disks are made.
    pub started_meanwhile: bool,
    /// The guest's filesystems stand still.
    pub frozen: bool,
    /// A guest that cannot be frozen is caught as it runs.
    pub may_run_on: bool,
    /// A disk of the guest is being copied.
    pub backup: bool,
    /// What was caught of disks.
    pub captures: BTreeSet<ImageId>,
    /// Images, and whether they are whole.
    pub images: BTreeMap<ImageId, bool>,
    /// Images that were written over volumes, or were begun to be, in turn.
    pub written: Vec<(VolumeId, ImageId)>,
    /// So many more of them end in an error.
    pub spoils: usize,
    /// They are refused.
    pub refuses_images: bool,
    /// The service is too old for that.
    pub cannot_reimage: bool,
    /// Snapshots of volumes.
    pub snapshots: BTreeMap<SnapshotId, (VolumeId, String)>,
    /// The folder of the agent's journal.
    pub journal: std::path::PathBuf,
    /// What must never happen and did.
    pub crimes: Vec<String>,
}

#[derive(Clone, Default)]
pub struct World {
    pub state: Arc<Mutex<State>>,
    pub died: Arc<tokio::sync::Notify>,
    /// What was never answered is given up.
    pub healed: Arc<tokio::sync::Notify>,
    /// The kernel lets go of a call that was begun before.
    pub late_call: Arc<tokio::sync::Notify>,
    /// Whose world it is now, to tell what it was at when it called.
    pub agent: Arc<Mutex<Weak<Shared>>>,
    /// Where its agents have their journal, where that is no file.
    pub memory: Option<Memory>,
}

/// What an agent was at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    pub kind: &'static str,
    pub step: Step,
    pub undoing: bool,
}

impl At {
    fn of(record: &OperationRecord) -> Option<Self> {
        let undoing = record.cause.is_some();
        let is_begun = |state| state != StepState::Pending && !(undoing && state == StepState::Undone);
        let step = record.steps.iter().rfind(|step| is_begun(step.state))?.step;
        Some(Self { kind: record.task.kind(), step, undoing })
    }
}

pub fn volume_id() -> VolumeId {
    VolumeId(Uuid::from_u128(0xa1))
}

pub fn image_id() -> ImageId {
    ImageId(Uuid::from_u128(0xd4))
}

pub fn guest_uuid() -> GuestUuid {
    GuestUuid(Uuid::from_u128(0xb2))
}

impl World {
    pub fn new() -> Self {
        let world = Self::default();
        {
            let mut state = world.state.lock().unwrap();
            let volume = Volume {
                id: volume_id(),
                name: "data".into(),
                size_gib: 1,
                status: "available".into(),
                multiattach: false,
                bootable: false,
                encrypted: false,
                volume_type: None,
                created_at: String::new(),
                attachments: vec![],
            };
            state.original.insert(volume.id);
            state.volumes.insert(volume.id, volume);
            let guest = GuestFacts {
                uuid: guest_uuid(),
                name: "guest-1".into(),
                active: true,
                run: None,
                persistent: true,
                memory_mib: Some(96),
                disks: vec![],
            };
            let second = GuestFacts { uuid: GuestUuid(Uuid::from_u128(0xb3)), name: "guest-2".into(), ..guest.clone() };
            state.guests.insert(guest.uuid, guest);
            state.guests.insert(second.uuid, second);
        }
        world
    }

    /// What the agent is at: of operations that wait for others, those others' step.
    fn at(&self) -> Option<At> {
        let shared = self.agent.lock().unwrap().upgrade()?;
        let records = shared.registry.records();
        records.iter().rev().filter(|record| !record.state.is_over()).find_map(At::of)
    }

    /// A call that changes something: counted, and struck by the fault that was laid for it.
    async fn change<T>(&self, name: &'static str, effect: impl FnOnce(&mut State) -> PortResult<T>) -> PortResult<T> {
        // Nothing is done by an agent that is dead, whatever else it was at.
        let is_dead = self.state.lock().unwrap().dead;
        if is_dead {
            return std::future::pending().await;
        }
        let refused = || Err(PortError::new(ErrorKind::Unavailable, format!("{name} refused")));
        // It costs, and a world of the histories asks for none.
        let at = if self.memory.is_none() { self.at() } else { None };
        let answer = {
            let mut state = self.state.lock().unwrap();
            state.at.push(at);
            let fault = state.strikes(name);
            let is_done = !matches!(fault, Some(Fault::Refused | Fault::DiesBefore | Fault::HangsBefore));
            let result = match is_done {
                true if state.shirked == Some(name) => effect(&mut state.clone()),
                true => effect(&mut state),
                false => refused(),
            };
            state.watch();
            state.dead |= matches!(fault, Some(Fault::DiesBefore | Fault::DiesAfter));
            match fault {
                None | Some(Fault::Refused) => Some(result),
                Some(Fault::JournalFull) => {
                    match &self.memory {
                        Some(memory) => memory.set_full(true),
                        None => faulty::lay(&state.journal, Some(faulty::Fault::Full)),
                    }
                    Some(result)
                }
                Some(Fault::AnswerLost) => {
                    let message = format!("the answer to {name} was lost");
                    Some(Err(PortError { kind: ErrorKind::Timeout, message, outcome_unknown: true }))
                }
                Some(Fault::DiesBefore | Fault::DiesAfter) => {
                    self.died.notify_one();
                    None
                }
                Some(Fault::HangsBefore | Fault::HangsAfter) => None,
            }
        };
        match answer {
            Some(answer) => answer,
            // Every part has a deadline of its own, at long last.
            None => {
                let _ = tokio::time::timeout(DEADLINE, self.healed.notified()).await;
                Err(PortError { kind: ErrorKind::Timeout, message: "no answer".into(), outcome_unknown: true })
            }
        }
    }
}

impl State {
    /// Counts a call, and tells what befalls it.
    fn strikes(&mut self, name: &'static str) -> Option<Fault> {
        let call = self.calls;
        self.calls += 1;
        self.names.push(name);
        if self.refused.contains(name) {
            return Some(Fault::Refused);
        }
        if self.hanging.contains(name) {
            return Some(Fault::HangsBefore);
        }
        if let Some(fault) = self.faults.remove(&call) {
            return Some(fault);
        }
        [self.fault, self.second_fault].into_iter().flatten().find(|(at, _)| *at == call).map(|(_, fault)| fault)
    }
}

fn not_found(what: &str) -> PortError {
    PortError::new(ErrorKind::NotFound, format!("no {what}"))
}
