//! Giving up on the simulated world.

use super::*;
use crate::agent::api::ExtendRequest;

async fn stuck_detach(agent: &Agent, world: &World) -> OperationId {
    let id = agent.submit(attach()).await.unwrap();
    end_of(agent, id).await;
    refuse(world, "delete_attachment");
    let id = agent.submit(detach()).await.unwrap();
    state_of(agent, id, OperationState::Stuck).await;
    id
}

#[test]
fn what_is_given_up_says_what_it_left_and_is_never_taken_up_again() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let id = runtime.block_on(async {
        let agent = start(&world, dir.path()).await;
        let id = stuck_detach(&agent, &world).await;
        agent.abandon(id).await.unwrap();
        let view = agent.operation(id).unwrap();
        assert_eq!(view.state, OperationState::Abandoned);
        let failure = view.failure.unwrap();
        assert!(failure.message.contains("left behind") && failure.message.contains("still has attachment"), "{failure:?}");
        assert!(failure.remedy.contains("openstack volume attachment delete"), "{failure:?}");
        assert!(agent.attachments().is_empty(), "the guest has let go");
        let again = agent.abandon(id).await;
        assert_eq!(again, Ok(()), "asked twice, it is so");
        assert!(agent.cancel(id).await.is_err());
        id
    });
    drop(runtime);
    // Nothing tries it again, though it would work now.
    allow_all(&world);
    let before = world.state.lock().unwrap().calls;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let agent = start(&world, dir.path()).await;
        assert_eq!(agent.operation(id).unwrap().state, OperationState::Abandoned);
        assert_eq!(world.state.lock().unwrap().calls, before);
        // An operator has freed it in the service; then it is a volume like any other.
        {
            let mut state = world.state.lock().unwrap();
            state.attachments.clear();
            state.volumes.get_mut(&volume_id()).unwrap().status = "available".into();
        }
        for request in [attach(), detach()] {
            let id = agent.submit(request).await.unwrap();
            assert_eq!(end_of(&agent, id).await.state, OperationState::Succeeded);
        }
    });
    world.assert_clean(false, "after another attach and detach");
}

#[tokio::test]
async fn what_waits_for_the_volume_goes_on_once_the_stuck_one_is_given_up() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let agent = start(&world, dir.path()).await;
    let stuck = stuck_detach(&agent, &world).await;
    let waiting = agent.submit(Request::Extend(ExtendRequest { volume: "data".into(), size_gib: 2 })).await.unwrap();
    assert_eq!(agent.operation(waiting).unwrap().state, OperationState::Queued);
    let error = agent.abandon(waiting).await.unwrap_err();
    assert!(error.kind == ErrorKind::Conflict && error.message.contains("only what is stuck"), "{error}");
    agent.abandon(stuck).await.unwrap();
    assert_eq!(end_of(&agent, waiting).await.state, OperationState::Succeeded);
}

#[tokio::test]
async fn an_attach_that_cannot_be_undone_can_be_given_up_too() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let agent = start(&world, dir.path()).await;
    refuse(&world, "attach_disk");
    refuse(&world, "disconnect");
    let id = agent.submit(attach()).await.unwrap();
    state_of(&agent, id, OperationState::Stuck).await;
    agent.abandon(id).await.unwrap();
    let view = agent.operation(id).unwrap();
    let failure = view.failure.unwrap();
    assert_eq!(view.state, OperationState::Abandoned);
    assert!(failure.message.contains("still connected") && failure.message.contains("still has attachment"), "{failure:?}");
    assert!(!failure.message.contains("still have the disk"), "the guest's disk was undone: {failure:?}");
}

#[tokio::test]
async fn an_attach_given_up_while_its_guest_has_the_disk_keeps_the_device_for_it_until_it_is_detached() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    world.state.lock().unwrap().volumes.get_mut(&volume_id()).unwrap().multiattach = true;
    let agent = start(&world, dir.path()).await;
    let to_second = AttachRequest {
        volume: "data".into(),
        guest: "guest-2".into(),
        bus: None,
        target: None,
        read_only: false,
        wishes: DiskWishes::default(),
    };
    let id = agent.submit(Request::Attach(to_second)).await.unwrap();
    assert_eq!(end_of(&agent, id).await.state, OperationState::Succeeded);
    refuse(&world, "complete_attachment");
    refuse(&world, "detach_disk");
    let id = agent.submit(attach()).await.unwrap();
    state_of(&agent, id, OperationState::Stuck).await;
    agent.abandon(id).await.unwrap();
    let failure = agent.operation(id).unwrap().failure.unwrap();
    assert!(failure.remedy.contains("bowline detach"), "{failure:?}");
    allow_all(&world);
    let request = DetachRequest { volume: volume_id().to_string(), guest: Some("guest-2".into()) };
    let id = agent.submit(Request::Detach(request)).await.unwrap();
    assert_eq!(end_of(&agent, id).await.state, OperationState::Succeeded);
    {
        let state = world.state.lock().unwrap();
        assert!(state.crimes.is_empty(), "{:?}", state.crimes);
        assert!(state.connected.contains(&volume_id()), "the first guest still has the disk");
    }
    let view = agent.submit(detach()).await.unwrap();
    assert_eq!(end_of(&agent, view).await.state, OperationState::Succeeded);
    world.assert_clean(false, "after an ordinary detach");
}

