//! Operations on a simulated world: failing, losing answers and dying at every single call.

mod abandon;
mod adopt;
mod afresh;
mod agreement;
mod boot;
mod extend;
mod fill;
mod fsck;
mod histories;
mod late_unplug;
mod matrix;
mod multiattach;
mod power;
mod rebuild;
mod rescue;
mod snapshot;
mod world;

use super::{Agent, Parts, Shared, retry::RetryPolicy};
use crate::agent::api::{AgentApi, AttachRequest, DetachRequest, OperationState, OperationView, Request};
use crate::agent::config;
use crate::agent::journal::{Contents, Journal, JournalError, Memory};
use crate::model::{DiskWishes, ErrorKind, OperationId};
use std::{
    path::Path,
    sync::{Arc, LazyLock},
    time::Duration,
};
use world::{Fault, World, guest_uuid, volume_id};

const FAULTS: [Fault; 4] = [Fault::Refused, Fault::AnswerLost, Fault::DiesBefore, Fault::DiesAfter];

fn attach() -> Request {
    Request::Attach(AttachRequest {
        volume: "data".into(),
        guest: "guest-1".into(),
        bus: None,
        target: None,
        read_only: false,
        wishes: DiskWishes::default(),
    })
}

fn detach() -> Request {
    Request::Detach(DetachRequest { volume: volume_id().to_string(), guest: None })
}

fn parts(world: &World, dir: &Path) -> Parts {
    world.state.lock().unwrap().dead = false;
    let (journal, contents) = world.memory.as_ref().map_or_else(|| journal_in(dir), Memory::open);
    let world = Arc::new(world.clone());
    Parts {
        volumes: world.clone(),
        connectors: world.clone(),
        hypervisor: world.clone(),
        boot_sources: world,
        journal,
        contents,
    }
}

fn journal_in(dir: &Path) -> (Journal, Contents) {
    // The journal's thread of the life before lets the file go a moment after its runtime is gone.
    (0..12_000)
        .find_map(|_| match Journal::open(dir) {
            Ok(opened) => Some(opened),
            Err(JournalError::InUse { .. }) => {
                std::thread::sleep(Duration::from_millis(5));
                None
            }
            Err(error) => panic!("{error}"),
        })
        .expect("the journal of the life before is never let go")
}

async fn start(world: &World, dir: &Path) -> Agent {
    start_tuned(world, dir, |_| {}).await
}

/// Prints a table, and leaves it in cargo's target folder, where `make test-unit` shows it: what a test prints that succeeds is not seen.
fn tell(name: &str, table: &str) {
    println!("{table}");
    // TARGET/debug/deps/TEST.
    let test = std::env::current_exe().unwrap();
    std::fs::write(test.ancestors().nth(3).unwrap().join(name), table).unwrap();
}

/// Starts an agent whose limits are others than usual.
async fn start_tuned(world: &World, dir: &Path, tune: impl FnOnce(&mut Shared)) -> Agent {
    let retry = RetryPolicy {
        first_delay: Duration::from_millis(1),
        longest_delay: Duration::from_millis(10),
        patience: Duration::from_millis(5),
    };
    static SETTINGS: LazyLock<config::Settings> = LazyLock::new(|| config::load(&[]).unwrap());
    let mut settings = SETTINGS.clone();
    settings.paths.run_dir = dir.join("run");
    let mut parts = parts(world, dir);
    let operations = std::mem::take(&mut parts.contents.operations);
    let mut shared = Shared::new(parts, &settings, retry);
    tune(&mut shared);
    let agent = Agent::start_on(shared, operations).await;
    *world.agent.lock().unwrap() = Arc::downgrade(&agent.shared);
    agent
}

async fn end_of(agent: &Agent, id: OperationId) -> OperationView {
    let mut events = agent.events();
    loop {
        let view = agent.operation(id).unwrap();
        // What is stuck is still being tried; the world of these tests heals, so it ends.
        if view.state.is_final() && view.state != OperationState::Stuck {
            return view;
        }
        let _ = events.recv().await;
    }
}

