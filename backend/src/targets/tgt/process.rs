//! A tgtd as a child process.
//!
//! It says by `sd_notify` when it is ready, as it does under systemd, so nobody has to guess. It dies with this service even
//! where that is killed (`setpriv --pdeathsig`): a tgtd that is left behind would go on serving exports that nobody keeps.
//! It does not end by SIGTERM while it has targets, so it is ended by SIGKILL; what hosts were told is written is in the page cache
//! then, and what they were not told they send again.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::UnixDatagram;
use tokio::process::{Child, ChildStderr, Command};
use tracing::debug;

use super::error::TgtError;

/// tgtd is ready within 10 ms; a machine in trouble gets much more.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// So many of its last lines go into an error.
const LAST_LINES: usize = 8;

/// `sun_path` has 108 bytes; `.0.lock` and a NUL byte follow the base path.
const LONGEST_BASE: usize = 100;

/// How to start a tgtd.
#[derive(Clone, Debug)]
pub struct ManagedTgtd {
    /// The program, looked up in `PATH` where it has no slash.
    pub program: PathBuf,
    /// Where its sockets go; only root may enter.
    pub directory: PathBuf,
}

impl ManagedTgtd {
    fn base(&self) -> PathBuf {
        self.directory.join("tgtd.sock")
    }

    /// The control socket it will listen on: tgtd appends its control port.
    pub fn control_socket(&self) -> PathBuf {
        self.directory.join("tgtd.sock.0")
    }

    fn notify_socket(&self) -> PathBuf {
        self.directory.join("tgtd.notify")
    }

    /// Starts one and waits until it takes requests. It listens for hosts on a port of the kernel's choice on loopback, where
    /// there is nothing yet; the real portal is opened later.
    pub(super) async fn launch(&self) -> Result<Child, TgtError> {
        let base = self.base();
        if base.as_os_str().len() > LONGEST_BASE {
            return Err(TgtError::PathTooLong { socket: base, limit: LONGEST_BASE });
        }
        let notify =
            bind_notify(&self.notify_socket()).map_err(|source| TgtError::Socket { socket: self.notify_socket(), source })?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&self.program)
            .args(["-f", "--iscsi", "portal=127.0.0.1:0"])
            .env("TGT_IPC_SOCKET", &base)
            .env("NOTIFY_SOCKET", self.notify_socket())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let spawn_failed = |source| TgtError::Spawn { program: self.program.display().to_string(), source };
        let mut child = command.spawn().map_err(spawn_failed)?;
        let words = Words::default();
        let listening = child.stderr.take().map(|stderr| tokio::spawn(listen(stderr, words.clone())));
        let ready = tokio::select! {
            ready = tokio::time::timeout(READY_WITHIN, wait_ready(&notify)) => matches!(ready, Ok(Ok(()))),
            _ = child.wait() => false,
        };
        if ready {
            return Ok(child);
        }
        // The child is gone or is killed here; either way its words end.
        let _ = child.kill().await;
        if let Some(listening) = listening {
            let _ = listening.await;
        }
        Err(TgtError::NotReady { said: words.last() })
    }
}

fn bind_notify(path: &Path) -> std::io::Result<UnixDatagram> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixDatagram::bind(path)
}

async fn wait_ready(notify: &UnixDatagram) -> std::io::Result<()> {
    let mut message = [0; 1024];
    loop {
        let len = notify.recv(&mut message).await?;
        let text = String::from_utf8_lossy(message.get(..len).unwrap_or_default());
        if text.lines().any(|line| line == "READY=1") {
            return Ok(());
        }
    }
}

/// The last lines a child said.
#[derive(Clone, Default)]
struct Words(Arc<Mutex<VecDeque<String>>>);

impl Words {
    fn keep(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LAST_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    fn last(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(String::as_str).collect::<Vec<_>>().join(" / ")
    }
}

async fn listen(stderr: ChildStderr, words: Words) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        debug!(target: "tgtd", "{line}");
        words.keep(line);
    }
}
