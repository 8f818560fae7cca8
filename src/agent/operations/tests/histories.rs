//! Random histories: many volumes and guests, operations of all kinds side by side, several faults and deaths anywhere, reboots, libvirtd that
//! forgets, a journal without room, a target that shows the wrong volume. At each wait all that was begun has ended or is shown as stuck; when
//! the world heals all of it ends, nothing forbidden has happened, and a check finds nothing that differs.
//!
//! Time stands still but when nobody has anything to do, and the journal is in memory: a history takes milliseconds, however long it waits.
//! Histories come in batches, each with a seed of its own. A failure tells its batch's, and the history, shrunk; `BOWLINE_SEED` tries that batch
//! alone. `BOWLINE_HISTORIES` says how many are tried, of seeds counted up from `BOWLINE_SEED`.

use super::{
    agreement::{agreed, all_end, all_shown},
    world::{image_id, is_rescue},
    *,
};
use crate::agent::api::{DeleteRequest, ExtendRequest, RebuildRequest, StartRequest, StopRequest};
use crate::agent::journal::Memory;
use crate::model::{BootRequest, GuestDefinition, SnapshotRequest, VolumeId};
use proptest::{
    prelude::*,
    test_runner::{RngAlgorithm, TestCaseResult, TestRng, TestRunner},
};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// As many as CI has time for: a minute of two processors, or so.
const HISTORIES: u64 = 20_000;
/// Histories of one seed.
const BATCH: u64 = 200;

const VOLUMES: usize = 4;
/// The last is defined by its boot. The first alone has ephemeral disks: this world knows a file by its target alone.
const GUESTS: [&str; 3] = ["guest-1", "guest-2", "made"];
/// What has neither ended nor is shown as stuck by then, in the agent's own time, never is.
const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3600);

/// How often operations of a kind ended how.
type Ends = BTreeMap<(String, String), u64>;

/// What somebody does, or what befalls.
#[derive(Debug, Clone)]
enum Event {
    Attach(usize, usize),
    Detach(usize, usize),
    Extend(usize),
    Boot(usize, bool),
    BootNew,
    Delete(usize),
    Rebuild,
    Rescue,
    Unrescue,
    Snapshot,
    Start(usize),
    Stop(usize, bool),
    /// The latest operation is cancelled.
    Cancel,
    /// The target shows another volume than it is asked for, from now on.
    Mislead,
    /// All that is wrong is mended: the target, the journal, and who did not answer.
    Heal,
    /// Everything that was asked for until now ends first, or is shown as stuck.
    Wait,
}

/// A life of the agent, from a start to a death or to the next start.
#[derive(Debug, Clone)]
struct Life {
    before: Before,
    /// So many calls after the start, these strike.
    faults: Vec<(usize, Fault)>,
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
    let guest = || 0..GUESTS.len();
    prop_oneof![
        6 => (0..VOLUMES, guest()).prop_map(|(volume, guest)| Event::Attach(volume, guest)),
        5 => (0..VOLUMES, guest()).prop_map(|(volume, guest)| Event::Detach(volume, guest)),
        2 => (0..VOLUMES).prop_map(Event::Extend),
        2 => (0..VOLUMES, any::<bool>()).prop_map(|(volume, lazy)| Event::Boot(volume, lazy)),
        2 => Just(Event::BootNew),
        2 => guest().prop_map(Event::Delete),
        1 => Just(Event::Rebuild),
        1 => Just(Event::Rescue),
        1 => Just(Event::Unrescue),
        1 => Just(Event::Snapshot),
        2 => guest().prop_map(Event::Start),
        3 => (guest(), any::<bool>()).prop_map(|(guest, force)| Event::Stop(guest, force)),
        2 => Just(Event::Cancel),
        1 => Just(Event::Mislead),
        1 => Just(Event::Heal),
        7 => Just(Event::Wait),
    ]
}

fn life() -> impl Strategy<Value = Life> {
    let fault = prop_oneof![
        4 => prop::sample::select(FAULTS.as_slice()),
        1 => prop::sample::select([Fault::HangsBefore, Fault::HangsAfter, Fault::JournalFull].as_slice()),
    ];
    let faults = prop::collection::vec((0_usize..40, fault), 0..4);
    let before = prop_oneof![6 => Just(Before::Nothing), 1 => Just(Before::Reboot), 1 => Just(Before::LibvirtRestarted)];
    (before, faults, prop::collection::vec(event(), 1..12), any::<bool>())
        .prop_map(|(before, faults, events, is_killed)| Life { before, faults, events, is_killed })
}

fn volume(number: usize) -> VolumeId {
    VolumeId(uuid::Uuid::from_u128(0xf0 + number as u128))
}

/// The first two may be shared; the guest that is booted is off.
fn world() -> World {
    let world = World { memory: Some(Memory::default()), ..World::new() };
    let mut state = world.state.lock().unwrap();
    let mut one = state.volumes.remove(&volume_id()).unwrap();
    for number in 0..VOLUMES {
        (one.id, one.name, one.multiattach) = (volume(number), format!("v{number}"), number < 2);
        state.volumes.insert(one.id, one.clone());
    }
    state.original = state.volumes.keys().copied().collect();
    state.guests.get_mut(&guest_uuid()).unwrap().active = false;
    state.may_run_on = true;
    drop(state);
    world
}

