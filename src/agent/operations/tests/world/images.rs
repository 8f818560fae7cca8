//! Images and ephemeral disks of the simulated world.

use super::{World, image_id, not_found};
use crate::agent::operations::ports::{BootSourcePort, PortResult};
use crate::model::*;
use async_trait::async_trait;

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
            let path = std::path::PathBuf::from("/disks").join(&plan.target);
            Ok(LocalDisk { target: plan.target.clone(), bus, path, format: DiskFormat::Qcow2, base: None })
        })
        .await
    }
    async fn remove_disk(&self, guest: GuestUuid, target: &str) -> PortResult<()> {
        self.change("remove_disk", |state| {
            if state.guests.get(&guest).is_some_and(|guest| guest.active) || state.defined.contains(target) {
                state.crimes.push("a disk was removed under a guest".into());
            }
            state.files.remove(target);
            Ok(())
        })
        .await
    }
}
