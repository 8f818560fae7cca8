//! This host's libvirt.

use super::super::ports::{
    BackupPort, GivenDisk, GuestDiskFacts, GuestFacts, HypervisorFacts, HypervisorPort, PortError, PortResult, Told,
};
use super::chain;
use crate::libvirt::{Backup, DetachProgress, Frozen, Guest, GuestDisk, Libvirt, LibvirtError, Outcome, Resized, SecretUsage};
use crate::model::{DiskSpec, GuestDefinition, GuestUuid, LocalDisk, NewGuest, Secret, SecretKind, VolumeId};

use async_trait::async_trait;
use std::{collections::BTreeMap, path::Path, time::Duration};
use uuid::Uuid;

/// [`HypervisorPort`] by libvirt.
pub struct Hypervisor(pub Libvirt);

impl From<LibvirtError> for PortError {
    fn from(error: LibvirtError) -> Self {
        // What a guest has can be read again at any time. Only one that was asked to let a disk go may still do so, long after.
        let outcome_unknown = matches!(error, LibvirtError::GuestIgnored { .. } | LibvirtError::LostSight { .. });
        Self { kind: error.kind(), message: chain(&error), outcome_unknown }
    }
}

impl From<Guest> for GuestFacts {
    fn from(guest: Guest) -> Self {
        let mut disks: Vec<GuestDiskFacts> = guest
            .live_disks
            .into_iter()
            .map(|disk| GuestDiskFacts { target: disk.target, volume: disk.volume, live: true, defined: false })
            .collect();
        for disk in guest.config_disks {
            match disks.iter_mut().find(|live| live.target == disk.target && live.volume == disk.volume) {
                Some(live) => live.defined = true,
                None => {
                    disks.push(GuestDiskFacts { target: disk.target, volume: disk.volume, live: false, defined: true });
                }
            }
        }
        Self {
            uuid: guest.uuid,
            name: guest.name,
            active: guest.active,
            run: guest.run,
            persistent: guest.persistent,
            memory_mib: guest.memory_mib,
            disks,
        }
    }
}

#[async_trait]
impl BackupPort for Backup {
    async fn wait(self: Box<Self>, limit: Duration, told: Told) -> PortResult<()> {
        Ok(Self::wait(*self, limit, move |done, total| told(done, total)).await?)
    }
}

#[async_trait]
impl HypervisorPort for Hypervisor {
    async fn guest(&self, name_or_uuid: &str) -> PortResult<GuestFacts> {
        Ok(self.0.guest(name_or_uuid).await?.into())
    }

    async fn guests(&self) -> PortResult<Vec<GuestFacts>> {
        Ok(self.0.guests().await?.into_iter().map(GuestFacts::from).collect())
    }

    async fn mentions(&self, words: &[String]) -> PortResult<BTreeMap<String, String>> {
        Ok(self.0.mentions(words.to_vec()).await?)
    }

    async fn given(&self, guest: GuestUuid, volume: VolumeId) -> PortResult<Vec<GivenDisk>> {
        let guest = self.0.guest(&guest.to_string()).await?;
        let disks = guest.live_disks.into_iter().chain(guest.config_disks).filter(|disk| disk.volume == Some(volume));
        let given = |disk: GuestDisk| GivenDisk { target: disk.target, bus: disk.bus, source: disk.source.unwrap_or_default() };
        Ok(disks.map(given).collect())
    }

    async fn attach_disk(&self, guest: GuestUuid, disk: &DiskSpec) -> PortResult<String> {
        Ok(self.0.attach_disk(guest, disk).await?.target)
    }

    async fn detach_disk(&self, guest: GuestUuid, volume: VolumeId) -> PortResult<()> {
        let tell = |progress: DetachProgress| tracing::debug!(%guest, %volume, ?progress, "detaching");
        self.0.detach_disk(guest, volume, tell).await?;
        Ok(())
    }

    async fn resize_disk(&self, guest: GuestUuid, volume: VolumeId, size_bytes: u64) -> PortResult<Option<u64>> {
        Ok(match self.0.resize_disk(guest, volume, size_bytes).await? {
            Resized::Seen(size_bytes) => Some(size_bytes),
            Resized::NobodyToTell => None,
            Resized::ReadOnly => {
                tracing::info!(%guest, %volume, "may only read the disk: sees the new size when it gets it the next time");
                None
            }
        })
    }

    async fn define_secret(&self, secret: Uuid, kind: SecretKind, whose: &str, value: &Secret) -> PortResult<()> {
        // libvirt wants usages to be unique on the host: the secret's own id makes it so.
        let name = format!("bowline {whose} {secret}");
        let usage = match kind {
            SecretKind::Iscsi => SecretUsage::Iscsi(name),
            SecretKind::Ceph => SecretUsage::Ceph(name),
            SecretKind::Passphrase => SecretUsage::Volume(name),
        };
        Ok(self.0.define_secret(secret, &usage, value).await?)
    }

