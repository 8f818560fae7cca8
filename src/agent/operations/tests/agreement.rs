//! What must hold once the world has healed and nothing is under way: guests, host, service and journal agree, nothing forbidden
//! has happened, and nothing is left of what came to nothing.

use super::{
    Agent, end_of,
    world::{World, is_rescue},
};
use crate::agent::api::{AgentApi, OperationState, OperationView};
use crate::model::{AttachmentStatus, BootedDisk, GIB, GuestUuid, VolumeId};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    time::Duration,
};

/// Whatever has not ended by then never does.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for the end of everything that was asked for.
pub async fn all_end(agent: &Agent) {
    for operation in agent.operations() {
        end_of(agent, operation.id).await;
    }
}

/// Waits until each operation has ended, or is shown as stuck, or waits for one that is. Tells which never does.
pub async fn all_shown(agent: &Agent, patience: Duration) -> Result<(), String> {
    let mut events = agent.events();
    let shown = async {
        while !unshown(&agent.operations()).is_empty() {
            let _ = events.recv().await;
        }
    };
    let shown = tokio::time::timeout(patience, shown).await;
    shown.map_err(|_| format!("neither ended nor shown as stuck: {:?}", unshown(&agent.operations())))
}

fn unshown(operations: &[OperationView]) -> Vec<&OperationView> {
    let (mut shown, mut left): (Vec<_>, Vec<_>) =
        operations.iter().filter(|view| !view.state.is_over()).partition(|view| view.state == OperationState::Stuck);
    // What has to do with the guest or the volume of one that is stuck may wait for it, and others for that.
    loop {
        let waits = |view: &&OperationView| {
            let related = |one: &&OperationView| {
                one.guest == view.guest && !view.guest.0.is_nil() || one.volume == view.volume && !view.volume.0.is_nil()
            };
            shown.iter().any(related)
        };
        let (behind, others): (Vec<_>, Vec<_>) = left.into_iter().partition(waits);
        left = others;
        if behind.is_empty() {
            return left;
        }
        shown.extend(behind);
    }
}

/// Waits until all has ended, and tells what does not hold then.
pub async fn settled(world: &World, agent: &Agent) -> Result<(), String> {
    if tokio::time::timeout(PATIENCE, all_end(agent)).await.is_err() {
        return Err(format!("an operation never ended: {:?}", agent.operations()));
    }
    agreed(world, agent).await
}

/// What must hold once all has ended.
pub async fn agreed(world: &World, agent: &Agent) -> Result<(), String> {
    same("what must never happen", &world.state.lock().unwrap().crimes, &vec![])?;
    same("attachments that cannot be connected again", &agent.reconnect().await, &0)?;
    same("a check", &agent.check(false).await.unwrap(), &vec![])?;
    let known: BTreeMap<_, _> =
        agent.attachments().into_iter().map(|view| ((view.volume, view.guest), view.size_bytes)).collect();
    let booted = agent.shared.registry.booted_guests();

    let state = world.state.lock().unwrap();
    same("what must never happen", &state.crimes, &vec![])?;
    let disks: BTreeSet<(VolumeId, GuestUuid)> = state
        .guests
        .values()
        .flat_map(|guest| guest.disks.iter().filter_map(|disk| Some((disk.volume?, guest.uuid))))
        .collect();
    let attached: BTreeSet<_> = state.attachments.values().map(|(volume, guest, _)| (*volume, *guest)).collect();
    same("the service and the guests", &attached, &disks)?;
    same("the number of attachments", &state.attachments.len(), &attached.len())?;
    let incomplete = state.attachments.values().filter(|entry| entry.2 != AttachmentStatus::Attached).count();
    same("attachments that are not complete", &incomplete, &0)?;
    same("the journal and the guests", &known.keys().copied().collect(), &disks)?;
    let connected: BTreeSet<_> = disks.iter().map(|(volume, _)| *volume).collect();
    same("devices that are other volumes", &state.impostors.keys().filter(|one| state.connected.contains(one)).count(), &0)?;
    same("the host and the guests", &state.connected, &connected)?;
    let secrets_each = if state.encrypted { 2 } else { 1 };
    same("the number of secrets", &state.secrets.len(), &(disks.len() * secrets_each))?;
    for ((volume, guest), bytes) in &known {
        let size_bytes = state.volumes[volume].size_gib * GIB;
        same("the size that the journal has", bytes, &size_bytes)?;
        same("the size that the host has", state.host_bytes.get(volume).unwrap_or(&size_bytes), &size_bytes)?;
        same("the size that the guest has", state.guest_bytes.get(&(*guest, *volume)).unwrap_or(&size_bytes), &size_bytes)?;
    }
    for volume in state.volumes.values() {
        let status = if connected.contains(&volume.id) { "in-use" } else { "available" };
        same("a volume's status", &volume.status.as_str(), &status)?;
    }

    let local = |disk: &BootedDisk| match disk {
        BootedDisk::Local(disk) => Some(disk.name().to_owned()),
        BootedDisk::Volume { .. } => None,
    };
    let defined: BTreeSet<_> = booted.iter().flat_map(|guest| guest.disks.iter().filter_map(local)).collect();
    let rescue = booted.iter().filter_map(|guest| Some(guest.rescue.as_ref()?.name().to_owned()));
    let files: BTreeSet<_> = rescue.chain(defined.iter().cloned()).collect();
    same("files and booted guests", &state.files, &files)?;
    same("definitions and booted guests", &state.defined, &defined)?;
    let rescued = |guest: GuestUuid| booted.iter().any(|record| record.guest == guest && record.rescue.is_some());
    let astray = state.guests.values().filter(|guest| guest.disks.iter().any(is_rescue) && !rescued(guest.uuid)).count();
    same("guests that run from a rescue disk and are not rescued", &astray, &0)?;
    let marks: BTreeMap<_, _> = booted.iter().filter_map(|guest| Some((guest.guest, guest.mark?))).collect();
    same("guests that boots defined", &state.marks, &marks)?;
    same("a guest that stands still", &(state.frozen, state.backup), &(false, false))?;
    same("what was caught of disks", &state.captures, &BTreeSet::new())?;
    same("images that are not whole", &state.images.values().filter(|whole| !**whole).count(), &0)?;
    let of_boots: BTreeSet<_> = booted
        .iter()
        .flat_map(|guest| &guest.disks)
        .filter_map(|disk| match disk {
            BootedDisk::Volume { volume, .. } => Some(*volume),
            BootedDisk::Local(_) => None,
        })
        .collect();
    let made: BTreeSet<_> = state.volumes.keys().filter(|id| !state.original.contains(id)).copied().collect();
    if let Some(left) = made.iter().find(|id| !of_boots.contains(id)) {
        return Err(format!("volume {left} was made for a boot, and nobody has it"));
    }
    same("volumes that were there before", &state.original.iter().all(|id| state.volumes.contains_key(id)), &true)
}

fn same<T: PartialEq + Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, and not {expected:?}")) }
}
