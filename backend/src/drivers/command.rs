//! Runs one command of a storage driver: bounded in time and in what is kept of its words, its stderr for the error.
//!
//! A command that changes storage must not be cut off in the middle because the future that waits for it is dropped, so it runs in
//! a task of its own. At its deadline it is asked to end first: LVM holds that signal off while it has devices suspended, and a kill
//! at that moment would leave them so.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::tool::read;

/// What is kept of stdout and of stderr, each.
const LONGEST_WORDS_BYTES: u64 = 1 << 20;

/// Between asking a command to end and killing it.
const END_WITHIN: Duration = Duration::from_secs(10);

/// How a command ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finished {
    /// Whether its exit status was 0.
    pub(super) success: bool,
    /// What it wrote to stdout.
    pub(super) stdout: Vec<u8>,
    /// What it wrote to stderr, on one line.
    pub(super) stderr: String,
}

/// A command that did not end by itself.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("cannot start {program}")]
    Start {
        /// Its name.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It took too long.
    #[error("{program} did not end within {limit_s} s and was stopped")]
    Timeout {
        /// Its name.
        program: &'static str,
        /// The time it had.
        limit_s: u64,
    },
}

/// Runs a command. No argument may be a secret: everybody on the machine can read them.
pub(super) async fn run(program: &'static str, arguments: Vec<String>, limit: Duration) -> Result<Finished, CommandError> {
    let started = Command::new(program)
        .args(arguments)
        // Numbers and messages are read: in the tool's own language.
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn();
    let child = started.map_err(|source| CommandError::Start { program, source })?;
    let ended = tokio::spawn(watch(child, program, limit)).await;
    ended.unwrap_or_else(|error| Err(CommandError::Start { program, source: io::Error::other(error) }))
}

async fn watch(mut child: Child, program: &'static str, limit: Duration) -> Result<Finished, CommandError> {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ended = timeout(limit, async {
        tokio::join!(child.wait(), read(stdout, LONGEST_WORDS_BYTES), read(stderr, LONGEST_WORDS_BYTES))
    })
    .await;
    if let Ok((status, stdout, stderr)) = ended {
        let status = status.map_err(|source| CommandError::Start { program, source })?;
        return Ok(Finished { success: status.success(), stdout, stderr: one_line(&stderr) });
    }
    for signal in [Signal::TERM, Signal::KILL] {
        if let Some(group) = group {
            // Its own group since the start; gone already is as good.
            let _ = kill_process_group(group, signal);
        }
        if timeout(END_WITHIN, child.wait()).await.is_ok() {
            break;
        }
    }
    Err(CommandError::Timeout { program, limit_s: limit.as_secs() })
}

fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn sh(script: &str) -> Vec<String> {
        vec!["-c".to_owned(), script.to_owned()]
    }

    #[tokio::test]
    async fn words_and_success_are_kept() {
        let finished = run("sh", sh("echo out; echo one >&2; echo two >&2; exit 5"), Duration::from_secs(10)).await.unwrap();
        assert_eq!(finished, Finished { success: false, stdout: b"out\n".to_vec(), stderr: "one; two".into() });
        let error = run("no-such-program-here", vec![], Duration::from_secs(10)).await.unwrap_err();
        assert!(error.to_string().contains("no-such-program-here"));
    }

    #[tokio::test]
    async fn at_its_deadline_it_is_asked_to_end_first() {
        let dir = tempfile::tempdir().unwrap();
        let told = dir.path().join("told");
        let script = format!("trap 'echo asked >{}; exit 1' TERM; sleep 100 & wait", told.display());
        let begun = Instant::now();
        let error = run("sh", sh(&script), Duration::from_secs(1)).await.unwrap_err();
        assert!(matches!(error, CommandError::Timeout { limit_s: 1, .. }), "{error}");
        assert_eq!(std::fs::read_to_string(told).unwrap(), "asked\n");
        assert!(begun.elapsed() < Duration::from_secs(60));
    }

    #[tokio::test]
    async fn it_goes_on_when_nobody_waits_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("done");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let script = format!("sleep 0.3; echo whole >{}", fifo.display());
        let waited = timeout(Duration::from_millis(50), run("sh", sh(&script), Duration::from_secs(30))).await;
        assert!(waited.is_err(), "it was waited for");
        // Ends when the command, which nobody waits for, has written.
        let text = tokio::task::spawn_blocking(move || std::fs::read_to_string(fifo)).await.unwrap().unwrap();
        assert_eq!(text, "whole\n");
    }
}
