//! A snapshot, struck at every call: the image is whole or gone, whatever it was made of goes with it, and no guest stays frozen.

use super::{FAULTS, live, world::*};
use crate::agent::api::{OperationState, Request};
use crate::model::{BootRequest, SnapshotRequest};

fn boot(of_volume: bool) -> Request {
    let root = serde_json::json!([{"source_type": "volume", "uuid": "data", "boot_index": 0}]);
    Request::Boot(BootRequest {
        guest: "guest-1".into(),
        image: (!of_volume).then(|| "tiny".into()),
        image_size_gib: None,
        mapping: if of_volume { root.to_string() } else { String::new() },
        clauses: vec![],
        lazy: false,
        definition: None,
    })
}

fn snapshot() -> Request {
    Request::Snapshot(SnapshotRequest { guest: "guest-1".into(), name: "snap".into(), freeze: true })
}

/// A world with a guest that runs from an ephemeral disk or from a volume.
fn booted(of_volume: bool) -> (World, tempfile::TempDir) {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    {
        let mut state = world.state.lock().unwrap();
        state.guests.get_mut(&guest_uuid()).unwrap().active = false;
        state.volumes.get_mut(&volume_id()).unwrap().bootable = true;
    }
    let view = live(&world, dir.path(), Some(boot(of_volume))).unwrap();
    assert_eq!(view.state, OperationState::Succeeded, "{view:?}");
    (world, dir)
}

/// The image is whole with all that it names, or there is nothing.
fn assert_settled(world: &World, of_volume: bool, context: &str) -> bool {
    let state = world.state.lock().unwrap();
    assert!(!state.frozen, "{context}: the guest is frozen");
    assert!(!state.backup && state.captures.is_empty(), "{context}: something of the catching is left");
    assert!(state.images.values().all(|whole| *whole) && state.images.len() <= 1, "{context}: {:?}", state.images);
    let made = state.images.len() == 1;
    assert_eq!(state.snapshots.len(), usize::from(made && of_volume), "{context}: {:?}", state.snapshots);
    assert!(state.guests[&guest_uuid()].active, "{context}");
    assert_eq!(state.crimes, Vec::<String>::new(), "{context}");
    made
}

#[test]
fn a_snapshot_makes_an_image_and_leaves_nothing_else() {
    for of_volume in [false, true] {
        let (world, dir) = booted(of_volume);
        let view = live(&world, dir.path(), Some(snapshot())).unwrap();
        assert_eq!(view.state, OperationState::Succeeded, "{view:?}");
        assert!(assert_settled(&world, of_volume, "after it"));
        assert_eq!(view.image.as_ref(), world.state.lock().unwrap().images.keys().next());
    }
}

#[test]
fn a_stop_of_the_agent_thaws_at_once_what_is_frozen() {
    let (world, dir) = booted(false);
    world.state.lock().unwrap().hanging.insert("begin_backup");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        use crate::agent::api::AgentApi;
        let agent = super::start(&world, dir.path()).await;
        agent.submit(snapshot()).await.unwrap();
        let caught = async {
            while !world.state.lock().unwrap().names.contains(&"begin_backup") {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), caught).await.unwrap();
        assert!(world.state.lock().unwrap().frozen);
        // Less than the time that a guest may be frozen for.
        agent.finish(std::time::Duration::from_secs(5)).await;
        assert!(!world.state.lock().unwrap().frozen, "the agent is gone, and the guest is frozen");
    });
}

#[test]
fn a_snapshot_struck_at_any_call_leaves_a_whole_image_or_nothing() {
    for of_volume in [false, true] {
        let (world_before, dir) = booted(of_volume);
        let before = world_before.state.lock().unwrap().calls;
        live(&world_before, dir.path(), Some(snapshot()));
        let calls = world_before.state.lock().unwrap().names[before..].to_vec();
        for (at, name) in calls.iter().enumerate() {
            for fault in FAULTS {
                let (world, dir) = booted(of_volume);
                // Whether the disks are caught frozen is the agent's to say, and then it need not be.
                if *name == "freeze" {
                    world.state.lock().unwrap().may_run_on = true;
                }
                world.state.lock().unwrap().fault = Some((before + at, fault));
                let view = live(&world, dir.path(), Some(snapshot()));
                if world.state.lock().unwrap().dead {
                    world.state.lock().unwrap().dead = false;
                    live(&world, dir.path(), None);
                }
                let context = format!("{fault:?} at {name} ({at}), of a volume: {of_volume}: {view:?}");
                let made = assert_settled(&world, of_volume, &context);
                let done = view.is_some_and(|view| view.state == OperationState::Succeeded);
                assert!(made || !done, "{context}: it succeeded without an image");
            }
        }
    }
}
