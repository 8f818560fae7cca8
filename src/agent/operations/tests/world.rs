//! A simulated world: a volume service, a host and a hypervisor in memory, which can fail, lose an answer or stop dead at
//! any call, and which watch that nothing forbidden ever happens.

use super::super::ports::{
    BackupPort, BootSourcePort, ConnectorPort, GuestDiskFacts, GuestFacts, HypervisorFacts, HypervisorPort, PortError,
    PortResult, Presence, ServiceFacts, Told, VolumeServicePort,
};
use crate::model::*;
use async_trait::async_trait;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};
use uuid::Uuid;

/// What goes wrong at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is refused; nothing was done.
    Refused,
    /// It is done, but the answer is lost.
    AnswerLost,
    /// The agent dies before it is done.
    DiesBefore,
    /// The agent dies after it is done, before it knows.
    DiesAfter,
}

#[derive(Debug, Default)]
pub struct State {
    pub volumes: BTreeMap<VolumeId, Volume>,
    pub attachments: BTreeMap<AttachmentId, (VolumeId, GuestUuid, AttachmentStatus)>,
    pub connected: BTreeSet<VolumeId>,
    pub guests: BTreeMap<GuestUuid, GuestFacts>,
    pub secrets: BTreeSet<Uuid>,
    pub own_names: Vec<OwnName>,
    /// What the host has seen of each volume's size, bytes.
    pub host_bytes: BTreeMap<VolumeId, u64>,
    /// What each running guest is given, bytes.
    pub guest_bytes: BTreeMap<(GuestUuid, VolumeId), u64>,
    /// Calls that change something, so far.
    pub calls: usize,
    pub names: Vec<&'static str>,
    pub fault: Option<(usize, Fault)>,
    /// Calls that are refused as long as they are named here.
    pub refused: BTreeSet<&'static str>,
    /// The agent has been stopped at a call.
    pub dead: bool,
    pub wrong_serial: bool,
    /// The volume is encrypted: a disk has two secrets.
    pub encrypted: bool,
    /// libvirtd does not answer.
    pub hypervisor_away: bool,
    /// Ephemeral disks of this host, by their target names.
    pub files: BTreeSet<String>,
    /// Ephemeral disks of the guest's definition.
    pub defined: BTreeSet<String>,
    /// Guests that start with the host.
    pub autostart: BTreeSet<GuestUuid>,
    /// Guests do not mind the power button.
    pub ignores_shutdown: bool,
    /// Somebody starts the guest while its disks are made.
    pub started_meanwhile: bool,
    /// The guest's filesystems stand still.
    pub frozen: bool,
    /// A guest that cannot be frozen is caught as it runs.
    pub may_run_on: bool,
    /// A disk of the guest is being copied.
    pub backup: bool,
    /// What was caught of disks.
    pub captures: BTreeSet<ImageId>,
    /// Images, and whether they are whole.
    pub images: BTreeMap<ImageId, bool>,
    /// Snapshots of volumes.
    pub snapshots: BTreeMap<SnapshotId, (VolumeId, String)>,
    /// What must never happen and did.
    pub crimes: Vec<String>,
}

#[derive(Clone, Default)]
pub struct World {
    pub state: Arc<Mutex<State>>,
    pub died: Arc<tokio::sync::Notify>,
}

pub fn volume_id() -> VolumeId {
    VolumeId(Uuid::from_u128(0xa1))
}

pub fn image_id() -> ImageId {
    ImageId(Uuid::from_u128(0xd4))
}

pub fn guest_uuid() -> GuestUuid {
    GuestUuid(Uuid::from_u128(0xb2))
}

impl World {
    pub fn new() -> Self {
        let world = Self::default();
        {
            let mut state = world.state.lock().unwrap();
            let volume = Volume {
                id: volume_id(),
                name: "data".into(),
                size_gib: 1,
                status: "available".into(),
                multiattach: false,
                bootable: false,
                encrypted: false,
                volume_type: None,
                created_at: String::new(),
                attachments: vec![],
            };
            state.volumes.insert(volume.id, volume);
            let guest =
                GuestFacts { uuid: guest_uuid(), name: "guest-1".into(), active: true, persistent: true, disks: vec![] };
            let second = GuestFacts { uuid: GuestUuid(Uuid::from_u128(0xb3)), name: "guest-2".into(), ..guest.clone() };
            state.guests.insert(guest.uuid, guest);
            state.guests.insert(second.uuid, second);
        }
        world
    }

