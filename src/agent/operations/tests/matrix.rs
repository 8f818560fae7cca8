//! Every operation, struck at every call of every step, and of every step's undoing: an error, a lost answer, a death, a deadline
//! that passes, a step that is done twice, a part that never works. Whatever it was, it ends as done or as undone, or is shown as
//! stuck until the part works again; and then nothing is left.
//!
//! The steps are those that the code's own tables give; which calls a step makes is learnt from a run that nothing strikes. A new
//! operation is asked for in [`next`].

use super::world::{Fault, guest_uuid};
use super::{FAULTS, World, agreement::settled, attach, boot, detach, rebuild, rescue, start_tuned, world::At};
use crate::agent::api::{AgentApi, ExtendRequest, OperationState, RebuildRequest, Request, StartRequest, StopRequest};
use crate::agent::journal::{Step, faulty};
use crate::agent::operations::{Agent, Shared, faults::DONE_TWICE, plan};
use crate::model::{OperationId, SnapshotRequest};
use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// What no operation of a world that works takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// The deadlines of a world that hangs.
const HASTE: Duration = Duration::from_millis(40);

const COLUMNS: [&str; 6] = ["error", "crash", "timeout", "repeat", "for good", "journal"];

/// The request that is tried after this one: there is no operation that is not in this chain, but the fill, which nobody asks for: `fill.rs`
/// strikes that.
fn next(request: Option<&Request>) -> Option<Request> {
    match request {
        None => Some(attach()),
        Some(Request::Attach(_)) => Some(detach()),
        Some(Request::Detach(_)) => Some(Request::Extend(ExtendRequest { volume: "data".into(), size_gib: 2 })),
        Some(Request::Extend(_)) => Some(boot::boot()),
        Some(Request::Boot(request)) if request.definition.is_none() => Some(boot::boot_of_new("made")),
        Some(Request::Boot(_)) => Some(boot::delete()),
        Some(Request::Delete(request)) if request.guest != "made" => Some(boot::delete_of("made")),
        Some(Request::Delete(_)) => {
            Some(Request::Rebuild(RebuildRequest { guest: "guest-1".into(), image: "tiny".into(), size_gib: None }))
        }
        Some(Request::Rebuild(request)) if request.guest == "guest-1" => Some(rebuild::on_volume()),
        Some(Request::Rebuild(_)) => Some(Request::Start(StartRequest { guest: "guest-1".into() })),
        Some(Request::Start(_)) => Some(stop(false)),
        Some(Request::Stop(_)) => {
            Some(Request::Snapshot(SnapshotRequest { guest: "guest-1".into(), name: "snap".into(), freeze: true }))
        }
        Some(Request::Snapshot(_)) => Some(rescue::rescue()),
        Some(Request::Rescue(_)) => Some(rescue::unrescue()),
        Some(Request::Unrescue(_)) => None,
    }
}

/// A world in which it can be asked for.
fn world_for(request: &Request, dir: &Path) -> World {
    let world = World::new();
    let before = match request {
        Request::Attach(_) | Request::Stop(_) | Request::Boot(_) => vec![],
        Request::Detach(_) | Request::Extend(_) => vec![attach()],
        Request::Start(_) => vec![attach(), stop(true)],
        Request::Delete(request) if request.guest == "made" => vec![boot::boot_of_new("made")],
        Request::Delete(_) | Request::Snapshot(_) => vec![boot::boot()],
        Request::Rebuild(request) if request.guest == "guest-1" => vec![boot::boot(), stop(true)],
        Request::Rebuild(_) => vec![rebuild::boot_from_volume(&world), stop(true)],
        Request::Rescue(_) => vec![boot::boot()],
        Request::Unrescue(_) => vec![boot::boot(), rescue::rescue()],
    };
    if matches!(request, Request::Boot(_)) || before.iter().any(|request| matches!(request, Request::Boot(_))) {
        world.state.lock().unwrap().guests.get_mut(&guest_uuid()).unwrap().active = false;
    }
    for request in before {
        super::live(&world, dir, Some(request));
    }
    let mut state = world.state.lock().unwrap();
    // A guest whose agent refuses is caught as it runs, and the image says so.
    state.may_run_on = true;
    if matches!(request, Request::Start(_)) {
        state.connected.clear();
        state.secrets.clear();
    }
    drop(state);
    world
}

