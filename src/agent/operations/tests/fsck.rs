//! What a check finds in a world that somebody has changed behind the agent's back, and what a repair mends of it.

use super::*;
use crate::agent::operations::ports::GuestDiskFacts;
use crate::model::{AttachmentId, AttachmentStatus, Difference, Mending, OwnName, Part, Store, Stored, VolumeId};
use tokio::sync::Semaphore;
use uuid::Uuid;
use world::State;

/// Attaches, lets somebody change the world, and checks.
fn checked(change: impl FnOnce(&mut State), repair: bool) -> (World, Vec<Difference>) {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    live(&world, dir.path(), Some(attach()));
    // The agent that checks has come before the change, as it mends much of that at its start.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let found = runtime.block_on(async {
        let agent = start(&world, dir.path()).await;
        change(&mut world.state.lock().unwrap());
        agent.check(repair).await.unwrap()
    });
    (world, found)
}

fn one(found: &[Difference], area: &str, words: &str, mending: Mending) {
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].area == area && found[0].found.contains(words) && found[0].mending == mending, "{found:?}");
    assert!(!found[0].meaning.is_empty() && !found[0].remedy.is_empty(), "{found:?}");
}

#[test]
fn nothing_differs_where_nobody_changed_anything() {
    assert_eq!(checked(|_| {}, false).1, []);
    assert_eq!(checked(|_| {}, true).1, []);
}

#[test]
fn a_device_that_is_gone_is_found_and_connected_again() {
    let gone = |state: &mut State| {
        state.connected.clear();
    };
    let (world, found) = checked(gone, false);
    one(&found, "host", "not the device", Mending::Possible);
    assert!(world.state.lock().unwrap().connected.is_empty(), "a check changed something");
    let (world, found) = checked(gone, true);
    one(&found, "host", "not the device", Mending::Done);
    world.assert_clean(true, "after a repair");
}

#[test]
fn a_repair_that_finds_another_device_says_so_and_leaves_nothing() {
    let swapped = |state: &mut State| {
        state.connected.clear();
        state.wrong_serial = true;
    };
    let (world, found) = checked(swapped, true);
    one(&found, "host", "not the device", Mending::Failed);
    assert!(found[0].remedy.contains("wrong"), "{found:?}");
    assert!(world.state.lock().unwrap().connected.is_empty());
}

#[test]
fn what_the_service_forgot_or_never_completed_is_told_apart() {
    one(&checked(|state| state.attachments.clear(), true).1, "service", "no attachment", Mending::ByHand);
    let unfinished = |state: &mut State| {
        state.attachments.values_mut().for_each(|entry| entry.2 = AttachmentStatus::Attaching);
    };
    let (world, found) = checked(unfinished, true);
    one(&found, "service", "attaching", Mending::Done);
    world.assert_clean(true, "after a repair");
}

#[test]
fn a_guest_that_lost_its_disk_or_itself_is_left_to_a_person() {
    let no_disk = |state: &mut State| state.guests.values_mut().for_each(|guest| guest.disks.clear());
    let (world, found) = checked(no_disk, true);
    one(&found, "guest", "no disk", Mending::ByHand);
    assert!(world.state.lock().unwrap().connected.contains(&volume_id()), "it was taken away unasked");
    one(&checked(|state| state.guests.clear(), true).1, "guest", "not defined", Mending::ByHand);
    let only_live = |state: &mut State| {
        let disks = state.guests.values_mut().flat_map(|guest| &mut guest.disks);
        disks.for_each(|disk| disk.defined = false);
    };
    one(&checked(only_live, false).1, "guest", "its definition has not", Mending::ByHand);
}

#[test]
fn a_secret_and_a_name_that_nobody_has_are_removed_and_those_in_use_stay() {
    let other = VolumeId(Uuid::from_u128(0xdd));
    let left = |state: &mut State| {
        state.secrets.insert(Uuid::from_u128(0xee));
        let name = |volume, leads_nowhere| OwnName { volume, path: "/run/x".into(), what: "a link".into(), leads_nowhere };
        state.own_names = vec![name(volume_id(), true), name(other, true), name(VolumeId(Uuid::from_u128(0xdf)), false)];
    };
    let (world, found) = checked(left, true);
    let told: Vec<_> = found.iter().map(|difference| (difference.area.as_str(), difference.mending)).collect();
    assert_eq!(told, [("host", Mending::Done), ("host", Mending::ByHand), ("libvirt", Mending::Done)], "{found:?}");
    let state = world.state.lock().unwrap();
    assert!(!state.secrets.contains(&Uuid::from_u128(0xee)) && state.secrets.len() == 1, "{:?}", state.secrets);
    assert!(state.own_names.iter().all(|name| name.volume != other) && state.own_names.len() == 2);
}

#[test]
fn what_somebody_else_attached_is_told_and_left_alone() {
    let theirs = |state: &mut State| {
        let guest = state.guests.values_mut().last().unwrap();
        let volume = Some(VolumeId(Uuid::from_u128(0xaa)));
        guest.disks.push(GuestDiskFacts { target: "vdx".into(), volume, live: true, defined: true });
    };
    let (world, found) = checked(theirs, true);
    one(&found, "guest", "vdx", Mending::Foreign);
    assert_eq!(world.state.lock().unwrap().guests.values().last().unwrap().disks.len(), 1);
}

