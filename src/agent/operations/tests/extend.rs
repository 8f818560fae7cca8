//! Extending on the simulated world: struck at every call, by somebody else, across a reboot, and beside a detach.

use super::*;
use crate::agent::api::{ExtendRequest, StepState};
use crate::model::GIB;

fn extend(size_gib: u64) -> Request {
    Request::Extend(ExtendRequest { volume: "data".into(), size_gib })
}

fn size_in_journal(agent: &Agent) -> u64 {
    agent.attachments()[0].size_bytes
}

#[test]
fn every_layer_of_an_attached_volume_grows_and_the_journal_knows() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    live(&world, dir.path(), Some(attach()));
    let view = live(&world, dir.path(), Some(extend(3))).unwrap();
    assert_eq!(view.state, OperationState::Succeeded, "{view:?}");
    world.assert_sizes(3, "after the extend");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let journalled = runtime.block_on(async { size_in_journal(&start(&world, dir.path()).await) });
    assert_eq!(journalled, 3 * GIB, "after a restart");
    drop(runtime);
    assert_eq!(live(&world, dir.path(), Some(detach())).unwrap().state, OperationState::Succeeded);
    world.assert_clean(false, "after the detach");
}

#[test]
fn what_no_guest_has_is_the_services_alone() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let view = live(&world, dir.path(), Some(extend(2))).unwrap();
    assert_eq!(view.state, OperationState::Succeeded, "{view:?}");
    assert_eq!(view.steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>(), ["ExtendVolume"]);
    world.assert_sizes(2, "detached");
}

#[test]
fn an_extend_struck_at_any_call_ends_with_equal_layers_or_with_nothing_extended() {
    let calls = calls_of(Some(attach()), extend(4));
    assert_eq!(calls, ["extend_volume", "grow", "resize_disk"]);
    for (at, name) in calls.iter().enumerate() {
        for fault in FAULTS {
            let context = format!("{fault:?} at {name}");
            let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
            live(&world, dir.path(), Some(attach()));
            {
                let mut state = world.state.lock().unwrap();
                state.fault = Some((state.calls + at, fault));
            }
            let view = live(&world, dir.path(), Some(extend(4)));
            let died = world.state.lock().unwrap().dead;
            let size_gib = match view {
                // Only a refusal of the service itself ends it, with nothing done.
                Some(view) if view.state == OperationState::Failed => {
                    assert_eq!((*name, fault), ("extend_volume", Fault::Refused), "{view:?}");
                    assert!(view.failure.unwrap().message.contains("extend_volume refused"), "{context}");
                    1
                }
                Some(view) => {
                    assert_eq!(view.state, OperationState::Succeeded, "{context}: {view:?}");
                    4
                }
                None => {
                    assert!(died, "{context}");
                    live(&world, dir.path(), None);
                    4
                }
            };
            world.assert_sizes(size_gib, &context);
            assert!(
                world.state.lock().unwrap().names.iter().filter(|call| **call == "extend_volume").count() <= 2,
                "{context}"
            );
            // And it can be detached, or extended again.
            let view = live(&world, dir.path(), Some(extend(5))).unwrap();
            assert_eq!(view.state, OperationState::Succeeded, "{context}: {view:?}");
            world.assert_sizes(5, &context);
            live(&world, dir.path(), Some(detach()));
            world.assert_clean(false, &context);
        }
    }
}

#[tokio::test]
async fn a_volume_that_somebody_else_extended_is_grown_once() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let agent = start(&world, dir.path()).await;
    let id = agent.submit(attach()).await.unwrap();
    end_of(&agent, id).await;
    agent.look().await;
    assert_eq!(agent.operations().len(), 1, "nothing to grow");
    world.state.lock().unwrap().volumes.get_mut(&volume_id()).unwrap().size_gib = 7;
    agent.look().await;
    agent.look().await;
    let operations = agent.operations();
    assert_eq!(operations.len(), 2, "{operations:?}");
    let view = end_of(&agent, operations[1].id).await;
    assert_eq!((view.kind.as_str(), view.state), ("extend", OperationState::Succeeded), "{view:?}");
    assert!(view.steps.iter().all(|step| step.name != "ExtendVolume"), "{view:?}");
    world.assert_sizes(7, "after the look");
    agent.look().await;
    assert_eq!(agent.operations().len(), 2, "grown already");
}

