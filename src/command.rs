//! Runs one external command: what every caller must get right, in one place.
//!
//! The child gets a process group of its own and on its standard input nothing but what it is given. When its time is up the whole group is
//! killed with SIGKILL (a tool stuck in the kernel's storage paths ignores politer signals) and reaped. What it writes is
//! kept up to a bound, so that a babbling tool cannot fill the agent's memory, and its stderr goes into the error.
//!
//! [`run_whole`] is for what must not be cut: whoever waits for it may give up, and it is asked to end before it is killed.
//!
//! A child has no more of the agent's capabilities than its program is known to need (`powers`), and of its environment only `PATH`.

mod powers;

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io,
    process::Stdio,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    time::timeout,
};

/// Bytes kept of each of stdout and stderr. Error texts of the tools used here are a few lines.
const CAPTURE_LIMIT_BYTES: u64 = 16 * 1024;
/// The same where the answer is a list.
const LARGE_LIMIT_BYTES: u64 = 16 << 20;

/// How long a killed child may take to be reaped. Only one hung in an uninterruptible system call takes longer.
const REAP_TIMEOUT: Duration = Duration::from_secs(2);

/// Between asking a command to end and killing it.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Commands that were started, by program.
static STARTED: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

/// How many commands this process has started, by program. A handful of programs is all there is.
pub fn commands_started() -> BTreeMap<String, u64> {
    STARTED.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// How a command ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finished {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its stdout as it was, bounded.
    pub stdout: Vec<u8>,
    /// Its stderr on one line, bounded.
    pub stderr: String,
}

/// A command that did not end by itself.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("cannot start {program}")]
    Start {
        /// Program name.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It could not be waited for.
    #[error("cannot wait for {program}")]
    Wait {
        /// Program name.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It did not end in time and was killed.
    #[error("{program} did not end within {timeout_s} s and was killed")]
    Timeout {
        /// Program name.
        program: String,
        /// The time it had, seconds.
        timeout_s: u64,
    },
}

/// Runs `program` with `arguments` (which must hold no secret: anybody may read them) for at most `limit`.
pub(crate) async fn run<A: AsRef<OsStr>>(program: &str, arguments: &[A], limit: Duration) -> Result<Finished, CommandError> {
    run_with_input(program, arguments, Stdio::null(), limit).await
}

/// As [`run`], for an answer of many lines.
pub(crate) async fn run_large<A: AsRef<OsStr>>(
    program: &str,
    arguments: &[A],
    limit: Duration,
) -> Result<Finished, CommandError> {
    let child = start(program, arguments, Stdio::null(), true)?;
    watch(program, child, limit, LARGE_LIMIT_BYTES, &[Signal::SIGKILL]).await
}

/// As [`run`], with something on its standard input.
pub(crate) async fn run_with_input<A: AsRef<OsStr>>(
    program: &str,
    arguments: &[A],
    stdin: Stdio,
    limit: Duration,
) -> Result<Finished, CommandError> {
    let child = start(program, arguments, stdin, true)?;
    watch(program, child, limit, CAPTURE_LIMIT_BYTES, &[Signal::SIGKILL]).await
}

/// As [`run`], to its end whoever waits, also without this process; when its time is up it is asked to end, and only then killed. LVM holds
/// that off while it has devices suspended, and a kill at that moment would leave them so.
pub(crate) async fn run_whole<A: AsRef<OsStr>>(
    program: &str,
    arguments: &[A],
    limit: Duration,
) -> Result<Finished, CommandError> {
    let child = start(program, arguments, Stdio::null(), false)?;
    let name = program.to_owned();
    let ended =
        tokio::spawn(async move { watch(&name, child, limit, CAPTURE_LIMIT_BYTES, &[Signal::SIGTERM, Signal::SIGKILL]).await })
            .await;
    ended.unwrap_or_else(|error| Err(CommandError::Wait { program: program.to_owned(), source: io::Error::other(error) }))
}

fn start<A: AsRef<OsStr>>(program: &str, arguments: &[A], stdin: Stdio, is_cut: bool) -> Result<Child, CommandError> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        // Messages are matched and shown: keep them in the tool's own language.
        .env("LC_ALL", "C")
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(is_cut);
    let child =
        powers::spawn(program, &mut command).map_err(|source| CommandError::Start { program: program.to_owned(), source })?;
    *STARTED.lock().unwrap_or_else(PoisonError::into_inner).entry(program.to_owned()).or_default() += 1;
    Ok(child)
}

