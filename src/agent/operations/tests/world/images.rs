//! Images, ephemeral disks and what is caught of them, of the simulated world.

use super::{World, hypervisor::is_rescue, image_id, not_found};
use crate::agent::operations::ports::{BackupPort, BootSourcePort, FetchPort, Fetched, GuestFacts, PortResult, Told};
use crate::model::*;
use async_trait::async_trait;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

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
            min_ram_mib: 64,
            virtual_bytes: None,
            digest: Some(digest),
            mapping: None,
            is_mapping_v2: false,
            root_device_name: None,
            disk_bus: None,
        })
    }
    fn makes_files(&self) -> bool {
        true
    }
    async fn make_disk(&self, plan: &LocalDiskPlan, bus: DiskBus, told: Told) -> PortResult<LocalDisk> {
        told(1, 4);
        self.change("make_disk", |state| {
            state.files.insert(plan.target.clone());
            if state.started_meanwhile {
                state.guests.get_mut(&plan.guest).ok_or_else(|| not_found("guest"))?.active = true;
            }
            let path = PathBuf::from("/disks").join(&plan.target);
            let (target, place, format) = (plan.target.clone(), LocalPlace::File, DiskFormat::Qcow2);
            Ok(LocalDisk { target, bus, path, place, format, base: None, lazy: None })
        })
        .await
    }
    async fn make_lazy_disk(&self, plan: &LocalDiskPlan, bus: DiskBus) -> PortResult<LocalDisk> {
        let made = self.make_disk(plan, bus, std::sync::Arc::new(|_, _| ())).await?;
        let LocalContent::Image { image, .. } = &plan.content else { return Ok(made) };
        self.state.lock().unwrap().coming.insert(plan.target.clone());
        let lazy = LazyBase {
            image: image.clone(),
            socket: PathBuf::from("/sockets").join(&plan.target),
            is_damaged: false,
            is_given_up: false,
        };
        Ok(LocalDisk { lazy: Some(lazy), ..made })
    }
    async fn serve_disk(&self, _guest: GuestUuid, _disk: &LocalDisk) -> PortResult<()> {
        Ok(())
    }
    async fn check_seen(&self, _disk: &LocalDisk) -> PortResult<()> {
        Ok(())
    }
    async fn disk_key(&self, disk: &LocalDisk) -> PortResult<Option<(uuid::Uuid, Secret)>> {
        Ok(disk.place.secret().map(|secret| (secret, Secret::new("a2V5"))))
    }
    async fn examine_pool(&self) -> Option<PortResult<()>> {
        None
    }
    async fn fetching(&self, _guest: GuestUuid, disk: &LocalDisk) -> PortResult<Box<dyn FetchPort>> {
        self.change("fetching", |_| Ok(())).await?;
        Ok(Box::new(Coming(self.clone(), disk.name().to_owned())))
    }
    async fn rebase_disk(&self, guest: GuestUuid, disk: &LocalDisk) -> PortResult<LocalDisk> {
        self.change("rebase_disk", |state| {
            if state.guests.get(&guest).is_some_and(|guest| guest.active) {
                state.crimes.push("a disk was put over another file under a guest".into());
            }
            state.coming.remove(disk.name());
            Ok(LocalDisk { lazy: None, ..disk.clone() })
        })
        .await
    }
    async fn release_disk(&self, _guest: GuestUuid, disk: &LocalDisk) -> PortResult<()> {
        self.change("release_disk", |state| {
            if state.coming.contains(disk.name()) {
                state.crimes.push("an image was let go of that a disk needs".into());
            }
            Ok(())
        })
        .await
    }
    async fn remove_old_images(&self) -> PortResult<()> {
        Ok(())
    }
    async fn remove_disk(&self, guest: GuestUuid, target: &str, _made: Option<&LocalDisk>) -> PortResult<()> {
        self.change("remove_disk", |state| {
            // A rescue disk goes when the guest runs from its own.
            let uses = |guest: &GuestFacts| match target {
                "rescue" => guest.disks.iter().any(is_rescue),
                _ => guest.active && !state.started_meanwhile,
            };
            if state.guests.get(&guest).is_some_and(uses) || state.defined.contains(target) {
                state.crimes.push("a disk was removed under a guest".into());
            }
            state.files.remove(target);
            state.coming.remove(target);
            Ok(())
        })
        .await
    }
    async fn room(&self) -> PortResult<FolderRoom> {
        Ok(FolderRoom { folder: "/images".into(), free_bytes: 1 << 40, cached_bytes: 0, limit_bytes: 1 << 30 })
    }
    async fn group_room(&self) -> PortResult<Option<GroupRoom>> {
        Ok(None)
    }
    async fn stored(&self, _known: &[LocalDisk]) -> Vec<PortResult<Vec<Stored>>> {
        vec![Ok(self.state.lock().unwrap().stored.clone())]
    }
    async fn missing(&self, disk: &LocalDisk) -> PortResult<Option<PathBuf>> {
        let is_there = self.state.lock().unwrap().files.contains(disk.name());
        Ok((!is_there).then(|| disk.path.clone()))
    }
    async fn remove_stored(&self, stored: &Stored) -> PortResult<()> {
        self.change("remove_stored", |state| {
            state.stored.retain(|there| there != stored);
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

/// The news of the image of a disk.
struct Coming(World, String);

#[async_trait]
impl FetchPort for Coming {
    async fn next(&mut self) -> Fetched {
        let state = self.0.state.lock().unwrap();
        match state.files.contains(&self.1) {
            true if state.damages => Fetched::Damaged { problem: "its digest is another".into() },
            true => Fetched::Whole,
            false => Fetched::Gone,
        }
    }
}