#[test]
fn an_attachment_that_nobody_finished_is_told() {
    let left = |state: &mut State| {
        let mut volume = state.volumes[&volume_id()].clone();
        (volume.id, volume.name, volume.status) = (VolumeId(Uuid::from_u128(0xab)), "left".into(), "reserved".into());
        let guest = *state.guests.keys().last().unwrap();
        state.attachments.insert(AttachmentId(Uuid::from_u128(0xac)), (volume.id, guest, AttachmentStatus::Reserved));
        state.volumes.insert(volume.id, volume);
    };
    let (world, found) = checked(left, true);
    one(&found, "service", "00000000-0000-0000-0000-0000000000ac", Mending::ByHand);
    assert_eq!(world.state.lock().unwrap().attachments.len(), 2, "what somebody else may be at was taken away");
}

#[test]
fn with_libvirtd_away_everybody_else_is_still_asked() {
    let away = |state: &mut State| {
        state.hypervisor_away = true;
        state.attachments.values_mut().for_each(|entry| entry.2 = AttachmentStatus::Attaching);
    };
    let found = checked(away, false).1;
    let told: Vec<_> = found.iter().map(|found| (found.area.as_str(), found.found.contains("libvirtd is away"))).collect();
    assert_eq!(told, [("guest", true), ("service", false), ("guest", true), ("libvirt", true)], "{found:?}");
}

#[tokio::test]
async fn what_is_detached_while_others_are_asked_is_nobody_elses() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let agent = Arc::new(start(&world, dir.path()).await);
    let id = agent.submit(attach()).await.unwrap();
    end_of(&agent, id).await;
    let held = Arc::new(Semaphore::new(0));
    world.state.lock().unwrap().own_names_held = Some(held.clone());
    let checking = tokio::spawn({
        let agent = agent.clone();
        async move { agent.check(false).await.unwrap() }
    });
    // libvirt has told of disk and secret by then, the host of nothing.
    tokio::task::yield_now().await;
    let id = agent.submit(detach()).await.unwrap();
    assert_eq!(end_of(&agent, id).await.state, OperationState::Succeeded);
    held.close();
    assert_eq!(checking.await.unwrap(), []);
}

#[test]
fn a_stuck_operation_is_shown_with_what_is_in_its_way() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    live(&world, dir.path(), Some(attach()));
    world.state.lock().unwrap().refused.insert("disconnect");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let agent = start(&world, dir.path()).await;
        let mut events = agent.events();
        let id = agent.submit(detach()).await.unwrap();
        while agent.operation(id).unwrap().state != OperationState::Stuck {
            let _ = events.recv().await;
        }
        let found = agent.check(true).await.unwrap();
        let stuck: Vec<_> = found.iter().filter(|difference| difference.area == "operation").collect();
        assert!(stuck.len() == 1 && stuck[0].found.contains("disconnect refused"), "{found:?}");
        world.state.lock().unwrap().refused.clear();
        end_of(&agent, id).await;
    });
}

fn left_disk() -> Stored {
    let part = Part::Disk(guest_uuid(), "vdz".into());
    Stored { store: Store::Files, path: "/disks/vdz".into(), part, stays: None }
}

#[test]
fn a_disk_that_no_guest_has_is_taken_away_and_one_that_a_guest_names_stays() {
    let left = |state: &mut State| state.stored.push(left_disk());
    one(&checked(left, false).1, "host", "/disks/vdz", Mending::Possible);
    let (world, found) = checked(left, true);
    one(&found, "host", "/disks/vdz", Mending::Done);
    assert_eq!(world.state.lock().unwrap().stored, []);
    let named = |state: &mut State| {
        state.stored.push(left_disk());
        state.mentions.insert(format!("{}/vdz", guest_uuid()), "guest-2".into());
    };
    let (world, found) = checked(named, true);
    one(&found, "host", "/disks/vdz", Mending::ByHand);
    assert_eq!(world.state.lock().unwrap().stored, [left_disk()]);
}

#[tokio::test]
async fn a_booted_guests_disks_are_told_only_when_they_are_gone() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    world.state.lock().unwrap().guests.get_mut(&guest_uuid()).unwrap().active = false;
    let agent = start(&world, dir.path()).await;
    let id = agent.submit(boot::boot()).await.unwrap();
    assert_eq!(end_of(&agent, id).await.state, OperationState::Succeeded);
    {
        let mut state = world.state.lock().unwrap();
        let stored = |target: &String| Stored { part: Part::Disk(guest_uuid(), target.clone()), ..left_disk() };
        let stored: Vec<_> = state.files.iter().map(stored).collect();
        assert!(!stored.is_empty());
        state.stored = stored;
    }
    assert_eq!(agent.check(true).await.unwrap(), []);
    let gone = world.state.lock().unwrap().files.pop_first().unwrap();
    one(&agent.check(true).await.unwrap(), "host", &format!("{gone} is gone"), Mending::ByHand);
}