    /// A call that changes something: counted, and struck by the fault that was laid for it.
    async fn change<T>(&self, name: &'static str, effect: impl FnOnce(&mut State) -> PortResult<T>) -> PortResult<T> {
        // Nothing is done by an agent that is dead, whatever else it was at.
        let is_dead = self.state.lock().unwrap().dead;
        if is_dead {
            return std::future::pending().await;
        }
        let (result, stop) = {
            let mut state = self.state.lock().unwrap();
            let call = state.calls;
            state.calls += 1;
            state.names.push(name);
            let fault = state.fault.filter(|(at, _)| *at == call).map(|(_, fault)| fault);
            match fault {
                _ if state.refused.contains(name) => {
                    (Err(PortError::new(ErrorKind::Unavailable, format!("{name} refused"))), false)
                }
                Some(Fault::Refused) => (Err(PortError::new(ErrorKind::Unavailable, format!("{name} refused"))), false),
                Some(Fault::AnswerLost) => {
                    let _ = effect(&mut state);
                    let message = format!("the answer to {name} was lost");
                    (Err(PortError { kind: ErrorKind::Timeout, message, outcome_unknown: true }), false)
                }
                Some(Fault::DiesBefore) => {
                    state.dead = true;
                    (Err(PortError::new(ErrorKind::Internal, "dead")), true)
                }
                Some(Fault::DiesAfter) => {
                    let _ = effect(&mut state);
                    state.dead = true;
                    (Err(PortError::new(ErrorKind::Internal, "dead")), true)
                }
                None => (effect(&mut state), false),
            }
        };
        if stop {
            self.died.notify_one();
            std::future::pending::<()>().await;
        }
        result
    }

    /// Every layer has this size: the service, the host if it is connected, every guest that has the disk.
    pub fn assert_sizes(&self, size_gib: u64, context: &str) {
        let state = self.state.lock().unwrap();
        assert!(state.crimes.is_empty(), "{context}: {:?}", state.crimes);
        assert_eq!(state.volumes[&volume_id()].size_gib, size_gib, "{context}: the service");
        if state.connected.contains(&volume_id()) {
            assert_eq!(state.host_bytes[&volume_id()], size_gib * GIB, "{context}: the host");
        }
        for (guest, bytes) in &state.guest_bytes {
            assert_eq!(*bytes, size_gib * GIB, "{context}: guest {guest:?}");
        }
    }

    /// Nothing forbidden happened, and no connection, attachment or secret is there that no guest's disk needs.
    pub fn assert_clean_of(&self, attached: bool, context: &str) {
        let state = self.state.lock().unwrap();
        assert!(state.crimes.is_empty(), "{context}: {:?}", state.crimes);
        let count = if attached { 2 } else { 0 };
        assert_eq!(state.attachments.len(), count, "{context}: attachments in the service");
        assert_eq!(state.connected.len(), count, "{context}: connections");
        assert_eq!(state.secrets.len(), count, "{context}: secrets");
    }

    /// What must hold when nothing is under way.
    pub fn assert_clean(&self, attached: bool, context: &str) {
        let state = self.state.lock().unwrap();
        assert!(state.crimes.is_empty(), "{context}: {:?}", state.crimes);
        let guest_has = state.guests.values().any(|guest| guest.disk(volume_id()).is_some());
        let status = &state.volumes[&volume_id()].status;
        assert_eq!(guest_has, attached, "{context}: the guest's disk");
        assert_eq!(state.connected.contains(&volume_id()), attached, "{context}: the host's connection");
        assert_eq!(state.attachments.len(), usize::from(attached), "{context}: attachments in the service");
        assert_eq!(status, if attached { "in-use" } else { "available" }, "{context}: the volume's status");
        let each = if state.encrypted { 2 } else { 1 };
        assert_eq!(state.secrets.len(), usize::from(attached) * each, "{context}: secrets");
    }
}

