//! Starts and stops, guests that start with the host, and what is told of guests; struck at every call.

use super::{FAULTS, attach, end_of, live, start, world::*};
use crate::agent::api::{AgentApi, AgentEvent, GuestChange, OperationState, Request, StartRequest, StopRequest};
use crate::agent::operations::{Agent, GuestNews};
use crate::model::{BootRequest, ErrorKind, GuestUuid};
use tokio::sync::mpsc;
use uuid::Uuid;

fn start_guest() -> Request {
    Request::Start(StartRequest { guest: "guest-1".into() })
}

fn stop_guest(force: bool) -> Request {
    Request::Stop(StopRequest { guest: "guest-1".into(), force })
}

/// A guest with a volume, as a boot of the host leaves it: off, and nothing connected.
fn rebooted() -> (World, tempfile::TempDir) {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    live(&world, dir.path(), Some(attach()));
    power_cut(&world);
    (world, dir)
}

fn power_cut(world: &World) {
    let mut state = world.state.lock().unwrap();
    state.connected.clear();
    state.secrets.clear();
    state.guests.get_mut(&guest_uuid()).unwrap().active = false;
}

fn runs(world: &World) -> bool {
    world.state.lock().unwrap().guests[&guest_uuid()].active
}

fn in_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[test]
fn a_start_connects_the_guests_volumes_first_and_a_stop_leaves_them() {
    let (world, dir) = rebooted();
    let before = world.state.lock().unwrap().calls;
    assert_eq!(live(&world, dir.path(), Some(start_guest())).unwrap().state, OperationState::Succeeded);
    let calls = world.state.lock().unwrap().names[before..].to_vec();
    assert_eq!(calls, ["define_secret", "connect", "observe", "start_guest"]);
    world.assert_clean(true, "after the start");
    for request in [start_guest(), stop_guest(false), stop_guest(false), start_guest(), stop_guest(true)] {
        let view = live(&world, dir.path(), Some(request)).unwrap();
        assert_eq!(view.state, OperationState::Succeeded, "{view:?}");
        assert_eq!(runs(&world), view.kind == "start");
        world.assert_clean(true, &view.kind);
    }
}

#[test]
fn a_start_struck_at_any_call_can_be_repeated_and_never_runs_without_its_volume() {
    let calls = {
        let (world, dir) = rebooted();
        let before = world.state.lock().unwrap().calls;
        live(&world, dir.path(), Some(start_guest()));
        world.state.lock().unwrap().calls - before
    };
    for at in 0..calls {
        for fault in FAULTS {
            let (world, dir) = rebooted();
            {
                let mut state = world.state.lock().unwrap();
                state.fault = Some((state.calls + at, fault));
            }
            let view = live(&world, dir.path(), Some(start_guest()));
            let context = format!("{fault:?} at {at}: {view:?}");
            assert!(!runs(&world) || world.state.lock().unwrap().connected.contains(&volume_id()), "{context}");
            if view.is_none() {
                live(&world, dir.path(), None);
                assert!(runs(&world), "what was cut is finished: {context}");
            }
            assert_eq!(live(&world, dir.path(), Some(start_guest())).unwrap().state, OperationState::Succeeded, "{context}");
            world.assert_clean(true, &context);
        }
    }
}

#[test]
fn another_device_in_the_volumes_place_starts_nothing() {
    let (world, dir) = rebooted();
    world.state.lock().unwrap().wrong_serial = true;
    let view = live(&world, dir.path(), Some(start_guest())).unwrap();
    let failure = view.failure.unwrap();
    assert_eq!((view.state, failure.kind), (OperationState::Failed, ErrorKind::IdentityMismatch));
    assert!(failure.message.contains(&format!("volume {}", volume_id())), "{failure:?}");
    assert!(!runs(&world));
}

#[test]
fn a_guest_that_ignores_the_button_runs_on_until_its_power_is_cut() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    world.state.lock().unwrap().ignores_shutdown = true;
    let view = live(&world, dir.path(), Some(stop_guest(false))).unwrap();
    assert_eq!((view.state, view.failure.unwrap().kind), (OperationState::Failed, ErrorKind::GuestRefused));
    assert!(runs(&world));
    live(&world, dir.path(), Some(stop_guest(true)));
    assert!(!runs(&world));
}

