//! A guest lets go of a disk only after its detach has failed for that.

use super::{world::State, *};
use crate::agent::api::GuestChange;
use crate::agent::journal::AttachmentRecord;
use crate::agent::operations::{GuestNews, locks::Key};
use crate::model::GuestRun;
use tempfile::TempDir;
use tokio::sync::mpsc;

/// An agent whose guest has been asked for its disk in vain.
async fn unanswered() -> (World, TempDir, Agent) {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let agent = start(&world, dir.path()).await;
    let ended = |request| async { end_of(&agent, agent.submit(request).await.unwrap()).await };
    assert_eq!(ended(attach()).await.state, OperationState::Succeeded);
    world.state.lock().unwrap().ignores_unplug = true;
    let failed = ended(detach()).await;
    let failure = failed.failure.unwrap();
    assert_eq!((failed.state, failure.kind), (OperationState::Failed, ErrorKind::GuestRefused));
    assert!(failure.remedy.contains("goes on by itself"), "{failure:?}");
    world.assert_clean(true, "after the detach that was not answered");
    (world, dir, agent)
}

/// The guest lets go; its definition may name the disk all the same.
fn lets_go(world: &World) {
    let state = &mut *world.state.lock().unwrap();
    for disk in &mut disks_of(state).disks {
        disk.live = false;
    }
    state.guest_bytes.clear();
    state.ignores_unplug = false;
}

fn disks_of(state: &mut State) -> &mut crate::agent::operations::ports::GuestFacts {
    state.guests.get_mut(&guest_uuid()).unwrap()
}

/// All that was taken up has ended, and so many operations there are then.
async fn operations(agent: &Agent, count: usize) {
    let mut events = agent.events();
    let wait = async {
        while agent.operations().len() < count {
            let _ = events.recv().await;
        }
        for operation in agent.operations() {
            end_of(agent, operation.id).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("nothing was taken up");
    assert_eq!(agent.operations().len(), count, "{:?}", agent.operations());
}

/// Tells the agent's watch this, and waits until it has taken it all in.
async fn tell(agent: &Agent, news: impl IntoIterator<Item = GuestNews>) {
    let (sender, receiver) = mpsc::channel(8);
    for news in news {
        sender.send(news).await.unwrap();
    }
    drop(sender);
    agent.watch_guests(receiver).await;
}

#[tokio::test]
async fn a_late_answer_is_gone_on_with_to_the_end_of_the_detach() {
    let (world, _dir, agent) = unanswered().await;
    tell(&agent, [GuestNews::LetGo(guest_uuid())]).await;
    operations(&agent, 2).await;
    world.assert_clean(true, "another device than this was let go");
    lets_go(&world);
    tell(&agent, [GuestNews::LetGo(guest_uuid()), GuestNews::LetGo(guest_uuid())]).await;
    operations(&agent, 3).await;
    world.assert_clean(false, "after the late answer");
    assert!(agent.attachments().is_empty());
}

#[tokio::test]
async fn an_answer_between_the_last_look_and_the_end_is_not_missed() {
    let (world, _dir, agent) = unanswered().await;
    lets_go(&world);
    // No word of it comes: the end of the detach alone has the agent look.
    let (_sender, receiver) = mpsc::channel(1);
    tokio::select! {
        () = agent.watch_guests(receiver) => unreachable!(),
        () = operations(&agent, 3) => {}
    }
    world.assert_clean(false, "after the answer that nobody told");
}

#[tokio::test]
async fn an_answer_that_came_while_no_agent_ran_is_found_at_its_start() {
    let (world, dir, agent) = unanswered().await;
    agent.finish(Duration::from_secs(60)).await;
    drop(agent);
    lets_go(&world);
    let agent = start(&world, dir.path()).await;
    tell(&agent, []).await;
    operations(&agent, 3).await;
    world.assert_clean(false, "after the start");
}

#[tokio::test]
async fn what_nobody_asked_for_is_told_and_left() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let agent = start(&world, dir.path()).await;
    end_of(&agent, agent.submit(attach()).await.unwrap()).await;
    lets_go(&world);
    tell(&agent, [GuestNews::LetGo(guest_uuid())]).await;
    operations(&agent, 1).await;
    assert_eq!(agent.attachments().len(), 1);
    assert_eq!(agent.check(false).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_guest_that_ends_before_it_answers_keeps_its_disk() {
    let (world, _dir, agent) = unanswered().await;
    disks_of(&mut world.state.lock().unwrap()).active = false;
    tell(&agent, [GuestNews::Changed(guest_uuid(), GuestChange::Stopped)]).await;
    disks_of(&mut world.state.lock().unwrap()).active = true;
    tell(&agent, [GuestNews::Changed(guest_uuid(), GuestChange::Started)]).await;
    lets_go(&world);
    tell(&agent, [GuestNews::LetGo(guest_uuid())]).await;
    operations(&agent, 2).await;
    assert_eq!(agent.attachments().len(), 1, "nobody has asked this run of the guest");
}

fn asked_run(agent: &Agent) -> Option<GuestRun> {
    let [attached] = &agent.shared.registry.attachments()[..] else { panic!("{:?}", agent.attachments()) };
    attached.asked_run
}

#[tokio::test]
async fn a_run_that_ended_unseen_is_over_all_the_same() {
    for is_away in [true, false] {
        let (world, dir, agent) = unanswered().await;
        assert!(asked_run(&agent).is_some());
        world.state.lock().unwrap().starts += 1;
        let agent = if is_away {
            agent.finish(Duration::from_secs(60)).await;
            drop(agent);
            let agent = start(&world, dir.path()).await;
            tell(&agent, []).await;
            agent
        } else {
            // The guest runs again by the time that its end is heard of.
            tell(&agent, [GuestNews::Changed(guest_uuid(), GuestChange::Stopped)]).await;
            agent
        };
        assert_eq!(asked_run(&agent), None);
        lets_go(&world);
        tell(&agent, [GuestNews::LetGo(guest_uuid())]).await;
        operations(&agent, 2).await;
        assert_eq!(agent.attachments().len(), 1, "nobody has asked this run of the guest");
    }
}

#[tokio::test]
async fn a_run_that_ends_while_another_operation_has_the_volume_is_forgotten_later() {
    let (world, _dir, agent) = unanswered().await;
    let held = agent.shared.locks.lock(Key::Volume(volume_id())).await;
    world.state.lock().unwrap().starts += 1;
    lets_go(&world);
    tell(&agent, [GuestNews::LetGo(guest_uuid())]).await;
    assert!(asked_run(&agent).is_some());
    drop(held);
    tell(&agent, []).await;
    assert_eq!(asked_run(&agent), None);
    operations(&agent, 2).await;
    assert_eq!(agent.attachments().len(), 1, "nobody has asked this run of the guest");
}

#[tokio::test]
async fn a_journal_from_before_runs_were_known_is_read_and_nothing_is_awaited() {
    let (_world, _dir, agent) = unanswered().await;
    let mut written = serde_json::to_value(agent.shared.registry.attachments().remove(0)).unwrap();
    let fields = written.as_object_mut().unwrap();
    fields.remove("asked_run").expect("it is written");
    fields.insert("wanted_gone".into(), true.into());
    let read: AttachmentRecord = serde_json::from_value(written).unwrap();
    assert_eq!(read.asked_run, None);
}
