//! qemu-img, in a cage, for what is not raw. It is told the format that was looked into (never left to guess), has a limit of
//! memory, of processor time and of what it may write, a deadline, and dies with the service.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::{ChildStdout, Command};

/// Address space, in bytes. The field's services give it 1 GiB, which is too little where its up to 64 threads all come to work at once:
/// each has a stack of 8 MiB, and an arena of malloc's, 64 MiB, unless it is told to have one for all.
const MEMORY_BYTES: u64 = 2 << 30;
const ONE_ARENA: (&str, &str) = ("MALLOC_ARENA_MAX", "1");

/// Processor time, in seconds, and time by the clock: a disk of some TiB on slow storage.
const CPU_S: u64 = 3600;
const WITHIN: Duration = Duration::from_secs(6 * 3600);

/// What is kept of its complaints, in bytes.
const LONGEST_COMPLAINT: usize = 2048;

/// A conversion that failed.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// It cannot be started.
    #[error("cannot start qemu-img (of the package `qemu-utils`) by setpriv and prlimit (of `util-linux`)")]
    Start(#[source] io::Error),
    /// It ran and failed.
    #[error("qemu-img could not convert the image: {0}")]
    Failed(String),
    /// It did not come to an end.
    #[error("qemu-img did not end within {} s", WITHIN.as_secs())]
    TooLong,
}

/// Converts a file. `largest_bytes` is the most that may be written; `progress` hears percents.
pub(super) async fn convert(
    from: (&Path, &str),
    to: (&Path, &str),
    largest_bytes: u64,
    progress: impl FnMut(u8) + Send,
) -> Result<(), ConvertError> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "prlimit"]);
    command.arg(format!("--as={MEMORY_BYTES}")).arg(format!("--cpu={CPU_S}")).arg(format!("--fsize={largest_bytes}"));
    command.args(["--core=0", "--", "qemu-img", "convert", "-p", "-f", from.1, "-O", to.1, "--"]).arg(from.0).arg(to.0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // A cage within the cage: nothing of the service's environment is its business but where programs are.
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("LC_ALL", "C").env(ONE_ARENA.0, ONE_ARENA.1);
    let mut child = command.spawn().map_err(ConvertError::Start)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let complaint = async {
        let mut text = Vec::new();
        if let Some(stderr) = stderr {
            let _ = stderr.take(LONGEST_COMPLAINT as u64).read_to_end(&mut text).await;
        }
        text
    };
    let ended = async { tokio::join!(child.wait(), complaint, watch(stdout, progress)) };
    // Dropping the child kills it.
    let (status, complaint, ()) = tokio::time::timeout(WITHIN, ended).await.map_err(|_| ConvertError::TooLong)?;
    let status = status.map_err(ConvertError::Start)?;
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&complaint);
    let said = said.lines().next().unwrap_or_default().trim();
    Err(ConvertError::Failed(if said.is_empty() { status.to_string() } else { said.to_owned() }))
}

/// It writes `    (12.34/100%)\r` again and again.
async fn watch(stdout: Option<ChildStdout>, mut progress: impl FnMut(u8)) {
    let Some(mut stdout) = stdout else { return };
    let mut buffer = [0; 256];
    let mut told = 0;
    while let Ok(length @ 1..) = stdout.read(&mut buffer).await {
        let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
        let last = text.rsplit('(').next().and_then(|rest| rest.split('.').next());
        if let Some(percent) = last.and_then(|digits| digits.trim().parse().ok()).filter(|percent| *percent > told) {
            told = percent;
            progress(percent);
        }
    }
}
