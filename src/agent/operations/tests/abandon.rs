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
