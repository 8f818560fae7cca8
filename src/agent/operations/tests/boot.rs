//! A boot and a delete, struck at every call: what a boot made is all there or all gone, and what was there before stays.

use super::{FAULTS, live, world::*};
use crate::agent::api::{DeleteRequest, OperationState, Request};
use crate::model::{BootRequest, ErrorKind, GuestDefinition};

/// An image on an ephemeral disk, swap, a volume that is there, and a new one that goes with the guest.
pub fn boot() -> Request {
    boot_with("data", false)
}

/// The same with the volume of this name.
pub fn boot_with(volume: &str, lazy: bool) -> Request {
    let mapping = serde_json::json!([
        {"source_type": "blank", "destination_type": "local", "volume_size": 1, "guest_format": "swap"},
        {"source_type": "volume", "uuid": volume},
        {"source_type": "blank", "destination_type": "volume", "volume_size": 2, "delete_on_termination": true},
    ]);
    Request::Boot(BootRequest {
        guest: "guest-1".into(),
        image: Some("tiny".into()),
        image_size_gib: Some(1),
        mapping: mapping.to_string(),
        clauses: vec![],
        lazy,
        definition: None,
    })
}

/// The same for a guest that the boot defines.
pub fn boot_of_new(guest: &str) -> Request {
    let Request::Boot(request) = boot() else { panic!("a boot") };
    let definition = Some(GuestDefinition::Xml("<domain/>".into()));
    Request::Boot(BootRequest { guest: guest.into(), definition, ..request })
}

pub fn delete() -> Request {
    delete_of("guest-1")
}

pub fn delete_of(guest: &str) -> Request {
    Request::Delete(DeleteRequest { guest: guest.into() })
}

fn world() -> (World, tempfile::TempDir) {
    let world = World::new();
    world.state.lock().unwrap().guests.get_mut(&guest_uuid()).unwrap().active = false;
    (world, tempfile::tempdir().unwrap())
}

/// All of it is there, or nothing of it is; and nothing that must not happen did.
fn assert_booted(world: &World, booted: bool, context: &str) {
    world.assert_clean_of(booted, context);
    let state = world.state.lock().unwrap();
    let names: Vec<_> = state.volumes.values().map(|volume| volume.name.clone()).collect();
    assert_eq!(names.len(), if booted { 2 } else { 1 }, "{context}: {names:?}");
    assert!(names.iter().any(|name| name == "data"), "{context}: a volume that was there before is gone");
    let disks: Vec<_> = if booted { vec!["vda", "vdb"] } else { vec![] };
    assert_eq!(state.files.iter().collect::<Vec<_>>(), disks, "{context}: files");
    assert_eq!(state.defined.iter().collect::<Vec<_>>(), disks, "{context}: the definition");
    assert_eq!(state.guests[&guest_uuid()].active, booted, "{context}: the guest");
    let targets: Vec<_> = state.guests[&guest_uuid()].disks.iter().map(|disk| disk.target.clone()).collect();
    assert_eq!(targets.len(), if booted { 2 } else { 0 }, "{context}: {targets:?}");
}

#[test]
fn a_boot_and_a_delete_leave_what_was_there_before() {
    let (world, dir) = world();
    let view = live(&world, dir.path(), Some(boot())).unwrap();
    assert_eq!(view.state, OperationState::Succeeded, "{view:?}");
    assert_booted(&world, true, "after the boot");
    let view = live(&world, dir.path(), Some(delete())).unwrap();
    assert_eq!(view.state, OperationState::Succeeded, "{view:?}");
    assert_booted(&world, false, "after the delete");
}