fn not_found(what: &str) -> PortError {
    PortError::new(ErrorKind::NotFound, format!("no {what}"))
}

fn connection(volume: VolumeId) -> ConnectionInfo {
    ConnectionInfo::Iscsi(IscsiConnection {
        paths: vec![IscsiPath { portal: "127.0.0.1:3260".parse().unwrap(), iqn: "iqn.2010-10.org.openstack:v".into(), lun: 1 }],
        discovery: None,
        chap: Some(ChapCredentials { username: "u".into(), password: Secret::new("p") }),
        read_only: false,
        discard: false,
        encrypted: false,
        serial: Some(volume.to_string()),
    })
}

impl State {
    fn attachment(&self, id: AttachmentId) -> PortResult<Attachment> {
        let (volume, guest, status) = *self.attachments.get(&id).ok_or_else(|| not_found("attachment"))?;
        let connection = (status != AttachmentStatus::Reserved).then(|| connection(volume));
        let traits = VolumeTraits { encrypted: self.encrypted, ..VolumeTraits::default() };
        Ok(Attachment { summary: AttachmentSummary { id, volume, guest: Some(guest), status }, connection, traits })
    }

    /// A volume's status is what its attachments make of it.
    fn settle(&mut self, id: VolumeId) {
        let has = |status| self.attachments.values().any(|entry| entry.0 == id && entry.2 == status);
        let status = if has(AttachmentStatus::Attached) {
            "in-use"
        } else if has(AttachmentStatus::Attaching) {
            "attaching"
        } else if has(AttachmentStatus::Reserved) {
            "reserved"
        } else {
            "available"
        };
        if let Some(volume) = self.volumes.get_mut(&id) {
            volume.status = status.into();
        }
    }
}

