//! Programs that the service runs: storages' own tools and qemu-img. Each is bounded in time and in what is kept of its words, and its
//! own complaint is in the error.
//!
//! ```text
//! run        dies with the service and where nobody waits for it any more; killed at its deadline
//! run_whole  goes on to its end whoever waits, also without the service; asked to end at its deadline, and only then killed:
//!            LVM holds that off while it has devices suspended, and a kill at that moment would leave them so
//! drive      as `run`, for what was made by `command` or `caged`, its output heard as it comes
//! ```
//!
//! No argument may be a secret: everybody on the machine can read them.

use std::ffi::OsStr;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// What is read of an answer, in bytes: the trash of a pool is a list.
const LONGEST_ANSWER: u64 = 16 << 20;

/// What is read of complaints, and what is told of them, in bytes.
const LONGEST_COMPLAINT: u64 = 16 << 10;
const LONGEST_TOLD: usize = 512;

/// Between asking a program to end and killing it.
const END_WITHIN: Duration = Duration::from_secs(10);

/// What `setpriv` and `prlimit` say where there is no such program.
const NO_PROGRAM: i32 = 127;

/// A program and the Debian package it is of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
}

/// What a program may take of the machine that is fed by strangers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cage {
    /// Its address space, in bytes.
    pub(crate) memory_bytes: u64,
    /// Its processor time, in seconds.
    pub(crate) cpu_s: u64,
    /// The largest file that it may write, in bytes.
    pub(crate) file_bytes: u64,
}

/// A program that did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It cannot be run.
    #[error("cannot run {program} (of the package {package}; setpriv and prlimit are of util-linux)")]
    Start {
        /// The program.
        program: &'static str,
        /// What it is of.
        package: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It is not there.
    #[error("there is no program {program}: install the package {package}")]
    Missing {
        /// The program.
        program: &'static str,
        /// What it is of.
        package: &'static str,
    },
    /// It said no.
    #[error("{program} failed: {said}")]
    Failed {
        /// The program.
        program: &'static str,
        /// How it ended; none where a signal ended it.
        code: Option<i32>,
        /// Its own words.
        said: String,
    },
    /// It did not come to an end.
    #[error("{program} did not end within {limit_s} s")]
    TooLong {
        /// The program.
        program: &'static str,
        /// How long it was given.
        limit_s: u64,
    },
    /// It said something else than it should.
    #[error("{program} gave an answer that cannot be understood")]
    Answer {
        /// The program.
        program: &'static str,
        /// Where.
        source: serde_json::Error,
    },
}

impl CommandError {
    /// How it ended, where it ended by itself.
    pub(crate) fn code(&self) -> Option<i32> {
        match self {
            Self::Failed { code, .. } => *code,
            _ => None,
        }
    }

    /// Whether its words have this in them.
    pub(crate) fn says(&self, words: &str) -> bool {
        matches!(self, Self::Failed { said, .. } if said.contains(words))
    }
}

impl Tool {
    /// The command, ready to be started, which dies with the service.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", self.program]).args(arguments);
        prepare(&mut command);
        command.kill_on_drop(true);
        command
    }

    /// The same within bounds, and without the service's environment.
    pub(crate) fn caged<A: AsRef<OsStr>>(&self, cage: Cage, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "prlimit", "--core=0"]);
        command.arg(format!("--as={}", cage.memory_bytes)).arg(format!("--cpu={}", cage.cpu_s));
        command.arg(format!("--fsize={}", cage.file_bytes)).args(["--", self.program]).args(arguments);
        // Nothing of the service's environment is its business but where programs are.
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        prepare(&mut command);
        command.kill_on_drop(true);
        command
    }

    /// Runs it to its end; what it said.
    pub(crate) async fn run<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        limit: Duration,
    ) -> Result<Vec<u8>, CommandError> {
        self.drive(self.command(arguments), limit, |stdout| read(stdout, LONGEST_ANSWER)).await
    }

    /// Runs a command of this program's to its end; gives what `hear` made of its output.
    pub(crate) async fn drive<T, F: Future<Output = T>>(
        &self,
        mut command: Command,
        limit: Duration,
        hear: impl FnOnce(Option<ChildStdout>) -> F,
    ) -> Result<T, CommandError> {
        let mut child = command.spawn().map_err(|error| self.start_error(error))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let ended = async { tokio::join!(child.wait(), hear(stdout), read(stderr, LONGEST_COMPLAINT)) };
        // Where it took too long the child is dropped here, and killed by that.
        let (status, heard, complaint) = timeout(limit, ended).await.map_err(|_| self.too_long(limit))?;
        self.judge(status.map_err(|error| self.start_error(error))?, &complaint)?;
        Ok(heard)
    }

    /// Runs it to its end, whether or not somebody waits for it; what it said.
    pub(crate) async fn run_whole<A: AsRef<OsStr>>(
        self,
        arguments: impl IntoIterator<Item = A>,
        limit: Duration,
    ) -> Result<Vec<u8>, CommandError> {
        let mut command = Command::new(self.program);
        prepare(command.args(arguments));
        let child = command.process_group(0).spawn().map_err(|error| self.start_error(error))?;
        let ended = tokio::spawn(self.watch(child, limit)).await;
        ended.unwrap_or_else(|error| Err(self.start_error(io::Error::other(error))))
    }

    async fn watch(self, mut child: Child, limit: Duration) -> Result<Vec<u8>, CommandError> {
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let ended = async { tokio::join!(child.wait(), read(stdout, LONGEST_ANSWER), read(stderr, LONGEST_COMPLAINT)) };
        if let Ok((status, answer, complaint)) = timeout(limit, ended).await {
            self.judge(status.map_err(|error| self.start_error(error))?, &complaint)?;
            return Ok(answer);
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
        Err(self.too_long(limit))
    }

    /// What an end and the words before it mean.
    pub(crate) fn judge(&self, status: ExitStatus, complaint: &[u8]) -> Result<(), CommandError> {
        let Self { program, package } = *self;
        match status.code() {
            Some(0) => Ok(()),
            Some(NO_PROGRAM) => Err(CommandError::Missing { program, package }),
            code => {
                let said = own_words(&String::from_utf8_lossy(complaint));
                Err(CommandError::Failed { program, code, said: if said.is_empty() { status.to_string() } else { said } })
            }
        }
    }

    pub(crate) fn start_error(&self, source: io::Error) -> CommandError {
        CommandError::Start { program: self.program, package: self.package, source }
    }

    fn too_long(&self, limit: Duration) -> CommandError {
        CommandError::TooLong { program: self.program, limit_s: limit.as_secs() }
    }
}