fn befall(world: &World, before: Before) {
    let mut state = world.state.lock().unwrap();
    if matches!(before, Before::Reboot) {
        state.connected.clear();
        state.host_bytes.clear();
        state.guest_bytes.clear();
        (state.frozen, state.backup) = (false, false);
        for guest in state.guests.values_mut() {
            guest.active = false;
            guest.disks.retain(|disk| !is_rescue(disk));
        }
    }
    if !matches!(before, Before::Nothing) {
        state.secrets.clear();
    }
}

fn heal(world: &World) {
    let mut state = world.state.lock().unwrap();
    state.misleads = false;
    state.faults.clear();
    drop(state);
    world.memory.as_ref().unwrap().set_full(false);
    world.healed.notify_waiters();
}

/// All of the guest's disks are volumes: one of the image, and a blank one.
fn boot_made() -> Request {
    let mapping = serde_json::json!([
        {"source_type": "image", "uuid": image_id().to_string(), "destination_type": "volume", "volume_size": 1, "boot_index": 0,
         "delete_on_termination": true},
        {"source_type": "blank", "destination_type": "volume", "volume_size": 2, "delete_on_termination": true},
    ]);
    Request::Boot(BootRequest {
        guest: GUESTS[2].into(),
        image: None,
        image_size_gib: None,
        mapping: mapping.to_string(),
        clauses: vec![],
        lazy: false,
        definition: Some(GuestDefinition::Xml("<domain/>".into())),
    })
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
        Event::Boot(volume, lazy) => boot::boot_with(&format!("v{volume}"), *lazy),
        Event::BootNew => boot_made(),
        Event::Delete(guest) => Request::Delete(DeleteRequest { guest: GUESTS[*guest].into() }),
        Event::Rebuild => Request::Rebuild(RebuildRequest { guest: GUESTS[0].into(), image: "tiny".into(), size_gib: None }),
        Event::Rescue => rescue::rescue(),
        Event::Unrescue => rescue::unrescue(),
        Event::Snapshot => Request::Snapshot(SnapshotRequest { guest: GUESTS[0].into(), name: "snap".into(), freeze: true }),
        Event::Start(guest) => Request::Start(StartRequest { guest: GUESTS[*guest].into() }),
        Event::Stop(guest, force) => Request::Stop(StopRequest { guest: GUESTS[*guest].into(), force: *force }),
        Event::Cancel | Event::Mislead | Event::Heal | Event::Wait => return None,
    })
}

async fn act(world: &World, agent: &Agent, life: &Life, sizes: &mut [u64; VOLUMES]) -> Result<(), String> {
    let mut latest = None;
    for event in &life.events {
        match event {
            Event::Wait => all_shown(agent, PATIENCE).await?,
            Event::Mislead => world.state.lock().unwrap().misleads = true,
            Event::Heal => heal(world),
            Event::Cancel => {
                if let Some(id) = latest {
                    // One that has ended, or gone too far, cannot be: that is no fault.
                    let _ = agent.cancel(id).await;
                }
            }
            asked => {
                // One that makes no sense now is refused.
                if let Some(request) = request(asked, sizes)
                    && let Ok(id) = agent.submit(request).await
                {
                    latest = Some(id);
                }
            }
        }
    }
    if life.is_killed { Ok(()) } else { all_shown(agent, PATIENCE).await }
}

/// What does not work is shown at once, and tried again within seconds.
async fn begin(world: &World) -> Agent {
    let tune = |shared: &mut Shared| {
        let (first_delay, longest_delay) = (Duration::from_millis(100), Duration::from_secs(2));
        shared.retry = RetryPolicy { first_delay, longest_delay, patience: Duration::ZERO };
    };
    start_tuned(world, Path::new("/nonexistent"), tune).await
}

/// A runtime whose time passes when nobody has anything to do.
fn in_no_time<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(work)
}

/// One life; it is over when the world stops the agent, at the latest.
fn lived(world: &World, life: &Life, sizes: &mut [u64; VOLUMES]) -> Result<(), String> {
    befall(world, life.before);
    heal(world);
    {
        let mut state = world.state.lock().unwrap();
        let now = state.calls;
        state.faults = life.faults.iter().map(|(after, fault)| (now + after, *fault)).collect();
    }
    let died = world.died.clone();
    in_no_time(async {
        let living = async {
            let agent = begin(world).await;
            agent.reconnect().await;
            act(world, &agent, life, sizes).await
        };
        tokio::select! {
            biased;
            () = died.notified() => Ok(()),
            lived = living => lived,
        }
    })
}

