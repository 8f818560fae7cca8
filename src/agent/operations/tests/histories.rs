//! Random histories: many volumes and guests, operations side by side, faults and deaths anywhere, reboots, libvirtd that forgets. When the
//! world heals, all that was begun ends, nothing forbidden has happened, and a check finds nothing that differs.
//!
//! `BOWLINE_HISTORIES` says how many are tried; a failing one is shrunk and printed.

use super::{
    agreement::{all_end, settled},
    *,
};
use crate::agent::api::ExtendRequest;
use crate::model::VolumeId;
use proptest::{
    prelude::*,
    test_runner::{RngAlgorithm, TestCaseResult, TestRng, TestRunner},
};

/// As many as CI has time for.
const HISTORIES: u32 = 500;

const VOLUMES: usize = 4;
const GUESTS: [&str; 2] = ["guest-1", "guest-2"];

/// What somebody does, or what befalls.
#[derive(Debug, Clone)]
enum Event {
    Attach(usize, usize),
    Detach(usize, usize),
    Extend(usize),
    /// The latest operation is cancelled.
    Cancel,
    /// Everything that was asked for until now ends first.
    Wait,
}

/// A life of the agent, from a start to a death or to the next start.
#[derive(Debug, Clone)]
struct Life {
    before: Before,
    /// So many calls after the start, this strikes.
    fault: Option<(usize, Fault)>,
    events: Vec<Event>,
    /// It is killed while operations are at work; else it ends when they have.
    is_killed: bool,
}

/// What befell the host since the life before.
#[derive(Debug, Clone, Copy)]
enum Before {
    Nothing,
    Reboot,
    LibvirtRestarted,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => (0..VOLUMES, 0..GUESTS.len()).prop_map(|(volume, guest)| Event::Attach(volume, guest)),
        4 => (0..VOLUMES, 0..GUESTS.len()).prop_map(|(volume, guest)| Event::Detach(volume, guest)),
        1 => (0..VOLUMES).prop_map(Event::Extend),
        1 => Just(Event::Cancel),
        3 => Just(Event::Wait),
    ]
}

fn life() -> impl Strategy<Value = Life> {
    let fault = prop::option::weighted(0.7, (0_usize..40, prop::sample::select(FAULTS.as_slice())));
    let before = prop_oneof![6 => Just(Before::Nothing), 1 => Just(Before::Reboot), 1 => Just(Before::LibvirtRestarted)];
    (before, fault, prop::collection::vec(event(), 1..10), any::<bool>()).prop_map(|(before, fault, events, is_killed)| Life {
        before,
        fault,
        events,
        is_killed,
    })
}

fn volume(number: usize) -> VolumeId {
    VolumeId(uuid::Uuid::from_u128(0xf0 + number as u128))
}

/// The first two may be shared.
fn world() -> World {
    let world = World::new();
    let mut state = world.state.lock().unwrap();
    let mut one = state.volumes.remove(&volume_id()).unwrap();
    for number in 0..VOLUMES {
        (one.id, one.name, one.multiattach) = (volume(number), format!("v{number}"), number < 2);
        state.volumes.insert(one.id, one.clone());
    }
    state.original = state.volumes.keys().copied().collect();
    drop(state);
    world
}

fn befall(world: &World, before: Before) {
    let mut state = world.state.lock().unwrap();
    if matches!(before, Before::Reboot) {
        state.connected.clear();
        state.host_bytes.clear();
        state.guest_bytes.clear();
        state.guests.values_mut().for_each(|guest| guest.active = false);
    }
    if !matches!(before, Before::Nothing) {
        state.secrets.clear();
    }
}

fn request(event: &Event, sizes: &mut [u64; VOLUMES]) -> Option<Request> {
    let names = |volume: &usize, guest: &usize| (format!("v{volume}"), GUESTS[*guest].to_owned());
    Some(match event {
        Event::Attach(volume, guest) => {
            let (volume, guest) = names(volume, guest);
            let wishes = DiskWishes::default();
            Request::Attach(AttachRequest { volume, guest, bus: None, target: None, read_only: false, wishes })
        }
        Event::Detach(volume, guest) => {
            let (volume, guest) = names(volume, guest);
            Request::Detach(DetachRequest { volume, guest: Some(guest) })
        }
        Event::Extend(volume) => {
            sizes[*volume] += 1;
            Request::Extend(ExtendRequest { volume: format!("v{volume}"), size_gib: sizes[*volume] })
        }
        Event::Cancel | Event::Wait => return None,
    })
}

async fn act(agent: &Agent, life: &Life, sizes: &mut [u64; VOLUMES]) {
    let mut latest = None;
    for event in &life.events {
        match event {
            Event::Wait => all_end(agent).await,
            Event::Cancel => {
                if let Some(id) = latest {
                    // One that has ended, or gone too far, cannot be: that is no fault.
                    let _ = agent.cancel(id).await;
                }
            }
            asked => {
                if let Some(request) = request(asked, sizes)
                    && let Ok(id) = agent.submit(request).await
                {
                    latest = Some(id);
                }
            }
        }
    }
    if !life.is_killed {
        all_end(agent).await;
    }
}

/// One life; it is over when the world stops the agent, at the latest.
fn lived(world: &World, dir: &Path, life: &Life, sizes: &mut [u64; VOLUMES]) -> TestCaseResult {
    befall(world, life.before);
    {
        let mut state = world.state.lock().unwrap();
        state.fault = life.fault.map(|(after, fault)| (state.calls + after, fault));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let died = world.died.clone();
    let ended = runtime.block_on(async {
        let living = async {
            let agent = start(world, dir).await;
            agent.reconnect().await;
            act(&agent, life, sizes).await;
        };
        tokio::select! {
            ended = tokio::time::timeout(Duration::from_secs(60), living) => ended.is_ok(),
            () = died.notified() => true,
        }
    });
    prop_assert!(ended, "an operation never ended");
    Ok(())
}

/// The world has healed: what is left ends, and all agree.
fn at_the_end(world: &World, dir: &Path) -> TestCaseResult {
    world.state.lock().unwrap().fault = None;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let agreed = runtime.block_on(async {
        let agent = start(world, dir).await;
        settled(world, &agent).await
    });
    prop_assert!(agreed.is_ok(), "{}", agreed.unwrap_err());
    Ok(())
}

#[test]
fn whatever_befalls_nothing_is_lost_and_nothing_is_left() {
    let histories = std::env::var("BOWLINE_HISTORIES").ok().and_then(|text| text.parse().ok()).unwrap_or(HISTORIES);
    let config = ProptestConfig { cases: histories, failure_persistence: None, ..ProptestConfig::default() };
    let memory = Path::new("/dev/shm");
    // The same ones each time, so that a change is judged by what it changes; others are tried by asking for a number.
    let mut runner = match std::env::var_os("BOWLINE_HISTORIES") {
        Some(_) => TestRunner::new(config),
        None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
    };
    let tried = runner.run(&prop::collection::vec(life(), 1..5), |lives| {
        let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let (world, dir) = (world(), tempfile::tempdir_in(folder).unwrap());
        let mut sizes = [1; VOLUMES];
        for life in &lives {
            lived(&world, dir.path(), life, &mut sizes)?;
        }
        at_the_end(&world, dir.path())
    });
    tried.unwrap_or_else(|failure| panic!("{failure}"));
    println!("{histories} histories, all true in the end");
}
