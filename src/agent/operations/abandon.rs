//! Giving up: an operation that can be neither finished nor undone is let go of by an operator, who is told what it leaves behind.
//!
//! ```text
//! Stuck --a try works--> as if it never was
//!   \----abandoned-----> Abandoned (journalled; recovery leaves it alone; the volume is free for other operations)
//! ```
//! A try that is under way is not cut: it ends by its own deadlines, and then the operation does.

use super::remedy;
use crate::agent::api::{Failure, StepState};
use crate::agent::journal::{Change, OperationRecord, Step, Task};
use crate::model::ErrorKind;

/// What an operator is told of an operation that was given up.
pub(super) fn told(record: &OperationRecord) -> Failure {
    let left: Vec<Step> = steps_left(record);
    let behind: Vec<_> = left.iter().map(|step| remedy::left_behind(*step, record)).collect();
    let behind = if behind.is_empty() { "nothing that is known".to_owned() } else { behind.join("; ") };
    let why = record.failure.as_ref().map(|failure| format!(" (it was stuck: {})", failure.message)).unwrap_or_default();
    let by_hand: Vec<_> = left.iter().filter_map(|step| remedy::by_hand(*step, record)).collect();
    Failure {
        kind: ErrorKind::Stuck,
        message: format!("given up by request; left behind: {behind}{why}"),
        remedy: by_hand.join("; "),
    }
}

/// The steps whose traces may be there.
fn steps_left(record: &OperationRecord) -> Vec<Step> {
    let left = |state: StepState| match record.task {
        Task::Attach(_) => !matches!(state, StepState::Pending | StepState::Undone),
        Task::Detach(_) | Task::Extend(_) => state != StepState::Succeeded,
    };
    let steps = record.steps.iter().filter(|step| left(step.state)).map(|step| step.step);
    // An attachment is deleted as a whole, and a look leaves nothing.
    steps.filter(|step| !matches!(step, Step::UpdateAttachment | Step::VerifyDevice | Step::CompleteAttachment)).collect()
}

/// What becomes of what is attached. A guest that has let go of a disk is not connected for again.
pub(super) fn change(record: &OperationRecord) -> Option<Change> {
    let Task::Detach(task) = &record.task else { return None };
    let has_let_go = record.steps.iter().any(|step| step.step == Step::DetachDisk && step.state == StepState::Succeeded);
    has_let_go.then_some(Change::DropAttachment(task.volume, task.guest))
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