/// Lives through all lives; then the world has healed, what is left ends, and all agree. `spoil` is what is wrong with the world.
fn history(lives: &[Life], spoil: impl Fn(&World), ends: &mut Ends) -> Result<(), String> {
    let (world, mut sizes) = (world(), [1; VOLUMES]);
    spoil(&world);
    for life in lives {
        lived(&world, life, &mut sizes)?;
    }
    heal(&world);
    in_no_time(async {
        let agent = begin(&world).await;
        if tokio::time::timeout(PATIENCE, all_end(&agent)).await.is_err() {
            return Err(format!("an operation never ended: {:?}", agent.operations()));
        }
        for view in agent.operations() {
            *ends.entry((view.kind.clone(), view.state.to_string())).or_default() += 1;
        }
        agreed(&world, &agent).await
    })
}

/// Tries so many histories of a seed; a failure is shrunk, and told.
fn tried(seed: u64, count: u64, spoil: impl Fn(&World)) -> Result<Ends, String> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = ProptestConfig {
        cases: u32::try_from(count).unwrap(),
        failure_persistence: None,
        max_shrink_iters: 400,
        ..ProptestConfig::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let ends = Mutex::new(Ends::new());
    let outcome = runner.run(&prop::collection::vec(life(), 1..5), |lives| -> TestCaseResult {
        history(&lives, &spoil, &mut ends.lock().unwrap()).map_err(TestCaseError::fail)
    });
    outcome.map_err(|failure| format!("BOWLINE_SEED={seed}: {failure}"))?;
    Ok(ends.into_inner().unwrap())
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

#[test]
fn whatever_befalls_nothing_is_lost_and_nothing_is_left() {
    // The same ones each time, so that a change is judged by what it changes; others are tried by asking for another seed.
    let first = number("BOWLINE_SEED");
    let histories = number("BOWLINE_HISTORIES").unwrap_or(if first.is_some() { BATCH } else { HISTORIES });
    let (first, batches) = (first.unwrap_or(0), histories.div_ceil(BATCH));
    let (next, ends, failed) = (AtomicU64::new(0), Mutex::new(Ends::new()), Mutex::new(vec![]));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let batch = next.fetch_add(1, Ordering::Relaxed);
                    if batch >= batches || !failed.lock().unwrap().is_empty() {
                        return;
                    }
                    match tried(first + batch, BATCH.min(histories - batch * BATCH), |_| ()) {
                        Ok(found) => {
                            let mut ends = ends.lock().unwrap();
                            found.into_iter().for_each(|(end, count)| *ends.entry(end).or_default() += count);
                        }
                        Err(why) => failed.lock().unwrap().push(why),
                    }
                }
            });
        }
    });
    let (ends, failed) = (ends.into_inner().unwrap(), failed.into_inner().unwrap());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let rows = ends.iter().map(|((kind, state), count)| format!("| {kind} | {state} | {count} |\n"));
    let told = rows.chain([format!("{histories} random histories from seed {first} on, all true in the end\n")]);
    tell("operations-histories.md", &told.collect::<String>());
    if histories >= HISTORIES {
        let kinds = [
            "attach", "detach", "extend", "boot", "delete", "rebuild", "rescue", "unrescue", "snapshot", "start", "stop",
            "fill",
        ];
        for kind in kinds {
            assert!(ends.contains_key(&(kind.to_owned(), "succeeded".to_owned())), "no {kind} ever succeeds: {ends:?}");
        }
    }
}

/// What the histories are to find, they find: each of these worlds is spoilt in one way.
#[test]
fn a_world_that_is_spoilt_is_found_out() {
    let shirks = |call: &'static str| move |world: &World| world.state.lock().unwrap().shirked = Some(call);
    let lies = |world: &World| world.state.lock().unwrap().lies = true;
    let found = |seed, spoil: &dyn Fn(&World)| tried(seed, 2000, spoil).expect_err("it is not found");
    let wrong_device = found(1, &lies);
    assert!(wrong_device.contains("what must never happen"), "{wrong_device}");
    let removed_under_a_guest = found(2, &shirks("detach_disk"));
    assert!(removed_under_a_guest.contains("what must never happen"), "{removed_under_a_guest}");
    for left in ["disconnect", "delete_attachment", "undefine_secret", "remove_disk", "delete_volume", "undefine_guest"] {
        println!("{left}: {}", found(3, &shirks(left)).lines().next().unwrap_or_default());
    }
}

/// An attachment that is deleted too early, and its LUN given to another volume: the guest's disk is second-hand then, which is seen.
#[test]
fn a_second_hand_device_is_seen() {
    let world = world();
    in_no_time(async {
        let agent = begin(&world).await;
        for (volume, guest) in [(0, 1), (1, 0)] {
            let id = agent.submit(request(&Event::Attach(volume, guest), &mut [1; VOLUMES]).unwrap()).await.unwrap();
            assert_eq!(end_of(&agent, id).await.state, OperationState::Succeeded);
            let mut state = world.state.lock().unwrap();
            assert_eq!(state.crimes.is_empty(), volume == 0, "{:?}", state.crimes);
            if volume == 0 {
                state.luns.clear();
            }
        }
    });
    let crimes = world.state.lock().unwrap().crimes.clone();
    assert!(crimes[0].contains("leads to what is LUN"), "{crimes:?}");
}