fn stop(force: bool) -> Request {
    Request::Stop(StopRequest { guest: "guest-1".into(), force })
}

/// What goes wrong.
#[derive(Debug, Clone, Copy)]
enum Strike {
    Nothing,
    /// At the call of this number, counted from the request.
    Once(usize, Fault),
    /// At two of them.
    Both(usize, Fault, usize, Fault),
    /// The step is done twice.
    Twice(Step),
    /// A call of this name is refused until it is shown.
    Refused(&'static str),
    /// The same, without an answer.
    Hangs(&'static str),
    /// The call of this number is refused, and calls of this name, by which that is undone, as long as with the two above.
    Undoing(usize, &'static str, Fault),
}

impl Strike {
    fn column(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Once(_, fault) | Self::Both(_, _, _, fault) => match fault {
                Fault::Refused | Fault::AnswerLost => "error",
                Fault::DiesBefore | Fault::DiesAfter => "crash",
                Fault::HangsBefore | Fault::HangsAfter => "timeout",
                Fault::JournalFull => "journal",
            },
            Self::Twice(_) => "repeat",
            Self::Refused(_) | Self::Hangs(_) | Self::Undoing(..) => "for good",
        }
    }

    fn hangs(self) -> bool {
        self.column() == "timeout" || matches!(self, Self::Hangs(_) | Self::Undoing(_, _, Fault::HangsBefore))
    }

    fn lay(self, world: &World) {
        let mut state = world.state.lock().unwrap();
        let now = state.calls;
        match self {
            Self::Nothing | Self::Twice(_) => {}
            Self::Once(at, fault) => state.fault = Some((now + at, fault)),
            Self::Both(at, fault, then, second) => {
                state.fault = Some((now + at, fault));
                state.second_fault = Some((now + then, second));
            }
            Self::Refused(name) => drop(state.refused.insert(name)),
            Self::Hangs(name) => drop(state.hanging.insert(name)),
            Self::Undoing(at, name, fault) => {
                state.fault = Some((now + at, Fault::Refused));
                let struck = if fault == Fault::Refused { &mut state.refused } else { &mut state.hanging };
                struck.insert(name);
            }
        }
    }
}

/// What became of a request.
#[derive(Debug)]
struct Ended {
    state: OperationState,
    was_stuck: bool,
    /// What was called since the request, and what the agent was at.
    calls: Vec<(&'static str, Option<At>)>,
}

impl Ended {
    fn word(&self) -> &'static str {
        match (self.state == OperationState::Succeeded, self.was_stuck) {
            (true, false) => "done",
            (true, true) => "done*",
            (false, false) => "undone",
            (false, true) => "undone*",
        }
    }
}

fn in_haste(shared: &mut Shared) {
    shared.step_timeout = HASTE;
    for limit in
        [&mut shared.create_timeout, &mut shared.delete_timeout, &mut shared.extend_timeout, &mut shared.download_timeout]
    {
        *limit = HASTE;
    }
}

/// Waits for the end, or for the first time that it is shown as stuck.
async fn end_or_stuck(agent: &Agent, id: OperationId) -> Result<OperationState, String> {
    let mut events = agent.events();
    let reached = async {
        loop {
            match agent.operation(id) {
                Some(view) if view.state.is_final() => return view.state,
                _ => drop(events.recv().await),
            }
        }
    };
    let reached = tokio::time::timeout(PATIENCE, reached).await;
    reached.map_err(|_| format!("it neither ended nor was shown as stuck: {:?}", agent.operation(id)))
}

/// Lives through one case.
fn lived(request: &Request, strike: Strike) -> Result<Ended, String> {
    let memory = Path::new("/dev/shm");
    let dir = tempfile::tempdir_in(if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }).unwrap();
    let world = world_for(request, dir.path());
    let before = {
        let mut state = world.state.lock().unwrap();
        state.journal = dir.path().to_owned();
        state.calls
    };
    DONE_TWICE.set(if let Strike::Twice(step) = strike { Some(step) } else { None });
    let tune = |shared: &mut Shared| {
        if strike.hangs() {
            in_haste(shared);
        }
    };
    let (id, is_shown, called) = (Cell::new(None), Cell::new(false), Cell::new(None));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime.block_on(async {
        let life = async {
            let agent = start_tuned(&world, dir.path(), tune).await;
            strike.lay(&world);
            id.set(Some(agent.submit(request.clone()).await.map_err(|error| error.to_string())?));
            let state = end_or_stuck(&agent, id.get().unwrap()).await?;
            is_shown.set(state == OperationState::Stuck);
            called.set(Some(world.state.lock().unwrap().calls));
            heal(&world);
            settled(&world, &agent).await?;
            Ok::<_, String>(agent.operation(id.get().unwrap()).unwrap().state)
        };
        tokio::select! {
            ended = life => Some(ended),
            () = world.died.notified() => None,
        }
    });
    drop(runtime);
    let state = match first {
        Some(state) => state?,
        None => {
            heal(&world);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let agent = start_tuned(&world, dir.path(), |_| {}).await;
                settled(&world, &agent).await?;
                let id = id.get().ok_or("it died before it had an operation")?;
                Ok::<_, String>(agent.operation(id).ok_or("its operation is forgotten")?.state)
            })?
        }
    };
    DONE_TWICE.set(None);
    if strike.column() == "journal" {
        // What the journal has is what the next life begins with.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { settled(&world, &start_tuned(&world, dir.path(), |_| {}).await).await })?;
    }
    let calls = {
        let state = world.state.lock().unwrap();
        let until = called.get().unwrap_or(state.calls);
        state.names[before..until].iter().copied().zip(state.at[before..until].iter().copied()).collect()
    };
    if state != OperationState::Succeeded {
        // What came to nothing can be asked for again.
        let again = super::live(&world, dir.path(), Some(request.clone())).ok_or("it died anew")?;
        if again.state != OperationState::Succeeded {
            return Err(format!("asked for again: {again:?}"));
        }
    }
    Ok(Ended { state, was_stuck: is_shown.get(), calls })
}