#[test]
fn after_a_reboot_a_volume_comes_back_with_the_size_it_has_now() {
    for extended_here in [true, false] {
        let context = format!("extended by this agent: {extended_here}");
        let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
        live(&world, dir.path(), Some(attach()));
        if extended_here {
            // The power goes after the service has extended the volume and before the host has seen it.
            let mut state = world.state.lock().unwrap();
            state.fault = Some((state.calls, Fault::DiesAfter));
            drop(state);
            live(&world, dir.path(), Some(extend(3)));
        } else {
            world.state.lock().unwrap().volumes.get_mut(&volume_id()).unwrap().size_gib = 3;
        }
        {
            let mut state = world.state.lock().unwrap();
            state.connected.clear();
            state.host_bytes.clear();
            state.guest_bytes.clear();
            state.guests.values_mut().for_each(|guest| guest.active = false);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let agent = start(&world, dir.path()).await;
            for operation in agent.operations() {
                end_of(&agent, operation.id).await;
            }
            assert_eq!(agent.reconnect().await, 0, "{context}");
            assert_eq!(size_in_journal(&agent), 3 * GIB, "{context}");
        });
        world.assert_sizes(3, &context);
    }
}

#[tokio::test]
async fn a_guest_that_does_not_grow_is_shown_as_stuck_and_can_be_detached_meanwhile() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let agent = start(&world, dir.path()).await;
    let attached = agent.submit(attach()).await.unwrap();
    end_of(&agent, attached).await;
    refuse(&world, "resize_disk");
    let id = agent.submit(extend(2)).await.unwrap();
    let stuck = state_of(&agent, id, OperationState::Stuck).await;
    assert_eq!(stuck.steps.iter().map(|step| step.state).collect::<Vec<_>>()[..2], [StepState::Succeeded; 2]);
    let failure = stuck.failure.unwrap();
    assert!(failure.message.contains("guest guest-1 does not yet") && !failure.remedy.is_empty(), "{failure:?}");
    assert!(agent.cancel(id).await.is_err(), "an extension cannot be taken back");
    assert_eq!(agent.submit(extend(2)).await.unwrap(), id, "asked for again, it is the same operation");
    let detached = agent.submit(detach()).await.unwrap();
    assert_eq!(end_of(&agent, detached).await.state, OperationState::Succeeded);
    assert_eq!(end_of(&agent, id).await.state, OperationState::Succeeded, "nobody is left to grow for");
    world.assert_clean(false, "after the detach");
}

#[tokio::test]
async fn a_size_that_is_smaller_or_is_there_already_is_refused_and_a_dry_run_touches_nothing() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let agent = start(&world, dir.path()).await;
    world.state.lock().unwrap().volumes.get_mut(&volume_id()).unwrap().size_gib = 4;
    for (size_gib, kind, word) in [(3, ErrorKind::InvalidInput, "never shrunk"), (4, ErrorKind::Conflict, "4 GiB already")] {
        let error = agent.submit(extend(size_gib)).await.unwrap_err();
        assert!(error.kind == kind && error.message.contains(word), "{error}");
    }
    let plan = agent.dry_run(extend(9)).await.unwrap();
    assert!(plan.kind == "extend" && plan.guest_name.is_empty(), "{plan:?}");
    assert!(plan.steps[0].description.contains("never be taken back"), "{plan:?}");
    assert_eq!(world.state.lock().unwrap().calls, 0);
}
