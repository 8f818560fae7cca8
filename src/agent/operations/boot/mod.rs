//! Booting a guest from disks that are made for it, and deleting them with it; starting and stopping a guest; making its
//! root disk anew; rescuing it.
//!
//! ```text
//! boot:    DefineGuest -> MakeDisks -> CreateVolumes -> GiveDisks -> StartGuest                          undone in reverse
//! delete:  StopGuest -> DetachVolumes -> UndefineDisks -> DeleteVolumes -> RemoveDisks -> UndefineGuest  tried until it is done
//! ```
//! A guest that a boot defined has a mark in its definition: by it alone it is undefined again, by the boot's undoing or by a delete.
//! Steps that have nothing to do are left out. A volume is attached and detached by an operation of its own, as if an operator had asked
//! for it: the boot waits for those, and never reaches into them. What a boot made is known by names that the plan gave (of files, of
//! new volumes), so a step that was cut is done or undone by what is there, whatever was journalled.

mod autostart;
mod children;
mod delete;
mod local;
mod make;
mod own_image;
mod plan;
mod power;
mod rebuild;
mod reimage;
mod rescue;
mod resume;

pub(super) use autostart::{Autostarted, has_storage};
pub(super) use children::launch;
pub(super) use delete::{delete_again, delete_step, plan_delete};
pub(super) use local::{give_keys, local_disks, secrets_of};
pub(super) use make::{boot_step, foreign, must_be_off, undo_boot_step};
pub(super) use own_image::base_image;
pub(super) use plan::{check_free, check_undefined, describe, plan_boot};
pub(super) use power::{START, start_step, stop, stop_step};
pub(super) use rebuild::{REBUILD, check_root, is_replaced, plan_rebuild, rebuild_step, rebuilt_record, undo_rebuild_step};
pub(super) use reimage::{REIMAGE, check_root_volume, reimage_step, undo_reimage_step};
pub(super) use rescue::{
    check_rescue, check_unrescue, plan_rescue, plan_unrescue, rescue_step, rescue_steps, rescued_record, undo_rescue_step,
    unrescue_step, unrescue_steps,
};

use crate::agent::journal::{BootRecord, BootTask, DeleteTask, Facts, OperationRecord, Step, Task};
use crate::model::{BootedDisk, PlannedStorage, VolumeId};

/// The steps of a boot.
pub(super) fn boot_steps(task: &BootTask) -> Vec<Step> {
    let has = |wanted: fn(&PlannedStorage) -> bool| task.plan.disks.iter().any(|disk| wanted(&disk.storage));
    let has_local = has(|storage| matches!(storage, PlannedStorage::Local(_)));
    let has_new = has(|storage| matches!(storage, PlannedStorage::NewVolume { .. }));
    let steps = [
        (Step::DefineGuest, task.new_guest.is_some()),
        (Step::MakeDisks, has_local),
        (Step::CreateVolumes, has_new),
        (Step::GiveDisks, true),
        (Step::StartGuest, true),
    ];
    steps.into_iter().filter(|(_, wanted)| *wanted).map(|(step, _)| step).collect()
}

/// The steps of a delete.
pub(super) fn delete_steps(task: &DeleteTask) -> Vec<Step> {
    let (has_local, has_volume) = (!task.disks.is_empty(), !task.volumes.is_empty());
    let steps = [
        (Step::StopGuest, true),
        (Step::DetachVolumes, has_volume),
        (Step::UndefineDisks, has_local),
        (Step::DeleteVolumes, task.volumes.iter().any(|(_, delete)| *delete)),
        (Step::RemoveDisks, has_local),
        (Step::UndefineGuest, task.mark.is_some()),
    ];
    steps.into_iter().filter(|(_, wanted)| *wanted).map(|(step, _)| step).collect()
}

/// How many steps the operations have, one after another, that a step of this task waits for.
pub(super) fn steps_within(task: &Task) -> u32 {
    let steps = match task {
        Task::Boot(task) => task.plan.disks.len() * super::plan::ATTACH.len(),
        Task::Reimage(_) => super::plan::ATTACH.len(),
        _ => super::plan::DETACH.len(),
    };
    u32::try_from(steps).unwrap_or(u32::MAX)
}

/// The volumes of a boot with their target names: those that were there, and those that it made so far.
fn volumes(task: &BootTask, facts: &Facts) -> Vec<(String, VolumeId)> {
    let there = task.plan.disks.iter().filter_map(|disk| match disk.storage {
        PlannedStorage::Volume(volume) => Some((disk.target.clone(), volume)),
        _ => None,
    });
    there.chain(facts.volumes.iter().cloned()).collect()
}

/// What a boot makes of its guest.
pub(super) fn boot_record(record: &OperationRecord) -> Option<BootRecord> {
    let Task::Boot(task) = &record.task else { return None };
    let volumes = volumes(task, &record.facts);
    let disks = task.plan.disks.iter().filter_map(|disk| match disk.storage {
        PlannedStorage::Local(_) => {
            record.facts.disks.iter().find(|made| made.target == disk.target).cloned().map(BootedDisk::Local)
        }
        _ => volumes
            .iter()
            .find(|(target, _)| *target == disk.target)
            .map(|(_, volume)| BootedDisk::Volume { volume: *volume, delete_on_termination: disk.delete_on_termination }),
    });
    let (guest_name, disks) = (task.guest_name.clone(), disks.collect());
    let mark = task.new_guest.as_ref().map(|new| new.mark);
    Some(BootRecord { guest: task.guest, guest_name, disks, plan: Some(task.plan.clone()), mark, rescue: None })
}
