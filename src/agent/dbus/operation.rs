//! `org.bowline.Operation1`: one operation, its progress and its end.

use super::{
    authority::{Action, Authority},
    error::MethodError,
};
use crate::agent::api::{AgentApi, OperationView, StepState};
use crate::model::{GuestUuid, VolumeId};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::watch;
use zbus::{Connection, Variant, interface, message::Header, object_server::SignalEmitter};

/// The object. It shows what was last published, so that properties never run ahead of their signals.
pub struct Operation {
    api: Arc<dyn AgentApi>,
    authority: Arc<Authority>,
    view: watch::Receiver<OperationView>,
}

impl Operation {
    /// An object that shows whatever `view` holds.
    pub const fn new(api: Arc<dyn AgentApi>, authority: Arc<Authority>, view: watch::Receiver<OperationView>) -> Self {
        Self { api, authority, view }
    }

    fn read<T>(&self, part: impl FnOnce(&OperationView) -> T) -> T {
        part(&self.view.borrow())
    }
}

/// One operation of the agent: an attach, a detach, an extend, a boot, a delete, a rebuild, a start, a stop or a snapshot, from its request
/// to its end.
#[interface(name = "org.bowline.Operation1")]
impl Operation {
    /// Asks the operation to stop.
    ///
    /// It ends "cancelled" once it is undone; a step that is under way is finished first. An operation that has ended
    /// answers org.bowline.Error.Conflict. polkit action: org.bowline.agent1.cancel.
    async fn cancel(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), MethodError> {
        self.authority.check(connection, &header, Action::Cancel).await?;
        let id = self.read(|view| view.id);
        Ok(self.api.cancel(id).await?)
    }

    /// Gives up an operation that is "stuck", and returns once it is "abandoned".
    ///
    /// Nothing of it is tried any more, other operations on its volume go on, and its ErrorMessage tells what is left behind. One
    /// that is not stuck answers org.bowline.Error.Conflict. polkit action: org.bowline.agent1.abandon.
    async fn abandon(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), MethodError> {
        self.authority.check(connection, &header, Action::Abandon).await?;
        let id = self.read(|view| view.id);
        Ok(self.api.abandon(id).await?)
    }

