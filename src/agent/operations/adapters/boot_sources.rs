//! The image service over HTTP, and the images and ephemeral disks of this host.

use super::super::ports::{BootSourcePort, FetchPort, Fetched, PortError, PortResult, Told};
use super::chain;
use crate::bootsource::{
    BootSourceError, Captures, DiskMaker, Fetching, ImageSource, LazyDisks, Piece, Progress, SourceError, Streaming,
};
use crate::model::{
    DiskBus, ErrorKind, FolderRoom, GroupRoom, GuestUuid, Image, ImageId, LocalDisk, LocalDiskPlan, LocalPlace, NewImage,
    Secret, Stored,
};
use crate::openstack::{Chunk, ImageService};
use async_trait::async_trait;
use nix::unistd::gethostname;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::mpsc;
use uuid::Uuid;

/// [`BootSourcePort`] by a client of the image service, the maker of this host's disks, and the folder of what is caught of them.
pub struct HostBootSources {
    images: CloudImages,
    lazy: LazyDisks,
    captures: Captures,
}

impl HostBootSources {
    /// Puts them together. `run_dir`: for the sockets of images that come while guests run on them; `stall_limit`: how long a guest's
    /// read waits while nothing comes.
    pub fn new(images: ImageService, disks: DiskMaker, captures: Captures, run_dir: &Path, stall_limit: Duration) -> Self {
        let images = CloudImages(images);
        let lazy = LazyDisks::new(Arc::new(disks), Arc::new(images.clone()), run_dir.join("lazy"), stall_limit);
        Self { images, lazy, captures }
    }
}

/// [`ImageSource`] by a client of the image service.
#[derive(Clone)]
struct CloudImages(ImageService);

#[async_trait]
impl ImageSource for CloudImages {
    async fn fetch(&self, image: ImageId, from: u64, into: mpsc::Sender<Piece>) -> Result<(), SourceError> {
        let fetched = self.0.fetch(image, from, |chunk| {
            let into = into.clone();
            async move {
                let piece = match chunk {
                    Chunk::From(offset) => Piece::From(offset),
                    Chunk::Bytes(bytes) => Piece::Bytes(bytes),
                };
                into.send(piece).await.is_ok()
            }
        });
        fetched.await.map_err(|error| SourceError { kind: error.kind(), message: chain(&error) })
    }
}

impl From<BootSourceError> for PortError {
    fn from(error: BootSourceError) -> Self {
        // What is made is made anew by the next try, and what is removed stays away.
        Self::new(error.kind(), chain(&error))
    }
}

#[async_trait]
impl BootSourcePort for HostBootSources {
    async fn find_image(&self, name_or_id: &str) -> PortResult<Image> {
        Ok(self.images.0.find_image(name_or_id).await?)
    }

    fn makes_files(&self) -> bool {
        self.lazy.makes_files()
    }

    async fn make_disk(&self, plan: &LocalDiskPlan, bus: DiskBus, told: Told) -> PortResult<LocalDisk> {
        Ok(self.lazy.make_filled(plan, bus, &*told).await?)
    }

    async fn make_lazy_disk(&self, plan: &LocalDiskPlan, bus: DiskBus) -> PortResult<LocalDisk> {
        Ok(self.lazy.make(plan, bus).await?)
    }

    async fn serve_disk(&self, guest: GuestUuid, disk: &LocalDisk) -> PortResult<()> {
        Ok(self.lazy.serve(guest, disk).await?)
    }

    async fn check_seen(&self, disk: &LocalDisk) -> PortResult<()> {
        match &disk.place {
            LocalPlace::Rbd(_) => return Ok(self.lazy.maker().check_pooled(disk).await?),
            LocalPlace::LogicalVolume if !disk.path.exists() => {}
            LocalPlace::File | LocalPlace::LogicalVolume => return Ok(()),
        }
        let path = disk.path.display();
        let message =
            format!("logical volume {path} is not active: `vgchange --activate y` makes its group so, if its disks are there");
        Err(PortError::new(ErrorKind::Unavailable, message))
    }

