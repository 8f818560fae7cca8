//! Fills, which nobody asks for: struck at every call, with the guest on and off. The guest ends on a disk as any other.

use super::{FAULTS, agreement::settled, live, start, world::*};
use crate::agent::api::{AgentApi, OperationState, Request};
use crate::agent::operations::fill;
use crate::model::{BootRequest, BootedDisk};
use std::path::Path;

fn lazy_boot() -> Request {
    Request::Boot(BootRequest {
        guest: "guest-1".into(),
        image: Some("tiny".into()),
        image_size_gib: Some(1),
        mapping: String::new(),
        clauses: vec![],
        lazy: true,
        definition: None,
    })
}

/// A life of the agent in which everything comes to its end, or which ends before.
fn life(world: &World, dir: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let life = async {
            let agent = start(world, dir).await;
            settled(world, &agent).await.unwrap();
            let fills: Vec<_> = agent.operations().into_iter().filter(|view| view.kind == "fill").collect();
            assert!(fills.len() == 1 && fills[0].state == OperationState::Succeeded, "{fills:?}");
            let booted = agent.shared.registry.booted(guest_uuid()).unwrap();
            assert!(matches!(&booted.disks[..], [BootedDisk::Local(disk)] if disk.lazy.is_none()), "{booted:?}");
            fill::make_ready(&agent.shared, guest_uuid()).await.unwrap();
        };
        tokio::select! {
            () = life => {}
            () = world.died.notified() => {}
        }
    });
}

/// Fills once, with a fault at the call of this number. Returns the calls that were made.
fn filled(runs: bool, fault: Option<(usize, Fault)>) -> Vec<&'static str> {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    {
        let mut state = world.state.lock().unwrap();
        state.guests.get_mut(&guest_uuid()).unwrap().active = false;
        // Until it is looked at, it gets nowhere.
        state.refused.insert("fetching");
    }
    let booted = live(&world, dir.path(), Some(lazy_boot())).unwrap();
    assert_eq!(booted.state, OperationState::Succeeded, "{booted:?}");
    let before = {
        let mut state = world.state.lock().unwrap();
        state.guests.get_mut(&guest_uuid()).unwrap().active = runs;
        state.refused.clear();
        state.fault = fault.map(|(at, fault)| (state.calls + at, fault));
        state.calls
    };
    life(&world, dir.path());
    if std::mem::take(&mut world.state.lock().unwrap().dead) {
        life(&world, dir.path());
    }
    let state = world.state.lock().unwrap();
    assert_eq!(state.coming.iter().collect::<Vec<_>>(), [""; 0], "{fault:?}");
    assert_eq!(state.guests[&guest_uuid()].active, runs, "{fault:?}");
    state.names[before..].to_vec()
}

#[test]
fn a_fill_struck_at_any_call_is_done_in_the_end() {
    for (runs, call) in [(true, "pull_disk"), (false, "rebase_disk")] {
        let calls = filled(runs, None);
        assert!(calls.contains(&call) && calls.last() == Some(&"release_disk"), "{calls:?}");
        for at in 0..calls.len() {
            for fault in FAULTS {
                filled(runs, Some((at, fault)));
            }
        }
    }
}
