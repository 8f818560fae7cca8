//! A volume's file, looked at from a process of its own.
//!
//! Whoever touches a file of a server that does not answer hangs in the kernel until it is killed, and a thread of the agent cannot
//! be. So `stat` and `head` look, with a deadline, and are killed. Nothing here follows a symbolic link: one could lead a guest's
//! disk to any file of this host. Volumes of one mount that come at once are looked at by one process (`looks`).

use super::{
    NfsError,
    looks::{self, Looks},
};
use crate::{
    connectors::command::{self, CommandError, Finished},
    model::{DeviceIdentity, DiskFormat, NfsExport, ObservedIdentity, qcow2},
};
use std::{
    ffi::OsStr,
    path::Path,
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// What is asked for, and by when.
pub(super) struct Look<'a> {
    /// Where.
    pub(super) export: &'a NfsExport,
    /// Who asks for several at once.
    pub(super) looks: &'a Looks,
    /// The file's path on this host.
    pub(super) path: &'a Path,
    /// Its format, as the service says.
    pub(super) format: DiskFormat,
    /// For all of it, seconds.
    pub(super) limit_s: u64,
}

/// For stat(1), before a mount point: of its file system, about which the client never answers from what it remembers.
pub(super) const ASK_SERVER: [&str; 3] = ["--file-system", "--printf=%T", "--"];

/// File type bits of `st_mode` (inode(7)).
const TYPE_MASK: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;

impl Look<'_> {
    /// Identity and size. The identity is the file's name and its number on the server (fileid): a file that was replaced under its
    /// name is another one. There is no serial number.
    pub(super) async fn observe(&self) -> Result<ObservedIdentity, NfsError> {
        let begun = Instant::now();
        let mut left = Duration::from_secs(self.limit_s);
        let (mode, size, inode) = match timeout(left, self.looks.stat(self.path, left)).await {
            Ok(Some(said)) => self.parse(&said)?,
            // It alone, for the words that tell what is wrong.
            _ => {
                left = left.saturating_sub(begun.elapsed());
                let arguments = [OsStr::new(looks::FORMAT), OsStr::new("--"), self.path.as_os_str()];
                self.parse(&self.run("stat", &arguments, left).await?.stdout)?
            }
        };
        if mode & TYPE_MASK != REGULAR {
            return Err(NfsError::NotAFile { export: self.export.clone(), file: self.name(), found: type_name(mode) });
        }
        let size_bytes = match self.format {
            DiskFormat::Raw => size,
            DiskFormat::Qcow2 => {
                left = left.saturating_sub(begun.elapsed());
                let length = format!("--bytes={}", qcow2::HEADER_BYTES);
                let said = self.run("head", &[OsStr::new(&length), OsStr::new("--"), self.path.as_os_str()], left).await?;
                qcow2::virtual_size(&said.stdout).map_err(|problem| NfsError::Qcow2 {
                    export: self.export.clone(),
                    file: self.name(),
                    problem,
                })?
            }
        };
        let wwids = vec![format!("nfs.{}/{}#{inode}", self.export.to_string().trim_end_matches('/'), self.name())];
        Ok(ObservedIdentity { identity: DeviceIdentity { serial: None, wwids }, size_bytes })
    }

    /// Whether the server answers.
    pub(super) async fn is_answered(&self, mount_point: &Path) -> Result<(), NfsError> {
        let arguments = ASK_SERVER.map(OsStr::new).into_iter().chain([mount_point.as_os_str()]);
        self.run("stat", &arguments.collect::<Vec<_>>(), Duration::from_secs(self.limit_s)).await.map(drop)
    }

    fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    async fn run(&self, program: &str, arguments: &[&OsStr], limit: Duration) -> Result<Finished, NfsError> {
        let finished = match command::run(program, arguments, limit).await {
            Ok(finished) => finished,
            Err(CommandError::Timeout { .. }) => {
                return Err(NfsError::NoAnswer { export: self.export.clone(), waited_s: self.limit_s });
            }
            Err(source) => return Err(NfsError::Command { action: "look at a file on NFS", source }),
        };
        match finished {
            Finished { code: Some(0), .. } => Ok(finished),
            // The C locale's words, since it is what `command` sets.
            Finished { stderr, .. } if stderr.contains("No such file or directory") => {
                Err(NfsError::NoFile { export: self.export.clone(), file: self.name() })
            }
            Finished { stderr, .. } if stderr.contains("Permission denied") => {
                Err(NfsError::RootSquashed { export: self.export.clone(), file: self.name() })
            }
            Finished { stderr, .. } => {
                Err(NfsError::Unreadable { export: self.export.clone(), file: self.name(), said: stderr })
            }
        }
    }

    fn parse(&self, said: &[u8]) -> Result<(u32, u64, u64), NfsError> {
        let text = String::from_utf8_lossy(said);
        let mut words = text.split(' ');
        let mut next = |radix| words.next().and_then(|word| u64::from_str_radix(word.trim(), radix).ok());
        match (next(16).and_then(|mode| u32::try_from(mode).ok()), next(10), next(10)) {
            (Some(mode), Some(size), Some(inode)) => Ok((mode, size, inode)),
            _ => Err(NfsError::Unreadable {
                export: self.export.clone(),
                file: self.name(),
                said: format!("stat said {text:?}"),
            }),
        }
    }
}

