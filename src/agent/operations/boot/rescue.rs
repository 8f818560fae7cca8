//! Rescuing a guest: it is started from an image's disk with its own disks behind it, and later from its own again.
//!
//! ```text
//! rescue:    MakeDisks -> ShutDownGuest -> ConnectVolumes -> StartRescue      undone in reverse: then it runs as it did
//! unrescue:  ShutDownGuest -> ConnectVolumes -> StartGuest -> RemoveDisks     the last is tried until it is done
//! ```
//! Its definition is never touched: what it is started by is a copy with one more disk, which libvirt forgets when the guest ends. So
//! neither a crash nor a reboot of the host leaves it a definition that boots elsewhere. As long as it is rescued, a start by Bowline
//! starts it so, one by others from its own disks. Its own disks keep their names, and the rescue disk has the next free one.

use super::{
    super::{
        Shared,
        executor::{Run, interrupted},
        fill,
        ports::PortResult,
        steps::missing,
    },
    local::{give_key, remove_disk},
    own_image::image_or_own,
    power::connect_volumes,
};
use crate::agent::api::{ApiError, OperationState, RescueRequest, StepState, UnrescueRequest};
use crate::agent::journal::{BootRecord, Facts, OperationRecord, RescueTask, Step, Task, UnrescueTask};
use crate::bootsource::content_of_image;
use crate::model::{BootedDisk, ErrorKind, GuestUuid, LocalDisk, LocalDiskPlan, OperationId};
use std::{sync::Arc, time::Instant};

/// What a rescue disk is called by its maker: a guest has one at most.
const NAME: &str = "rescue";

/// The steps of a rescue.
pub(in super::super) const fn rescue_steps(task: &RescueTask) -> [Step; 4] {
    [Step::MakeDisks, stopping(task.force), Step::ConnectVolumes, Step::StartRescue]
}

/// The steps of its end.
pub(in super::super) const fn unrescue_steps(task: &UnrescueTask) -> [Step; 4] {
    [stopping(task.force), Step::ConnectVolumes, Step::StartGuest, Step::RemoveDisks]
}

const fn stopping(force: bool) -> Step {
    if force { Step::StopGuest } else { Step::ShutDownGuest }
}

/// Plans a rescue.
pub(in super::super) async fn plan_rescue(shared: &Shared, request: &RescueRequest) -> Result<Task, ApiError> {
    let guest = shared.hypervisor.guest(&request.guest).await?;
    check_rescuable(shared, guest.uuid, &guest.name)?;
    let image = image_or_own(shared, guest.uuid, &guest.name, &request.image).await?;
    let content = content_of_image(&image, request.size_gib)?;
    let attached = shared.registry.attachments().into_iter().filter(|record| record.guest == guest.uuid);
    let reserved: Vec<_> = attached.map(|record| record.target).collect();
    let bus = image.disk_bus.unwrap_or(shared.default_bus);
    let target = guest.free_target(bus, &reserved);
    let (force, was_active) = (request.force, guest.active);
    Ok(Task::Rescue(RescueTask { guest: guest.uuid, guest_name: guest.name, content, target, bus, force, was_active }))
}

/// Looks again whether the guest can be rescued, and whether it runs.
pub(in super::super) async fn check_rescue(shared: &Shared, task: &RescueTask) -> Result<Task, ApiError> {
    check_rescuable(shared, task.guest, &task.guest_name)?;
    let was_active = shared.hypervisor.guest(&task.guest.to_string()).await?.active;
    Ok(Task::Rescue(RescueTask { was_active, ..task.clone() }))
}