    /// The operation has ended: its last state, and the error's kind and message, both empty when it succeeded.
    ///
    /// The object stays for a while after the end, and across restarts of the agent.
    #[zbus(signal)]
    pub async fn finished(emitter: &SignalEmitter<'_>, state: &str, error_kind: &str, message: &str) -> zbus::Result<()>;

    /// UUID of the operation.
    #[zbus(property(emits_changed_signal = "const"))]
    fn id(&self) -> String {
        self.read(|view| view.id.to_string())
    }

    /// "attach", "detach", "extend", "boot", "delete", "rebuild", "start", "stop", "snapshot" or "fill".
    #[zbus(property(emits_changed_signal = "const"))]
    fn kind(&self) -> String {
        self.read(|view| view.kind.clone())
    }

    /// UUID of the volume; empty where it is a guest's as a whole.
    #[zbus(property(emits_changed_signal = "const"))]
    fn volume(&self) -> String {
        self.read(|view| volume_text(view.volume))
    }

    /// UUID of the guest; of an extend the first of the guests that have the volume, empty where none has it.
    #[zbus(property(emits_changed_signal = "const"))]
    fn guest(&self) -> String {
        self.read(|view| guest_text(view.guest))
    }

    /// The guest's name; of an extend the names of all of them.
    #[zbus(property(emits_changed_signal = "const"))]
    fn guest_name(&self) -> String {
        self.read(|view| view.guest_name.clone())
    }

    /// When it was asked for, microseconds since 1970-01-01 UTC.
    #[zbus(property(emits_changed_signal = "const"))]
    fn created_at(&self) -> u64 {
        self.read(|view| epoch_us(view.created_at))
    }

    /// "queued", "running", "unwinding", "succeeded", "failed", "cancelled", "stuck" or "abandoned"; the last
    /// five are final.
    ///
    /// Everything that moves together is told in one PropertiesChanged.
    #[zbus(property)]
    fn state(&self) -> String {
        self.read(|view| view.state.as_str().to_owned())
    }

    /// The steps in order: name, state ("pending", "started", "succeeded", "failed", "undone") and duration in
    /// microseconds, 0 until the step ended.
    #[zbus(property)]
    fn steps(&self) -> Vec<(String, String, u64)> {
        self.read(steps)
    }

    /// How many steps are done, and how many there are.
    #[zbus(property)]
    fn progress(&self) -> (u32, u32) {
        self.read(progress)
    }

    /// UUID of the image that a snapshot makes; empty for everything else.
    #[zbus(property(emits_changed_signal = "const"))]
    fn image(&self) -> String {
        self.read(|view| view.image.map(|image| image.to_string()).unwrap_or_default())
    }

    /// How far the step under way is with each disk, where that is known: the disk's target name ("image" for what is uploaded), what
    /// is done and what there is in all, in bytes, or 0 and 1 for what is one piece.
    #[zbus(property)]
    fn disks(&self) -> Vec<(String, u64, u64)> {
        self.read(disks)
    }

    /// What its end left otherwise than may be expected, one sentence each; of a delete the volumes that are kept though they were to go.
    #[zbus(property)]
    fn remarks(&self) -> Vec<String> {
        self.read(|view| view.remarks.clone())
    }

    /// From request to end in microseconds; 0 until it ended.
    #[zbus(property)]
    fn duration_us(&self) -> u64 {
        self.read(|view| view.duration_us)
    }

    /// Kind of the error, as "identity-mismatch"; empty while there is none.
    #[zbus(property)]
    fn error_kind(&self) -> String {
        self.read(error_kind)
    }

    /// What went wrong, with its causes; empty while nothing did.
    #[zbus(property)]
    fn error_message(&self) -> String {
        self.read(error_message)
    }

    /// What the operator can do about it; may be empty.
    #[zbus(property)]
    fn remedy(&self) -> String {
        self.read(remedy)
    }
}

/// The properties that differ, by name.
pub fn changes(old: &OperationView, new: &OperationView) -> HashMap<&'static str, Variant<'static>> {
    let mut changed = HashMap::new();
    let mut compare = |name: &'static str, differs: bool, value: Variant<'static>| {
        if differs {
            changed.insert(name, value);
        }
    };
    compare("State", old.state != new.state, new.state.as_str().into());
    compare("Steps", old.steps != new.steps, steps(new).into());
    compare("Progress", progress(old) != progress(new), progress(new).into());
    compare("Disks", old.disks != new.disks, disks(new).into());
    compare("Remarks", old.remarks != new.remarks, new.remarks.clone().into());
    compare("DurationUs", old.duration_us != new.duration_us, new.duration_us.into());
    compare("ErrorKind", error_kind(old) != error_kind(new), error_kind(new).into());
    compare("ErrorMessage", error_message(old) != error_message(new), error_message(new).into());
    compare("Remedy", remedy(old) != remedy(new), remedy(new).into());
    changed
}

/// Emits `Finished` for an operation that ended as `view` says.
pub async fn emit_finished(emitter: &SignalEmitter<'_>, view: &OperationView) -> zbus::Result<()> {
    Operation::finished(emitter, view.state.as_str(), &error_kind(view), &error_message(view)).await
}

/// A volume's UUID; empty for none.
pub fn volume_text(volume: VolumeId) -> String {
    if volume.0.is_nil() { String::new() } else { volume.to_string() }
}

/// A guest's UUID; empty for none.
pub fn guest_text(guest: GuestUuid) -> String {
    if guest.0.is_nil() { String::new() } else { guest.to_string() }
}

/// Microseconds since the epoch; a clock before 1970 reads as 0.
pub fn epoch_us(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |age| u64::try_from(age.as_micros()).unwrap_or(u64::MAX))
}

fn steps(view: &OperationView) -> Vec<(String, String, u64)> {
    view.steps.iter().map(|step| (step.name.clone(), step.state.as_str().to_owned(), step.duration_us)).collect()
}

fn disks(view: &OperationView) -> Vec<(String, u64, u64)> {
    view.disks.iter().map(|disk| (disk.disk.clone(), disk.done, disk.total)).collect()
}

fn progress(view: &OperationView) -> (u32, u32) {
    let done = view.steps.iter().filter(|step| step.state == StepState::Succeeded).count();
    (u32::try_from(done).unwrap_or(u32::MAX), u32::try_from(view.steps.len()).unwrap_or(u32::MAX))
}

fn error_kind(view: &OperationView) -> String {
    view.failure.as_ref().map_or_else(String::new, |failure| failure.kind.as_str().to_owned())
}

fn error_message(view: &OperationView) -> String {
    view.failure.as_ref().map_or_else(String::new, |failure| failure.message.clone())
}

fn remedy(view: &OperationView) -> String {
    view.failure.as_ref().map_or_else(String::new, |failure| failure.remedy.clone())
}
