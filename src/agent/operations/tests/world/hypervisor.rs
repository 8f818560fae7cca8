//! The hypervisor of the simulated world.

use super::{State, World, not_found};
use crate::agent::operations::ports::{
    BackupPort, GivenDisk, GuestDiskFacts, GuestFacts, HypervisorFacts, HypervisorPort, PortError, PortResult, Told,
};
use crate::model::*;
use async_trait::async_trait;
use std::{collections::BTreeMap, path::Path, time::Duration};
use uuid::Uuid;

impl State {
    fn must_have_hypervisor(&self) -> PortResult<()> {
        if self.hypervisor_away {
            return Err(PortError::new(ErrorKind::Unavailable, "libvirtd is away"));
        }
        Ok(())
    }
}

/// The guest runs from a disk that its definition has not got.
pub fn is_rescue(disk: &GuestDiskFacts) -> bool {
    disk.volume.is_none() && disk.live && !disk.defined
}

#[async_trait]
impl HypervisorPort for World {
    async fn examine(&self) -> PortResult<HypervisorFacts> {
        let mut state = self.state.lock().unwrap();
        state.must_have_hypervisor()?;
        state.questions += 1;
        let secrets = state.secrets.iter().copied().collect();
        let unset_secrets = state.unset_secrets.iter().copied().collect();
        Ok(HypervisorFacts { version: 9_000_000, hypervisor_version: 7_002_000, secrets, unset_secrets })
    }
    async fn guest(&self, name_or_uuid: &str) -> PortResult<GuestFacts> {
        let mut state = self.state.lock().unwrap();
        state.must_have_hypervisor()?;
        state.questions += 1;
        let found = state.guests.values().find(|guest| guest.name == name_or_uuid || guest.uuid.to_string() == name_or_uuid);
        let found = found.cloned().ok_or_else(|| not_found("guest"))?;
        let run = GuestRun { id: 1, started_at_ns: Some(state.starts) };
        Ok(GuestFacts { run: found.active.then_some(run), ..found })
    }
    async fn guests(&self) -> PortResult<Vec<GuestFacts>> {
        let state = self.state.lock().unwrap();
        state.must_have_hypervisor()?;
        Ok(state.guests.values().cloned().collect())
    }
    async fn mentions(&self, words: &[String]) -> PortResult<BTreeMap<String, String>> {
        let state = self.state.lock().unwrap();
        state.must_have_hypervisor()?;
        Ok(state.mentions.iter().filter(|(word, _)| words.contains(word)).map(|(w, g)| (w.clone(), g.clone())).collect())
    }
    async fn given(&self, guest: GuestUuid, volume: VolumeId) -> PortResult<Vec<GivenDisk>> {
        let state = self.state.lock().unwrap();
        let disk = state.guests.get(&guest).and_then(|guest| guest.disk(volume)).cloned();
        let source = state.leads_elsewhere.clone().unwrap_or_else(|| format!("iscsi:{volume}"));
        Ok(disk.map(|disk| GivenDisk { target: disk.target, bus: "virtio".into(), source }).into_iter().collect())
    }
    async fn attach_disk(&self, guest: GuestUuid, disk: &DiskSpec) -> PortResult<String> {
        self.change("attach_disk", |state| {
            if !state.connected.contains(&disk.volume) || state.wrong_serial || state.behind(disk.volume) != disk.volume {
                state.crimes.push("a guest was given a device that is not the volume".into());
            }
            if disk.encryption.is_some_and(|encryption| !state.secrets.contains(&encryption.secret))
                || disk.encryption.is_some() != state.encrypted
            {
                state.crimes.push("a guest was given ciphertext".into());
            }
            let bytes = state.host_bytes[&disk.volume];
            let facts = state.guests.get_mut(&guest).ok_or_else(|| not_found("guest"))?;
            if facts.disk(disk.volume).is_none() {
                state.guest_bytes.insert((guest, disk.volume), bytes);
                if let DiskSource::Iscsi { path, .. } = &disk.source {
                    state.guest_luns.insert((guest, disk.volume), path.lun);
                }
                let target = disk.target.clone();
                facts.disks.push(GuestDiskFacts { target, volume: Some(disk.volume), live: true, defined: true });
            }
            Ok(disk.target.clone())
        })
        .await
    }
    async fn detach_disk(&self, guest: GuestUuid, volume: VolumeId) -> PortResult<()> {
        self.change("detach_disk", |state| {
            if state.ignores_unplug {
                let message = "the guest did not let go in time".to_owned();
                return Err(PortError { kind: ErrorKind::GuestRefused, message, outcome_unknown: true });
            }
            let facts = state.guests.get_mut(&guest).ok_or_else(|| not_found("guest"))?;
            facts.disks.retain(|disk| disk.volume != Some(volume));
            state.guest_bytes.remove(&(guest, volume));
            Ok(())
        })
        .await
    }
    async fn resize_disk(&self, guest: GuestUuid, volume: VolumeId, size_bytes: u64) -> PortResult<Option<u64>> {
        self.change("resize_disk", |state| {
            // A guest that is off is told nothing.
            let Some(bytes) = state.guest_bytes.get_mut(&(guest, volume)) else { return Ok(None) };
            if state.host_bytes.get(&volume) != Some(&size_bytes) {
                state.crimes.push("a guest was told of a size that the device has not".into());
            }
            *bytes = size_bytes;
            Ok(Some(size_bytes))
        })
        .await
    }
    async fn define_secret(&self, secret: Uuid, _kind: SecretKind, _whose: &str, _value: &Secret) -> PortResult<()> {
        self.change("define_secret", |state| {
            state.secrets.insert(secret);
            state.unset_secrets.remove(&secret);
            Ok(())
        })
        .await
    }
    async fn undefine_secret(&self, secret: Uuid) -> PortResult<()> {
        self.change("undefine_secret", |state| {
            state.secrets.remove(&secret);
            Ok(())
        })
        .await
    }
    async fn prepare_guest(&self, name: &str, _definition: &GuestDefinition) -> PortResult<NewGuest> {
        let (guest, mark) = (GuestUuid(Uuid::new_v4()), Uuid::new_v4());
        Ok(NewGuest { guest, mark, name: name.to_owned(), xml: String::new(), targets: vec![], memory_mib: None })
    }
    async fn define_guest(&self, new: &NewGuest) -> PortResult<()> {
        self.change("define_guest", |state| {
            let facts = GuestFacts {
                uuid: new.guest,
                name: new.name.clone(),
                active: false,
                run: None,
                persistent: true,
                memory_mib: Some(96),
                disks: vec![],
            };
            if state.guests.values().any(|guest| guest.name == new.name && state.marks.get(&guest.uuid) != Some(&new.mark)) {
                return Err(PortError::new(ErrorKind::Conflict, "defined already"));
            }
            state.marks.insert(new.guest, new.mark);
            state.guests.entry(new.guest).or_insert(facts);
            Ok(())
        })
        .await
    }
    async fn undefine_guest(&self, guest: GuestUuid, mark: Uuid) -> PortResult<()> {
        self.change("undefine_guest", |state| {
            if state.marks.get(&guest) == Some(&mark) {
                state.marks.remove(&guest);
                if state.guests.remove(&guest).is_some_and(|guest| guest.disks.iter().any(|disk| disk.volume.is_some())) {
                    state.crimes.push("a guest was undefined that had volumes".into());
                }
            }
            Ok(())
        })
        .await
    }
    async fn define_disk(&self, _guest: GuestUuid, disk: &LocalDisk) -> PortResult<()> {
        self.change("define_disk", |state| {
            if !state.files.contains(disk.name()) {
                state.crimes.push("a guest was given a file that is not there".into());
            }
            state.defined.insert(disk.name().to_owned());
            Ok(())
        })
        .await
    }
    async fn replace_disk(&self, _guest: GuestUuid, former: &LocalDisk, disk: &LocalDisk) -> PortResult<()> {
        self.change("replace_disk", |state| {
            if !state.files.contains(disk.name()) {
                state.crimes.push("a guest was given a file that is not there".into());
            }
            state.defined.remove(former.name());
            state.defined.insert(disk.name().to_owned());
            Ok(())
        })
        .await
    }
    async fn undefine_disk(&self, _guest: GuestUuid, disk: &LocalDisk) -> PortResult<()> {
        self.change("undefine_disk", |state| {
            state.defined.remove(disk.name());
            Ok(())
        })
        .await
    }
    async fn pull_disk(&self, guest: GuestUuid, disk: &LocalDisk, _told: Told) -> PortResult<bool> {
        self.change("pull_disk", |state| {
            let runs = state.guests.get(&guest).is_some_and(|guest| guest.active);
            if runs {
                state.coming.remove(&disk.target);
            }
            Ok(runs)
        })
        .await
    }
    async fn resume_after_io_error(&self, _guest: GuestUuid, _disks: &[LocalDisk]) -> PortResult<bool> {
        Ok(false)
    }
    async fn suspend_guest(&self, guest: GuestUuid) -> PortResult<bool> {
        self.change("suspend_guest", |state| {
            let runs = state.guests.get(&guest).is_some_and(|guest| guest.active);
            if runs {
                state.suspended.insert(guest);
            }
            Ok(runs)
        })
        .await
    }
    async fn freeze(&self, guest: GuestUuid, _limit: Duration) -> PortResult<bool> {
        self.change("freeze", |state| {
            state.frozen = state.guests[&guest].active;
            Ok(state.frozen)
        })
        .await
    }
    async fn thaw(&self, _guest: GuestUuid) -> PortResult<()> {
        self.change("thaw", |state| {
            state.frozen = false;
            Ok(())
        })
        .await
    }
    async fn begin_backup(&self, _guest: GuestUuid, _target: &str, _file: &Path) -> PortResult<Box<dyn BackupPort>> {
        self.change("begin_backup", |state| {
            if !state.frozen && !state.may_run_on {
                state.crimes.push("a disk was caught of a guest that did not stand still".into());
            }
            state.backup = true;
            Ok(())
        })
        .await?;
        Ok(Box::new(self.clone()))
    }
    async fn abort_backup(&self, _guest: GuestUuid, _file: &Path) -> PortResult<()> {
        self.change("abort_backup", |state| {
            state.backup = false;
            Ok(())
        })
        .await
    }
    async fn start_guest(&self, guest: GuestUuid) -> PortResult<()> {
        self.change("start_guest", |state| {
            state.starts += 1;
            let facts = state.guests.get_mut(&guest).ok_or_else(|| not_found("guest"))?;
            facts.active = true;
            let volumes: Vec<_> = facts.disks.iter().filter_map(|disk| disk.volume).collect();
            if volumes.iter().any(|volume| !state.connected.contains(volume) || state.behind(*volume) != *volume) {
                state.crimes.push("a guest was started on a device that is not the volume".into());
            }
            Ok(())
        })
        .await
    }
    async fn check_unsaved(&self, guest: GuestUuid) -> PortResult<()> {
        match self.state.lock().unwrap().saved.contains(&guest) {
            true => Err(PortError::new(ErrorKind::Conflict, "its memory was saved")),
            false => Ok(()),
        }
    }
    async fn shut_down_guest(&self, guest: GuestUuid) -> PortResult<()> {
        let waits = self.state.lock().unwrap().ignores_shutdown;
        if waits {
            return Err(PortError::new(ErrorKind::GuestRefused, "the guest runs on"));
        }
        HypervisorPort::stop_guest(self, guest).await
    }
    async fn autostart_guests(&self) -> PortResult<Vec<GuestFacts>> {
        let state = self.state.lock().unwrap();
        Ok(state.guests.values().filter(|guest| state.autostart.contains(&guest.uuid)).cloned().collect())
    }
    async fn start_rescue(&self, guest: GuestUuid, disk: &LocalDisk) -> PortResult<()> {
        self.change("start_rescue", |state| {
            if !state.files.contains(disk.name()) {
                state.crimes.push("a guest was started from a file that is not there".into());
            }
            let facts = state.guests.get_mut(&guest).ok_or_else(|| not_found("guest"))?;
            if facts.active {
                return match facts.disks.iter().any(is_rescue) {
                    true => Ok(()),
                    false => Err(PortError::new(ErrorKind::Conflict, "it runs from its own disks")),
                };
            }
            facts.active = true;
            let target = disk.target.clone();
            facts.disks.push(GuestDiskFacts { target, volume: None, live: true, defined: false });
            Ok(())
        })
        .await
    }
    async fn stop_guest(&self, guest: GuestUuid) -> PortResult<()> {
        self.change("stop_guest", |state| {
            let facts = state.guests.get_mut(&guest).ok_or_else(|| not_found("guest"))?;
            facts.active = false;
            // What it was started by once is forgotten.
            facts.disks.retain(|disk| !is_rescue(disk));
            Ok(())
        })
        .await
    }
}
