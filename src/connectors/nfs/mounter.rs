//! Mounting and unmounting, by systemd where it runs and by mount(8) where it does not.
//!
//! ```text
//! unmount --done--> gone
//!    | busy, and the server answers           -> once more; busy again: another user, not ours: stays, and is told of in the log
//!    | busy, and the server is dead           -> lazily: out of the tree at once, ended by the kernel when it can
//!    | no end in time: a server that is dead  -> lazily
//! ```
//! Busy may be no more than a look of the agent's own ([`super::file`]): what it holds in its namespace counts in the host's, since the
//! mount was propagated from there. It ends when the server answers, so whoever asks the server after it is answered after it.

use super::{
    NfsError, file, mountinfo,
    systemd::{Bus, JobEnd, Systemd},
};
use crate::{
    connectors::command::{self, CommandError, Finished},
    model::NfsExport,
};
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// mount(8) knows nfs only by this program.
const MOUNT_NFS: &str = "/sbin/mount.nfs";

/// For umount(8): do not look at the mount point (its server may be dead), do not run umount.nfs (it may ask the server), lazily.
const LAZILY: [&str; 4] = ["--no-canonicalize", "--internal-only", "--lazy", "--"];

/// What an unmount came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unmounted {
    /// There was nothing.
    Unchanged,
    /// It is gone.
    Gone,
    /// Somebody else uses it.
    Busy,
}

/// What one attempt to unmount came to.
enum Tried {
    Ended(Unmounted),
    /// It is still there.
    Held {
        said: String,
    },
}

/// Whether the server says anything at all in time, be it an error, of what its client cannot remember.
async fn is_answered(mount_point: &Path, limit: Duration) -> bool {
    let arguments = file::ASK_SERVER.map(AsRef::as_ref).into_iter().chain([mount_point.as_os_str()]);
    let asked = command::run("stat", &arguments.collect::<Vec<_>>(), limit).await;
    !matches!(asked, Err(CommandError::Timeout { .. }))
}

/// Who mounts.
pub(super) enum Mounter {
    Systemd(Box<Systemd>),
    Direct,
}

impl Mounter {
    /// Who can, now.
    pub(super) async fn choose(bus: &Bus) -> Result<Self, NfsError> {
        Ok(Systemd::connect(bus).await?.map_or(Self::Direct, |systemd| Self::Systemd(Box::new(systemd))))
    }

    /// Mounts, within `limit`.
    pub(super) async fn mount(
        &mut self,
        export: &NfsExport,
        mount_point: &Path,
        options: &str,
        limit: Duration,
    ) -> Result<(), NfsError> {
        if !Path::new(MOUNT_NFS).exists() {
            return Err(NfsError::NoClient { file: MOUNT_NFS });
        }
        if let Self::Systemd(systemd) = self {
            return systemd.mount(export, mount_point, options, limit).await;
        }
        let source = export.to_string();
        let arguments =
            ["-t", "nfs", "-o", options, "--", &source].map(AsRef::as_ref).into_iter().chain([mount_point.as_os_str()]);
        match command::run("mount", &arguments.collect::<Vec<_>>(), limit).await {
            Ok(Finished { code: Some(0), .. }) => Ok(()),
            Ok(finished) => Err(NfsError::Mount { export: export.clone(), said: finished.stderr }),
            Err(CommandError::Timeout { timeout_s, .. }) => {
                Err(NfsError::MountTimeout { export: export.clone(), waited_s: timeout_s })
            }
            Err(source) => Err(NfsError::Command { action: "run mount", source }),
        }
    }

    /// Unmounts; lazily when its server is dead. Takes three times `limit` at most.
    pub(super) async fn unmount(&mut self, mount_point: &Path, limit: Duration) -> Result<Unmounted, NfsError> {
        let begun = Instant::now();
        let mut tried = self.try_unmount(mount_point, limit).await?;
        let is_quick = begun.elapsed() < limit;
        if is_quick && matches!(tried, Tried::Held { .. }) && is_answered(mount_point, limit).await {
            tried = self.try_unmount(mount_point, limit).await?;
            if let Tried::Held { said } = tried {
                tracing::info!(mount_point = %mount_point.display(), said, "the mount is in use and stays");
                return Ok(Unmounted::Busy);
            }
        }
        match tried {
            Tried::Ended(unmounted) => Ok(unmounted),
            Tried::Held { said } => {
                tracing::warn!(mount_point = %mount_point.display(), said, "unmounted lazily: its server does not answer");
                self.unmount_lazily(mount_point, limit).await?;
                Ok(Unmounted::Gone)
            }
        }
    }

    async fn try_unmount(&mut self, mount_point: &Path, limit: Duration) -> Result<Tried, NfsError> {
        let was_mounted = mountinfo::at(mount_point)?.is_some();
        let said = match self {
            // Asked in any case: a mount of an earlier run may still be under way.
            Self::Systemd(systemd) => match systemd.unmount(mount_point, limit).await {
                Ok(JobEnd::Done | JobEnd::Failed) => String::new(),
                Ok(JobEnd::NoUnit) if !was_mounted => return Ok(Tried::Ended(Unmounted::Unchanged)),
                Ok(JobEnd::NoUnit) => "systemd has no unit for it".to_owned(),
                Err(error) => error.to_string(),
            },
            Self::Direct if !was_mounted => return Ok(Tried::Ended(Unmounted::Unchanged)),
            Self::Direct => {
                let arguments = ["--no-canonicalize", "--"].map(AsRef::as_ref).into_iter().chain([mount_point.as_os_str()]);
                match command::run("umount", &arguments.collect::<Vec<_>>(), limit).await {
                    Ok(finished) => finished.stderr,
                    Err(error) => error.to_string(),
                }
            }
        };
        Ok(match mountinfo::at(mount_point)? {
            Some(_) => Tried::Held { said },
            None => Tried::Ended(if was_mounted { Unmounted::Gone } else { Unmounted::Unchanged }),
        })
    }

    async fn unmount_lazily(&mut self, mount_point: &Path, limit: Duration) -> Result<(), NfsError> {
        if let Self::Systemd(systemd) = self {
            return systemd.unmount_lazily(mount_point, &LAZILY, limit).await;
        }
        let arguments = LAZILY.map(AsRef::as_ref).into_iter().chain([mount_point.as_os_str()]);
        match command::run("umount", &arguments.collect::<Vec<_>>(), limit).await {
            Ok(Finished { code: Some(0), .. }) => Ok(()),
            Ok(finished) => Err(NfsError::Unmount { mount_point: mount_point.to_owned(), said: finished.stderr }),
            Err(source) => Err(NfsError::Command { action: "run umount", source }),
        }
    }
}