#[async_trait]
impl VolumeServicePort for World {
    async fn examine(&self) -> PortResult<ServiceFacts> {
        Ok(ServiceFacts { skew_s: Some(0), service_roles: None, has_service_user: false, has_keystone: false })
    }
    async fn volume(&self, id: VolumeId) -> PortResult<Volume> {
        self.state.lock().unwrap().volumes.get(&id).cloned().ok_or_else(|| not_found("volume"))
    }
    async fn find_volume(&self, name_or_id: &str) -> PortResult<Volume> {
        let state = self.state.lock().unwrap();
        let found = state.volumes.values().find(|volume| volume.name == name_or_id || volume.id.to_string() == name_or_id);
        found.cloned().ok_or_else(|| not_found("volume"))
    }
    async fn volumes(&self) -> PortResult<Vec<Volume>> {
        Ok(self.state.lock().unwrap().volumes.values().cloned().collect())
    }
    async fn find_snapshot(&self, _name_or_id: &str) -> PortResult<VolumeSnapshot> {
        Err(not_found("snapshot"))
    }
    async fn snapshots(&self) -> PortResult<Vec<VolumeSnapshot>> {
        let snapshots = self.state.lock().unwrap().snapshots.clone();
        Ok(snapshots
            .into_iter()
            .map(|(id, (volume, name))| VolumeSnapshot { id, volume, name, status: "available".into(), size_gib: 1 })
            .collect())
    }
    async fn create_snapshot(&self, volume: VolumeId, name: &str) -> PortResult<VolumeSnapshot> {
        self.change("create_snapshot", |state| {
            let id = SnapshotId(Uuid::new_v4());
            state.snapshots.insert(id, (volume, name.to_owned()));
            Ok(VolumeSnapshot { id, volume, name: name.to_owned(), status: "creating".into(), size_gib: 1 })
        })
        .await
    }
    async fn wait_snapshot_available(&self, _id: SnapshotId, _deadline: Duration) -> PortResult<()> {
        Ok(())
    }
    async fn delete_snapshot(&self, id: SnapshotId, _deadline: Duration) -> PortResult<()> {
        self.change("delete_snapshot", |state| {
            state.snapshots.remove(&id);
            Ok(())
        })
        .await
    }
    async fn create_volume(&self, new: &NewVolume) -> PortResult<Volume> {
        self.change("create_volume", |state| {
            let volume = Volume {
                id: VolumeId(Uuid::new_v4()),
                name: new.name.clone(),
                size_gib: new.size_gib,
                bootable: new.origin != VolumeOrigin::Blank,
                ..state.volumes[&volume_id()].clone()
            };
            if state.volumes.values().any(|other| other.name == volume.name) {
                state.crimes.push("a volume was made twice".into());
            }
            state.volumes.insert(volume.id, Volume { status: "available".into(), ..volume.clone() });
            Ok(volume)
        })
        .await
    }
    async fn wait_available(&self, id: VolumeId, _deadline: Duration) -> PortResult<Volume> {
        VolumeServicePort::volume(self, id).await
    }
    async fn extend_volume(&self, id: VolumeId, size_gib: u64) -> PortResult<()> {
        self.change("extend_volume", |state| {
            let volume = state.volumes.get_mut(&id).ok_or_else(|| not_found("volume"))?;
            if size_gib <= volume.size_gib {
                return Err(PortError::new(ErrorKind::InvalidInput, "the new size must be greater"));
            }
            volume.size_gib = size_gib;
            Ok(())
        })
        .await
    }
    async fn wait_extended(&self, id: VolumeId, _deadline: Duration) -> PortResult<Volume> {
        VolumeServicePort::volume(self, id).await
    }
    async fn delete_volume(&self, id: VolumeId) -> PortResult<()> {
        self.change("delete_volume", |state| {
            if state.volumes.get(&id).is_some_and(|volume| volume.status != "available") {
                state.crimes.push("a volume was deleted in use".into());
            }
            state.volumes.remove(&id).map(drop).ok_or_else(|| not_found("volume"))
        })
        .await
    }
    async fn wait_gone(&self, _id: VolumeId, _deadline: Duration) -> PortResult<()> {
        Ok(())
    }
    async fn create_attachment(&self, volume: VolumeId, guest: GuestUuid, _read_only: bool) -> PortResult<Attachment> {
        self.change("create_attachment", |state| {
            let found = &state.volumes[&volume];
            if found.status != "available" && !found.multiattach {
                return Err(PortError::new(ErrorKind::Conflict, "volume is not available"));
            }
            let id = AttachmentId(Uuid::new_v4());
            state.attachments.insert(id, (volume, guest, AttachmentStatus::Reserved));
            state.settle(volume);
            state.attachment(id)
        })
        .await
    }
    async fn update_attachment(&self, id: AttachmentId, _connector: &ConnectorProperties) -> PortResult<Attachment> {
        self.change("update_attachment", |state| {
            let entry = state.attachments.get_mut(&id).ok_or_else(|| not_found("attachment"))?;
            entry.2 = AttachmentStatus::Attaching;
            let volume = entry.0;
            state.settle(volume);
            state.attachment(id)
        })
        .await
    }
    async fn attachment(&self, id: AttachmentId) -> PortResult<Attachment> {
        self.state.lock().unwrap().attachment(id)
    }
    async fn attachments(&self, volume: VolumeId) -> PortResult<Vec<AttachmentSummary>> {
        let state = self.state.lock().unwrap();
        state
            .attachments
            .iter()
            .filter(|(_, entry)| entry.0 == volume)
            .map(|(id, _)| state.attachment(*id).map(|attachment| attachment.summary))
            .collect()
    }
    async fn complete_attachment(&self, id: AttachmentId) -> PortResult<()> {
        self.change("complete_attachment", |state| {
            let entry = state.attachments.get_mut(&id).ok_or_else(|| not_found("attachment"))?;
            entry.2 = AttachmentStatus::Attached;
            let volume = entry.0;
            state.settle(volume);
            Ok(())
        })
        .await
    }
    async fn delete_attachment(&self, id: AttachmentId) -> PortResult<()> {
        self.change("delete_attachment", |state| {
            let Some((volume, guest, _)) = state.attachments.remove(&id) else { return Ok(()) };
            if state.guests.get(&guest).is_some_and(|guest| guest.disk(volume).is_some()) {
                state.crimes.push("an attachment was deleted while the guest had the disk".into());
            }
            let last = state.attachments.values().all(|(other, ..)| *other != volume);
            if last && state.connected.contains(&volume) {
                state.crimes.push("an attachment was deleted while the host was connected".into());
            }
            state.settle(volume);
            Ok(())
        })
        .await
    }
    async fn encryption(&self, _volume: VolumeId) -> PortResult<Option<VolumeEncryption>> {
        let encrypted = self.state.lock().unwrap().encrypted;
        Ok(encrypted.then_some(VolumeEncryption { version: LuksVersion::Luks1, key: Uuid::from_u128(0xc3) }))
    }
    async fn passphrase(&self, _key: Uuid) -> PortResult<Secret> {
        self.change("passphrase", |_| Ok(Secret::new("p"))).await
    }
}

