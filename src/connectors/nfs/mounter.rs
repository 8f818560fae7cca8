//! Mounting and unmounting, by systemd where it runs and by mount(8) where it does not.
//!
//! ```text
//! unmount --done--> gone
//!    | busy: another user, not ours           -> stays, and is told of in the log
//!    | no end in time: a server that is dead  -> lazily: out of the tree at once, ended by the kernel when it can
//! ```

use super::{
    NfsError, mountinfo,
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

    /// Unmounts; lazily when that does not end within `limit`.
    pub(super) async fn unmount(&mut self, mount_point: &Path, limit: Duration) -> Result<Unmounted, NfsError> {
        let was_mounted = mountinfo::at(mount_point)?.is_some();
        let begun = Instant::now();
        let said = match self {
            // Asked in any case: a mount of an earlier run may still be under way.
            Self::Systemd(systemd) => match systemd.unmount(mount_point, limit).await {
                Ok(JobEnd::Done | JobEnd::Failed) => String::new(),
                Ok(JobEnd::NoUnit) if !was_mounted => return Ok(Unmounted::Unchanged),
                Ok(JobEnd::NoUnit) => "systemd has no unit for it".to_owned(),
                Err(error) => error.to_string(),
            },
            Self::Direct if !was_mounted => return Ok(Unmounted::Unchanged),
            Self::Direct => {
                let arguments = ["--no-canonicalize", "--"].map(AsRef::as_ref).into_iter().chain([mount_point.as_os_str()]);
                match command::run("umount", &arguments.collect::<Vec<_>>(), limit).await {
                    Ok(finished) => finished.stderr,
                    Err(error) => error.to_string(),
                }
            }
        };
        if mountinfo::at(mount_point)?.is_none() {
            return Ok(if was_mounted { Unmounted::Gone } else { Unmounted::Unchanged });
        }
        if begun.elapsed() < limit {
            tracing::info!(mount_point = %mount_point.display(), said, "the mount is in use and stays");
            return Ok(Unmounted::Busy);
        }
        tracing::warn!(mount_point = %mount_point.display(), said, "unmounted lazily: its server does not answer");
        self.unmount_lazily(mount_point, limit).await?;
        Ok(Unmounted::Gone)
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
