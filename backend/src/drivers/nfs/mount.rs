//! The share of a backend, where this service sees it. Mounted by the service, or before it by somebody else.
//!
//! A server that is gone must not hold the service up. So the mount is a soft one: after half a minute without an answer a call of it
//! fails, and every call's result is looked at here, syncs included. (Guests have mounts of their own hosts', which wait.) And before
//! anything is done with it, a child looks at it that can be killed.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;
use tracing::warn;

use super::super::{Capacity, DriverError};
use crate::command::{CommandError, Tool};
use crate::config::Nfs;
use crate::hex::hex;

const MOUNT: Tool = Tool { program: "mount.nfs", package: "nfs-common" };
const UMOUNT: Tool = Tool { program: "umount", package: "mount" };
const STAT: Tool = Tool { program: "stat", package: "coreutils" };

/// How long a server may take to be mounted, and to answer the child that looks.
const MOUNT_WITHIN: Duration = Duration::from_secs(30);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The service's own options, which go before the operator's: an answer may take 5, then 10, then 15 s.
const OWN_OPTIONS: &str = "soft,timeo=50,retrans=2,nosuid,nodev,noexec";

/// A share and where it is seen.
#[derive(Debug)]
pub(super) struct Share {
    settings: Nfs,
    directory: PathBuf,
    /// Whether this service mounts it.
    is_ours: bool,
    /// One mounts at a time. Whether it was this process that did.
    mounting: Mutex<bool>,
}

/// What the kernel says of a mount.
#[derive(Debug, PartialEq, Eq)]
struct Mounted {
    kind: String,
    source: String,
    is_soft: bool,
}

