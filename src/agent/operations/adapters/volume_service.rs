//! The volume service over HTTP.

use super::super::ports::{PortError, PortResult, ServiceFacts, VolumeServicePort};
use super::chain;
use crate::model::{
    Attachment, AttachmentId, AttachmentSummary, ConnectorProperties, GuestUuid, ImageId, NewVolume, Secret, SnapshotId,
    Volume, VolumeEncryption, VolumeId, VolumeSnapshot,
};
use crate::openstack::{KeyManager, OpenstackError, VolumeService};
use async_trait::async_trait;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// [`VolumeServicePort`] by a client of the Cinder API, and one of the key manager that has its volumes' keys.
pub struct CloudVolumes(pub VolumeService, pub KeyManager);

impl From<OpenstackError> for PortError {
    fn from(error: OpenstackError) -> Self {
        Self { kind: error.kind(), message: chain(&error), outcome_unknown: error.outcome_unknown() }
    }
}

#[async_trait]
impl VolumeServicePort for CloudVolumes {
    async fn volume(&self, id: VolumeId) -> PortResult<Volume> {
        Ok(self.0.volume(id).await?)
    }

    async fn find_volume(&self, name_or_id: &str) -> PortResult<Volume> {
        Ok(self.0.find_volume(name_or_id).await?)
    }

    async fn find_snapshot(&self, name_or_id: &str) -> PortResult<VolumeSnapshot> {
        Ok(self.0.find_snapshot(name_or_id).await?)
    }

    async fn volumes(&self) -> PortResult<Vec<Volume>> {
        Ok(self.0.volumes().await?)
    }

    async fn create_volume(&self, volume: &NewVolume) -> PortResult<Volume> {
        Ok(self.0.create_volume(volume).await?)
    }

    async fn wait_available(&self, id: VolumeId, deadline: Duration) -> PortResult<Volume> {
        Ok(self.0.wait_volume_status(id, "available", Instant::now() + deadline).await?)
    }

    async fn extend_volume(&self, id: VolumeId, size_gib: u64) -> PortResult<()> {
        Ok(self.0.extend_volume(id, size_gib).await?)
    }

    async fn wait_extended(&self, id: VolumeId, deadline: Duration) -> PortResult<Volume> {
        Ok(self.0.wait_volume_extended(id, Instant::now() + deadline).await?)
    }

    async fn volume_to_reimage(&self, id: VolumeId) -> PortResult<Volume> {
        Ok(self.0.volume_to_reimage(id).await?)
    }

    async fn reimage_volume(&self, id: VolumeId, image: ImageId) -> PortResult<()> {
        Ok(self.0.reimage_volume(id, image).await?)
    }

    async fn wait_reimaged(&self, id: VolumeId, deadline: Duration) -> PortResult<()> {
        Ok(self.0.wait_volume_reimaged(id, Instant::now() + deadline).await?)
    }

    async fn delete_volume(&self, id: VolumeId) -> PortResult<()> {
        Ok(self.0.delete_volume(id).await?)
    }

    async fn wait_gone(&self, id: VolumeId, deadline: Duration) -> PortResult<()> {
        Ok(self.0.wait_volume_gone(id, Instant::now() + deadline).await?)
    }

    async fn create_attachment(&self, volume: VolumeId, guest: GuestUuid, read_only: bool) -> PortResult<Attachment> {
        Ok(self.0.create_attachment(volume, guest, read_only).await?)
    }

    async fn update_attachment(&self, id: AttachmentId, connector: &ConnectorProperties) -> PortResult<Attachment> {
        Ok(self.0.update_attachment(id, connector).await?)
    }

    async fn attachment(&self, id: AttachmentId) -> PortResult<Attachment> {
        Ok(self.0.attachment(id).await?)
    }

    async fn attachments(&self, volume: VolumeId) -> PortResult<Vec<AttachmentSummary>> {
        Ok(self.0.attachments(Some(volume)).await?)
    }

    async fn complete_attachment(&self, id: AttachmentId) -> PortResult<()> {
        Ok(self.0.complete_attachment(id).await?)
    }

    async fn delete_attachment(&self, id: AttachmentId) -> PortResult<()> {
        self.0.delete_attachment(id).await?;
        Ok(())
    }

    async fn encryption(&self, volume: VolumeId) -> PortResult<Option<VolumeEncryption>> {
        Ok(self.0.encryption(volume).await?)
    }

    async fn passphrase(&self, key: Uuid) -> PortResult<Secret> {
        Ok(self.1.passphrase(key).await?)
    }

    async fn snapshots(&self) -> PortResult<Vec<VolumeSnapshot>> {
        Ok(self.0.snapshots().await?)
    }

    async fn create_snapshot(&self, volume: VolumeId, name: &str) -> PortResult<VolumeSnapshot> {
        Ok(self.0.create_snapshot(volume, name).await?)
    }

    async fn wait_snapshot_available(&self, id: SnapshotId, deadline: Duration) -> PortResult<()> {
        Ok(self.0.wait_snapshot_available(id, Instant::now() + deadline).await?)
    }

    async fn delete_snapshot(&self, id: SnapshotId, deadline: Duration) -> PortResult<()> {
        Ok(self.0.delete_snapshot(id, Instant::now() + deadline).await?)
    }

    async fn examine(&self) -> PortResult<ServiceFacts> {
        let facts = self.0.examine().await?;
        Ok(ServiceFacts {
            skew_s: facts.skew_s,
            service_roles: facts.service_roles,
            has_service_user: facts.has_service_user,
            has_keystone: facts.has_keystone,
        })
    }
}
