//! Making a guest's root disk anew where that is a volume: the volume service writes an image over it, as Nova has it done.
//!
//! ```text
//! CreateAttachment -> DetachVolumes -> RequestReimage -> ReimageVolume -> GiveDisks
//!     \__________________/                 |                  \_______________/ gone on with until it is done
//!      undone in reverse: the guest has    |
//!      the volume again, as it was         \ refused by the service: undone; may have been heard: gone on with
//! ```
//! First the volume is reserved for the guest anew, so that nobody gets it while no host has it. Then the guest's disk, this host's device
//! and the attachment that was go, by a detach of its own: what writes over the volume and what a guest wrote last never meet. From the
//! request on there is no way back, for the old bytes may be gone: where the service fails to write (status `error`), it is asked again,
//! ever later, until it has written or an operator gives up; another rebuild then begins where that one ended. Last the volume is
//! attached by an operation of its own, to the same name, and by that first attachment. The guest is off all the time, and stays so.

use super::{
    super::{
        Shared,
        executor::{Run, interrupted},
        ports::{GuestFacts, PortResult},
        steps::{delete_leftovers, missing, reservations},
    },
    children::{self, Wanted},
    rebuild::must_be_off,
    rescue::must_not_be_rescued,
};
use crate::agent::api::{ApiError, OperationState, RebuildRequest, StepState};
use crate::agent::journal::{BootRecord, Facts, ReimageTask, Step, Task};
use crate::bootsource::check_image_for_volume;
use crate::model::{AttachmentId, BootedDisk, DiskBus, DiskWishes, ErrorKind, Image, VolumeId};
use std::sync::Arc;

/// The steps of a rebuild on a volume.
pub(in super::super) const REIMAGE: [Step; 5] =
    [Step::CreateAttachment, Step::DetachVolumes, Step::RequestReimage, Step::ReimageVolume, Step::GiveDisks];

/// The volume that is the root disk of a booted guest, if one is.
pub(super) fn root_volume(booted: &BootRecord) -> Option<VolumeId> {
    match booted.disks.first()? {
        BootedDisk::Volume { volume, .. } => Some(*volume),
        BootedDisk::Local(_) => None,
    }
}

/// Plans a rebuild on the guest's root volume. The guest is off.
pub(super) async fn plan_reimage(
    shared: &Shared,
    request: &RebuildRequest,
    guest: GuestFacts,
    booted: &BootRecord,
    image: &Image,
    id: VolumeId,
) -> Result<Task, ApiError> {
    if request.size_gib.is_some() {
        let problem = format!(
            "the root disk of guest {} is volume {id}, whose size a rebuild leaves as it is: leave --size out, and extend it \
             (bowline extend)",
            guest.name
        );
        return Err(ApiError::new(ErrorKind::InvalidInput, problem));
    }
    let (target, bus, wishes) = place_of(shared, booted, id).ok_or_else(|| {
        let problem = format!("guest {} has not got its root volume {id}, and nobody knows as what it had it", guest.name);
        ApiError::new(ErrorKind::NotFound, problem)
    })?;
    // A service that cannot do it says so to this.
    let volume = shared.volumes.volume_to_reimage(id).await?;
    let own = shared.registry.attachment(id, guest.uuid).map(|attached| attached.id);
    if let Some(other) = volume.attachments.iter().find(|user| Some(user.attachment) != own && user.guest != Some(guest.uuid)) {
        let whose = other.guest.map_or_else(|| format!("attachment {}", other.attachment), |guest| format!("guest {guest}"));
        let problem = format!("volume {id} is {whose}'s as well: no image is written over what others use");
        return Err(ApiError::new(ErrorKind::Conflict, problem));
    }
    check_image_for_volume(image, volume.size_gib)?;
    // What an earlier rebuild that was given up has left reserves the volume as well.
    let there = shared.volumes.attachments(id).await?.into_iter().map(|attachment| attachment.id);
    let left = reservations(shared, id, guest.uuid, &[]).await?;
    let others = there.filter(|attachment| !left.contains(attachment)).collect();
    let (guest, guest_name) = (guest.uuid, guest.name);
    Ok(Task::Reimage(ReimageTask { guest, guest_name, volume: id, image: image.id, target, bus, wishes, others }))
}

/// As what the guest has its root volume, or had it when it was booted.
fn place_of(shared: &Shared, booted: &BootRecord, volume: VolumeId) -> Option<(String, DiskBus, DiskWishes)> {
    if let Some(attached) = shared.registry.attachment(volume, booted.guest) {
        return Some((attached.target, attached.bus, attached.wishes));
    }
    let planned = booted.plan.as_ref()?.disks.first()?;
    Some((planned.target.clone(), planned.bus, DiskWishes { tag: planned.tag.clone(), boot_order: None }))
}