/// Lives one life of the agent: starts, does the request, ends when it is done or when the world stops the agent dead.
fn live(world: &World, dir: &Path, request: Option<Request>) -> Option<OperationView> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let died = world.died.clone();
    let view = runtime.block_on(async {
        let life = async {
            let agent = start(world, dir).await;
            for operation in agent.operations() {
                end_of(&agent, operation.id).await;
            }
            match request {
                Some(request) => Some(end_of(&agent, agent.submit(request).await.unwrap()).await),
                None => None,
            }
        };
        tokio::select! {
            view = tokio::time::timeout(Duration::from_secs(60), life) => view.expect("the operation never ended"),
            () = died.notified() => None,
        }
    });
    drop(runtime);
    view
}

fn calls_of(prepare: Option<Request>, request: Request) -> Vec<&'static str> {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    if let Some(prepare) = prepare {
        live(&world, dir.path(), Some(prepare));
    }
    let before = world.state.lock().unwrap().calls;
    live(&world, dir.path(), Some(request));
    world.state.lock().unwrap().names[before..].to_vec()
}

#[test]
fn an_attach_and_a_detach_leave_the_world_as_it_was() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let view = live(&world, dir.path(), Some(attach())).unwrap();
    assert_eq!(view.state, OperationState::Succeeded, "{view:?}");
    world.assert_clean(true, "after the attach");
    let view = live(&world, dir.path(), Some(detach())).unwrap();
    assert_eq!(view.state, OperationState::Succeeded, "{view:?}");
    world.assert_clean(false, "after the detach");
}

#[test]
fn an_encrypted_volume_struck_at_any_call_leaves_no_secret_and_shows_no_ciphertext() {
    let encrypted = || {
        let world = World::new();
        world.state.lock().unwrap().encrypted = true;
        (world, tempfile::tempdir().unwrap())
    };
    let (world, dir) = encrypted();
    live(&world, dir.path(), Some(attach()));
    world.assert_clean(true, "after the attach");
    let calls = world.state.lock().unwrap().names.clone();
    assert_eq!(calls.iter().filter(|name| **name == "define_secret").count(), 2, "{calls:?}");
    live(&world, dir.path(), Some(detach()));
    world.assert_clean(false, "after the detach");
    for (at, name) in calls.iter().enumerate() {
        for fault in FAULTS {
            let (world, dir) = encrypted();
            world.state.lock().unwrap().fault = Some((at, fault));
            live(&world, dir.path(), Some(attach()));
            if world.state.lock().unwrap().dead {
                live(&world, dir.path(), None);
            }
            let dies = matches!(fault, Fault::DiesBefore | Fault::DiesAfter);
            let finished = dies && (*name == "complete_attachment" || (*name == "attach_disk" && fault == Fault::DiesAfter));
            world.assert_clean(finished, &format!("{fault:?} at {name}"));
        }
    }
}

#[tokio::test]
async fn a_libvirtd_that_lost_its_secrets_gets_both_again() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    world.state.lock().unwrap().encrypted = true;
    let agent = start(&world, dir.path()).await;
    let id = agent.submit(attach()).await.unwrap();
    assert_eq!(end_of(&agent, id).await.state, OperationState::Succeeded);
    let before = std::mem::take(&mut world.state.lock().unwrap().secrets);
    assert_eq!(agent.reconnect().await, 0);
    assert_eq!(world.state.lock().unwrap().secrets, before);
    // Whoever set them was killed between the two calls that it takes.
    world.state.lock().unwrap().unset_secrets.extend(before);
    assert_eq!(agent.reconnect().await, 0);
    assert!(world.state.lock().unwrap().unset_secrets.is_empty());
}