/// Its words are matched, so they must be its own language's; and nothing is to steer Ceph's tools but what they are told.
fn prepare(command: &mut Command) {
    command.env_remove("CEPH_ARGS").env("LC_ALL", "C");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
}

/// Reads to the end, keeps what is within the limit.
pub(crate) async fn read(stream: Option<impl AsyncRead + Unpin>, limit: u64) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(mut stream) = stream {
        // An error ends the reading; the exit code tells how the program fared.
        let _ = (&mut stream).take(limit).read_to_end(&mut kept).await;
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
    kept
}

/// What a program's complaints are in one line, without the lines of its libraries' logs where there are others: those begin with
/// a date.
fn own_words(complaint: &str) -> String {
    let lines: Vec<&str> = complaint.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let is_log = |line: &&&str| line.starts_with(|char: char| char.is_ascii_digit());
    let own: Vec<&str> = lines.iter().filter(|line| !is_log(line)).copied().collect();
    let mut said = if own.is_empty() { lines.join("; ") } else { own.join("; ") };
    let end = said.char_indices().map(|(at, _)| at).find(|at| *at >= LONGEST_TOLD).unwrap_or(said.len());
    said.truncate(end);
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const SHELL: Tool = Tool { program: "sh", package: "dash" };
    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_program_is_told_of_in_its_own_words_and_killed_in_time() {
        let answer = SHELL.run(["-c", "echo answer; echo aside >&2"], LIMIT).await.unwrap();
        assert_eq!(answer, b"answer\n");
        let script = "echo '2026-01-01T00:00:00 7f -1 librbd: noise' >&2; echo 'rbd: no such' >&2; echo thing >&2; exit 39";
        for error in [SHELL.run(["-c", script], LIMIT).await, SHELL.run_whole(["-c", script], LIMIT).await] {
            let error = error.unwrap_err();
            assert_eq!((error.code(), error.to_string()), (Some(39), "sh failed: rbd: no such; thing".to_owned()));
        }
        let begun = Instant::now();
        let error = SHELL.run(["-c", "sleep 60"], Duration::from_millis(200)).await.unwrap_err();
        assert!(matches!(error, CommandError::TooLong { .. }) && begun.elapsed() < LIMIT, "{error}");
        let nothing = Tool { program: "no-such-program-at-all", package: "nothing" };
        for error in [nothing.run(["x"], LIMIT).await, nothing.run_whole(["x"], LIMIT).await] {
            let error = error.unwrap_err().to_string();
            assert!(error.contains("no-such-program-at-all") && error.contains("package nothing"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_cage_bounds_what_is_written_and_hides_the_environment() {
        let cage = Cage { memory_bytes: 1 << 30, cpu_s: 10, file_bytes: 4096 };
        let run = |script: &str| SHELL.drive(SHELL.caged(cage, ["-c", script]), LIMIT, |stdout| read(stdout, LONGEST_ANSWER));
        let variables = String::from_utf8(run("env").await.unwrap()).unwrap();
        assert!(variables.contains("LC_ALL=C") && !variables.contains("CARGO"), "{variables}");
        let dir = tempfile::tempdir().unwrap();
        let script = format!("head -c 9000 /dev/zero >{}/large", dir.path().display());
        assert!(run(&script).await.is_err(), "it wrote more than it may");
    }

    #[tokio::test]
    async fn what_must_not_be_cut_off_is_asked_to_end_first() {
        let dir = tempfile::tempdir().unwrap();
        let told = dir.path().join("told");
        let script = format!("trap 'echo asked >{}; exit 1' TERM; sleep 100 & wait", told.display());
        let begun = Instant::now();
        let error = SHELL.run_whole(["-c", &script], Duration::from_secs(3)).await.unwrap_err();
        assert!(matches!(error, CommandError::TooLong { limit_s: 3, .. }), "{error}");
        assert_eq!(std::fs::read_to_string(told).unwrap(), "asked\n");
        assert!(begun.elapsed() < Duration::from_secs(60));
    }

    #[tokio::test]
    async fn what_must_not_be_cut_off_goes_on_when_nobody_waits_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("done");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let script = format!("sleep 0.3; echo whole >{}", fifo.display());
        let waited = timeout(Duration::from_millis(50), SHELL.run_whole(["-c", &script], Duration::from_secs(30))).await;
        assert!(waited.is_err(), "it was waited for");
        // Ends when the command, which nobody waits for, has written.
        let text = tokio::task::spawn_blocking(move || std::fs::read_to_string(fifo)).await.unwrap().unwrap();
        assert_eq!(text, "whole\n");
    }
}
