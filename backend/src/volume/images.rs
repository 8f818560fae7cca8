//! Volumes made from images, images made from volumes and written over them, on the volume's host.
//!
//! The first volume from an image makes a volume that is nobody's beside it, and is cloned from that, as are all that follow: where
//! the storage shares blocks, the second costs nothing. What is kept goes when its image has gone, or when others were used since.

use std::future::Future;
use std::io;
use std::time::Duration;

use futures_util::stream::BoxStream;
use serde_json::Value;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::error::{VolumeError, chain};
use super::host::{Parts, stored};
use crate::backup;
use crate::domain::place::backend_of;
use crate::domain::volume::GIB;
use crate::domain::{Image, ImageStatus, NewMessage, Operation, Refusal, Volume, VolumeStatus};
use crate::drivers::{Chunk, Stored, VolumeDriver};
use crate::image::{ExportError, Format, GlanceError, OpenError, Progress, Unfit, export, open_as_raw};
use crate::luks::HEADER_BYTES;
use crate::operations::Next;
use crate::store::{CachedImage, Ending, StoreError};

/// Between notes of how far something is.
const NOTED_EVERY: Duration = Duration::from_secs(1);

/// Before each try to tell Nova.
const NOVA_TRIED_AFTER: [Duration; 3] = [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(10)];

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
        let image = self.active_image(image_id).await?;
        self.store.begin_download(volume.id).await?;
        let driver = self.driver(&volume.host)?;
        let backend = backend_of(&volume.host);
        let wanted = stored(volume);
        let progress = Progress::default();
        let made = async {
            if let Some(container) = self.container(volume).await? {
                let (bytes, pieces) = self.open_image(&image, wanted.id, &progress).await?;
                fits(bytes.saturating_add(HEADER_BYTES), &wanted)?;
                return self.fill(&wanted, driver.as_ref(), container.around(pieces, bytes)).await;
            }
            if self.cached_images == 0 {
                let (bytes, pieces) = self.open_image(&image, wanted.id, &progress).await?;
                fits(bytes, &wanted)?;
                return self.fill(&wanted, driver.as_ref(), pieces).await;
            }
            let source = of_cache(&self.kept_image(driver.as_ref(), backend, &image, &wanted, &progress).await?);
            fits(source.size_bytes, &wanted)?;
            Ok(driver.clone_volume(&wanted, &source).await?)
        };
        let provider = self.noting(operation, "downloading", &progress, made).await?;
        self.store.set_image_facts(volume.id, &image.volume_metadata()).await?;
        if let Err(error) = self.let_go_of_images(driver.as_ref(), backend).await {
            warn!(backend, "cannot let go of what is kept of images: {}", chain(&error));
        }
        Ok(provider)
    }

    /// Makes a volume and writes these pieces into it.
    pub(super) async fn fill(
        &self,
        wanted: &Stored,
        driver: &dyn VolumeDriver,
        pieces: BoxStream<'_, Result<Chunk, io::Error>>,
    ) -> Result<Option<Value>, VolumeError> {
        let empty = Stored { provider: driver.create(wanted).await?, ..wanted.clone() };
        driver.copy_in(&empty, pieces).await?;
        Ok(empty.provider)
    }

    /// The volume that is kept of an image, made where there is none.
    async fn kept_image(
        &self,
        driver: &dyn VolumeDriver,
        backend: &str,
        image: &Image,
        wanted: &Stored,
        progress: &Progress,
    ) -> Result<CachedImage, VolumeError> {
        let volume_id = Uuid::new_v5(&image.id, backend.as_bytes());
        let _turn = self.locks.lock(volume_id).await;
        let found = self.store.cached_images(backend).await?.into_iter().find(|kept| kept.image_id == image.id);
        let kept = match found {
            Some(kept) => kept,
            None => {
                let (bytes, pieces) = self.open_image(image, volume_id, progress).await?;
                // Nothing is kept of what the first that wants it has no room for.
                fits(bytes, wanted)?;
                let size_gib = bytes.div_ceil(GIB).max(1);
                let mut kept = CachedImage { image_id: image.id, volume_id, size_gib, provider: None, is_current: true };
                // What a try before left is of no use: nobody knows how far it came.
                driver.delete(&of_cache(&kept)).await?;
                kept.provider = driver.create(&of_cache(&kept)).await?;
                if let Err(error) = driver.copy_in(&of_cache(&kept), pieces).await {
                    if let Err(left) = driver.delete(&of_cache(&kept)).await {
                        warn!(image = %image.id, backend, "cannot remove what was read of it: {}", chain(&left));
                    }
                    return Err(error.into());
                }
                info!(image = %image.id, backend, "kept for the next volume from it");
                kept
            }
        };
        self.store.keep_cached_image(backend, &kept).await?;
        Ok(kept)
    }

    /// An image whose bytes are there.
    async fn active_image(&self, image_id: Uuid) -> Result<Image, VolumeError> {
        let image = self.image(image_id).await?;
        if image.status != ImageStatus::Active {
            let what = "made a volume from";
            return Err(StoreError::Refused(Refusal::ImageState { image_id, status: image.status, what }).into());
        }
        Ok(image)
    }

    /// Writes an image over what a volume has.
    pub(super) async fn reimage_volume(&self, operation: &Operation) -> Result<Next, VolumeError> {
        if operation.is_written() {
            // A life before came as far as that, and nobody knows whether it told.
            return self.end_reimage(operation, Ending::done()).await;
        }
        let id = operation.object_id;
        let turn = self.locks.lock(id).await;
        let Some(volume) = self.in_status(operation, VolumeStatus::Downloading).await? else { return Ok(Next::Ended) };
        let done = tokio::select! {
            done = self.reimage(operation, &volume) => done,
            () = self.is_stopping() => return self.leave(operation).await,
        };
        match done {
            Ok(()) => {
                info!(volume = %id, "an image is written over it");
                // First its status: who is told connects it at once.
                let written = self.store.record_written(operation).await?;
                drop(turn);
                self.end_reimage(&written, Ending::done()).await
            }
            Err(VolumeError::Store(error @ StoreError::Query { .. })) => Err(error.into()),
            Err(error) => {
                let cause = chain(&error);
                error!(volume = %id, "{cause}");
                let message = message(operation, EVENT_NOT_COPIED_IN, format!("reimage volume:{cause}"));
                self.end_reimage(operation, Ending::failed(cause).telling(message)).await
            }
        }
    }

    /// Tells of it before the operation ends, so that a life that was cut off does it again.
    async fn end_reimage(&self, operation: &Operation, ending: Ending) -> Result<Next, VolumeError> {
        tokio::select! {
            () = self.tell_of_reimage(operation.object_id, ending.cause.is_some()) => {}
            () = self.is_stopping() => return self.leave(operation).await,
        }
        self.store.end_reimage(operation, ending).await?;
        Ok(Next::Ended)
    }

    async fn reimage(&self, operation: &Operation, volume: &Volume) -> Result<(), VolumeError> {
        let image = self.active_image(operation.id_in("image_id").unwrap_or_default()).await?;
        let driver = self.driver(&volume.host)?;
        let to = Stored { in_use: false, ..stored(volume) };
        let progress = Progress::default();
        let written = async {
            let (bytes, mut pieces) = self.open_image(&image, to.id, &progress).await?;
            match self.container(volume).await? {
                Some(container) => {
                    fits(bytes.saturating_add(HEADER_BYTES), &to)?;
                    pieces = container.around(pieces, bytes);
                }
                None => fits(bytes, &to)?,
            }
            Ok(driver.copy_in(&to, backup::overwrite(pieces, driver.copy_out(&to))).await?)
        };
        self.noting(operation, "downloading", &progress, written).await?;
        Ok(self.store.set_image_facts(volume.id, &image.volume_metadata()).await?)
    }

    /// Who rebuilds a guest on its volume waits to hear of it.
    async fn tell_of_reimage(&self, volume_id: Uuid, failed: bool) {
        let Some(nova) = &self.nova else { return };
        let tell = async || {
            let held = self.store.attachments_of(&[volume_id]).await?;
            let servers: Vec<Uuid> = held.iter().filter_map(|one| one.instance_id).collect();
            Ok::<_, VolumeError>(nova.volume_reimaged(volume_id, &servers, failed).await?)
        };
        for pause in NOVA_TRIED_AFTER {
            tokio::time::sleep(pause).await;
            match tell().await {
                Ok(()) => return,
                Err(error) => {
                    warn!(volume = %volume_id, "Nova is not told that an image was written over it: {}", chain(&error))
                }
            }
        }
    }

    /// What is known of an image.
    async fn image(&self, id: Uuid) -> Result<Image, VolumeError> {
        match &self.glance {
            Some(glance) => {
                let absent = || GlanceError::Unusable { id, why: "it is not there any more".into() };
                Ok(glance.find(id).await.map_err(OpenError::from)?.ok_or_else(absent).map_err(OpenError::from)?)
            }
            None => Ok(self.store.image(id).await?),
        }
    }

    /// An image as a raw disk: its size and its pieces.
    async fn open_image(
        &self,
        image: &Image,
        work_id: Uuid,
        progress: &Progress,
    ) -> Result<(u64, BoxStream<'static, Result<Chunk, io::Error>>), OpenError> {
        match &self.glance {
            Some(glance) => glance.open_as_raw(&self.images, image, work_id, progress).await,
            None => open_as_raw(&self.images, image, work_id, progress).await,
        }
    }

    /// Removes what is kept of images that are gone, and of those unused for longest where there are too many.
    async fn let_go_of_images(&self, driver: &dyn VolumeDriver, backend: &str) -> Result<(), VolumeError> {
        let kept = self.store.cached_images(backend).await?;
        let surplus = kept.len().saturating_sub(usize::try_from(self.cached_images).unwrap_or(usize::MAX));
        for (place, one) in kept.iter().enumerate() {
            // What a Glance has is known to nobody here: what is kept of it goes when others are used more.
            if (one.is_current || self.glance.is_some()) && place >= surplus {
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
        let image_id = operation.id_in("image_id").unwrap_or_default();
        let ending = match self.upload(operation, &volume, image_id).await {
            Ok(()) => {
                info!(volume = %id, image = %image_id, "made an image of it");
                Ending::done()
            }
            Err(VolumeError::Store(error @ StoreError::Query { .. })) => return Err(error.into()),
            Err(error) => {
                let cause = chain(&error);
                error!(volume = %id, image = %image_id, "{cause}");
                self.give_image_up(image_id).await?;
                let message = message(operation, EVENT_NOT_COPIED_OUT, format!("copy volume to image:{cause}"));
                Ending::failed(cause).telling(message)
            }
        };
        self.store.end_volume_work(operation, VolumeStatus::Uploading, VolumeStatus::Available, ending).await?;
        Ok(Next::Ended)
    }

    async fn upload(&self, operation: &Operation, volume: &Volume, image_id: Uuid) -> Result<(), VolumeError> {
        let image = self.image(image_id).await?;
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
        let work = async {
            let whole = export(&self.images, image_id, format, size_bytes, pieces, &progress).await?;
            match &self.glance {
                Some(glance) => glance.upload(image_id, whole).await.map_err(ExportError::from)?,
                None => {
                    let facts = whole.place(self.images.clone(), image_id).await.map_err(ExportError::from)?;
                    if !self.store.end_image_upload(image_id, &facts).await? {
                        // It was deleted meanwhile.
                        self.images.remove(image_id).map_err(OpenError::from)?;
                    }
                }
            }
            Ok(())
        };
        self.noting(operation, "uploading", &progress, work).await
    }

    /// Gives up an image whose bytes never came.
    async fn give_image_up(&self, image_id: Uuid) -> Result<(), VolumeError> {
        match &self.glance {
            Some(glance) => {
                if let Err(error) = glance.remove(image_id).await {
                    warn!(image = %image_id, "it stays without bytes: {}", chain(&error));
                }
            }
            None => self.store.abort_image_upload(image_id).await?,
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

/// Refuses an image that has more bytes than a volume.
fn fits(bytes: u64, volume: &Stored) -> Result<(), OpenError> {
    let most = volume.size_bytes;
    if bytes > most { Err(Unfit::DiskTooLarge { bytes, most }.into()) } else { Ok(()) }
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
