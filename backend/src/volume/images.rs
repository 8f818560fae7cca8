//! Volumes made from images and images made from volumes, on the volume's host.
//!
//! The first volume from an image makes a volume that is nobody's beside it, and is cloned from that, as are all that follow: where
//! the storage shares blocks, the second costs nothing. What is kept goes when its image has gone, or when others were used since.

use std::future::Future;
use std::time::Duration;

use serde_json::Value;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::error::{VolumeError, chain};
use super::host::{Parts, stored};
use crate::domain::place::backend_of;
use crate::domain::volume::GIB;
use crate::domain::{Image, ImageStatus, NewMessage, Operation, Refusal, Volume, VolumeStatus};
use crate::drivers::{Stored, VolumeDriver};
use crate::image::{Format, OpenError, Progress, Unfit, export, open_as_raw};
use crate::operations::Next;
use crate::store::{CachedImage, Ending, StoreError};

/// Between notes of how far something is.
const NOTED_EVERY: Duration = Duration::from_secs(1);

/// The field's numbers for "an image could not be copied to a volume" and "a volume could not be copied to an image".
const EVENT_NOT_COPIED_IN: &str = "VOLUME_VOLUME_005_001";
const EVENT_NOT_COPIED_OUT: &str = "VOLUME_VOLUME_003_001";

impl Parts {
    /// Makes a volume from an image.
    pub(super) async fn make_from_image(
        &self,
        operation: &Operation,
        volume: &Volume,
        image_id: Uuid,
    ) -> Result<Option<Value>, VolumeError> {
        let image = self.store.image(image_id).await?;
        if image.status != ImageStatus::Active {
            let what = "made a volume from";
            return Err(StoreError::Refused(Refusal::ImageState { image_id, status: image.status, what }).into());
        }
        self.store.begin_download(volume.id).await?;
        let driver = self.driver(&volume.host)?;
        let backend = backend_of(&volume.host);
        let wanted = stored(volume);
        let progress = Progress::default();
        let made = async {
            if self.cached_images == 0 {
                let empty = Stored { provider: driver.create(&wanted).await?, ..wanted.clone() };
                return self.copy_image(driver.as_ref(), &empty, &image, &progress).await;
            }
            let kept = self.kept_image(driver.as_ref(), backend, &image, &progress).await?;
            let source = of_cache(&kept);
            if source.size_bytes > wanted.size_bytes {
                return Err(OpenError::from(Unfit::DiskTooLarge { bytes: source.size_bytes, most: wanted.size_bytes }).into());
            }
            Ok(driver.clone_volume(&wanted, &source).await?)
        };
        let provider = self.noting(operation, "downloading", &progress, made).await?;
        self.store.set_image_facts(volume.id, &image.volume_metadata()).await?;
        if let Err(error) = self.let_go_of_images(driver.as_ref(), backend).await {
            warn!(backend, "cannot let go of what is kept of images: {}", chain(&error));
        }
        Ok(provider)
    }

    /// The volume that is kept of an image, made where there is none.
    async fn kept_image(
        &self,
        driver: &dyn VolumeDriver,
        backend: &str,
        image: &Image,
        progress: &Progress,
    ) -> Result<CachedImage, VolumeError> {
        let volume_id = Uuid::new_v5(&image.id, backend.as_bytes());
        let _turn = self.locks.lock(volume_id).await;
        let found = self.store.cached_images(backend).await?.into_iter().find(|kept| kept.image_id == image.id);
        let kept = match found {
            Some(kept) => kept,
            None => {
                let size_gib = image.virtual_bytes.unwrap_or(0).div_ceil(GIB).max(1);
                let mut kept = CachedImage { image_id: image.id, volume_id, size_gib, provider: None, is_current: true };
                // What a try before left is of no use: nobody knows how far it came.
                driver.delete(&of_cache(&kept)).await?;
                kept.provider = driver.create(&of_cache(&kept)).await?;
                if let Err(error) = self.copy_image(driver, &of_cache(&kept), image, progress).await {
                    if let Err(left) = driver.delete(&of_cache(&kept)).await {
                        warn!(image = %image.id, backend, "cannot remove what was read of it: {}", chain(&left));
                    }
                    return Err(error);
                }
                info!(image = %image.id, backend, "kept for the next volume from it");
                kept
            }
        };
        self.store.keep_cached_image(backend, &kept).await?;
        Ok(kept)
    }

    async fn copy_image(
        &self,
        driver: &dyn VolumeDriver,
        to: &Stored,
        image: &Image,
        progress: &Progress,
    ) -> Result<Option<Value>, VolumeError> {
        let (bytes, pieces) = open_as_raw(&self.images, image, to.id, progress).await?;
        if bytes > to.size_bytes {
            return Err(OpenError::from(Unfit::DiskTooLarge { bytes, most: to.size_bytes }).into());
        }
        driver.copy_in(to, pieces).await?;
        Ok(to.provider.clone())
    }