#[test]
fn a_detach_waits_for_no_attach_that_a_restart_cut_and_takes_nothing_from_it() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    world.state.lock().unwrap().volumes.get_mut(&volume_id()).unwrap().multiattach = true;
    live(&world, dir.path(), Some(attach()));
    // The second guest's attach is cut once the guest has the disk, and cannot be looked at after the restart.
    let to_second = AttachRequest {
        volume: "data".into(),
        guest: "guest-2".into(),
        bus: None,
        target: None,
        read_only: false,
        wishes: DiskWishes::default(),
    };
    {
        let mut state = world.state.lock().unwrap();
        state.fault = Some((state.calls + 5, Fault::DiesAfter));
    }
    live(&world, dir.path(), Some(Request::Attach(to_second)));
    world.state.lock().unwrap().hypervisor_away = true;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let agent = start(&world, dir.path()).await;
        let cut = agent.operations().into_iter().find(|view| !view.state.is_final() || view.state == OperationState::Stuck);
        let cut = cut.expect("the cut attach").id;
        state_of(&agent, cut, OperationState::Stuck).await;
        assert!(agent.shared.registry.is_shared(volume_id(), guest_uuid()), "the second guest may have it");
        agent.abandon(cut).await.unwrap();
        assert_eq!(agent.attachments().len(), 2);
        world.state.lock().unwrap().hypervisor_away = false;
        let request = DetachRequest { volume: volume_id().to_string(), guest: Some("guest-1".into()) };
        let id = agent.submit(Request::Detach(request)).await.unwrap();
        assert_eq!(end_of(&agent, id).await.state, OperationState::Succeeded);
    });
    let state = world.state.lock().unwrap();
    assert!(state.crimes.is_empty() && state.connected.contains(&volume_id()), "{:?}", state.crimes);
}

#[tokio::test]
async fn a_detach_given_up_leaves_no_secret_unless_it_names_it() {
    for libvirt_refuses in [false, true] {
        let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
        world.state.lock().unwrap().encrypted = true;
        let agent = start(&world, dir.path()).await;
        let id = agent.submit(attach()).await.unwrap();
        end_of(&agent, id).await;
        refuse(&world, "disconnect");
        if libvirt_refuses {
            refuse(&world, "undefine_secret");
        }
        let id = agent.submit(detach()).await.unwrap();
        state_of(&agent, id, OperationState::Stuck).await;
        agent.abandon(id).await.unwrap();
        let failure = agent.operation(id).unwrap().failure.unwrap();
        let secrets = world.state.lock().unwrap().secrets.clone();
        assert_eq!(secrets.len(), if libvirt_refuses { 2 } else { 0 });
        for secret in secrets {
            assert!(failure.remedy.contains(&format!("virsh secret-undefine {secret}")), "{failure:?}");
        }
        assert!(libvirt_refuses || !failure.message.contains("secret"), "{failure:?}");
    }
}

#[tokio::test]
async fn the_watch_leaves_a_growth_given_up_though_its_operation_is_forgotten() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let agent = start(&world, dir.path()).await;
    let id = agent.submit(attach()).await.unwrap();
    end_of(&agent, id).await;
    refuse(&world, "grow");
    world.state.lock().unwrap().volumes.get_mut(&volume_id()).unwrap().size_gib = 2;
    agent.look().await;
    let id = agent.operations()[1].id;
    state_of(&agent, id, OperationState::Stuck).await;
    agent.abandon(id).await.unwrap();
    agent.shared.registry.forget_operation(id);
    agent.look().await;
    assert_eq!(agent.operations().len(), 1);
}

#[tokio::test]
async fn a_growth_that_was_given_up_is_not_begun_again_by_the_watch() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let agent = start(&world, dir.path()).await;
    let id = agent.submit(attach()).await.unwrap();
    end_of(&agent, id).await;
    refuse(&world, "grow");
    world.state.lock().unwrap().volumes.get_mut(&volume_id()).unwrap().size_gib = 2;
    agent.look().await;
    let id = agent.operations()[1].id;
    state_of(&agent, id, OperationState::Stuck).await;
    agent.abandon(id).await.unwrap();
    agent.look().await;
    assert_eq!(agent.operations().len(), 2);
    // A later extension is another matter.
    allow_all(&world);
    world.state.lock().unwrap().volumes.get_mut(&volume_id()).unwrap().size_gib = 3;
    agent.look().await;
    let id = agent.operations()[2].id;
    assert_eq!(end_of(&agent, id).await.state, OperationState::Succeeded);
    world.assert_sizes(3, "after the later one");
}

#[tokio::test]
async fn nothing_but_what_is_stuck_can_be_given_up() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let agent = start(&world, dir.path()).await;
    assert_eq!(agent.abandon(OperationId::random()).await.unwrap_err().kind, ErrorKind::NotFound);
    let id = agent.submit(attach()).await.unwrap();
    end_of(&agent, id).await;
    assert_eq!(agent.abandon(id).await.unwrap_err().kind, ErrorKind::Conflict);
    world.assert_clean(true, "after a refusal");
}
