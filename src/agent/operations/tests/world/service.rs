//! The volume service of the simulated world.

use super::{State, World, not_found};
use crate::agent::operations::ports::{PortError, PortResult, ServiceFacts, VolumeServicePort};
use crate::model::*;
use async_trait::async_trait;
use std::time::Duration;
use uuid::Uuid;

fn connection(volume: VolumeId, lun: u64) -> ConnectionInfo {
    ConnectionInfo::Iscsi(IscsiConnection {
        paths: vec![IscsiPath { portal: "127.0.0.1:3260".parse().unwrap(), iqn: "iqn.2010-10.org.openstack:v".into(), lun }],
        discovery: None,
        chap: Some(ChapCredentials { username: "u".into(), password: Secret::new("p") }),
        read_only: false,
        discard: false,
        encrypted: false,
        serial: Some(volume.to_string()),
    })
}

impl State {
    /// The lowest number that is free, where the volume has none yet.
    fn lun(&mut self, volume: VolumeId) -> u64 {
        let known = self.luns.iter().find_map(|(lun, other)| (*other == volume).then_some(*lun));
        let lun = known.or_else(|| (1..).find(|lun| !self.luns.contains_key(lun))).unwrap();
        self.luns.insert(lun, volume);
        lun
    }

    fn attachment(&mut self, id: AttachmentId) -> PortResult<Attachment> {
        let (volume, guest, status) = *self.attachments.get(&id).ok_or_else(|| not_found("attachment"))?;
        let connection = (status != AttachmentStatus::Reserved).then(|| connection(volume, self.lun(volume)));
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
                multiattach: false,
                ..state.volumes.values().next().cloned().ok_or_else(|| not_found("volume"))?
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
    async fn volume_to_reimage(&self, id: VolumeId) -> PortResult<Volume> {
        if self.state.lock().unwrap().cannot_reimage {
            return Err(PortError::new(ErrorKind::Unsupported, "version 3.68 is not supported"));
        }
        VolumeServicePort::volume(self, id).await
    }
    async fn reimage_volume(&self, id: VolumeId, image: ImageId) -> PortResult<()> {
        self.change("reimage_volume", |state| {
            if state.guests.values().any(|guest| guest.disk(id).is_some()) || state.connected.contains(&id) {
                state.crimes.push("an image was written over a volume that somebody has".into());
            }
            let attachments: Vec<_> = state.attachments.values().filter(|entry| entry.0 == id).collect();
            let reserved = matches!(attachments.as_slice(), [one] if one.2 == AttachmentStatus::Reserved);
            if !reserved || state.refuses_images {
                return Err(PortError::new(ErrorKind::Conflict, "an image cannot be written over it"));
            }
            state.written.push((id, image));
            if state.spoils > 0 {
                state.spoils -= 1;
                state.volumes.get_mut(&id).ok_or_else(|| not_found("volume"))?.status = "error".into();
            } else {
                state.settle(id);
            }
            Ok(())
        })
        .await
    }
    async fn wait_reimaged(&self, id: VolumeId, _deadline: Duration) -> PortResult<()> {
        match VolumeServicePort::volume(self, id).await?.status.as_str() {
            "error" => Err(PortError::new(ErrorKind::Internal, "the image could not be written")),
            _ => Ok(()),
        }
    }
    async fn delete_volume(&self, id: VolumeId) -> PortResult<()> {
        self.change("delete_volume", |state| {
            if state.snapshots.values().any(|(volume, _)| *volume == id) {
                return Err(PortError::new(ErrorKind::Conflict, "the volume has snapshots"));
            }
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
            let own = state.attachments.values().any(|entry| entry.0 == volume && entry.1 == guest);
            if found.status != "available" && !found.multiattach && !own {
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
        let mut state = self.state.lock().unwrap();
        state.questions += 1;
        state.attachment(id)
    }
    async fn attachments(&self, volume: VolumeId) -> PortResult<Vec<AttachmentSummary>> {
        let state = self.state.lock().unwrap();
        let of_volume = state.attachments.iter().filter(|(_, entry)| entry.0 == volume);
        Ok(of_volume
            .map(|(id, (volume, guest, status))| AttachmentSummary {
                id: *id,
                volume: *volume,
                guest: Some(*guest),
                status: *status,
            })
            .collect())
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
            let Some((volume, guest, status)) = state.attachments.remove(&id) else { return Ok(()) };
            // What only reserves the volume is in nobody's way.
            if status != AttachmentStatus::Reserved
                && state.guests.get(&guest).is_some_and(|guest| guest.disk(volume).is_some())
            {
                state.crimes.push("an attachment was deleted while the guest had the disk".into());
            }
            let last = state.attachments.values().all(|entry| entry.0 != volume || entry.2 == AttachmentStatus::Reserved);
            if last && state.connected.contains(&volume) {
                state.crimes.push("an attachment was deleted while the host was connected".into());
            }
            if last {
                state.luns.retain(|_, other| *other != volume);
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