    /// Removes what is kept of images that are gone, and of those unused for longest where there are too many.
    async fn let_go_of_images(&self, driver: &dyn VolumeDriver, backend: &str) -> Result<(), VolumeError> {
        let kept = self.store.cached_images(backend).await?;
        let surplus = kept.len().saturating_sub(usize::try_from(self.cached_images).unwrap_or(usize::MAX));
        for (place, one) in kept.iter().enumerate() {
            if one.is_current && place >= surplus {
                continue;
            }
            let _turn = self.locks.lock(one.volume_id).await;
            driver.delete(&of_cache(one)).await?;
            self.store.forget_cached_image(backend, one.image_id).await?;
            info!(image = %one.image_id, backend, "not kept any more");
        }
        Ok(())
    }

    /// Ends the making of a volume whose image is of no use; its owner is told why.
    pub(super) async fn end_without_image(&self, operation: &Operation, why: &VolumeError) -> Result<Next, VolumeError> {
        let cause = chain(why);
        error!(volume = %operation.object_id, "{cause}");
        let message = message(operation, EVENT_NOT_COPIED_IN, format!("copy image to volume:{cause}"));
        let from = self.store.volume(operation.object_id).await?.status;
        self.store.end_volume_work(operation, from, VolumeStatus::Error, Ending::failed(cause).telling(message)).await?;
        Ok(Next::Ended)
    }

    /// Reads a volume into an image that is recorded already.
    pub(super) async fn upload_volume(&self, operation: &Operation) -> Result<Next, VolumeError> {
        let id = operation.object_id;
        let _turn = self.locks.lock(id).await;
        let Some(volume) = self.in_status(operation, VolumeStatus::Uploading).await? else { return Ok(Next::Ended) };
        let image_id = operation.request.get("image_id").and_then(Value::as_str).and_then(|id| Uuid::parse_str(id).ok());
        let image_id = image_id.unwrap_or_default();
        let ending = match self.upload(operation, &volume, image_id).await {
            Ok(()) => {
                info!(volume = %id, image = %image_id, "made an image of it");
                Ending::done()
            }
            Err(VolumeError::Store(error @ StoreError::Query { .. })) => return Err(error.into()),
            Err(error) => {
                let cause = chain(&error);
                error!(volume = %id, image = %image_id, "{cause}");
                self.store.abort_image_upload(image_id).await?;
                let message = message(operation, EVENT_NOT_COPIED_OUT, format!("copy volume to image:{cause}"));
                Ending::failed(cause).telling(message)
            }
        };
        self.store.end_volume_work(operation, VolumeStatus::Uploading, VolumeStatus::Available, ending).await?;
        Ok(Next::Ended)
    }

    async fn upload(&self, operation: &Operation, volume: &Volume, image_id: Uuid) -> Result<(), VolumeError> {
        let image = self.store.image(image_id).await?;
        if image.status == ImageStatus::Active {
            // A life before came as far as that.
            return Ok(());
        }
        let name = image.disk_format.unwrap_or_default();
        let format = Format::parse(&name).ok_or_else(|| OpenError::from(Unfit::FormatUnknown(name)))?;
        let driver = self.driver(&volume.host)?;
        let progress = Progress::default();
        let size_bytes = volume.size_bytes().unwrap_or(0);
        let pieces = driver.copy_out(&stored(volume));
        let work = async { Ok(export(&self.images, image_id, format, size_bytes, pieces, &progress).await?) };
        let facts = self.noting(operation, "uploading", &progress, work).await?;
        if !self.store.end_image_upload(image_id, &facts).await? {
            // It was deleted meanwhile.
            self.images.remove(image_id).map_err(OpenError::from)?;
        }
        Ok(())
    }

    /// Does work, and notes how far it is meanwhile.
    pub(super) async fn noting<T>(
        &self,
        operation: &Operation,
        step: &str,
        progress: &Progress,
        work: impl Future<Output = Result<T, VolumeError>>,
    ) -> Result<T, VolumeError> {
        // Both go on side by side: a note waits for the one connection that writes, which the work may be holding.
        let notes = async {
            let mut ticks = tokio::time::interval(NOTED_EVERY);
            loop {
                ticks.tick().await;
                if let Err(error) = self.store.record_step(operation.id, step, progress.percent()).await {
                    return error;
                }
            }
        };
        tokio::select! {
            done = work => done,
            error = notes => Err(error.into()),
        }
    }
}

/// A kept volume as its storage knows it.
fn of_cache(kept: &CachedImage) -> Stored {
    Stored { id: kept.volume_id, size_bytes: kept.size_gib.saturating_mul(GIB), in_use: false, provider: kept.provider.clone() }
}

fn message(operation: &Operation, event_id: &str, user_message: String) -> NewMessage {
    NewMessage {
        resource_type: "VOLUME",
        resource_id: operation.object_id,
        event_id: event_id.into(),
        user_message,
        why_not: None,
    }
}
