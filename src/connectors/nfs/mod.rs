//! Volumes that are files on NFS.
//!
//! ```text
//!              user added       mounted if it was not      file looked at
//! connect ----------------> . ----------------------> . -----------------> FileDevice
//! disconnect, undo: user removed -> was it the last? unmounted
//! ```
//! | file | knows |
//! | --- | --- |
//! | `options` | which mount options are allowed |
//! | `users` | which volumes use a mount, across restarts of the agent |
//! | `mountinfo` | what is mounted, without touching it |
//! | `server` | whether a server is there |
//! | `mounter`, `systemd` | how to mount and unmount where QEMU sees it |
//! | `file`, `looks` | what a volume's file is, asked by a process that can be killed |
//!
//! An export is mounted once, at a place that only its name decides, so that a guest's definition finds its file there after a reboot
//! too. Which version is spoken mount.nfs settles with the server, from the highest down to 3, unless one is asked for. The options of
//! the first volume hold until the last one is gone. `hard`, NFS's default, is left as it is: with `soft`
//! a server that pauses would become I/O errors in guests.

mod error;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod looks;
mod mounter;
mod mountinfo;
mod options;
mod server;
mod systemd;
mod users;

use super::{DeviceState, Disconnected, locks::NamedLocks};
use crate::model::{
    ConnectIntent, DeviceIdentity, Fault, FileDevice, GIB, Health, NfsConnection, NfsExport, ObservedIdentity, VolumeId,
};
use looks::Looks;
use mounter::{Mounter, Unmounted};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};
use systemd::Bus;
use tokio::{
    sync::OwnedMutexGuard,
    time::{Instant, timeout},
};
use users::Users;
use uuid::Uuid;

pub use error::NfsError;

/// Namespace of the UUIDs that mounts are named by, each derived from its export. A random UUID of Bowline's own.
const MOUNT_NAMESPACE: Uuid = Uuid::from_u128(0x2f0c_9a55_61d7_4d0e_8f0b_7c1d_3a9e_55b2);

/// How long a server may take to answer before a volume counts as lost, seconds: longer than a busy one takes, shorter than anybody
/// waits for a list.
const HEALTH_LIMIT_S: u64 = 5;

/// Settings of the NFS connector.
#[derive(Debug, Clone)]
pub struct NfsConfig {
    /// Mount options for every export, as mount(8) takes them; those of the volume service win over them.
    pub mount_options: Option<String>,
    /// Deadline for a mount, an unmount, and a look at a file, seconds each.
    pub mount_timeout_s: u64,
}

impl Default for NfsConfig {
    fn default() -> Self {
        // A server that restarts answers within its grace period's first seconds or not for minutes.
        Self { mount_options: None, mount_timeout_s: 30 }
    }
}

/// The NFS connector.
#[derive(Debug)]
pub(super) struct Nfs {
    config: NfsConfig,
    run_dir: PathBuf,
    locks: NamedLocks,
    bus: Bus,
    looks: Looks,
}

impl Nfs {
    pub(super) fn new(config: &NfsConfig, run_dir: &Path) -> Result<Self, NfsError> {
        options::of_mount(config.mount_options.as_deref(), None)?;
        Ok(Self {
            config: config.clone(),
            run_dir: run_dir.to_owned(),
            locks: NamedLocks::default(),
            bus: Bus::default(),
            looks: Looks::default(),
        })
    }

    pub(super) fn intent(&self, connection: &NfsConnection) -> Result<ConnectIntent, NfsError> {
        self.options(connection)?;
        let export = connection.export.clone();
        Ok(ConnectIntent::Nfs { mount_point: self.mount_point(&export), export })
    }