#[test]
fn a_boot_struck_at_any_call_leaves_all_of_it_or_nothing() {
    let (world_before, dir) = world();
    live(&world_before, dir.path(), Some(boot()));
    let calls = world_before.state.lock().unwrap().names.clone();
    for (at, name) in calls.iter().enumerate() {
        for fault in FAULTS {
            let (world, dir) = world();
            world.state.lock().unwrap().fault = Some((at, fault));
            let view = live(&world, dir.path(), Some(boot()));
            if world.state.lock().unwrap().dead {
                world.state.lock().unwrap().dead = false;
                live(&world, dir.path(), None);
            }
            let booted = world.state.lock().unwrap().guests[&guest_uuid()].active;
            let context = format!("{fault:?} at {name} ({at}): {view:?}");
            assert_booted(&world, booted, &context);
            let settled = live(&world, dir.path(), Some(if booted { delete() } else { boot() })).unwrap();
            assert_eq!(settled.state, OperationState::Succeeded, "{context}, and then {settled:?}");
            assert_booted(&world, !booted, &context);
        }
    }
}

#[test]
fn a_delete_struck_at_any_call_is_done_in_the_end() {
    let (world_before, dir) = world();
    live(&world_before, dir.path(), Some(boot()));
    let before = world_before.state.lock().unwrap().calls;
    live(&world_before, dir.path(), Some(delete()));
    let calls = world_before.state.lock().unwrap().names[before..].to_vec();
    for (at, name) in calls.iter().enumerate() {
        for fault in FAULTS {
            let (world, dir) = world();
            live(&world, dir.path(), Some(boot()));
            {
                let mut state = world.state.lock().unwrap();
                state.fault = Some((state.calls + at, fault));
            }
            let mut view = live(&world, dir.path(), Some(delete()));
            if world.state.lock().unwrap().dead {
                world.state.lock().unwrap().dead = false;
                live(&world, dir.path(), None);
            }
            if world.state.lock().unwrap().guests[&guest_uuid()].active
                || view.as_ref().is_some_and(|view| view.state == OperationState::Failed)
            {
                // Its first step alone may fail, and then it is asked for again.
                view = live(&world, dir.path(), Some(delete()));
            }
            assert_booted(&world, false, &format!("{fault:?} at {name} ({at}): {view:?}"));
        }
    }
}

#[test]
fn a_volume_that_is_attached_again_by_hand_stays_when_its_guest_is_deleted() {
    use crate::agent::api::{AttachRequest, DetachRequest};
    let (world, dir) = world();
    live(&world, dir.path(), Some(boot()));
    let made = |world: &World| {
        let state = world.state.lock().unwrap();
        let mut volumes = state.volumes.values().filter(|volume| volume.name != "data");
        volumes.next().map(|volume| volume.id)
    };
    let volume = made(&world).unwrap();
    let by_hand = [
        Request::Detach(DetachRequest { volume: volume.to_string(), guest: None }),
        Request::Attach(AttachRequest {
            volume: volume.to_string(),
            guest: "guest-1".into(),
            bus: None,
            target: None,
            read_only: false,
            wishes: crate::model::DiskWishes::default(),
        }),
        delete(),
    ];
    for request in by_hand {
        let view = live(&world, dir.path(), Some(request)).unwrap();
        assert_eq!(view.state, OperationState::Succeeded, "{view:?}");
    }
    assert_eq!(made(&world), Some(volume), "whoever attached it did not ask for its end");
}

#[test]
fn a_guest_with_less_memory_than_its_image_needs_is_not_booted() {
    let (world, dir) = world();
    world.state.lock().unwrap().guests.get_mut(&guest_uuid()).unwrap().memory_mib = Some(63);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        use crate::agent::api::AgentApi;
        let agent = super::start(&world, dir.path()).await;
        let error = agent.submit(boot()).await.unwrap_err();
        assert!(error.kind == ErrorKind::InvalidInput && error.message.contains("64 MiB"), "{error}");
    });
}

