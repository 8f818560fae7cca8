//! Two guests of one host with one volume, on the simulated world: the last to leave disconnects, whatever strikes.

use super::*;
use crate::agent::api::ExtendRequest;
use crate::model::DiskWishes;

fn attach_to(guest: &str, read_only: bool) -> Request {
    Request::Attach(AttachRequest {
        volume: "data".into(),
        guest: guest.into(),
        bus: None,
        target: None,
        read_only,
        wishes: DiskWishes::default(),
    })
}

fn detach_from(guest: &str) -> Request {
    Request::Detach(DetachRequest { volume: volume_id().to_string(), guest: Some(guest.into()) })
}

fn shared_world() -> World {
    let world = World::new();
    world.state.lock().unwrap().volumes.get_mut(&volume_id()).unwrap().multiattach = true;
    world
}

/// How many guests have it, and that host and service agree with that.
fn assert_held_by(world: &World, count: usize, context: &str) {
    let state = world.state.lock().unwrap();
    assert!(state.crimes.is_empty(), "{context}: {:?}", state.crimes);
    let guests = state.guests.values().filter(|guest| guest.disk(volume_id()).is_some()).count();
    assert_eq!(guests, count, "{context}: guests");
    assert_eq!(state.connected.contains(&volume_id()), count > 0, "{context}: connected");
    assert_eq!(state.attachments.len(), count, "{context}: attachments");
    assert_eq!(state.secrets.len(), count, "{context}: secrets");
    let status = if count > 0 { "in-use" } else { "available" };
    assert_eq!(state.volumes[&volume_id()].status, status, "{context}");
}

#[tokio::test]
async fn concurrent_attaches_share_one_connection_and_the_last_detach_ends_it_in_either_order() {
    for order in [["guest-1", "guest-2"], ["guest-2", "guest-1"]] {
        let (world, dir) = (shared_world(), tempfile::tempdir().unwrap());
        let agent = start(&world, dir.path()).await;
        let (one, two) = tokio::join!(agent.submit(attach_to("guest-1", false)), agent.submit(attach_to("guest-2", true)));
        for id in [one, two] {
            let view = end_of(&agent, id.unwrap()).await;
            assert_eq!(view.state, OperationState::Succeeded, "{view:?}");
        }
        assert_held_by(&world, 2, "both");
        let id = agent.submit(Request::Extend(ExtendRequest { volume: "data".into(), size_gib: 2 })).await.unwrap();
        let view = end_of(&agent, id).await;
        assert_eq!((view.state, view.guest_name.as_str()), (OperationState::Succeeded, "guest-1, guest-2"), "{view:?}");
        world.assert_sizes(2, "both guests");
        for (guest, left) in [(order[0], 1), (order[1], 0)] {
            let id = agent.submit(detach_from(guest)).await.unwrap();
            assert_eq!(end_of(&agent, id).await.state, OperationState::Succeeded);
            assert_held_by(&world, left, guest);
        }
    }
}

#[tokio::test]
async fn concurrent_detaches_and_an_attach_in_between_leave_what_the_last_one_says() {
    let (world, dir) = (shared_world(), tempfile::tempdir().unwrap());
    let agent = start(&world, dir.path()).await;
    for guest in ["guest-1", "guest-2"] {
        let id = agent.submit(attach_to(guest, false)).await.unwrap();
        end_of(&agent, id).await;
    }
    let (one, two) = tokio::join!(agent.submit(detach_from("guest-1")), agent.submit(detach_from("guest-2")));
    for id in [one.unwrap(), two.unwrap()] {
        assert_eq!(end_of(&agent, id).await.state, OperationState::Succeeded);
    }
    assert_held_by(&world, 0, "after concurrent detaches");

    // The second comes while the first, the only one, is leaving.
    let id = agent.submit(attach_to("guest-1", false)).await.unwrap();
    end_of(&agent, id).await;
    let leaving = agent.submit(detach_from("guest-1")).await.unwrap();
    let coming = agent.submit(attach_to("guest-2", true)).await.unwrap();
    assert_eq!(end_of(&agent, leaving).await.state, OperationState::Succeeded);
    let view = end_of(&agent, coming).await;
    assert_eq!(view.state, OperationState::Succeeded, "{view:?}");
    assert_held_by(&world, 1, "the second");
}

#[test]
fn the_second_attach_and_the_first_detach_struck_at_any_call_leave_the_other_guest_alone() {
    let calls = |prepare: &[Request], request: Request| {
        let (world, dir) = (shared_world(), tempfile::tempdir().unwrap());
        for request in prepare {
            live(&world, dir.path(), Some(request.clone()));
        }
        let before = world.state.lock().unwrap().calls;
        live(&world, dir.path(), Some(request));
        world.state.lock().unwrap().names[before..].to_vec()
    };
    let one = [attach_to("guest-1", false)];
    let both = [attach_to("guest-1", false), attach_to("guest-2", true)];
    for (prepare, request) in [(&one[..], attach_to("guest-2", true)), (&both[..], detach_from("guest-1"))] {
        let calls = calls(prepare, request.clone());
        assert!(!calls.contains(&"disconnect"), "{calls:?}");
        for (at, name) in calls.iter().enumerate() {
            for fault in FAULTS {
                let context = format!("{} {fault:?} at {name}", request.kind());
                let (world, dir) = (shared_world(), tempfile::tempdir().unwrap());
                for request in prepare {
                    live(&world, dir.path(), Some(request.clone()));
                }
                {
                    let mut state = world.state.lock().unwrap();
                    state.fault = Some((state.calls + at, fault));
                }
                let view = live(&world, dir.path(), Some(request.clone()));
                live(&world, dir.path(), None);
                if request.kind() == "detach" && view.is_some_and(|view| view.state == OperationState::Failed) {
                    // Whether the guest has let go was not known: asked again, it is.
                    assert_eq!(*name, "detach_disk", "{context}");
                    live(&world, dir.path(), Some(request.clone()));
                }
                let has = |guest: &str| {
                    let state = world.state.lock().unwrap();
                    state.guests.values().any(|facts| facts.name == guest && facts.disk(volume_id()).is_some())
                };
                let other = if request.kind() == "attach" { "guest-1" } else { "guest-2" };
                assert!(has(other), "{context}: the other guest lost its disk");
                let held = ["guest-1", "guest-2"].into_iter().filter(|guest| has(guest)).collect::<Vec<_>>();
                assert_held_by(&world, held.len(), &context);
                for guest in held {
                    live(&world, dir.path(), Some(detach_from(guest)));
                }
                assert_held_by(&world, 0, &context);
            }
        }
    }
}