#[test]
fn an_attach_struck_at_any_call_ends_attached_or_fully_undone() {
    let calls = calls_of(None, attach());
    assert_eq!(
        calls,
        ["create_attachment", "update_attachment", "connect", "observe", "define_secret", "attach_disk", "complete_attachment"]
    );
    for (at, name) in calls.iter().enumerate() {
        for fault in FAULTS {
            let context = format!("{fault:?} at {name}");
            let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
            world.state.lock().unwrap().fault = Some((at, fault));
            let view = live(&world, dir.path(), Some(attach()));
            let died = world.state.lock().unwrap().dead;
            assert_eq!(died, matches!(fault, Fault::DiesBefore | Fault::DiesAfter), "{context}");
            if died {
                live(&world, dir.path(), None);
            } else {
                let view = view.unwrap();
                assert_eq!(view.state, OperationState::Failed, "{context}: {view:?}");
                assert!(view.failure.as_ref().unwrap().message.contains(name), "{context}: {:?}", view.failure);
            }
            let finished =
                died && (matches!(*name, "complete_attachment") || (*name == "attach_disk" && fault == Fault::DiesAfter));
            world.assert_clean(finished, &context);
            // And it can be done again, or undone again.
            let view = live(&world, dir.path(), Some(if finished { detach() } else { attach() })).unwrap();
            assert_eq!(view.state, OperationState::Succeeded, "{context}: {view:?}");
            world.assert_clean(!finished, &context);
        }
    }
}

#[test]
fn a_detach_struck_at_any_call_ends_detached_or_untouched() {
    let calls = calls_of(Some(attach()), detach());
    assert_eq!(calls, ["detach_disk", "undefine_secret", "disconnect", "delete_attachment"]);
    for (at, name) in calls.iter().enumerate() {
        for fault in FAULTS {
            let context = format!("{fault:?} at {name}");
            let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
            live(&world, dir.path(), Some(attach()));
            {
                let mut state = world.state.lock().unwrap();
                state.fault = Some((state.calls + at, fault));
            }
            let view = live(&world, dir.path(), Some(detach()));
            if world.state.lock().unwrap().dead {
                live(&world, dir.path(), None);
                world.assert_clean(false, &context);
            } else if view.unwrap().state == OperationState::Failed {
                assert_eq!(*name, "detach_disk", "{context}");
                let view = live(&world, dir.path(), Some(detach())).unwrap();
                assert_eq!(view.state, OperationState::Succeeded, "{context}: {view:?}");
            }
            world.assert_clean(false, &context);
        }
    }
}

#[test]
fn dying_again_and_again_while_undoing_still_ends_undone() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    world.state.lock().unwrap().fault = Some((5, Fault::DiesBefore));
    live(&world, dir.path(), Some(attach()));
    // Each life dies at its first change; after a few, no more faults are laid.
    for fault in [Fault::DiesAfter, Fault::DiesBefore, Fault::DiesAfter, Fault::DiesAfter] {
        {
            let mut state = world.state.lock().unwrap();
            state.fault = Some((state.calls, fault));
        }
        live(&world, dir.path(), None);
    }
    world.state.lock().unwrap().fault = None;
    live(&world, dir.path(), None);
    world.assert_clean(false, "after many deaths");
}

#[test]
fn a_device_that_is_not_the_volume_never_reaches_the_guest() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    world.state.lock().unwrap().wrong_serial = true;
    let view = live(&world, dir.path(), Some(attach())).unwrap();
    let failure = view.failure.unwrap();
    assert_eq!((view.state, failure.kind), (OperationState::Failed, ErrorKind::IdentityMismatch));
    assert!(failure.message.contains("\"wrong\"") && !failure.remedy.is_empty(), "{failure:?}");
    world.assert_clean(false, "after a wrong device");
}