    async fn undefine_secret(&self, secret: Uuid) -> PortResult<()> {
        self.0.undefine_secret(secret).await?;
        Ok(())
    }

    async fn prepare_guest(&self, name: &str, definition: &GuestDefinition) -> PortResult<NewGuest> {
        Ok(self.0.prepare_guest(name, definition).await?)
    }

    async fn define_guest(&self, new: &NewGuest) -> PortResult<()> {
        self.0.define_guest(new).await?;
        Ok(())
    }

    async fn undefine_guest(&self, guest: GuestUuid, mark: Uuid) -> PortResult<()> {
        self.0.undefine_guest(guest, mark).await?;
        Ok(())
    }

    async fn define_disk(&self, guest: GuestUuid, disk: &LocalDisk) -> PortResult<()> {
        self.0.define_disk(guest, disk).await?;
        Ok(())
    }

    async fn replace_disk(&self, guest: GuestUuid, former: &LocalDisk, disk: &LocalDisk) -> PortResult<()> {
        self.0.replace_disk(guest, former, disk).await?;
        Ok(())
    }

    async fn undefine_disk(&self, guest: GuestUuid, disk: &LocalDisk) -> PortResult<()> {
        self.0.undefine_disk(guest, disk).await?;
        Ok(())
    }

    async fn start_guest(&self, guest: GuestUuid) -> PortResult<()> {
        self.0.start_guest(guest).await?;
        Ok(())
    }

    async fn start_rescue(&self, guest: GuestUuid, disk: &LocalDisk) -> PortResult<()> {
        self.0.start_rescue(guest, disk).await?;
        Ok(())
    }

    async fn stop_guest(&self, guest: GuestUuid) -> PortResult<()> {
        self.0.stop_guest(guest).await?;
        Ok(())
    }

    async fn check_unsaved(&self, guest: GuestUuid) -> PortResult<()> {
        Ok(self.0.check_unsaved(guest).await?)
    }

    async fn shut_down_guest(&self, guest: GuestUuid) -> PortResult<()> {
        self.0.shut_down_guest(guest).await?;
        Ok(())
    }

    async fn autostart_guests(&self) -> PortResult<Vec<GuestFacts>> {
        Ok(self.0.autostart_guests().await?.into_iter().map(GuestFacts::from).collect())
    }

    async fn pull_disk(&self, guest: GuestUuid, disk: &LocalDisk, told: Told) -> PortResult<bool> {
        Ok(self.0.pull_disk(guest, disk, move |done, all| told(done, all)).await? == Outcome::Changed)
    }

    async fn resume_after_io_error(&self, guest: GuestUuid, disks: &[LocalDisk]) -> PortResult<bool> {
        let targets = disks.iter().map(|disk| disk.target.clone()).collect();
        Ok(self.0.resume_after_io_error(guest, targets).await? == Outcome::Changed)
    }

    async fn suspend_guest(&self, guest: GuestUuid) -> PortResult<bool> {
        Ok(self.0.suspend_guest(guest).await? == Outcome::Changed)
    }

    async fn freeze(&self, guest: GuestUuid, limit: Duration) -> PortResult<bool> {
        Ok(match self.0.freeze(guest, limit).await? {
            Frozen::Yes(filesystems) => {
                tracing::info!(%guest, filesystems, "frozen");
                true
            }
            Frozen::NobodyToAsk => false,
        })
    }

    async fn thaw(&self, guest: GuestUuid) -> PortResult<()> {
        self.0.thaw(guest).await?;
        Ok(())
    }

    async fn begin_backup(&self, guest: GuestUuid, target: &str, file: &Path) -> PortResult<Box<dyn BackupPort>> {
        Ok(Box::new(self.0.begin_backup(guest, target, file).await?))
    }

    async fn abort_backup(&self, guest: GuestUuid, file: &Path) -> PortResult<()> {
        self.0.abort_backup(guest, file).await?;
        Ok(())
    }

    async fn examine(&self) -> PortResult<HypervisorFacts> {
        let (version, hypervisor_version) = self.0.versions().await?;
        let secrets = self.0.secrets().await?;
        let unset_secrets = secrets.iter().filter(|record| !record.has_value).map(|record| record.uuid).collect();
        let secrets = secrets.into_iter().map(|record| record.uuid).collect();
        Ok(HypervisorFacts { version, hypervisor_version, secrets, unset_secrets })
    }
}