/// Waits for its end; once its time is up, these signals make it, one after the other.
async fn watch(
    program: &str,
    mut child: Child,
    limit: Duration,
    stdout_bytes: u64,
    signals: &[Signal],
) -> Result<Finished, CommandError> {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ended = timeout(limit, async {
        let (status, stdout, stderr) =
            tokio::join!(child.wait(), capture(stdout, stdout_bytes), capture(stderr, CAPTURE_LIMIT_BYTES));
        status.map(|status| Finished { code: status.code(), stdout, stderr: one_line(&stderr) })
    })
    .await;
    match ended {
        Ok(ended) => ended.map_err(|source| CommandError::Wait { program: program.to_owned(), source }),
        Err(_) => {
            for signal in signals {
                if let Some(group) = group {
                    // Its own group since the start, so this can hit nobody else; gone already is as good.
                    let _ = killpg(group, *signal);
                }
                let patience = if *signal == Signal::SIGKILL { REAP_TIMEOUT } else { END_TIMEOUT };
                if timeout(patience, child.wait()).await.is_ok() {
                    break;
                }
            }
            Err(CommandError::Timeout { program: program.to_owned(), timeout_s: limit.as_secs() })
        }
    }
}

/// Reads to the end, keeps the first so many bytes.
async fn capture(stream: Option<impl AsyncRead + Unpin>, limit_bytes: u64) -> Vec<u8> {
    let Some(mut stream) = stream else { return Vec::new() };
    let mut kept = Vec::new();
    // A read error ends the capture; the exit code tells how the command fared.
    let _ = (&mut stream).take(limit_bytes).read_to_end(&mut kept).await;
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    kept
}

fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};
    use std::time::Instant;

    fn sh(script: &str) -> [String; 2] {
        ["-c".to_owned(), script.to_owned()]
    }

    #[tokio::test]
    async fn the_exit_code_and_what_it_said_are_kept() {
        let finished = run("sh", &sh("echo out; echo one >&2; echo two >&2; exit 24"), Duration::from_secs(10)).await.unwrap();
        assert_eq!(finished, Finished { code: Some(24), stdout: b"out\n".to_vec(), stderr: "one; two".to_owned() });
    }

    #[tokio::test]
    async fn what_it_is_given_and_what_it_answers_go_through() {
        let mut input = tempfile::tempfile().unwrap();
        input.write_all(b"given").unwrap();
        input.rewind().unwrap();
        let finished = run_with_input("cat", &[""; 0], input.into(), Duration::from_secs(10)).await.unwrap();
        assert_eq!(finished.stdout, b"given");
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let error = run("no-such-program-here", &[""; 0], Duration::from_secs(10)).await.unwrap_err();
        assert!(error.to_string().contains("no-such-program-here"), "{error}");
    }

    #[tokio::test]
    async fn the_whole_group_is_killed_in_time_even_when_it_ignores_signals() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("held-by-the-grandchild");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let script = format!("trap '' TERM INT HUP; sleep 300 >{} & wait", fifo.display());
        // Ends when the last process that holds the other end does.
        let grandchild = std::thread::spawn(move || std::fs::read(fifo).unwrap());
        let begun = Instant::now();
        let error = run("sh", &sh(&script), Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(error, CommandError::Timeout { timeout_s: 5, .. }), "{error}");
        grandchild.join().unwrap();
        // Far below the 300 s that the script would take, and above what a busy machine may add.
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn what_must_not_be_cut_goes_on_without_who_waits_and_is_asked_before_it_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("done");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (go, come) = (dir.path().join("go"), fifo.clone());
        nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let script = sh(&format!("read x <{}; echo whole >{}", go.display(), fifo.display()));
        {
            let waiting = run_whole("sh", &script, Duration::from_secs(60));
            tokio::pin!(waiting);
            assert!(timeout(Duration::from_millis(200), &mut waiting).await.is_err());
        }
        let said = std::thread::spawn(move || {
            std::fs::write(&go, "x\n").unwrap();
            std::fs::read_to_string(come).unwrap()
        });
        assert_eq!(said.join().unwrap(), "whole\n");

        let asked = dir.path().join("asked");
        let script = format!("trap 'echo asked >{}; exit 1' TERM; sleep 300 & wait", asked.display());
        let error = run_whole("sh", &sh(&script), Duration::from_secs(2)).await.unwrap_err();
        assert!(matches!(error, CommandError::Timeout { .. }), "{error}");
        assert_eq!(std::fs::read_to_string(asked).unwrap(), "asked\n");
    }

    #[tokio::test]
    async fn a_flood_of_output_is_bounded_and_does_not_block_the_child() {
        let finished = run("sh", &sh("head -c 3000000 /dev/zero | tr '\\0' x >&2"), Duration::from_secs(20)).await.unwrap();
        assert_eq!((finished.code, finished.stderr.len() as u64), (Some(0), CAPTURE_LIMIT_BYTES));
    }
}