#[async_trait]
impl ConnectorPort for World {
    async fn properties(&self) -> PortResult<ConnectorProperties> {
        Ok(ConnectorProperties {
            host: "h".into(),
            ip: "127.0.0.1".into(),
            initiator: None,
            multipath: false,
            enforce_multipath: false,
            platform: "x86_64".into(),
            os_type: "linux".into(),
            system_uuid: None,
            nqn: None,
            nvme_native_multipath: false,
            do_local_attach: false,
            mode: None,
            mountpoint: None,
        })
    }
    async fn settle(&self, _info: &mut ConnectionInfo) -> PortResult<()> {
        Ok(())
    }

    async fn health(&self, _volume: VolumeId, _device: &ConnectedDevice, _identity: &DeviceIdentity) -> PortResult<Health> {
        Ok(Health::Healthy)
    }

    async fn intent(&self, info: &ConnectionInfo) -> PortResult<ConnectIntent> {
        let ConnectionInfo::Iscsi(iscsi) = info else { return Err(not_found("connector")) };
        Ok(ConnectIntent::Iscsi { initiator: Initiator::Qemu, paths: iscsi.paths.clone() })
    }
    async fn connect(&self, volume: VolumeId, info: &ConnectionInfo) -> PortResult<ConnectedDevice> {
        self.change("connect", |state| {
            let ConnectionInfo::Iscsi(iscsi) = info else { return Err(not_found("connector")) };
            if state.connected.insert(volume) {
                let bytes = state.volumes[&volume].size_gib * GIB;
                state.host_bytes.insert(volume, bytes);
            }
            Ok(ConnectedDevice::IscsiNetwork(IscsiNetworkDevice {
                path: iscsi.paths[0].clone(),
                initiator: "iqn.1993-08.org.debian:01:x".into(),
                chap_username: Some("u".into()),
            }))
        })
        .await
    }
    async fn disk_secret(&self, info: &ConnectionInfo) -> PortResult<Option<(SecretKind, Secret)>> {
        Ok(info.disk_secret().map(|(kind, secret)| (kind, secret.clone())))
    }
    async fn observe(
        &self,
        volume: VolumeId,
        _device: &ConnectedDevice,
        _info: &ConnectionInfo,
    ) -> PortResult<ObservedIdentity> {
        self.change("observe", |state| {
            let serial = if state.wrong_serial { "wrong".to_owned() } else { volume.to_string() };
            let identity = DeviceIdentity { serial: Some(serial), wwids: vec![] };
            Ok(ObservedIdentity { identity, size_bytes: state.host_bytes[&volume] })
        })
        .await
    }
    async fn head(&self, _device: &ConnectedDevice, _bytes: usize) -> PortResult<Option<Vec<u8>>> {
        Ok(None)
    }
    async fn disconnect(
        &self,
        volume: VolumeId,
        _device: &ConnectedDevice,
        _identity: Option<&DeviceIdentity>,
    ) -> PortResult<()> {
        self.change("disconnect", |state| {
            if state.guests.values().any(|guest| guest.disk(volume).is_some()) {
                state.crimes.push("a device was removed under a guest".into());
            }
            state.connected.remove(&volume);
            Ok(())
        })
        .await
    }
    async fn presence(&self, volume: VolumeId, _device: &ConnectedDevice, _identity: &DeviceIdentity) -> PortResult<Presence> {
        let connected = self.state.lock().unwrap().connected.contains(&volume);
        Ok(if connected { Presence::Present } else { Presence::Absent })
    }
    async fn reconnect(
        &self,
        volume: VolumeId,
        info: &ConnectionInfo,
        _before: &ConnectedDevice,
    ) -> PortResult<ConnectedDevice> {
        ConnectorPort::connect(self, volume, info).await
    }
    async fn grow(
        &self,
        volume: VolumeId,
        _device: &ConnectedDevice,
        _identity: &DeviceIdentity,
        _info: &ConnectionInfo,
        _size_gib: u64,
    ) -> PortResult<u64> {
        self.change("grow", |state| {
            if !state.connected.contains(&volume) {
                state.crimes.push("what is not connected was grown".into());
            }
            let bytes = state.volumes[&volume].size_gib * GIB;
            state.host_bytes.insert(volume, bytes);
            Ok(bytes)
        })
        .await
    }
    async fn own_names(&self) -> PortResult<Vec<OwnName>> {
        Ok(self.state.lock().unwrap().own_names.clone())
    }
    async fn forget_own_name(&self, volume: VolumeId) -> PortResult<()> {
        self.change("forget_own_name", |state| {
            state.own_names.retain(|name| name.volume != volume);
            Ok(())
        })
        .await
    }
    fn is_repairable(&self, device: &ConnectedDevice) -> bool {
        matches!(device, ConnectedDevice::Block(_))
    }
    async fn repair(
        &self,
        _volume: VolumeId,
        device: &ConnectedDevice,
        _identity: &DeviceIdentity,
        _info: &ConnectionInfo,
    ) -> PortResult<ConnectedDevice> {
        self.change("repair", |_| Ok(device.clone())).await
    }
    async fn undo_connect(&self, volume: VolumeId, _intent: &ConnectIntent) -> PortResult<()> {
        self.change("undo_connect", |state| {
            if state.guests.values().any(|guest| guest.disk(volume).is_some()) {
                state.crimes.push("a connect was undone under a guest".into());
            }
            state.connected.remove(&volume);
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl HypervisorPort for World {
    async fn examine(&self) -> PortResult<HypervisorFacts> {
        let secrets = self.state.lock().unwrap().secrets.iter().copied().collect();
        Ok(HypervisorFacts { version: 9_000_000, hypervisor_version: 7_002_000, secrets })
    }
    async fn guest(&self, name_or_uuid: &str) -> PortResult<GuestFacts> {
        let state = self.state.lock().unwrap();
        if state.hypervisor_away {
            return Err(PortError::new(ErrorKind::Unavailable, "libvirtd is away"));
        }
        let found = state.guests.values().find(|guest| guest.name == name_or_uuid || guest.uuid.to_string() == name_or_uuid);
        found.cloned().ok_or_else(|| not_found("guest"))
    }
    async fn guests(&self) -> PortResult<Vec<GuestFacts>> {
        Ok(self.state.lock().unwrap().guests.values().cloned().collect())
    }
    async fn attach_disk(&self, guest: GuestUuid, disk: &DiskSpec) -> PortResult<String> {
        self.change("attach_disk", |state| {
            if !state.connected.contains(&disk.volume) || state.wrong_serial {
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
                let target = disk.target.clone();
                facts.disks.push(GuestDiskFacts { target, volume: Some(disk.volume), live: true, defined: true });
            }
            Ok(disk.target.clone())
        })
        .await
    }
    async fn detach_disk(&self, guest: GuestUuid, volume: VolumeId) -> PortResult<()> {
        self.change("detach_disk", |state| {
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
    async fn define_secret(&self, secret: Uuid, _kind: SecretKind, _volume: VolumeId, _value: &Secret) -> PortResult<()> {
        self.change("define_secret", |state| {
            state.secrets.insert(secret);
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
    async fn undefine_disk(&self, _guest: GuestUuid, disk: &LocalDisk) -> PortResult<()> {
        self.change("undefine_disk", |state| {
            state.defined.remove(disk.name());
            Ok(())
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
            state.guests.get_mut(&guest).ok_or_else(|| not_found("guest"))?.active = true;
            Ok(())
        })
        .await
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
    async fn stop_guest(&self, guest: GuestUuid) -> PortResult<()> {
        self.change("stop_guest", |state| {
            state.guests.get_mut(&guest).ok_or_else(|| not_found("guest"))?.active = false;
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl BootSourcePort for World {
    async fn find_image(&self, name_or_id: &str) -> PortResult<Image> {
        let digest = ImageDigest { algorithm: DigestAlgorithm::Sha512, hex: "0".repeat(128) };
        if name_or_id != "tiny" && name_or_id != image_id().to_string() {
            return Err(not_found("image"));
        }
        Ok(Image {
            id: image_id(),
            name: "tiny".into(),
            status: "active".into(),
            disk_format: "qcow2".into(),
            container_format: "bare".into(),
            size_bytes: 4096,
            min_disk_gib: 0,
            digest: Some(digest),
            mapping: None,
            is_mapping_v2: false,
            root_device_name: None,
            disk_bus: None,
        })
    }
    async fn make_disk(&self, plan: &LocalDiskPlan, bus: DiskBus) -> PortResult<LocalDisk> {
        self.change("make_disk", |state| {
            state.files.insert(plan.target.clone());
            if state.started_meanwhile {
                state.guests.get_mut(&plan.guest).ok_or_else(|| not_found("guest"))?.active = true;
            }
            let path = PathBuf::from("/disks").join(&plan.target);
            Ok(LocalDisk { target: plan.target.clone(), bus, path, format: DiskFormat::Qcow2, base: None })
        })
        .await
    }
    async fn remove_disk(&self, guest: GuestUuid, target: &str) -> PortResult<()> {
        self.change("remove_disk", |state| {
            if (state.guests.get(&guest).is_some_and(|guest| guest.active) && !state.started_meanwhile)
                || state.defined.contains(target)
            {
                state.crimes.push("a disk was removed under a guest".into());
            }
            state.files.remove(target);
            Ok(())
        })
        .await
    }
    fn capture_path(&self, image: ImageId) -> PathBuf {
        Path::new("/captures").join(image.to_string())
    }
    async fn clear_capture(&self, image: ImageId) -> PortResult<PathBuf> {
        self.change("clear_capture", |state| {
            state.captures.insert(image);
            Ok(())
        })
        .await?;
        Ok(self.capture_path(image))
    }
    async fn capture_stopped(&self, _disk: &LocalDisk, image: ImageId) -> PortResult<()> {
        self.clear_capture(image).await.map(|_| ())
    }
    async fn captured_gib(&self, _image: ImageId) -> PortResult<u64> {
        Ok(1)
    }
    async fn remove_capture(&self, image: ImageId) -> PortResult<()> {
        self.change("remove_capture", |state| {
            if state.backup {
                state.crimes.push("a file was removed that is copied into".into());
            }
            state.captures.remove(&image);
            Ok(())
        })
        .await
    }
    async fn create_image(&self, image: &NewImage) -> PortResult<()> {
        self.change("create_image", |state| {
            state.images.insert(image.id, false);
            Ok(())
        })
        .await
    }
    async fn upload_capture(&self, image: ImageId, _told: Told) -> PortResult<()> {
        self.change("upload_capture", |state| {
            if !state.captures.contains(&image) {
                state.crimes.push("an image was made of nothing".into());
            }
            state.images.insert(image, true);
            Ok(())
        })
        .await
    }
    async fn finish_image(&self, image: ImageId) -> PortResult<()> {
        self.change("finish_image", |state| {
            state.images.insert(image, true);
            Ok(())
        })
        .await
    }
    async fn delete_image(&self, image: ImageId) -> PortResult<()> {
        self.change("delete_image", |state| {
            state.images.remove(&image);
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl BackupPort for World {
    async fn wait(self: Box<Self>, _limit: Duration, _told: Told) -> PortResult<()> {
        self.change("wait_backup", |state| {
            state.backup = false;
            Ok(())
        })
        .await
    }
}
