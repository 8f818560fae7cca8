//! Fills, which nobody asks for: struck at every call, with the guest on and off. The guest ends on a disk as any other.

use super::{FAULTS, agreement::settled, allow_all, end_of, live, refuse, start, state_of, world::*};
use crate::agent::api::{
    AgentApi, DeleteRequest, OperationState, OperationView, RebuildRequest, Request, RescueRequest, StartRequest, StopRequest,
};
use crate::agent::operations::{Agent, fill, locks::Key};
use crate::model::{BootRequest, BootedDisk, ErrorKind, OperationId};
use std::{path::Path, time::Duration};

fn lazy_boot() -> Request {
    boot("guest-1", true)
}

fn boot(guest: &str, lazy: bool) -> Request {
    Request::Boot(BootRequest {
        guest: guest.into(),
        image: Some("tiny".into()),
        image_size_gib: Some(1),
        mapping: String::new(),
        clauses: vec![],
        lazy,
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

fn fills(agent: &Agent) -> Vec<OperationView> {
    agent.operations().into_iter().filter(|view| view.kind == "fill").collect()
}

/// The fill after so many. It begins a moment after what it begins by has ended.
async fn fill_after(agent: &Agent, before: usize) -> OperationId {
    let mut events = agent.events();
    let begun = async {
        loop {
            if let Some(view) = fills(agent).get(before) {
                return view.id;
            }
            let _ = events.recv().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), begun).await.unwrap()
}

async fn done(agent: &Agent, request: Request) -> OperationView {
    let id = agent.submit(request).await.unwrap();
    let view = end_of(agent, id).await;
    assert_eq!(view.state, OperationState::Succeeded, "{view:?}");
    view
}

/// A guest that was booted lazily from an image that does not come, and its fill, which is stuck.
async fn starved(world: &World, dir: &Path) -> (Agent, OperationView) {
    for guest in world.state.lock().unwrap().guests.values_mut() {
        guest.active = false;
    }
    refuse(world, "fetching");
    let agent = start(world, dir).await;
    done(&agent, lazy_boot()).await;
    let fill = fill_after(&agent, 0).await;
    let stuck = state_of(&agent, fill, OperationState::Stuck).await;
    (agent, stuck)
}

/// Waits until it is told that the image is damaged.
async fn known_damaged(agent: &Agent, fill: OperationId) {
    let mut events = agent.events();
    let known = async {
        while agent.shared.registry.record(fill).unwrap().facts.damaged.is_empty() {
            let _ = events.recv().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), known).await.expect("nothing is told of the damage");
}

fn stop() -> Request {
    Request::Stop(StopRequest { guest: "guest-1".into(), force: true })
}

#[test]
fn a_fill_that_was_given_up_stays_so_until_its_guest_is_started_again() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime().block_on(async {
        let (agent, stuck) = starved(&world, dir.path()).await;
        agent.abandon(stuck.id).await.unwrap();
        let told = agent.operation(stuck.id).unwrap().failure.unwrap();
        assert!(told.remedy.contains("bowline start guest-1") && told.remedy.contains("bowline rebuild guest-1"), "{told:?}");
        let rescue = RescueRequest { guest: "guest-1".into(), image: "tiny".into(), size_gib: None, force: true };
        let refused = agent.submit(Request::Rescue(rescue)).await.unwrap_err();
        assert!(refused.kind == ErrorKind::Conflict && refused.message.contains("was given up"), "{refused}");
        done(&agent, boot("guest-2", false)).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(fills(&agent).len(), 1, "another guest's boot takes it up again");
    });
    allow_all(&world);
    runtime().block_on(async {
        let agent = start(&world, dir.path()).await;
        let views = fills(&agent);
        assert!(views.len() == 1 && views[0].state == OperationState::Abandoned, "{views:?}");
        done(&agent, stop()).await;
        done(&agent, Request::Start(StartRequest { guest: "guest-1".into() })).await;
        let again = fill_after(&agent, 1).await;
        assert_eq!(end_of(&agent, again).await.state, OperationState::Succeeded);
        let booted = agent.shared.registry.booted(guest_uuid()).unwrap();
        assert!(matches!(&booted.disks[..], [BootedDisk::Local(disk)] if disk.lazy.is_none()), "{booted:?}");
    });
}

#[tokio::test]
async fn whoever_asks_at_once_a_fill_begins_once() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let (agent, stuck) = starved(&world, dir.path()).await;
    agent.abandon(stuck.id).await.unwrap();
    let wanted = fill::taken_up_again(&agent.shared, guest_uuid()).unwrap();
    agent.shared.registry.put_guest(wanted);
    let begin = || fill::begin(&agent.shared, guest_uuid());
    tokio::join!(begin(), begin(), fill::begin_all(&agent.shared));
    assert_eq!(fills(&agent).len(), 2, "the one that was given up, and one");
}

#[tokio::test]
async fn a_guest_whose_image_never_comes_is_rebuilt_or_deleted_and_its_fill_ends() {
    for rebuilt in [true, false] {
        let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
        let (agent, stuck) = starved(&world, dir.path()).await;
        done(&agent, stop()).await;
        if rebuilt {
            done(&agent, Request::Rebuild(RebuildRequest { guest: "guest-1".into(), image: "tiny".into(), size_gib: None }))
                .await;
        } else {
            done(&agent, Request::Delete(DeleteRequest { guest: "guest-1".into() })).await;
        }
        allow_all(&world);
        assert_eq!(end_of(&agent, stuck.id).await.state, OperationState::Cancelled);
        let booted = agent.shared.registry.booted(guest_uuid());
        match booted.map(|booted| booted.disks) {
            Some(disks) => {
                assert!(rebuilt && matches!(&disks[..], [BootedDisk::Local(disk)] if disk.lazy.is_none()), "{disks:?}")
            }
            None => assert!(!rebuilt),
        }
        assert_eq!(fills(&agent).len(), 1);
    }
}

#[tokio::test]
async fn a_disk_stays_as_it_is_for_a_guest_whose_memory_was_saved() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let (agent, stuck) = starved(&world, dir.path()).await;
    done(&agent, stop()).await;
    world.state.lock().unwrap().saved.insert(guest_uuid());
    let rebuild = || Request::Rebuild(RebuildRequest { guest: "guest-1".into(), image: "tiny".into(), size_gib: None });
    let refused = agent.submit(rebuild()).await.unwrap_err();
    assert!(refused.kind == ErrorKind::Conflict && refused.message.contains("memory was saved"), "{refused}");
    allow_all(&world);
    let mut events = agent.events();
    let waits = async {
        while !agent.operation(stuck.id).unwrap().failure.is_some_and(|failure| failure.message.contains("memory was saved")) {
            let _ = events.recv().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waits).await.unwrap();
    assert!(!world.state.lock().unwrap().names.contains(&"rebase_disk"));
    // Its image is here: there is nothing left to be rid of, and a rebuild waits.
    world.state.lock().unwrap().saved.clear();
    assert_eq!(end_of(&agent, stuck.id).await.state, OperationState::Succeeded);
    done(&agent, rebuild()).await;
}

#[test]
fn an_image_that_proved_to_be_damaged_stays_so_whatever_is_in_the_way_when_the_agent_ends() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for in_the_way in ["another operation", "libvirt"] {
        let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
        runtime().block_on(async {
            let (agent, stuck) = starved(&world, dir.path()).await;
            let _held = agent.shared.locks.lock(Key::Instance(guest_uuid())).await;
            world.state.lock().unwrap().damages = true;
            allow_all(&world);
            if in_the_way == "libvirt" {
                refuse(&world, "suspend_guest");
            }
            known_damaged(&agent, stuck.id).await;
            let refused = fill::make_ready(&agent.shared, guest_uuid()).await.unwrap_err();
            assert_eq!(refused.kind, ErrorKind::IdentityMismatch, "{in_the_way}: {refused}");
            assert!(agent.operation(stuck.id).unwrap().state != OperationState::Failed, "{in_the_way}");
        });
        // What comes from now on is right, and what the guest has read was not.
        world.state.lock().unwrap().damages = false;
        world.state.lock().unwrap().suspended.clear();
        allow_all(&world);
        runtime().block_on(async {
            let agent = start(&world, dir.path()).await;
            let views = fills(&agent);
            assert_eq!(views.len(), 1, "{in_the_way}: {views:?}");
            let ended = end_of(&agent, views[0].id).await;
            assert_eq!(ended.state, OperationState::Failed, "{in_the_way}: {ended:?}");
            assert_eq!(ended.failure.unwrap().kind, ErrorKind::IdentityMismatch, "{in_the_way}");
            let booted = agent.shared.registry.booted(guest_uuid()).unwrap();
            let is_damaged =
                |disk: &BootedDisk| matches!(disk, BootedDisk::Local(disk) if disk.lazy.as_ref().unwrap().is_damaged);
            assert!(booted.disks.iter().all(is_damaged), "{in_the_way}: {booted:?}");
        });
        let state = world.state.lock().unwrap();
        assert!(state.suspended.contains(&guest_uuid()), "{in_the_way}: the guest runs");
        assert!(!state.names.contains(&"pull_disk"), "{in_the_way}");
    }
}

#[tokio::test]
async fn a_fill_of_a_damaged_image_that_is_given_up_leaves_it_damaged() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let (agent, stuck) = starved(&world, dir.path()).await;
    world.state.lock().unwrap().damages = true;
    allow_all(&world);
    refuse(&world, "suspend_guest");
    known_damaged(&agent, stuck.id).await;
    agent.abandon(stuck.id).await.unwrap();
    done(&agent, stop()).await;
    let id = agent.submit(Request::Start(StartRequest { guest: "guest-1".into() })).await;
    let refused = match id {
        Ok(id) => end_of(&agent, id).await.failure.map(|failure| failure.kind),
        Err(error) => Some(error.kind),
    };
    assert_eq!(refused, Some(ErrorKind::IdentityMismatch));
}
