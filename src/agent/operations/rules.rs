//! What holds for each kind of operation while it is carried out: what it locks, whether it is undone, how far it may fail, how long a step may take.

use super::{Shared, boot, locks::Key};
use crate::agent::journal::{Step, Task};
use std::time::Duration;

/// Bounds no fill that there is: a year.
const FILL_LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// What nobody else may have meanwhile.
pub(super) fn lock_key(task: &Task) -> Key {
    match task {
        // A guest that takes its time to shut down, or never does, is what it is for.
        Task::Stop(task) if task.force => Key::Power(task.guest),
        Task::Boot(_)
        | Task::Delete(_)
        | Task::Rebuild(_)
        | Task::Reimage(_)
        | Task::Rescue(_)
        | Task::Unrescue(_)
        | Task::Start(_)
        | Task::Stop(_)
        | Task::Snapshot(_) => Key::Instance(task.guest()),
        Task::Fill(task) => Key::Fill(task.guest),
        task => Key::Volume(task.volume()),
    }
}

/// Whether it is taken back, step by step, when it fails or is cancelled. The others are gone on with, once they have begun.
pub(super) fn is_undone(task: &Task) -> bool {
    match task {
        Task::Attach(_) | Task::Boot(_) | Task::Rebuild(_) | Task::Reimage(_) | Task::Rescue(_) | Task::Snapshot(_) => true,
        Task::Detach(_)
        | Task::Extend(_)
        | Task::Delete(_)
        | Task::Unrescue(_)
        | Task::Start(_)
        | Task::Stop(_)
        | Task::Fill(_) => false,
    }
}

/// Whether a cancellation is heard before a step.
pub(super) enum Hears {
    Yes,
    /// And none after: what is asked for from here on comes too late.
    LastTime,
    No,
}

pub(super) fn hears_cancel(task: &Task, step: Step, is_last: bool) -> Hears {
    match (task, step) {
        (Task::Rebuild(_), Step::ReplaceRoot) => Hears::LastTime,
        (Task::Rebuild(_), Step::MakeDisks) => Hears::Yes,
        (Task::Reimage(_), Step::RequestReimage) => Hears::LastTime,
        (Task::Reimage(_), Step::CreateAttachment | Step::DetachVolumes) => Hears::Yes,
        (Task::Rebuild(_) | Task::Reimage(_), _) => Hears::No,
        (task, _) if !is_undone(task) => Hears::No,
        _ if is_last => Hears::LastTime,
        _ => Hears::Yes,
    }
}

/// Whether a cancellation is heard in the midst of it: it may take an hour, and its undoing finds whatever it left.
pub(super) fn may_be_cut(task: &Task, step: Step) -> bool {
    is_undone(task) && matches!(step, Step::MakeDisks | Step::CreateVolumes)
}

/// Up to here nothing was done that cannot be taken back.
pub(super) fn may_fail_at(task: &Task, step: Step) -> bool {
    match task {
        Task::Attach(_) | Task::Boot(_) | Task::Rescue(_) | Task::Start(_) | Task::Stop(_) => true,
        Task::Detach(_) => step == Step::DetachDisk,
        Task::Delete(_) => step == Step::StopGuest,
        Task::Rebuild(_) | Task::Unrescue(_) => step != Step::RemoveDisks,
        Task::Reimage(_) => !matches!(step, Step::ReimageVolume | Step::GiveDisks),
        Task::Snapshot(_) => step != Step::RemoveCapture,
        Task::Extend(_) => step == Step::ExtendVolume,
        Task::Fill(_) => false,
    }
}

/// The most that a step may take. What the service may take to extend a volume comes on top: it is waited for before it is asked and
/// after.
pub(super) fn limit(shared: &Shared, task: &Task, step: Step) -> Duration {
    let service = match step {
        Step::ExtendVolume => shared.extend_timeout * 2,
        Step::GrowDevice => shared.extend_timeout,
        Step::MakeDisks | Step::CaptureDisk | Step::UploadImage => shared.download_timeout,
        Step::CreateVolumes | Step::SnapshotVolumes | Step::ReimageVolume => shared.create_timeout,
        Step::DeleteVolumes => shared.delete_timeout,
        // Each of their operations' steps has the same bound.
        Step::GiveDisks | Step::DetachVolumes => shared.step_timeout.saturating_mul(boot::steps_within(task)),
        // As long as the image service, or the guest's own I/O, takes: what is silent for too long is told by those.
        Step::FetchImage | Step::CompleteDisks => FILL_LIMIT,
        _ => Duration::ZERO,
    };
    shared.step_timeout + service
}