    /// A second connect finds the first one's mount.
    pub(super) async fn connect(&self, volume: VolumeId, connection: &NfsConnection) -> Result<FileDevice, NfsError> {
        let options = self.options(connection)?;
        let mount_point = self.mount_point(&connection.export);
        let device = FileDevice {
            path: mount_point.join(&connection.file),
            format: connection.format,
            export: connection.export.clone(),
            mount_point,
        };
        let mut is_new_user = false;
        let result = async {
            self.mount(volume, &device, &options, &mut is_new_user).await?;
            // After the lock: a look at a server that died must not hold up those who want nothing but to go.
            self.look(&device).await
        }
        .await;
        match result {
            Ok(_) => Ok(device),
            Err(error) => {
                // A user of before has it under another guest.
                if is_new_user && let Err(error) = self.release(volume, &device.export, &device.mount_point).await {
                    // The first error tells why; whoever called undoes the step again and reports what stays.
                    tracing::warn!(%volume, error = &error as &dyn std::error::Error, "the failed connect could not be unwound");
                }
                Err(error)
            }
        }
    }

    /// `None`: nothing is mounted there.
    pub(super) async fn observe(&self, device: &FileDevice) -> Result<Option<ObservedIdentity>, NfsError> {
        if is_mounted(&device.export, &device.mount_point)? { self.look(device).await.map(Some) } else { Ok(None) }
    }

    pub(super) async fn state(
        &self,
        volume: VolumeId,
        device: &FileDevice,
        identity: Option<&DeviceIdentity>,
    ) -> Result<DeviceState, NfsError> {
        // A mount that the volume is no user of may go at any time.
        if !self.users(&device.mount_point).has(volume) {
            return Ok(DeviceState::Absent);
        }
        match self.observe(device).await {
            Ok(Some(observed)) if identity.is_none_or(|identity| *identity == observed.identity) => {
                Ok(DeviceState::Present { observed })
            }
            Ok(Some(observed)) => Ok(DeviceState::Foreign { observed }),
            Ok(None) | Err(NfsError::NoFile { .. }) => Ok(DeviceState::Absent),
            Err(error) => Err(error),
        }
    }

    /// Lets the volume go; the guest has closed its file by now, which has written it out to the server. Unmounts after the last. A
    /// mount that somebody else still uses is left, since the volume itself is let go all the same.
    pub(super) async fn release(
        &self,
        volume: VolumeId,
        export: &NfsExport,
        mount_point: &Path,
    ) -> Result<Disconnected, NfsError> {
        let _guard = self.lock(export, mount_point, self.limit()).await?;
        let users = self.users(mount_point);
        let was_user = users.remove(volume)?;
        let unmounted = if users.is_empty()? { self.unmount(export, mount_point).await? } else { Unmounted::Unchanged };
        Ok(if was_user || unmounted == Unmounted::Gone { Disconnected::Changed } else { Disconnected::Unchanged })
    }

    /// The size that a guest would see, once it is what was asked for: the server extends the file, and nothing of it is remembered here.
    pub(super) async fn grow(
        &self,
        device: &FileDevice,
        identity: &DeviceIdentity,
        size_gib: u64,
    ) -> Result<Option<u64>, NfsError> {
        let Some(observed) = self.observe(device).await? else { return Ok(None) };
        let file = || device.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if observed.identity != *identity {
            return Err(NfsError::Replaced {
                export: device.export.clone(),
                file: file(),
                expected: Box::new(identity.clone()),
                found: Box::new(observed.identity),
            });
        }
        let wanted_bytes = size_gib.saturating_mul(GIB);
        if observed.size_bytes < wanted_bytes {
            let found_bytes = observed.size_bytes;
            return Err(NfsError::NotGrown { export: device.export.clone(), file: file(), found_bytes, wanted_bytes });
        }
        Ok(Some(observed.size_bytes))
    }

    /// Whether the export is mounted and its server answers.
    pub(super) async fn health(&self, device: &FileDevice) -> Health {
        let asked = async {
            if !is_mounted(&device.export, &device.mount_point)? {
                return Err(NfsError::NotMounted { export: device.export.clone() });
            }
            self.look_for(device, HEALTH_LIMIT_S.min(self.config.mount_timeout_s)).is_answered(&device.mount_point).await
        };
        match asked.await {
            Ok(()) => Health::Healthy,
            Err(error) => {
                Health::Lost(vec![Fault { part: format!("NFS export {}", device.export), problem: error.to_string() }])
            }
        }
    }

