//! The image service over HTTP, and the images and ephemeral disks of this host.

use super::super::ports::{BootSourcePort, PortError, PortResult, Told};
use super::chain;
use crate::bootsource::{BootSourceError, Captures, DiskMaker, ImageSource, Piece, SourceError};
use crate::model::{DiskBus, GuestUuid, Image, ImageId, LocalDisk, LocalDiskPlan, NewImage};
use crate::openstack::{Chunk, ImageService};
use async_trait::async_trait;
use std::{path::PathBuf, sync::Arc};
use tokio::sync::mpsc;

/// [`BootSourcePort`] by a client of the image service, the maker of this host's disks, and the folder of what is caught of them.
pub struct HostBootSources {
    images: CloudImages,
    disks: DiskMaker,
    captures: Captures,
}

impl HostBootSources {
    /// Puts them together.
    pub const fn new(images: ImageService, disks: DiskMaker, captures: Captures) -> Self {
        Self { images: CloudImages(images), disks, captures }
    }
}

/// [`ImageSource`] by a client of the image service.
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

    async fn make_disk(&self, plan: &LocalDiskPlan, bus: DiskBus) -> PortResult<LocalDisk> {
        Ok(self.disks.make(plan, bus, &self.images).await?)
    }

    async fn remove_disk(&self, guest: GuestUuid, target: &str) -> PortResult<()> {
        Ok(self.disks.remove(guest, target).await?)
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