#[tokio::test]
async fn the_same_request_repeated_gets_the_same_operation() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let agent = start(&world, dir.path()).await;
    let (first, second) = tokio::join!(agent.submit(attach()), agent.submit(attach()));
    assert_eq!(first.clone().unwrap(), second.unwrap());
    assert_eq!(end_of(&agent, first.unwrap()).await.state, OperationState::Succeeded);
    let again = agent.submit(attach()).await.unwrap_err();
    assert_eq!(again.kind, ErrorKind::Conflict);
    assert!(again.message.contains("already attached"), "{again}");
}

#[tokio::test]
async fn a_cancelled_attach_is_undone() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let agent = start(&world, dir.path()).await;
    let id = agent.submit(attach()).await.unwrap();
    agent.cancel(id).await.unwrap();
    let view = end_of(&agent, id).await;
    assert_eq!(view.state, OperationState::Cancelled);
    world.assert_clean(false, "after a cancellation");
}

async fn state_of(agent: &Agent, id: OperationId, wanted: OperationState) -> OperationView {
    let mut events = agent.events();
    let reached = async {
        loop {
            let view = agent.operation(id).unwrap();
            if view.state == wanted {
                return view;
            }
            let _ = events.recv().await;
        }
    };
    let reached = tokio::time::timeout(Duration::from_secs(60), reached).await;
    reached.unwrap_or_else(|_| panic!("never {wanted}: {:?}", agent.operation(id)))
}

fn refuse(world: &World, name: &'static str) {
    world.state.lock().unwrap().refused.insert(name);
}

fn allow_all(world: &World) {
    world.state.lock().unwrap().refused.clear();
}

#[tokio::test]
async fn what_cannot_be_undone_is_shown_as_stuck_until_it_is() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let agent = start(&world, dir.path()).await;
    refuse(&world, "attach_disk");
    refuse(&world, "delete_attachment");
    let id = agent.submit(attach()).await.unwrap();
    let stuck = state_of(&agent, id, OperationState::Stuck).await.failure.unwrap();
    assert_eq!(stuck.kind, ErrorKind::Stuck);
    assert!(stuck.message.contains("attach_disk refused"), "the cause: {stuck:?}");
    assert!(stuck.message.contains("still has attachment"), "what is left: {stuck:?}");
    assert!(stuck.remedy.contains("volume service"), "what to do: {stuck:?}");
    assert_eq!(agent.submit(attach()).await.unwrap(), id, "asked for again, it is the same operation");
    allow_all(&world);
    let ended = end_of(&agent, id).await;
    assert_eq!(ended.state, OperationState::Failed);
    let failure = ended.failure.unwrap();
    assert!(failure.message.contains("attach_disk refused") && !failure.message.contains("still has"), "{failure:?}");
    world.assert_clean(false, "once it could be undone");
}

#[tokio::test]
async fn a_detach_that_the_kernel_held_up_goes_on_as_soon_as_it_is_let_go() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    // Nobody would wait for the next try by itself.
    let hour = Duration::from_secs(3600);
    let patient =
        |shared: &mut Shared| shared.retry = RetryPolicy { first_delay: hour, longest_delay: hour, patience: Duration::ZERO };
    let agent = start_tuned(&world, dir.path(), patient).await;
    let id = agent.submit(attach()).await.unwrap();
    end_of(&agent, id).await;
    refuse(&world, "disconnect");
    let id = agent.submit(detach()).await.unwrap();
    state_of(&agent, id, OperationState::Stuck).await;
    allow_all(&world);
    // It may not be waiting yet.
    let letting_go = async {
        loop {
            world.late_call.notify_waiters();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let ended = tokio::select! {
        ended = state_of(&agent, id, OperationState::Succeeded) => ended,
        () = letting_go => unreachable!(),
    };
    assert_eq!(ended.state, OperationState::Succeeded);
    world.assert_clean(false, "once it was let go");
}

#[test]
fn a_detach_that_is_stuck_and_asked_for_again_ends_once_after_a_restart() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    live(&world, dir.path(), Some(attach()));
    refuse(&world, "delete_attachment");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let agent = start(&world, dir.path()).await;
        let id = agent.submit(detach()).await.unwrap();
        state_of(&agent, id, OperationState::Stuck).await;
        assert_eq!(agent.submit(detach()).await.unwrap(), id);
        // An attach elsewhere waits for the volume, and can still be cancelled.
        let waiting = Request::Attach(AttachRequest {
            volume: "data".into(),
            guest: "guest-2".into(),
            bus: None,
            target: None,
            read_only: false,
            wishes: DiskWishes::default(),
        });
        world.state.lock().unwrap().volumes.get_mut(&volume_id()).unwrap().status = "available".into();
        let waiting = agent.submit(waiting).await.unwrap();
        assert_eq!(agent.operation(waiting).unwrap().state, OperationState::Queued);
        agent.cancel(waiting).await.unwrap();
        assert_eq!(end_of(&agent, waiting).await.state, OperationState::Cancelled);
        // A stop does not wait for what only waits for another try.
        let begun = std::time::Instant::now();
        agent.finish(Duration::from_secs(15)).await;
        assert!(begun.elapsed() < Duration::from_secs(14));
    });
    drop(runtime);
    allow_all(&world);
    live(&world, dir.path(), None);
    world.assert_clean(false, "after the restart");
}