fn check_rescuable(shared: &Shared, guest: GuestUuid, name: &str) -> Result<(), ApiError> {
    let (kind, problem) = match shared.registry.booted(guest) {
        None => (
            ErrorKind::NotFound,
            format!("guest {name} was not booted by this host's Bowline: start it by hand from what is to rescue it"),
        ),
        Some(BootRecord { rescue: Some(_), .. }) => {
            let problem = format!(
                "guest {name} is rescued already: start it so again (bowline start {name}), or end it first (bowline unrescue {name})"
            );
            (ErrorKind::Conflict, problem)
        }
        // A fill ends in the running guest's own definition, which is not what a rescued one runs by.
        Some(record) => {
            let mut local = record.disks.iter().filter_map(|disk| match disk {
                BootedDisk::Local(disk) => Some(disk),
                BootedDisk::Volume { .. } => None,
            });
            return Ok(local.try_for_each(|disk| fill::check_filled(disk, name))?);
        }
    };
    Err(ApiError::new(kind, problem))
}

/// Plans the end of a rescue.
pub(in super::super) async fn plan_unrescue(shared: &Shared, request: &UnrescueRequest) -> Result<Task, ApiError> {
    let guest = shared.hypervisor.guest(&request.guest).await?;
    let Some(disk) = rescue_disk(shared, guest.uuid) else {
        return Err(ApiError::new(ErrorKind::Conflict, format!("guest {} is not rescued", guest.name)));
    };
    Ok(Task::Unrescue(UnrescueTask { guest: guest.uuid, guest_name: guest.name, disk, force: request.force }))
}

/// Looks again whether there is a rescue to be ended.
pub(in super::super) fn check_unrescue(shared: &Shared, task: &UnrescueTask) -> Result<(), ApiError> {
    if rescue_disk(shared, task.guest).as_ref() == Some(&task.disk) {
        return Ok(());
    }
    Err(ApiError::new(ErrorKind::Conflict, format!("guest {} is not rescued any more", task.guest_name)))
}

/// The disk that a guest is rescued by.
pub(super) fn rescue_disk(shared: &Shared, guest: GuestUuid) -> Option<LocalDisk> {
    shared.registry.booted(guest)?.rescue
}

/// A guest that is rescued cannot have its own disks made anew: which of them it is to boot from is not settled.
pub(super) fn must_not_be_rescued(shared: &Shared, guest: GuestUuid, name: &str) -> Result<(), ApiError> {
    match rescue_disk(shared, guest) {
        Some(_) => Err(ApiError::new(
            ErrorKind::Conflict,
            format!("guest {name} is rescued: end that first (bowline unrescue {name})"),
        )),
        None => Ok(()),
    }
}

/// Does a step of a rescue. The guest is ours.
pub(in super::super) async fn rescue_step(
    shared: &Arc<Shared>,
    id: OperationId,
    task: &RescueTask,
    facts: &mut Facts,
    step: Step,
) -> PortResult<()> {
    match step {
        Step::MakeDisks => {
            let plan = LocalDiskPlan { guest: task.guest, target: NAME.to_owned(), content: task.content.clone() };
            let made = shared.boot_sources.make_disk(&plan, task.bus, shared.telling(id, &task.target)).await?;
            facts.disks = vec![LocalDisk { target: task.target.clone(), ..made }];
            Ok(())
        }
        // Repeated after it was done, it must not end what was started since.
        Step::ShutDownGuest | Step::StopGuest => end_guest(shared, task.guest, step).await,
        Step::ConnectVolumes => connect_volumes(shared, task.guest).await,
        Step::StartRescue => {
            let disk = facts.disks.first().ok_or_else(|| missing("the rescue disk"))?;
            give_key(shared, disk).await?;
            shared.hypervisor.start_rescue(task.guest, disk).await
        }
        other => Err(missing(other.name())),
    }
}

/// Does a step of the end of a rescue. The guest is ours.
pub(in super::super) async fn unrescue_step(shared: &Arc<Shared>, task: &UnrescueTask, step: Step) -> PortResult<()> {
    match step {
        Step::ShutDownGuest | Step::StopGuest if runs_from(shared, task.guest, &task.disk).await? => {
            end_guest(shared, task.guest, step).await
        }
        Step::ShutDownGuest | Step::StopGuest => Ok(()),
        Step::ConnectVolumes => connect_volumes(shared, task.guest).await,
        Step::StartGuest => shared.hypervisor.start_guest(task.guest).await,
        Step::RemoveDisks => remove_disk(shared, task.guest, NAME, Some(&task.disk)).await,
        other => Err(missing(other.name())),
    }
}