#[test]
fn a_guest_starts_with_the_host_once_its_volumes_are_there_and_only_once() {
    let (world, dir) = rebooted();
    let second = GuestUuid(Uuid::from_u128(0xb3));
    {
        let mut state = world.state.lock().unwrap();
        state.autostart.extend([guest_uuid(), second]);
        state.guests.get_mut(&second).unwrap().active = false;
        state.refused.insert("connect");
    }
    in_runtime(async {
        let agent = start(&world, dir.path()).await;
        assert_eq!(agent.autostart().await, 1, "its volume's storage is away");
        assert!(agent.operations().iter().all(|operation| operation.kind != "start"), "not tried before it can work");
        world.state.lock().unwrap().refused.clear();
        assert_eq!(agent.autostart().await, 0);
        assert!(runs(&world));
        assert!(!world.state.lock().unwrap().guests[&second].active, "nothing of Bowline's: libvirtd's own");
        end_of(&agent, agent.submit(stop_guest(false)).await.unwrap()).await;
        assert_eq!(agent.autostart().await, 0);
        assert!(!runs(&world), "one that was stopped since stays off");
    });
    in_runtime(async {
        let agent = start(&world, dir.path()).await;
        agent.autostart().await;
        assert!(!runs(&world), "whatever the agent does meanwhile");
    });
    // A boot of the host empties the folder.
    std::fs::remove_dir_all(dir.path().join("run")).unwrap();
    power_cut(&world);
    in_runtime(async {
        start(&world, dir.path()).await.autostart().await;
        assert!(runs(&world));
    });
}

/// What is told of guests while `news` comes, one after another.
async fn told(agent: &Agent, news: impl IntoIterator<Item = (GuestNews, Box<dyn FnOnce()>)>) -> Vec<&'static str> {
    let mut events = agent.events();
    let (sender, receiver) = mpsc::channel(8);
    let feed = async {
        for (news, happens) in news {
            happens();
            sender.send(news).await.unwrap();
            // All of it is taken in before the world goes on, whoever of the two has the first turn.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        }
        drop(sender);
    };
    tokio::join!(agent.watch_guests(receiver), feed);
    let mut told = vec![];
    while let Ok(event) = events.try_recv() {
        if let AgentEvent::Guest { guest, name, change } = event {
            assert_eq!((guest, name.as_str()), (guest_uuid(), "guest-1"));
            told.push(change.as_str());
        }
    }
    told
}

#[test]
fn what_becomes_of_a_guest_is_told_once_and_its_storage_stays() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    live(&world, dir.path(), Some(attach()));
    let changed = |change| GuestNews::Changed(guest_uuid(), change);
    let set = |active| {
        let world = world.clone();
        Box::new(move || world.state.lock().unwrap().guests.get_mut(&guest_uuid()).unwrap().active = active)
            as Box<dyn FnOnce()>
    };
    let nothing = || Box::new(|| ()) as Box<dyn FnOnce()>;
    let gone = {
        let world = world.clone();
        Box::new(move || drop(world.state.lock().unwrap().guests.remove(&guest_uuid()))) as Box<dyn FnOnce()>
    };
    in_runtime(async {
        let agent = start(&world, dir.path()).await;
        let of_another = GuestNews::Changed(GuestUuid(Uuid::from_u128(0xb3)), GuestChange::Started);
        let news = [
            (GuestNews::LookAgain, nothing()),
            (of_another, nothing()),
            (changed(GuestChange::Crashed), set(false)),
            (changed(GuestChange::Started), set(true)),
            // Told by a look, and then by the event that came too late.
            (GuestNews::LookAgain, set(false)),
            (changed(GuestChange::Stopped), nothing()),
            (changed(GuestChange::Undefined), gone),
            (GuestNews::LookAgain, nothing()),
        ];
        assert_eq!(told(&agent, news).await, ["crashed", "started", "stopped", "undefined"]);
        assert_eq!(agent.attachments().len(), 1, "a guest that is gone has said nothing of its volume");
    });
}

fn boot_from_volume() -> Request {
    Request::Boot(BootRequest {
        guest: "guest-1".into(),
        image: Some("tiny".into()),
        image_size_gib: Some(1),
        mapping: r#"[{"source_type": "volume", "uuid": "data"}]"#.into(),
        clauses: vec![],
        lazy: false,
        definition: None,
    })
}

#[test]
fn a_boot_takes_no_volume_that_the_guest_had_before() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    {
        let mut state = world.state.lock().unwrap();
        state.volumes.get_mut(&volume_id()).unwrap().multiattach = true;
        state.guests.get_mut(&guest_uuid()).unwrap().active = false;
    }
    live(&world, dir.path(), Some(attach()));
    let view = live(&world, dir.path(), Some(boot_from_volume())).unwrap();
    let failure = view.failure.unwrap();
    assert_eq!((view.state, failure.kind), (OperationState::Failed, ErrorKind::Conflict));
    assert!(failure.message.contains(&volume_id().to_string()), "{failure:?}");
    world.assert_clean(true, "after the boot that failed");
    assert!(world.state.lock().unwrap().files.is_empty());
}

#[test]
fn a_guest_that_somebody_starts_while_it_is_booted_is_no_booted_guest() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    {
        let mut state = world.state.lock().unwrap();
        state.guests.get_mut(&guest_uuid()).unwrap().active = false;
        state.started_meanwhile = true;
    }
    let view = live(&world, dir.path(), Some(boot_from_volume())).unwrap();
    assert_eq!((view.state, view.failure.unwrap().kind), (OperationState::Failed, ErrorKind::Conflict));
    assert!(runs(&world), "it has nothing of the boot's: it is left running");
    world.assert_clean(false, "after the boot that failed");
}
