//! `bowline` while it waits: Ctrl-C, timeouts, and an agent that restarts.

use super::support::{DEADLINE, HELD, Ran, Stage, bowline};
use bowline::agent::{api::AgentApi, dbus::serve};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout},
    time::timeout,
};

/// A `bowline` that runs.
struct Running {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: Lines<BufReader<ChildStderr>>,
}

impl Running {
    fn start(stage: &Stage, arguments: &[&str]) -> Self {
        let mut child = bowline(&stage.bus, arguments).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, stdout, stderr }
    }

    /// One that attaches the held volume, and has told its first step.
    async fn attaching(stage: &Stage) -> Self {
        let mut running = Self::start(stage, &["attach", HELD, "guest"]);
        stage.agent.gate.add_permits(1);
        let line = timeout(DEADLINE, running.stdout.next_line()).await.expect("no step").unwrap().unwrap();
        assert!(line.contains("CreateAttachment"), "{line}");
        running
    }

    fn interrupt(&self) {
        kill(Pid::from_raw(self.child.id().unwrap().try_into().unwrap()), Signal::SIGINT).unwrap();
    }

    async fn says(&mut self, word: &str) {
        let line = timeout(DEADLINE, self.stderr.next_line()).await.expect("nothing said").unwrap().unwrap_or_default();
        assert!(line.contains(word), "{line}");
    }

    async fn end(mut self) -> Ran {
        let status = timeout(DEADLINE, self.child.wait()).await.expect("bowline hangs").unwrap();
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.into_inner().read_to_string(&mut stdout).await.unwrap();
        self.stderr.into_inner().read_to_string(&mut stderr).await.unwrap();
        Ran { code: status.code().unwrap_or(-1), stdout, stderr }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_cancels_and_waits_until_it_is_undone() {
    let stage = Stage::new().await;
    let mut running = Running::attaching(&stage).await;
    running.interrupt();
    running.says("cancelling").await;
    let ran = running.end().await;
    assert_eq!(ran.code, 12, "{ran:?}");
    assert!(ran.stdout.contains("CreateAttachment") && ran.stdout.contains("undone"), "{ran:?}");
    assert!(ran.stderr.contains("was cancelled"), "{ran:?}");
    assert_eq!(stage.agent.cancels(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_word_that_an_operation_has_ended_is_not_believed() {
    let stage = Stage::new().await;
    let running = Running::attaching(&stage).await;
    let id = stage.agent.operations()[0].id.to_string().replace('-', "_");
    let path = format!("/org/bowline/Agent1/operations/{id}");
    let stranger = stage.bus.connect_as_nobody().await;
    let to_all = None::<&str>;
    let ended = ("failed", "internal", "forged-words");
    stranger.emit_signal(to_all, path.as_str(), "org.bowline.Operation1", "Finished", &ended).await.unwrap();
    let state =
        std::collections::HashMap::from([("State", zbus::Variant::from("failed")), ("ErrorMessage", "forged-words".into())]);
    let changed = ("org.bowline.Operation1", state, Vec::<String>::new());
    let properties = "org.freedesktop.DBus.Properties";
    stranger.emit_signal(to_all, path.as_str(), properties, "PropertiesChanged", &changed).await.unwrap();
    // The bus has passed on what came before this question.
    let _: String =
        super::support::call(&stranger, &path, "org.freedesktop.DBus.Introspectable", "Introspect", &()).await.unwrap();
    stage.agent.gate.add_permits(2);
    let ran = running.end().await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!format!("{ran:?}").contains("forged"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_is_followed_across_a_restart_of_the_agent() {
    let stage = Stage::new().await;
    let mut running = Running::attaching(&stage).await;
    let Stage { bus, agent, served, .. } = stage;
    served.close().await;
    running.says("left the bus").await;
    agent.gate.add_permits(2);
    let _served = serve(agent.clone(), Some(&bus.address)).await.unwrap();
    running.says("is back").await;
    let ran = running.end().await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("as vdb"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_leaves_at_once_while_the_agent_is_away() {
    let stage = Stage::new().await;
    let mut running = Running::attaching(&stage).await;
    let Stage { bus: _bus, agent, served, .. } = stage;
    served.close().await;
    running.says("left the bus").await;
    running.interrupt();
    let ran = running.end().await;
    assert_eq!(ran.code, 130, "{ran:?}");
    assert!(ran.stderr.contains("goes on in the agent"), "{ran:?}");
    assert_eq!(agent.cancels(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_ctrl_c_leaves_the_operation_to_the_agent() {
    let stage = Stage::new().await;
    stage.agent.ignore_cancels();
    let mut running = Running::attaching(&stage).await;
    running.interrupt();
    running.says("cancelling").await;
    running.interrupt();
    let ran = running.end().await;
    assert_eq!((ran.code, stage.agent.cancels() <= 1), (130, true), "{ran:?}");
    assert!(!stage.agent.operations()[0].state.is_final());
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_that_others_make_up_change_nothing() {
    let stage = Stage::new().await;
    let running = Running::attaching(&stage).await;
    let path = format!("/org/bowline/Agent1/operations/{}", stage.agent.operations()[0].id.to_string().replace('-', "_"));
    let forger = stage.bus.connect().await;
    let names = zbus::fdo::DBusProxy::new(&forger).await.unwrap().list_names().await.unwrap();
    // More than any queue between the bus and the command holds.
    let targets = names.iter().filter(|name| name.as_str().starts_with(':'));
    for name in targets.flat_map(|name| std::iter::repeat_n(name, 300)) {
        let finished = ("succeeded", "", "");
        forger.emit_signal(Some(name.as_str()), path.as_str(), "org.bowline.Operation1", "Finished", &finished).await.unwrap();
        let owner = ("org.bowline.Agent1", ":1.0", "");
        forger
            .emit_signal(Some(name.as_str()), "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameOwnerChanged", &owner)
            .await
            .unwrap();
    }
    stage.agent.gate.add_permits(2);
    let ran = running.end().await;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    assert!(ran.stdout.contains("as vdb"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_ends_in_time_and_the_operation_goes_on() {
    let stage = Stage::new().await;
    let ran = stage.bowline(&["attach", HELD, "guest", "--timeout-s", "3", "--json"]).await;
    assert_eq!((ran.code, ran.json_error()["kind"].as_str()), (8, Some("timeout")));
    assert!(ran.stderr.contains("bowline show"), "{ran:?}");
    assert!(!stage.agent.operations()[0].state.is_final());
}