fn type_name(mode: u32) -> &'static str {
    match mode & TYPE_MASK {
        0o120_000 => "a symbolic link",
        0o040_000 => "a folder",
        0o060_000 | 0o020_000 => "a device",
        0o010_000 => "a pipe",
        0o140_000 => "a socket",
        _ => "something unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    async fn look(path: &Path, format: DiskFormat) -> Result<ObservedIdentity, NfsError> {
        let export = NfsExport { server: "filer".into(), path: "/vols".into() };
        Look { export: &export, looks: &Looks::default(), path, format, limit_s: 2 }.observe().await
    }

    #[tokio::test]
    async fn a_file_is_known_by_its_number_and_a_replaced_one_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("volume-1");
        fs::write(&path, "12345").unwrap();
        let first = look(&path, DiskFormat::Raw).await.unwrap();
        assert_eq!(first.size_bytes, 5);
        assert!(first.identity.wwids[0].starts_with("nfs.filer:/vols/volume-1#"), "{first:?}");
        assert_eq!(look(&path, DiskFormat::Raw).await.unwrap(), first);
        fs::write(dir.path().join("other"), "12345").unwrap();
        fs::rename(dir.path().join("other"), &path).unwrap();
        assert_ne!(look(&path, DiskFormat::Raw).await.unwrap(), first);
    }

    #[tokio::test]
    async fn what_is_no_plain_file_is_refused_and_what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v");
        assert!(matches!(look(&path, DiskFormat::Raw).await, Err(NfsError::NoFile { .. })));
        symlink("/etc/hostname", &path).unwrap();
        assert!(matches!(look(&path, DiskFormat::Raw).await, Err(NfsError::NotAFile { found: "a symbolic link", .. })));
        let folder = look(dir.path(), DiskFormat::Raw).await;
        assert!(matches!(folder, Err(NfsError::NotAFile { found: "a folder", .. })));
    }

    /// A pipe nobody writes into holds its reader up just as a dead server does.
    #[tokio::test]
    async fn a_read_that_does_not_end_is_killed_at_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let export = NfsExport { server: "filer".into(), path: "/".into() };
        let look = Look { export: &export, looks: &Looks::default(), path: &path, format: DiskFormat::Raw, limit_s: 1 };
        let begun = Instant::now();
        let error = look.run("head", &[OsStr::new("--"), path.as_os_str()], Duration::from_secs(1)).await.unwrap_err();
        assert!(matches!(error, NfsError::NoAnswer { waited_s: 1, .. }), "{error}");
        // Nobody else would end it.
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}