#[test]
fn a_boot_tells_how_far_its_disks_are_and_is_cancelled_in_the_midst_of_making_them() {
    for (hangs, progress) in [("make_disk", ("vda", 1, 4)), ("create_volume", ("vdd", 0, 1))] {
        let (world, dir) = world();
        world.state.lock().unwrap().hanging.insert(hangs);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            use crate::agent::api::AgentApi;
            let agent = super::start(&world, dir.path()).await;
            let mut events = agent.events();
            let id = agent.submit(boot()).await.unwrap();
            let told = async {
                loop {
                    let disks = agent.operation(id).unwrap().disks;
                    if disks.iter().any(|disk| (disk.disk.as_str(), disk.done, disk.total) == progress) {
                        break;
                    }
                    let _ = events.recv().await;
                }
            };
            tokio::time::timeout(std::time::Duration::from_secs(60), told).await.expect("nothing is told");
            agent.cancel(id).await.unwrap();
            let ended = tokio::time::timeout(std::time::Duration::from_secs(60), super::end_of(&agent, id)).await;
            let ended = ended.expect("it waits for what hangs");
            assert_eq!(ended.state, OperationState::Cancelled, "{ended:?}");
            assert_booted(&world, false, hangs);
        });
    }
}

#[test]
fn a_delete_says_which_volume_it_kept() {
    let (world, dir) = world();
    live(&world, dir.path(), Some(boot())).unwrap();
    let made = world.state.lock().unwrap().volumes.values().find(|volume| volume.name != "data").unwrap().id;
    let snapshot = crate::model::SnapshotId(uuid::Uuid::from_u128(7));
    world.state.lock().unwrap().snapshots.insert(snapshot, (made, "of-it".into()));
    let view = live(&world, dir.path(), Some(delete())).unwrap();
    assert_eq!(view.state, OperationState::Succeeded, "{view:?}");
    assert!(world.state.lock().unwrap().volumes.contains_key(&made));
    let [remark] = view.remarks.as_slice() else { panic!("{view:?}") };
    assert!(remark.contains(&made.to_string()) && remark.contains("snapshots"), "{remark}");
}

#[test]
fn a_guest_is_booted_once_and_only_what_was_booted_is_deleted() {
    let (world, dir) = world();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        use crate::agent::api::AgentApi;
        let agent = super::start(&world, dir.path()).await;
        assert_eq!(agent.submit(delete()).await.unwrap_err().kind, ErrorKind::NotFound);
        let plan = agent.dry_run(boot()).await.unwrap();
        let steps: Vec<_> = plan.steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(steps, ["MakeDisks", "CreateVolumes", "GiveDisks", "StartGuest"]);
        assert!(plan.steps[0].description.contains("vda of image") && plan.steps[0].description.contains("swap"), "{plan:?}");
        let (one, other) = tokio::join!(agent.submit(boot()), agent.submit(boot()));
        assert_eq!(one.clone().unwrap(), other.unwrap(), "the same request is the same operation");
        super::end_of(&agent, one.unwrap()).await;
        let error = agent.submit(boot()).await.unwrap_err();
        assert!(error.kind == ErrorKind::Conflict && error.message.contains("bowline delete guest-1"), "{error}");
    });
}

#[test]
fn a_guest_that_a_boot_defines_is_one_however_often_it_is_asked_for_and_goes_with_its_delete() {
    let (world, dir) = world();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        use crate::agent::api::AgentApi;
        let agent = super::start(&world, dir.path()).await;
        let plan = agent.dry_run(boot_of_new("made")).await.unwrap();
        assert_eq!(plan.steps[0].name, "DefineGuest");
        let (one, other) = tokio::join!(agent.submit(boot_of_new("made")), agent.submit(boot_of_new("made")));
        assert_eq!(one.clone().unwrap(), other.unwrap(), "the same request is the same operation");
        let ended = super::end_of(&agent, one.unwrap()).await;
        assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
        let taken = agent.submit(boot_of_new("made")).await.unwrap_err();
        assert!(taken.kind == ErrorKind::Conflict && taken.message.contains("defined already"), "{taken}");
        assert_eq!(agent.submit(boot_of_new("guest-2")).await.unwrap_err().kind, ErrorKind::Conflict);

        // Somebody defined it anew by hand: it is theirs.
        let made = *world.state.lock().unwrap().marks.keys().next().unwrap();
        world.state.lock().unwrap().marks.clear();
        let id = agent.submit(delete_of("made")).await.unwrap();
        assert_eq!(super::end_of(&agent, id).await.state, OperationState::Succeeded);
        assert!(world.state.lock().unwrap().guests.contains_key(&made));
    });
}