    async fn disk_key(&self, disk: &LocalDisk) -> PortResult<Option<(Uuid, Secret)>> {
        Ok(self.lazy.maker().key_of(disk)?)
    }

    async fn examine_pool(&self) -> Option<PortResult<()>> {
        let host = gethostname().unwrap_or_default().to_string_lossy().into_owned();
        Some(self.lazy.maker().examine_pool(&host).await?.map_err(PortError::from))
    }

    async fn fetching(&self, guest: GuestUuid, disk: &LocalDisk) -> PortResult<Box<dyn FetchPort>> {
        Ok(Box::new(self.lazy.fetching(guest, disk).await?))
    }

    async fn rebase_disk(&self, guest: GuestUuid, disk: &LocalDisk) -> PortResult<LocalDisk> {
        Ok(self.lazy.rebase(guest, disk).await?)
    }

    async fn release_disk(&self, guest: GuestUuid, disk: &LocalDisk) -> PortResult<()> {
        Ok(self.lazy.release(guest, disk).await?)
    }

    async fn remove_old_images(&self) -> PortResult<()> {
        Ok(self.lazy.remove_old_images().await?)
    }

    async fn remove_disk(&self, guest: GuestUuid, name: &str, made: Option<&LocalDisk>) -> PortResult<()> {
        Ok(self.lazy.remove(guest, name, made).await?)
    }

    async fn room(&self) -> PortResult<FolderRoom> {
        Ok(self.lazy.maker().room().await?)
    }

    async fn group_room(&self) -> PortResult<Option<GroupRoom>> {
        Ok(self.lazy.maker().group_room().await?)
    }

    async fn stored(&self, known: &[LocalDisk]) -> Vec<PortResult<Vec<Stored>>> {
        self.lazy.maker().stored(known).await.into_iter().map(|found| Ok(found?)).collect()
    }

    async fn missing(&self, disk: &LocalDisk) -> PortResult<Option<PathBuf>> {
        Ok(self.lazy.maker().missing(disk).await?)
    }

    async fn remove_stored(&self, stored: &Stored) -> PortResult<()> {
        Ok(self.lazy.maker().remove_stored(stored).await?)
    }

    fn capture_path(&self, image: ImageId) -> PathBuf {
        self.captures.path(image)
    }

    async fn clear_capture(&self, image: ImageId) -> PortResult<PathBuf> {
        Ok(self.captures.clear(image).await?)
    }

    async fn capture_stopped(&self, disk: &LocalDisk, image: ImageId) -> PortResult<()> {
        Ok(self.captures.of_stopped(disk, image).await?)
    }

    async fn captured_gib(&self, image: ImageId) -> PortResult<u64> {
        Ok(self.captures.size_gib(image).await?)
    }

    async fn remove_capture(&self, image: ImageId) -> PortResult<()> {
        Ok(self.captures.remove(image).await?)
    }

    async fn create_image(&self, image: &NewImage) -> PortResult<()> {
        Ok(self.images.0.create_image(image).await?)
    }

    async fn upload_capture(&self, image: ImageId, told: Told) -> PortResult<()> {
        Ok(self.images.0.upload_image(image, Some(&self.captures.path(image)), told).await?)
    }

    async fn finish_image(&self, image: ImageId) -> PortResult<()> {
        Ok(self.images.0.upload_image(image, None, Arc::new(|_, _| ())).await?)
    }

    async fn delete_image(&self, image: ImageId) -> PortResult<()> {
        Ok(self.images.0.delete_image(image).await?)
    }
}

#[async_trait]
impl FetchPort for Fetching {
    async fn next(&mut self) -> Fetched {
        let Some(Progress { state, here_bytes, size_bytes }) = Self::next(self).await else {
            return Fetched::Gone;
        };
        match state {
            Streaming::Coming => Fetched::Coming { done: here_bytes, total: size_bytes },
            Streaming::Lost(error) => Fetched::Lost { kind: error.kind, problem: error.message },
            Streaming::Whole => Fetched::Whole,
            Streaming::Damaged(error) => Fetched::Damaged { problem: chain(&*error) },
        }
    }
}