fn heal(world: &World) {
    let mut state = world.state.lock().unwrap();
    (state.fault, state.second_fault) = (None, None);
    state.refused.clear();
    state.hanging.clear();
    faulty::lay(&state.journal, None);
    world.healed.notify_waiters();
}

/// One thing that goes wrong in one operation, and the row it belongs to.
struct Case {
    request: Request,
    row: String,
    strike: Strike,
}

fn row(request: &Request, at: Option<At>) -> String {
    let Some(At { kind, step, undoing }) = at else { return format!("{} | before its steps", request.kind()) };
    let whose = if kind == request.kind() { String::new() } else { format!("its {kind}: ") };
    let undoing = if undoing { "undoing " } else { "" };
    format!("{} | {whose}{undoing}{}", request.kind(), step.name())
}

const HANGS: [Fault; 2] = [Fault::HangsBefore, Fault::HangsAfter];

fn cases() -> Vec<Case> {
    let mut cases = vec![];
    let mut request = next(None);
    while let Some(asked) = request {
        let clean = lived(&asked, Strike::Nothing).unwrap();
        assert_eq!(clean.word(), "done");
        let mut put = |row: String, strike| cases.push(Case { request: asked.clone(), row, strike });
        let (mut names, mut steps, mut undone) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (call, (name, at)) in clean.calls.iter().enumerate() {
            for fault in FAULTS.into_iter().chain(HANGS).chain([Fault::JournalFull]) {
                put(row(&asked, *at), Strike::Once(call, fault));
            }
            if names.insert(*name) {
                put(row(&asked, *at), Strike::Refused(name));
                put(row(&asked, *at), Strike::Hangs(name));
            }
            // A step that fails is undone with all before it: that is struck in its turn.
            if steps.insert(row(&asked, *at)) {
                let refused = lived(&asked, Strike::Once(call, Fault::Refused)).unwrap();
                for (then, (name, at)) in refused.calls.iter().enumerate().skip(call + 1) {
                    let row = row(&asked, *at);
                    // The same call of the same undoing is struck once, from wherever it first came to that.
                    if at.is_none_or(|at| !at.undoing) || !undone.insert((row.clone(), *name)) {
                        continue;
                    }
                    for fault in FAULTS.into_iter().chain(HANGS) {
                        put(row.clone(), Strike::Both(call, Fault::Refused, then, fault));
                    }
                    for fault in [Fault::Refused, Fault::HangsBefore] {
                        put(row.clone(), Strike::Undoing(call, name, fault));
                    }
                }
            }
        }
        for step in steps_of(&asked) {
            let at = At { kind: asked.kind(), step, undoing: false };
            put(row(&asked, Some(at)), Strike::Twice(step));
        }
        request = next(Some(&asked));
    }
    cases
}

