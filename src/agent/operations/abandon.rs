//! Giving up: an operation that can be neither finished nor undone is let go of by an operator, who is told what it leaves behind.
//!
//! ```text
//! Stuck --a try works--> as if it never was
//!   \----abandoned-----> Abandoned (journalled; recovery leaves it alone; the volume is free for other operations)
//! ```
//! A try that is under way is not cut: it ends by its own deadlines, and then the operation does.
//!
//! An attach whose guest may have the disk leaves it recorded as attached: nothing then takes the device away under that guest, and
//! an ordinary detach clears all of it.

use super::{ending, ports::PortError, remedy, rules};
use crate::agent::api::{Failure, StepState};
use crate::agent::journal::{AttachmentRecord, Change, OperationRecord, Step, StepRecord, Task};
use crate::model::ErrorKind;

/// What an operator is told of an operation that was given up.
pub(super) fn told(record: &OperationRecord) -> Failure {
    let left: Vec<Step> = steps_left(record);
    let behind: Vec<_> = left.iter().map(|step| remedy::left_behind(*step, record)).collect();
    let behind = if behind.is_empty() { "nothing that is known".to_owned() } else { behind.join("; ") };
    let why = record.failure.as_ref().map(|failure| format!(" (it was stuck: {})", failure.message)).unwrap_or_default();
    let by_hand: Vec<_> = match kept(record) {
        Some(_) => vec![format!(
            "it stays listed as attached: bowline detach {} {} clears it all",
            record.task.volume(),
            record.task.guest_name()
        )],
        None => left.iter().filter_map(|step| remedy::by_hand(*step, record)).collect(),
    };
    Failure {
        kind: ErrorKind::Stuck,
        message: format!("given up by request; left behind: {behind}{why}"),
        remedy: by_hand.join("; "),
    }
}

/// The steps whose traces may be there.
fn steps_left(record: &OperationRecord) -> Vec<Step> {
    let left = |state: StepState| match rules::is_undone(&record.task) {
        true => !matches!(state, StepState::Pending | StepState::Undone),
        false => state != StepState::Succeeded,
    };
    let steps = record.steps.iter().filter(|step| left(step.state)).map(|step| step.step);
    // An attachment is deleted as a whole, and a look leaves nothing.
    let mut steps: Vec<Step> =
        steps.filter(|step| !matches!(step, Step::UpdateAttachment | Step::VerifyDevice | Step::CompleteAttachment)).collect();
    // A volume that is being written over was taken from its guest, and is told of once.
    if steps.contains(&Step::ReimageVolume) {
        steps.retain(|step| !matches!(step, Step::DetachVolumes | Step::RequestReimage));
    }
    steps
}

/// What becomes of what is attached. A guest that has let go of a disk is not connected for again; one that may have a disk keeps
/// it.
pub(super) fn change(record: &OperationRecord) -> Option<Change> {
    match &record.task {
        Task::Attach(_) => kept(record).map(|attachment| Change::PutAttachment(Box::new(attachment))),
        Task::Detach(task) => has_let_go(record).then_some(Change::DropAttachment(task.volume, task.guest)),
        // What is left of a boot is told; a guest whose delete was given up can be deleted again.
        Task::Extend(_)
        | Task::Boot(_)
        | Task::Delete(_)
        | Task::Rebuild(_)
        | Task::Reimage(_)
        | Task::Rescue(_)
        | Task::Unrescue(_)
        | Task::Start(_)
        | Task::Stop(_)
        | Task::Snapshot(_)
        | Task::Fill(_) => None,
    }
}

/// It is a detach whose guest has let go.
pub(super) fn has_let_go(record: &OperationRecord) -> bool {
    matches!(record.task, Task::Detach(_))
        && record.steps.iter().any(|step| step.step == Step::DetachDisk && step.state == StepState::Succeeded)
}

/// What an attach leaves with its guest, perhaps.
fn kept(record: &OperationRecord) -> Option<AttachmentRecord> {
    let may_have =
        |step: &StepRecord| step.step == Step::AttachDisk && !matches!(step.state, StepState::Pending | StepState::Undone);
    record.steps.iter().any(may_have).then(|| ending::attachment_record(record)).flatten()
}

/// Names the secrets that libvirt could not be made to forget.
pub(super) fn tell_secrets(failure: &mut Failure, record: &OperationRecord, why: &PortError) {
    let facts = &record.facts;
    let secrets = facts.secret.into_iter().chain(facts.encryption.map(|encryption| encryption.secret));
    let secrets: Vec<_> = secrets.map(|secret| secret.to_string()).collect();
    failure.message = format!("{}; libvirt may still hold secret {}: {why}", failure.message, secrets.join(", "));
    for secret in secrets {
        failure.remedy = format!("{}; virsh secret-undefine {secret}", failure.remedy);
    }
}

#[cfg(test)]
mod tests {
    use super::super::executor::new_record;
    use super::*;
    use crate::agent::journal::DetachTask;
    use crate::model::{GuestUuid, VolumeId};
    use uuid::Uuid;

    #[test]
    fn what_is_left_of_a_detach_is_named_with_what_to_do_and_only_that() {
        let task = DetachTask { volume: VolumeId(Uuid::nil()), guest: GuestUuid(Uuid::nil()), guest_name: "g".into() };
        let mut record = new_record(Task::Detach(task));
        assert!(change(&record).is_none(), "the guest has the disk");
        for step in &mut record.steps[..2] {
            step.state = StepState::Succeeded;
        }
        record.facts.attachment = Some(crate::model::AttachmentId(Uuid::from_u128(7)));
        let told = told(&record);
        assert!(told.message.contains("still has attachment 00000000-0000-0000-0000-000000000007"), "{told:?}");
        assert!(!told.message.contains("still connected"), "{told:?}");
        assert!(told.remedy.contains("openstack volume attachment delete"), "{told:?}");
        assert!(matches!(change(&record), Some(Change::DropAttachment(..))));
    }
}
