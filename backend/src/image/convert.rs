//! qemu-img, in a cage, for what is not raw. It is told the format that was looked into (never left to guess), has a limit of
//! memory, of processor time and of what it may write, a deadline, and dies with the service.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::ChildStdout;

use crate::command::{Cage, CommandError, Tool};

const QEMU_IMG: Tool = Tool { program: "qemu-img", package: "qemu-utils" };

/// Address space, in bytes. The field's services give it 1 GiB, which is too little where its up to 64 threads all come to work at once:
/// each has a stack of 8 MiB, and an arena of malloc's, 64 MiB, unless it is told to have one for all.
const MEMORY_BYTES: u64 = 2 << 30;
const ONE_ARENA: (&str, &str) = ("MALLOC_ARENA_MAX", "1");

/// Processor time, in seconds, and time by the clock: a disk of some TiB on slow storage.
const CPU_S: u64 = 3600;
const WITHIN: Duration = Duration::from_secs(6 * 3600);

/// Converts a file. `largest_bytes` is the most that may be written; `progress` hears percents.
pub(crate) async fn convert(
    from: (&Path, &str),
    to: (&Path, &str),
    largest_bytes: u64,
    progress: impl FnMut(u8) + Send,
) -> Result<(), CommandError> {
    let cage = Cage { memory_bytes: MEMORY_BYTES, cpu_s: CPU_S, file_bytes: largest_bytes };
    let words = ["convert", "-p", "-f", from.1, "-O", to.1, "--"].map(OsStr::new);
    let mut command = QEMU_IMG.caged(cage, words.into_iter().chain([from.0.as_os_str(), to.0.as_os_str()]));
    command.env(ONE_ARENA.0, ONE_ARENA.1);
    QEMU_IMG.drive(command, WITHIN, |stdout| watch(stdout, progress)).await
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