/// Looks again whether the guest has the root volume that is to be written over.
pub(in super::super) async fn check_root_volume(shared: &Shared, task: &ReimageTask) -> Result<(), ApiError> {
    must_not_be_rescued(shared, task.guest, &task.guest_name)?;
    if shared.registry.booted(task.guest).as_ref().and_then(root_volume) != Some(task.volume) {
        let message = format!("guest {} has got another root disk meanwhile", task.guest_name);
        return Err(ApiError::new(ErrorKind::Conflict, message));
    }
    Ok(must_be_off(shared, task.guest, &task.guest_name).await?)
}

/// Does a step of a rebuild on a volume. The guest is ours.
pub(in super::super) async fn reimage_step(
    shared: &Arc<Shared>,
    task: &ReimageTask,
    facts: &mut Facts,
    step: Step,
) -> PortResult<()> {
    match step {
        Step::CreateAttachment => {
            facts.attachment = Some(reserve(shared, task).await?);
            Ok(())
        }
        Step::DetachVolumes => {
            must_be_off(shared, task.guest, &task.guest_name).await?;
            children::detach(shared, task.volume, task.guest).await
        }
        Step::RequestReimage => {
            shared.volumes.reimage_volume(task.volume, task.image).await?;
            facts.reimage_accepted = true;
            Ok(())
        }
        Step::ReimageVolume => write(shared, task, facts).await,
        Step::GiveDisks => give_back(shared, task).await,
        other => Err(missing(other.name())),
    }
}

/// Undoes a step of it, from wherever it got to.
pub(in super::super) async fn undo_reimage_step(
    shared: &Arc<Shared>,
    task: &ReimageTask,
    facts: &Facts,
    step: Step,
) -> PortResult<()> {
    match step {
        Step::DetachVolumes => match shared.hypervisor.guest(&task.guest.to_string()).await {
            // It is not defined any more: nobody is to have the volume.
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(_) => give_back(shared, task).await,
        },
        Step::CreateAttachment if facts.attachment.is_none() => {
            delete_leftovers(shared, task.volume, task.guest, &task.others).await
        }
        // The one that was made may have become the guest's own again, and another may have been made for that.
        Step::CreateAttachment => {
            for left in reservations(shared, task.volume, task.guest, &task.others).await? {
                shared.volumes.delete_attachment(left).await?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Reserves the volume for the guest: by what does so already, where an answer was lost or an earlier rebuild was given up.
async fn reserve(shared: &Shared, task: &ReimageTask) -> PortResult<AttachmentId> {
    let there = reservations(shared, task.volume, task.guest, &task.others).await?;
    match there.first() {
        Some(attachment) => Ok(*attachment),
        None => Ok(shared.volumes.create_attachment(task.volume, task.guest, false).await?.summary.id),
    }
}

/// Sees that the image is written. Where nobody knows whether the service was asked, what the volume is tells: it is being written over,
/// or it is asked (again), for written twice it is the same.
async fn write(shared: &Shared, task: &ReimageTask, facts: &mut Facts) -> PortResult<()> {
    let status = shared.volumes.volume(task.volume).await?.status;
    if status != "downloading" && (status.starts_with("error") || !facts.reimage_accepted) {
        facts.reimage_accepted = false;
        shared.volumes.reimage_volume(task.volume, task.image).await?;
    }
    facts.reimage_accepted = true;
    shared.volumes.wait_reimaged(task.volume, shared.create_timeout).await
}

/// Attaches the volume to the guest, as what it was attached.
async fn give_back(shared: &Arc<Shared>, task: &ReimageTask) -> PortResult<()> {
    children::settled(shared, task.volume, task.guest).await?;
    if shared.registry.attachment(task.volume, task.guest).is_some() {
        return Ok(());
    }
    let wanted = Wanted {
        volume: task.volume,
        guest: task.guest,
        bus: task.bus,
        target: task.target.clone(),
        wishes: task.wishes.clone(),
        // An attach that failed has taken it with it.
        reservation: Some(reserve(shared, task).await?),
    };
    children::attach(shared, wanted).await
}

impl Run {
    /// A rebuild on a volume that was cut: once the service may have been asked, it is gone on with; else it is undone.
    pub(in super::super) async fn resume_reimage(&mut self) {
        let request = self.record.steps.iter().position(|step| step.step == Step::RequestReimage);
        let state = request.and_then(|index| self.record.steps.get(index)).map(|step| step.state);
        match (request, state) {
            (Some(index), Some(StepState::Started | StepState::Succeeded)) => {
                // Whether it was heard is for the next step to find out.
                self.set_step(index, StepState::Succeeded, None);
                self.record.state = OperationState::Running;
                self.forward().await;
            }
            _ => {
                tracing::info!(operation = %self.record.id, "the rebuild was cut before the volume was written over: undoing it");
                self.unwind(interrupted()).await;
            }
        }
    }
}