    async fn mount(
        &self,
        volume: VolumeId,
        device: &FileDevice,
        options: &str,
        is_new_user: &mut bool,
    ) -> Result<(), NfsError> {
        let begun = Instant::now();
        let FileDevice { export, mount_point, .. } = device;
        let _guard = self.lock(export, mount_point, self.limit()).await?;
        *is_new_user = self.users(mount_point).add(volume)?;
        if is_mounted(export, mount_point)? {
            return Ok(());
        }
        users::make_folder(mount_point).map_err(NfsError::system(format!("make {}", mount_point.display())))?;
        // Whoever had to wait for the lock, or for the server, has that much less left: nobody waits for longer than the deadline.
        let left = || self.limit().saturating_sub(begun.elapsed()).max(Duration::from_secs(1));
        let mounting = async {
            server::reach(export, options, left()).await?;
            Mounter::choose(&self.bus).await?.mount(export, mount_point, options, left()).await
        };
        mounting.await.map_err(|error| match error {
            NfsError::MountTimeout { export, .. } => NfsError::MountTimeout { export, waited_s: self.config.mount_timeout_s },
            error => error,
        })?;
        // The last word has the kernel, in the namespace that this process looks from.
        if !is_mounted(export, mount_point)? {
            return Err(NfsError::Mount {
                export: export.clone(),
                said: "it does not show in this process's mounts".to_owned(),
            });
        }
        tracing::info!(%export, mount_point = %mount_point.display(), duration_ms = begun.elapsed().as_millis(), "mounted");
        Ok(())
    }

    async fn unmount(&self, export: &NfsExport, mount_point: &Path) -> Result<Unmounted, NfsError> {
        if let Some(found) = mountinfo::at(mount_point)?
            && !found.is(export)
        {
            tracing::warn!(%export, found = found.source, mount_point = %mount_point.display(), "somebody else's mount is left");
            return Ok(Unmounted::Busy);
        }
        let unmounted = Mounter::choose(&self.bus).await?.unmount(mount_point, self.limit()).await?;
        if unmounted != Unmounted::Busy {
            match fs::remove_dir(mount_point) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::debug!(mount_point = %mount_point.display(), %error, "the empty mount point stays");
                }
                _ => {}
            }
        }
        Ok(unmounted)
    }

    async fn look(&self, device: &FileDevice) -> Result<ObservedIdentity, NfsError> {
        self.look_for(device, self.config.mount_timeout_s).observe().await
    }

    fn look_for<'a>(&'a self, device: &'a FileDevice, limit_s: u64) -> file::Look<'a> {
        file::Look { export: &device.export, looks: &self.looks, path: &device.path, format: device.format, limit_s }
    }

    fn options(&self, connection: &NfsConnection) -> Result<String, NfsError> {
        options::of_mount(self.config.mount_options.as_deref(), connection.options.as_deref())
    }

    fn mount_point(&self, export: &NfsExport) -> PathBuf {
        let text = export.to_string();
        let name = Uuid::new_v5(&MOUNT_NAMESPACE, text.trim_end_matches('/').as_bytes());
        self.run_dir.join("mnt").join(name.simple().to_string())
    }

    fn users(&self, mount_point: &Path) -> Users {
        Users::of(&self.run_dir, &mount_point.file_name().unwrap_or_default().to_string_lossy())
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(self.config.mount_timeout_s)
    }

    async fn lock(&self, export: &NfsExport, mount_point: &Path, limit: Duration) -> Result<OwnedMutexGuard<()>, NfsError> {
        let locked = timeout(limit, self.locks.lock(&mount_point.to_string_lossy())).await;
        locked.map_err(|_| NfsError::MountTimeout { export: export.clone(), waited_s: limit.as_secs() })
    }
}

/// Whether the export is mounted there; another one at its place is an error.
fn is_mounted(export: &NfsExport, mount_point: &Path) -> Result<bool, NfsError> {
    match mountinfo::at(mount_point)? {
        None => Ok(false),
        Some(found) if found.is(export) => Ok(true),
        Some(found) => Err(NfsError::OtherMount {
            export: export.clone(),
            mount_point: mount_point.to_owned(),
            found: format!("{} {}", found.kind, found.source),
        }),
    }
}