/// The steps that the operation has by the code's own table.
fn steps_of(request: &Request) -> Vec<Step> {
    let dir = tempfile::tempdir().unwrap();
    let world = world_for(request, dir.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let agent = super::start(&world, dir.path()).await;
        plan::steps(&agent.task(request).await.unwrap())
    })
}

#[test]
fn whatever_strikes_an_operation_it_ends_done_or_undone_and_leaves_nothing() {
    let cases = cases();
    let next_case = AtomicUsize::new(0);
    let ended: Mutex<BTreeMap<usize, Result<&'static str, String>>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(2, usize::from) * 2;
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((number, case)) =
                    Some(next_case.fetch_add(1, Ordering::Relaxed)).and_then(|number| Some((number, cases.get(number)?)))
                {
                    let word = lived(&case.request, case.strike).map(|ended| ended.word());
                    ended.lock().unwrap().insert(number, word);
                }
            });
        }
    });
    let mut table: Vec<Row<'_>> = vec![];
    let mut failed = vec![];
    for (number, ended) in ended.into_inner().unwrap() {
        let Case { row, strike, .. } = &cases[number];
        let word = ended.unwrap_or_else(|why| {
            failed.push(format!("{row}: {strike:?}: {why}"));
            "WRONG"
        });
        if !table.iter().any(|(known, _)| known == row) {
            table.push((row, BTreeMap::new()));
        }
        let (_, cells) = table.iter_mut().find(|(known, _)| known == row).unwrap();
        *cells.entry(strike.column()).or_default().entry(word).or_default() += 1;
    }
    super::tell("operations-matrix.md", &told(&table, cases.len()));
    assert!(failed.is_empty(), "{} of {} cases\n{}", failed.len(), cases.len(), failed.join("\n"));
}

/// A step, and by column how many of its cases ended how.
type Row<'c> = (&'c str, BTreeMap<&'static str, BTreeMap<&'static str, usize>>);

fn told(table: &[Row<'_>], cases: usize) -> String {
    let mut lines = vec![format!("| operation | step | {} |", COLUMNS.join(" | "))];
    lines.push(format!("|{}", " --- |".repeat(2 + COLUMNS.len())));
    for (row, cells) in table {
        let cell = |column: &&str| {
            let words = cells.get(column).into_iter().flatten();
            words.map(|(word, count)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
        };
        lines.push(format!("| {row} | {} |", COLUMNS.iter().map(cell).collect::<Vec<_>>().join(" | ")));
    }
    lines.push(format!("{cases} cases; * was shown as stuck until the world healed\n"));
    lines.join("\n")
}