impl Share {
    /// `mounted_at`: where it is mounted already; else it is mounted below `mounts`.
    pub(super) fn new(settings: Nfs, mounted_at: Option<PathBuf>, mounts: &Path) -> Self {
        let digest = hex(&Sha256::digest(format!("{} {}", settings.share, settings.mount_options)));
        let is_ours = mounted_at.is_none();
        let directory = mounted_at.unwrap_or_else(|| mounts.join(digest.get(..16).unwrap_or_default()));
        Self { settings, directory, is_ours, mounting: Mutex::default() }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Sees to it that the share is there and its server answers; what there is room for.
    pub(super) async fn ready(&self) -> Result<Capacity, DriverError> {
        {
            let mut mounted = self.mounting.lock().await;
            *mounted |= self.see_to_mount().await?;
        }
        let share = &self.settings.share;
        let silent = |error| unready(format!("the NFS server of {share} does not answer"), Some(error));
        let directory = self.directory.as_os_str();
        let text = STAT.run([OsStr::new("-f"), OsStr::new("-c%S %b %a"), OsStr::new("--"), directory], ANSWER_WITHIN).await;
        let text = text.map_err(silent)?;
        let numbers = String::from_utf8_lossy(&text);
        let mut numbers = numbers.split_whitespace().map(|number| number.parse::<u64>().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        let (block, total, free) = (next(), next(), next());
        Ok(Capacity { total_bytes: block.saturating_mul(total), free_bytes: block.saturating_mul(free) })
    }

    /// Unmounts it, where this process mounted it.
    pub(super) async fn leave(&self) {
        let mut mounted = self.mounting.lock().await;
        if std::mem::take(&mut *mounted)
            && let Err(error) = UMOUNT.run([OsStr::new("--"), self.directory.as_os_str()], MOUNT_WITHIN).await
        {
            warn!(place = %self.directory.display(), "it stays mounted: {error}");
        }
    }

    /// Whether it had to be mounted.
    async fn see_to_mount(&self) -> Result<bool, DriverError> {
        let Nfs { share, .. } = &self.settings;
        let place = self.directory.display();
        let table = "/proc/self/mountinfo";
        let text = std::fs::read(table).map_err(|error| unready(format!("cannot read {table}: {error}"), None))?;
        match (mounted(&text, &self.directory), self.is_ours) {
            (Some(found), _) if !found.kind.starts_with("nfs") || without_slash(&found.source) != without_slash(share) => {
                let Mounted { kind, source, .. } = found;
                Err(unready(
                    format!("{place} has {source} ({kind}) mounted, not {share}: unmount that, or say the share that it is"),
                    None,
                ))
            }
            (Some(found), false) if !found.is_soft => Err(unready(
                format!("{place} is mounted hard, so a dead server would hold the service up: mount it with the option soft"),
                None,
            )),
            (Some(_), _) => Ok(false),
            (None, false) => {
                Err(unready(format!("{share} is not mounted on {place}: mount it there, with the option soft"), None))
            }
            (None, true) => self.mount().await.map(|()| true),
        }
    }

    async fn mount(&self) -> Result<(), DriverError> {
        let Nfs { share, mount_options, .. } = &self.settings;
        let place = self.directory.display();
        let made = tokio::fs::create_dir_all(&self.directory).await;
        made.map_err(|error| unready(format!("cannot make {place}: {error}"), None))?;
        let options = match mount_options.as_str() {
            "" => OWN_OPTIONS.to_owned(),
            // The last word on an option is the one that counts.
            theirs => format!("{theirs},{OWN_OPTIONS}"),
        };
        let words = [OsStr::new("-o"), OsStr::new(&options), OsStr::new("--"), OsStr::new(share), self.directory.as_os_str()];
        MOUNT.run(words, MOUNT_WITHIN).await.map(drop).map_err(|error| {
            let problem = if error.says("not permitted") || error.says("must be root") {
                format!(
                    "the service may not mount {share}: give its unit CapabilityBoundingSet=CAP_SYS_ADMIN, \
                     PrivateUsers=no and SystemCallFilter=@mount, or mount it yourself with the option soft and set the backend's directory"
                )
            } else {
                format!("cannot mount {share} on {place}: does the server export it to this machine?")
            };
            unready(problem, Some(error))
        })
    }
}

fn unready(problem: String, source: Option<CommandError>) -> DriverError {
    DriverError::Unready { problem, source }
}

fn without_slash(source: &str) -> &str {
    source.strip_suffix('/').filter(|rest| !rest.ends_with(':')).unwrap_or(source)
}

/// What is mounted on a directory, by a `mountinfo` (proc(5)): the last that is.
fn mounted(table: &[u8], directory: &Path) -> Option<Mounted> {
    let wanted = escaped(directory.as_os_str().as_bytes());
    let text = String::from_utf8_lossy(table);
    text.lines().rev().find_map(|line| {
        let (first, last) = line.split_once(" - ")?;
        let mut last = last.split(' ');
        let (kind, source, options) = (last.next()?, last.next()?, last.next()?);
        let is_soft = options.split(',').any(|option| matches!(option, "soft" | "softerr"));
        (first.split(' ').nth(4)? == wanted).then(|| Mounted { kind: kind.to_owned(), source: source.to_owned(), is_soft })
    })
}

/// A path as the table has it: blanks and backslashes in octal.
fn escaped(path: &[u8]) -> String {
    let escape = |byte: &u8| match byte {
        b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
        byte => vec![*byte],
    };
    String::from_utf8_lossy(&path.iter().flat_map(escape).collect::<Vec<u8>>()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_of_mounts_is_understood() {
        let table = b"36 25 0:33 / /srv/a\\040b rw,noatime shared:1 - nfs4 server:/x rw,vers=4.2,hard,proto=tcp\n\
                      37 25 0:34 / /srv/c rw - nfs [::1]:/ rw,softerr\n";
        let seen = mounted(table, Path::new("/srv/a b")).unwrap();
        assert_eq!(seen, Mounted { kind: "nfs4".into(), source: "server:/x".into(), is_soft: false });
        assert!(mounted(table, Path::new("/srv/c")).unwrap().is_soft);
        assert_eq!(mounted(table, Path::new("/srv")), None);
        assert_eq!((without_slash("a:/b/"), without_slash("a:/")), ("a:/b", "a:/"));
    }
}