#[tokio::test]
async fn of_two_guests_that_want_one_volume_the_second_is_refused_and_nothing_is_left() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let agent = start(&world, dir.path()).await;
    let to_second = Request::Attach(AttachRequest {
        volume: "data".into(),
        guest: "guest-2".into(),
        bus: None,
        target: None,
        read_only: false,
        wishes: DiskWishes::default(),
    });
    let first = agent.submit(attach()).await.unwrap();
    let second = agent.submit(to_second).await.unwrap();
    assert_eq!(end_of(&agent, first).await.state, OperationState::Succeeded);
    let second = end_of(&agent, second).await;
    assert_eq!((second.state, second.failure.unwrap().kind), (OperationState::Failed, ErrorKind::Conflict));
    world.assert_clean(true, "after the first");
}

#[test]
fn an_interrupted_attach_that_cannot_be_looked_at_says_so_and_ends_when_it_can() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    world.state.lock().unwrap().fault = Some((5, Fault::DiesAfter));
    live(&world, dir.path(), Some(attach()));
    world.state.lock().unwrap().hypervisor_away = true;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let agent = start(&world, dir.path()).await;
        let id = agent.operations()[0].id;
        let stuck = state_of(&agent, id, OperationState::Stuck).await.failure.unwrap();
        assert!(stuck.message.contains("guest-1") && stuck.remedy.contains("libvirtd"), "{stuck:?}");
        world.state.lock().unwrap().hypervisor_away = false;
        assert_eq!(end_of(&agent, id).await.state, OperationState::Succeeded);
    });
    world.assert_clean(true, "once libvirtd was back");
}

#[tokio::test]
async fn a_dry_run_tells_the_plan_and_touches_nothing() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let agent = start(&world, dir.path()).await;
    let plan = agent.dry_run(attach()).await.unwrap();
    assert_eq!(plan.steps.len(), 6);
    assert_eq!(plan.guest, guest_uuid());
    assert_eq!(world.state.lock().unwrap().calls, 0);
    assert!(agent.operations().is_empty());
}

#[tokio::test]
async fn what_does_not_exist_is_refused_at_once() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let agent = start(&world, dir.path()).await;
    let ask = |volume: &str, guest: &str| {
        Request::Attach(AttachRequest {
            volume: volume.into(),
            guest: guest.into(),
            bus: None,
            target: None,
            read_only: false,
            wishes: DiskWishes::default(),
        })
    };
    for request in [ask("nothing", "guest-1"), ask("data", "nobody"), detach()] {
        assert_eq!(agent.submit(request).await.unwrap_err().kind, ErrorKind::NotFound);
    }
    assert!(agent.operations().is_empty());
}
