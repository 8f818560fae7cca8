//! A storage's own tools, run as children that are killed where they do not end in time and that die with this service.

use std::ffi::OsStr;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

/// What is read of an answer, in bytes: the trash of a pool is a list.
const LONGEST_ANSWER: u64 = 16 << 20;

/// What is read of complaints, and what is told of them, in bytes.
const LONGEST_COMPLAINT: u64 = 16 << 10;
const LONGEST_TOLD: usize = 512;

/// What `setpriv` says where there is no such program.
const NO_PROGRAM: i32 = 127;

/// A tool and the Debian package it is of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tool {
    pub(super) program: &'static str,
    pub(super) package: &'static str,
}

/// A tool that did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It cannot be run.
    #[error("cannot run {program} (of the package {package}) by setpriv (of util-linux)")]
    Start {
        /// The tool.
        program: &'static str,
        /// What it is of.
        package: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It is not there.
    #[error("there is no program {program}: install the package {package}")]
    Missing {
        /// The tool.
        program: &'static str,
        /// What it is of.
        package: &'static str,
    },
    /// It said no.
    #[error("{program} failed: {said}")]
    Failed {
        /// The tool.
        program: &'static str,
        /// How it ended; none where a signal ended it.
        code: Option<i32>,
        /// Its own words.
        said: String,
    },
    /// It did not come to an end.
    #[error("{program} did not end within {limit_s} s")]
    TooLong {
        /// The tool.
        program: &'static str,
        /// How long it was given.
        limit_s: u64,
    },
    /// It said something else than it should.
    #[error("{program} gave an answer that cannot be understood")]
    Answer {
        /// The tool.
        program: &'static str,
        /// Where.
        source: serde_json::Error,
    },
}

impl ToolError {
    /// How it ended, where it ended by itself.
    pub(super) fn code(&self) -> Option<i32> {
        match self {
            Self::Failed { code, .. } => *code,
            _ => None,
        }
    }

    /// Whether its words have this in them.
    pub(super) fn says(&self, words: &str) -> bool {
        matches!(self, Self::Failed { said, .. } if said.contains(words))
    }
}

impl Tool {
    /// The command, ready to be started. `arguments` may be read by anybody on this machine, so no secret is among them.
    pub(super) fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", self.program]).args(arguments);
        // Its words are matched, so they must be its own language's; nothing of the service's environment is to steer it.
        command.env_remove("CEPH_ARGS").env("LC_ALL", "C");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Runs it to its end; what it said.
    pub(super) async fn run<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        limit: Duration,
    ) -> Result<Vec<u8>, ToolError> {
        let mut child = self.command(arguments).spawn().map_err(|error| self.start_error(error))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let ended = async { tokio::join!(child.wait(), read(stdout, LONGEST_ANSWER), read(stderr, LONGEST_COMPLAINT)) };
        let ended = tokio::time::timeout(limit, ended).await;
        // Where it took too long the child is dropped here, and killed by that.
        let (status, answer, complaint) =
            ended.map_err(|_| ToolError::TooLong { program: self.program, limit_s: limit.as_secs() })?;
        self.judge(status.map_err(|error| self.start_error(error))?, &complaint)?;
        Ok(answer)
    }

    /// What an end and the words before it mean.
    pub(super) fn judge(&self, status: ExitStatus, complaint: &[u8]) -> Result<(), ToolError> {
        let Self { program, package } = *self;
        match status.code() {
            Some(0) => Ok(()),
            Some(NO_PROGRAM) => Err(ToolError::Missing { program, package }),
            code => {
                let said = own_words(&String::from_utf8_lossy(complaint));
                Err(ToolError::Failed { program, code, said: if said.is_empty() { status.to_string() } else { said } })
            }
        }
    }

    pub(super) fn start_error(&self, source: io::Error) -> ToolError {
        ToolError::Start { program: self.program, package: self.package, source }
    }
}

/// Reads to the end, keeps what is within the limit.
pub(super) async fn read(stream: Option<impl AsyncRead + Unpin>, limit: u64) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(mut stream) = stream {
        // An error ends the reading; the exit code tells how the tool fared.
        let _ = (&mut stream).take(limit).read_to_end(&mut kept).await;
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
    kept
}

/// What a tool's complaints are in one line, without the lines of its libraries' logs where there are others: those begin with
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

    #[tokio::test]
    async fn a_tool_is_told_of_in_its_own_words_and_killed_in_time() {
        let answer = SHELL.run(["-c", "echo answer; echo aside >&2"], Duration::from_secs(10)).await.unwrap();
        assert_eq!(answer, b"answer\n");
        let script = "echo '2026-01-01T00:00:00 7f -1 librbd: noise' >&2; echo 'rbd: no such thing' >&2; exit 39";
        let error = SHELL.run(["-c", script], Duration::from_secs(10)).await.unwrap_err();
        assert_eq!((error.code(), error.to_string()), (Some(39), "sh failed: rbd: no such thing".to_owned()));
        let begun = Instant::now();
        let error = SHELL.run(["-c", "sleep 60"], Duration::from_millis(200)).await.unwrap_err();
        assert!(matches!(error, ToolError::TooLong { .. }) && begun.elapsed() < Duration::from_secs(10), "{error}");
        let nothing = Tool { program: "no-such-program-at-all", package: "nothing" };
        let error = nothing.run(["x"], Duration::from_secs(10)).await.unwrap_err();
        assert!(error.to_string().contains("install the package nothing"), "{error}");
    }
}
