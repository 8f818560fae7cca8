//! Making a guest's root disk anew of an image: the same guest, with all its other disks. Where it is a volume, [`super::reimage`] has it
//! done.
//!
//! ```text
//! MakeDisks -> ReplaceRoot -> RemoveDisks
//!     \____________/              \ the root that was: tried until it is gone
//!      undone in reverse: until then the guest has the root that it had
//! ```
//! The new disk is made beside the old one, under a name of its own, so that a rebuild which fails or is cut has cost nothing. The guest
//! is off all the time, and stays so: whoever asks for it stops and starts it.

use super::{
    super::{
        Shared,
        executor::{Run, interrupted},
        fill,
        ports::{PortError, PortResult},
        steps::missing,
    },
    local::remove_disk,
    own_image::{image_or_own, root_size_gib},
    reimage::{plan_reimage, root_volume},
    rescue::must_not_be_rescued,
};
use crate::agent::api::{ApiError, OperationState, RebuildRequest, StepState};
use crate::agent::journal::{BootRecord, Facts, OperationRecord, RebuildTask, Step, Task};
use crate::bootsource::content_of_image;
use crate::model::{BootedDisk, ErrorKind, GuestUuid, LocalDisk, LocalDiskPlan, OperationId, PlannedStorage};
use std::sync::Arc;

/// The steps of a rebuild.
pub(in super::super) const REBUILD: [Step; 3] = [Step::MakeDisks, Step::ReplaceRoot, Step::RemoveDisks];

/// Plans a rebuild.
pub(in super::super) async fn plan_rebuild(shared: &Shared, request: &RebuildRequest) -> Result<Task, ApiError> {
    let guest = shared.hypervisor.guest(&request.guest).await?;
    let Some(booted) = shared.registry.booted(guest.uuid) else { return Err(not_booted(&guest.name)) };
    must_not_be_rescued(shared, guest.uuid, &guest.name)?;
    if guest.active {
        return Err(running(&guest.name).into());
    }
    shared.hypervisor.check_unsaved(guest.uuid).await?;
    let image = image_or_own(shared, guest.uuid, &guest.name, &request.image).await?;
    if let Some(volume) = root_volume(&booted) {
        return plan_reimage(shared, request, guest, &booted, &image, volume).await;
    }
    let root = root_of(shared, guest.uuid, &guest.name)?;
    let content = content_of_image(&image, request.size_gib.or_else(|| root_size_gib(shared, guest.uuid)))?;
    let suffix: String = OperationId::random().to_string().chars().take(8).collect();
    let name = format!("{}-{suffix}", root.target);
    Ok(Task::Rebuild(RebuildTask { guest: guest.uuid, guest_name: guest.name, content, root, name }))
}

/// Looks again whether the guest is off and has the root disk that is to be replaced. It may have been started, filled, or given up,
/// meanwhile.
pub(in super::super) async fn check_root(shared: &Shared, task: &RebuildTask) -> Result<Task, ApiError> {
    must_be_off(shared, task.guest, &task.guest_name).await?;
    must_not_be_rescued(shared, task.guest, &task.guest_name)?;
    let root = root_of(shared, task.guest, &task.guest_name)?;
    if root.path == task.root.path {
        return Ok(Task::Rebuild(RebuildTask { root, ..task.clone() }));
    }
    let message = format!("guest {} has got another root disk meanwhile", task.guest_name);
    Err(ApiError::new(ErrorKind::Conflict, message))
}

/// The guest's ephemeral root disk: the first that it was booted with.
fn root_of(shared: &Shared, guest: GuestUuid, name: &str) -> Result<LocalDisk, ApiError> {
    match shared.registry.booted(guest).map(|record| record.disks.into_iter().next()) {
        Some(Some(BootedDisk::Local(disk))) => {
            fill::check_replaceable(shared, guest, &disk, name)?;
            Ok(disk)
        }
        _ => Err(not_booted(name)),
    }
}

