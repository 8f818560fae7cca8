//! Runs the `bowline` command.

use super::{Bus, DEADLINE, am_root};
use std::{process::Stdio, time::Duration};
use tokio::process::Command;

/// uid of nobody.
const NOBODY: u32 = 65534;

/// How it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// It went well.
    #[track_caller]
    pub fn succeeded(&self) {
        assert_eq!(self.code, 0, "{self:?}");
    }

    /// The error document on standard error; there must be nothing on standard output.
    #[track_caller]
    pub fn json_error(&self) -> serde_json::Value {
        assert_eq!(self.stdout, "", "{self:?}");
        let document: serde_json::Value =
            serde_json::from_str(&self.stderr).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        document["error"].clone()
    }
}

/// The command on `bus`.
pub fn bowline(bus: &Bus, arguments: &[&str]) -> Command {
    prepare(Command::new(env!("CARGO_BIN_EXE_bowline")), bus, arguments)
}

/// The command as a user without privilege.
pub fn bowline_as_nobody(bus: &Bus, arguments: &[&str]) -> Command {
    if !am_root() {
        return bowline(bus, arguments);
    }
    // The build folder need not be readable by others. A process of its own copies: a descriptor that this one has open
    // for writing could reach a child of another test's, and the kernel then refuses to run the file.
    let copy = bus.folder().join("bowline");
    if !copy.exists() {
        let copied = std::process::Command::new("cp").arg(env!("CARGO_BIN_EXE_bowline")).arg(&copy).status().unwrap();
        assert!(copied.success());
    }
    let mut command = prepare(Command::new(copy), bus, arguments);
    command.uid(NOBODY).gid(NOBODY);
    command
}

fn prepare(mut command: Command, bus: &Bus, arguments: &[&str]) -> Command {
    command
        .args(arguments)
        .env("DBUS_SYSTEM_BUS_ADDRESS", &bus.address)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs it to its end.
pub async fn run(mut command: Command) -> Ran {
    // Not `Command::output`, which puts pipes of its own in place of what a test has set up.
    let child = command.spawn().unwrap();
    let output = tokio::time::timeout(DEADLINE + Duration::from_secs(1), child.wait_with_output()).await;
    let output = output.expect("bowline hangs").unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
