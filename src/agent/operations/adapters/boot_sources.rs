//! The image service over HTTP, and the images and ephemeral disks of this host.

use super::super::ports::{BootSourcePort, PortError, PortResult};
use super::chain;
use crate::bootsource::{BootSourceError, DiskMaker, ImageSource, Piece, SourceError};
use crate::model::{DiskBus, GuestUuid, Image, ImageId, LocalDisk, LocalDiskPlan};
use crate::openstack::{Chunk, ImageService};
use async_trait::async_trait;
use tokio::sync::mpsc;

/// [`BootSourcePort`] by a client of the image service and the maker of this host's disks.
pub struct HostBootSources {
    images: CloudImages,
    disks: DiskMaker,
}

impl HostBootSources {
    /// Puts the two together.
    pub const fn new(images: ImageService, disks: DiskMaker) -> Self {
        Self { images: CloudImages(images), disks }
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
}
