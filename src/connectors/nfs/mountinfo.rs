//! What is mounted where, from `/proc/self/mountinfo` (proc(5)): the one question about a mount that no dead server can hold up.

use super::NfsError;
use crate::model::NfsExport;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::{
        fd::AsFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

const FILE: &str = "/proc/self/mountinfo";

/// What is mounted at a mount point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mounted {
    /// `nfs`, `nfs4`, ...
    pub(super) kind: String,
    /// What mount(8) was told to mount.
    pub(super) source: String,
}

impl Mounted {
    /// Whether it is this export. A server's path is the same with and without a slash at its end.
    pub(super) fn is(&self, export: &NfsExport) -> bool {
        let bare = |text: &str| text.trim_end_matches('/').to_owned();
        matches!(self.kind.as_str(), "nfs" | "nfs4") && bare(&self.source) == bare(&export.to_string())
    }
}

/// What is mounted at `mount_point` now; of several, the topmost.
pub(super) fn at(mount_point: &Path) -> Result<Option<Mounted>, NfsError> {
    let text = fs::read(FILE).map_err(NfsError::system(format!("read {FILE}")))?;
    Ok(find(&text, mount_point))
}

/// Waits until the export is mounted there. Never ends where the table cannot be watched: whoever waits has another source.
pub(super) async fn mounted(export: &NfsExport, mount_point: &Path) {
    // The thread ends when the other end of the pipe is closed: at the latest when this is dropped.
    let Ok((dropped, _alive)) = io::pipe() else { return std::future::pending().await };
    let (export, mount_point) = (export.clone(), mount_point.to_owned());
    let watching = tokio::task::spawn_blocking(move || watch(&export, &mount_point, &dropped));
    if !matches!(watching.await, Ok(Ok(true))) {
        std::future::pending::<()>().await;
    }
}

/// Whether it is mounted; not before `dropped` is closed.
fn watch(export: &NfsExport, mount_point: &Path, dropped: &io::PipeReader) -> io::Result<bool> {
    let table = File::open(FILE)?;
    loop {
        if find(&fs::read(FILE)?, mount_point).is_some_and(|found| found.is(export)) {
            return Ok(true);
        }
        // The table tells of a change as an exceptional condition, anew after each poll(2) (proc(5)).
        let mut waited = [PollFd::new(dropped.as_fd(), PollFlags::POLLIN), PollFd::new(table.as_fd(), PollFlags::POLLPRI)];
        match poll(&mut waited, PollTimeout::NONE) {
            Ok(_) if waited[0].any().unwrap_or(true) => return Ok(false),
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

pub(super) fn find(mountinfo: &[u8], mount_point: &Path) -> Option<Mounted> {
    let lines = mountinfo.split(|byte| *byte == b'\n').rev();
    lines.filter_map(entry).find(|(place, _)| place == mount_point).map(|(_, mounted)| mounted)
}

/// `ID PARENT DEVICE ROOT MOUNT-POINT OPTIONS [FIELD...] - KIND SOURCE SUPER-OPTIONS`
fn entry(line: &[u8]) -> Option<(PathBuf, Mounted)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let place = fields.nth(4)?;
    let mut after = fields.skip_while(|field| *field != b"-").skip(1);
    let (kind, source) = (after.next()?, after.next()?);
    let text = |bytes: &[u8]| String::from_utf8_lossy(unescape(bytes).as_bytes()).into_owned();
    Some((unescape(place).into(), Mounted { kind: text(kind), source: text(source) }))
}

/// The kernel writes space, tab, newline and backslash as `\` and three octal digits.
fn unescape(bytes: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        let octal = (*first == b'\\')
            .then(|| after.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                out.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TABLE: &[u8] = b"22 1 0:19 / / rw shared:1 - ext4 /dev/ubda rw\n\
        40 22 0:41 / /run/b/mnt/a rw,nosuid shared:9 master:2 - nfs4 127.0.0.1:/ rw,vers=4.2\n\
        41 22 0:42 / /run/b/mnt/with\\040space rw - nfs [fd00::1]:/srv/a\\134b rw,vers=3\n\
        42 40 0:43 / /run/b/mnt/a rw - tmpfs cover rw\n";

    #[test]
    fn the_topmost_mount_of_a_place_is_found_with_its_names_as_they_are() {
        let found = find(TABLE, Path::new("/run/b/mnt/with space")).unwrap();
        assert_eq!(found, Mounted { kind: "nfs".into(), source: "[fd00::1]:/srv/a\\b".into() });
        assert_eq!(find(TABLE, Path::new("/run/b/mnt/a")).unwrap().kind, "tmpfs");
        assert_eq!(find(TABLE, Path::new("/run/b/mnt")), None);
    }

    #[test]
    fn an_export_is_itself_with_a_slash_more_and_nothing_else() {
        let export = |path: &str| NfsExport { server: "127.0.0.1".into(), path: path.into() };
        let mounted = |kind: &str, source: &str| Mounted { kind: kind.into(), source: source.into() };
        assert!(mounted("nfs4", "127.0.0.1:/").is(&export("/")));
        assert!(mounted("nfs", "127.0.0.1:/a").is(&export("/a/")));
        assert!(!mounted("nfs4", "127.0.0.1:/b").is(&export("/a")));
        assert!(!mounted("nfs4", "127.0.0.2:/a").is(&export("/a")));
        assert!(!mounted("ext4", "127.0.0.1:/a").is(&export("/a")));
    }

    proptest! {
        #[test]
        fn no_table_makes_it_panic(table in prop::collection::vec(any::<u8>(), 0..300)) {
            find(&table, Path::new("/"));
            find(&[b"1 2 3 4 /", table.as_slice()].concat(), Path::new("/"));
        }
    }
}