fn not_booted(name: &str) -> ApiError {
    let problem = format!("guest {name} was not booted by this host's Bowline: it has no root disk that could be made anew");
    ApiError::new(ErrorKind::NotFound, problem)
}

fn running(guest_name: &str) -> PortError {
    let problem = format!("guest {guest_name} runs: stop it first (bowline stop {guest_name})");
    PortError::new(ErrorKind::Conflict, problem)
}

/// Does a step of a rebuild. The guest is ours.
pub(in super::super) async fn rebuild_step(
    shared: &Arc<Shared>,
    id: OperationId,
    task: &RebuildTask,
    facts: &mut Facts,
    step: Step,
) -> PortResult<()> {
    match step {
        Step::MakeDisks => {
            let plan = LocalDiskPlan { guest: task.guest, target: task.name.clone(), content: task.content.clone() };
            let made = shared.boot_sources.make_disk(&plan, task.root.bus, shared.telling(id, &task.root.target)).await?;
            facts.disks = vec![LocalDisk { target: task.root.target.clone(), ..made }];
            Ok(())
        }
        Step::ReplaceRoot => {
            let new = facts.disks.first().ok_or_else(|| missing("the new root disk"))?;
            replace(shared, task, &task.root, new).await
        }
        Step::RemoveDisks => remove_disk(shared, task.guest, task.root.name(), Some(&task.root)).await,
        other => Err(missing(other.name())),
    }
}

/// Undoes a step of a rebuild, from wherever it got to.
pub(in super::super) async fn undo_rebuild_step(
    shared: &Shared,
    task: &RebuildTask,
    facts: &Facts,
    step: Step,
) -> PortResult<()> {
    match (step, facts.disks.first()) {
        (Step::ReplaceRoot, Some(new)) => match replace(shared, task, new, &task.root).await {
            // It is not defined any more: no definition can name what goes.
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            done => done,
        },
        (Step::MakeDisks, made) => remove_disk(shared, task.guest, &task.name, made).await,
        _ => Ok(()),
    }
}

/// Puts one disk into the definition in the place of another. The guest must be off before and after: nobody can tell which of them one
/// has that was started in between.
async fn replace(shared: &Shared, task: &RebuildTask, old: &LocalDisk, new: &LocalDisk) -> PortResult<()> {
    must_be_off(shared, task.guest, &task.guest_name).await?;
    shared.hypervisor.replace_disk(task.guest, old, new).await?;
    must_be_off(shared, task.guest, &task.guest_name).await
}

/// The guest is off, and its memory is not saved, which would meet another disk.
pub(super) async fn must_be_off(shared: &Shared, guest: GuestUuid, name: &str) -> PortResult<()> {
    match shared.hypervisor.guest(&guest.to_string()).await?.active {
        true => Err(running(name)),
        false => shared.hypervisor.check_unsaved(guest).await,
    }
}

/// The definition has the new root disk for good.
pub(in super::super) fn is_replaced(record: &OperationRecord) -> bool {
    record.steps.iter().any(|step| step.step == Step::ReplaceRoot && step.state == StepState::Succeeded)
}

/// What a rebuild makes of its guest.
pub(in super::super) fn rebuilt_record(shared: &Shared, record: &OperationRecord) -> Option<BootRecord> {
    let Task::Rebuild(task) = &record.task else { return None };
    let (mut booted, new) = (shared.registry.booted(task.guest)?, record.facts.disks.first()?);
    *booted.disks.first_mut()? = BootedDisk::Local(new.clone());
    if let Some(planned) = booted.plan.as_mut().and_then(|plan| plan.disks.first_mut()) {
        planned.storage = PlannedStorage::Local(task.content.clone());
    }
    Some(booted)
}

impl Run {
    /// A rebuild that was cut: it is finished where only the old disk is left to go, and else undone.
    pub(in super::super) async fn resume_rebuild(&mut self) {
        if is_replaced(&self.record) {
            self.record.state = OperationState::Running;
            self.forward().await;
        } else {
            tracing::info!(operation = %self.record.id, "the rebuild was cut midway: undoing it");
            self.unwind(interrupted()).await;
        }
    }
}