/// A guest that wants rescuing may be past hearing: one that does not shut down in its time has its power cut.
async fn end_guest(shared: &Shared, guest: GuestUuid, step: Step) -> PortResult<()> {
    if step == Step::ShutDownGuest {
        match shared.hypervisor.shut_down_guest(guest).await {
            Err(error) if error.kind == ErrorKind::GuestRefused => {
                tracing::warn!(%guest, %error, "its power is cut");
            }
            done => return done,
        }
    }
    shared.hypervisor.stop_guest(guest).await
}

/// Undoes a step of a rescue, from wherever it got to.
pub(in super::super) async fn undo_rescue_step(
    shared: &Arc<Shared>,
    task: &RescueTask,
    facts: &Facts,
    step: Step,
) -> PortResult<()> {
    match step {
        Step::StartRescue => match facts.disks.first() {
            Some(disk) if runs_from(shared, task.guest, disk).await? => shared.hypervisor.stop_guest(task.guest).await,
            _ => Ok(()),
        },
        Step::ShutDownGuest | Step::StopGuest if task.was_active => match start_again(shared, task.guest).await {
            // Whoever asked for a rescue may have a guest that cannot be started: that is no reason to try for ever.
            Err(error) if !error.is_passing() => {
                tracing::error!(guest = task.guest_name, %error, "was running, was stopped to be rescued, and does not start again");
                Ok(())
            }
            started => started,
        },
        Step::MakeDisks => remove_disk(shared, task.guest, NAME, facts.disks.first()).await,
        _ => Ok(()),
    }
}

/// As it ran before. What was cut by a reboot of the host finds its volumes gone from here.
async fn start_again(shared: &Arc<Shared>, guest: GuestUuid) -> PortResult<()> {
    connect_volumes(shared, guest).await?;
    shared.hypervisor.start_guest(guest).await
}

/// The guest runs, and from the rescue disk.
async fn runs_from(shared: &Shared, guest: GuestUuid, disk: &LocalDisk) -> PortResult<bool> {
    match shared.hypervisor.guest(&guest.to_string()).await {
        Ok(facts) => {
            let has_it = facts.disks.iter().any(|has| has.live && !has.defined && has.target == disk.target);
            Ok(facts.active && has_it)
        }
        Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What a rescue, or its end, makes of its guest.
pub(in super::super) fn rescued_record(shared: &Shared, record: &OperationRecord) -> Option<BootRecord> {
    let rescue = match &record.task {
        Task::Rescue(_) => Some(record.facts.disks.first()?.clone()),
        _ => None,
    };
    Some(BootRecord { rescue, ..shared.registry.booted(record.task.guest())? })
}

impl Run {
    /// A rescue that was cut: a guest that runs from the rescue disk is rescued; else it is undone.
    pub(in super::super) async fn resume_rescue(&mut self) {
        let guest = self.record.task.guest();
        let last = self.record.steps.len().saturating_sub(1);
        let reached = self.record.steps.last().is_some_and(|step| step.state != StepState::Pending);
        let disk = self.record.facts.disks.first().filter(|_| reached).cloned();
        let mut delays = self.shared.retry.delays();
        let begun = Instant::now();
        let runs = loop {
            let Some(disk) = &disk else { break false };
            match runs_from(&self.shared, guest, disk).await {
                Ok(runs) => break runs,
                Err(error) => {
                    let Ok(()) = self.trouble(&error, Step::StartRescue, begun, &mut delays).await else {
                        return self.give_up().await;
                    };
                }
            }
        };
        if runs {
            self.set_step(last, StepState::Succeeded, None);
            self.record.state = OperationState::Running;
            self.record.failure = None;
            tracing::info!(operation = %self.record.id, %guest, "the guest runs from the rescue disk: the rescue is done");
            self.forward().await;
        } else {
            tracing::info!(operation = %self.record.id, %guest, "the rescue was cut midway: undoing it");
            self.unwind(interrupted()).await;
        }
    }
}
