//! Volumes made from images and images made from volumes, in the database; and the volumes that backends keep to clone images from.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::engine::{Row, Session, Sql, Value};
use super::{Ending, NewImage, Store, StoreError, attachments, backup_work, images, keys, now_us, operations, volumes};
use crate::domain::place::volume_queue;
use crate::domain::{Asker, ImageStatus, NewKey, NewOperation, Operation, OperationKind, Volume, VolumeStatus, rules};

/// What an image's `location` says while an operation makes it: no start of an API takes it for an upload that was cut off.
const BY_OPERATION: &str = "operation";

/// A volume that a backend keeps to clone an image from.
#[derive(Clone, Debug)]
pub struct CachedImage {
    /// The image.
    pub image_id: Uuid,
    /// The id its storage knows it by.
    pub volume_id: Uuid,
    /// Its size, in GiB.
    pub size_gib: u64,
    /// What its driver wants to find again.
    pub provider: Option<serde_json::Value>,
    /// Whether the image is still there.
    pub is_current: bool,
}

impl Store {
    /// Records that a volume's image is being read.
    pub async fn begin_download(&self, id: Uuid) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let volume = volumes::lock(&mut tx, id).await?;
        if volume.status == VolumeStatus::Creating {
            volumes::set_status(&mut tx, id, VolumeStatus::Downloading).await?;
        }
        tx.commit().await
    }

    /// Records what a volume was made from, and that one can boot from it.
    pub async fn set_image_facts(&self, id: Uuid, facts: &BTreeMap<String, String>) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let update = Sql::update("volumes", [("bootable", true.into()), ("image_metadata", Value::from(facts))]);
        tx.execute("record a volume's image", update.filter("id = ", id)).await?;
        tx.commit().await
    }

    /// Records that a volume is read into an image, and the image where it is one of the service's own, and accepts the operation that
    /// does it.
    pub async fn begin_volume_upload(
        &self,
        volume_id: Uuid,
        image_id: Uuid,
        own: Option<NewImage>,
        by: Asker,
    ) -> Result<(Volume, Operation), StoreError> {
        let mut tx = self.begin().await?;
        let volume = volumes::lock(&mut tx, volume_id).await?;
        rules::upload(&volume)?;
        volumes::set_status(&mut tx, volume_id, VolumeStatus::Uploading).await?;
        if let Some(new) = own {
            images::insert(&mut tx, new).await?;
            images::set_status(&mut tx, image_id, ImageStatus::Saving, Some(BY_OPERATION)).await?;
        }
        let operation = NewOperation {
            kind: OperationKind::VolumeUpload,
            object_id: volume_id,
            queue: volume_queue(&volume.host),
            request: serde_json::json!({ "image_id": image_id }),
            by,
        };
        let operation = operations::accept(&mut tx, operation).await?;
        let volume = volumes::find(&mut tx, volume_id).await?;
        tx.commit().await?;
        Ok((volume, operation))
    }

    /// Records that an image is written over what a volume has, and accepts the operation that does it. `key`: what encrypts it, where a
    /// key manager outside has that.
    pub async fn begin_reimage(
        &self,
        volume_id: Uuid,
        image_id: Uuid,
        reserved: bool,
        key: Option<&NewKey>,
        by: Asker,
    ) -> Result<Operation, StoreError> {
        let mut tx = self.begin().await?;
        let volume = volumes::lock(&mut tx, volume_id).await?;
        let attachments = attachments::of_volume(&mut tx, volume_id).await?;
        rules::reimage(&volume, &attachments, copies_begun(&mut tx, volume_id).await?, reserved)?;
        volumes::set_status(&mut tx, volume_id, VolumeStatus::Downloading).await?;
        if let Some(key) = key {
            // What was asked for before may have been left without an end.
            keys::forget_in_transit(&mut tx, volume_id).await?;
            keys::insert(&mut tx, key, volume_id).await?;
        }
        let operation = NewOperation {
            kind: OperationKind::VolumeReimage,
            object_id: volume_id,
            queue: volume_queue(&volume.host),
            request: serde_json::json!({ "image_id": image_id }),
            by,
        };
        let operation = operations::accept(&mut tx, operation).await?;
        tx.commit().await?;
        Ok(operation)
    }

    /// Records that the image is written: the volume is what its attachments make of it, and the operation, as given back, has only to
    /// tell of it.
    pub async fn record_written(&self, operation: &Operation) -> Result<Operation, StoreError> {
        let written = operation.clone().with_image_written();
        let mut tx = self.begin().await?;
        backup_work::free_volume(&mut tx, operation.object_id, VolumeStatus::Downloading, None).await?;
        keys::forget_in_transit(&mut tx, operation.object_id).await?;
        let update = Sql::update("operations", [("request", written.request.to_string().into())]);
        tx.execute("record that an image is written", update.filter("id = ", operation.id)).await?;
        tx.commit().await?;
        Ok(written)
    }

    /// Ends that: the volume is what its attachments make of it, or, where it failed, `error`.
    pub async fn end_reimage(&self, operation: &Operation, ending: Ending) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        // Once it is written the volume may have gone on to the next image already.
        if !operation.is_written() {
            let failed = ending.cause.as_ref().map(|_| VolumeStatus::Error);
            backup_work::free_volume(&mut tx, operation.object_id, VolumeStatus::Downloading, failed).await?;
        }
        operations::end(&mut tx, operation, ending).await?;
        tx.commit().await
    }

    /// What a backend keeps, the longest unused first.
    pub async fn cached_images(&self, backend: &str) -> Result<Vec<CachedImage>, StoreError> {
        let mut query = Sql::new(
            "SELECT c.*, (SELECT COUNT(*) FROM images i WHERE i.id = c.image_id) AS is_current FROM image_cache c WHERE 1 = 1",
        );
        query.push_bind(" AND c.backend = ", backend).push(" ORDER BY c.used_at_us");
        self.read().await?.all("list cached images", query).await?.iter().map(cached).collect()
    }

    /// Records that a backend keeps a volume of an image, or has used it again.
    pub async fn keep_cached_image(&self, backend: &str, kept: &CachedImage) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let mut insert = Sql::insert(
            "image_cache",
            [
                ("image_id", kept.image_id.into()),
                ("backend", backend.into()),
                ("volume_id", kept.volume_id.into()),
                ("size_gib", kept.size_gib.into()),
                ("provider", kept.provider.as_ref().map(ToString::to_string).into()),
                ("used_at_us", now_us().into()),
            ],
        );
        insert.push(" ON CONFLICT (image_id, backend) DO UPDATE SET used_at_us = excluded.used_at_us");
        tx.execute("keep a cached image", insert).await?;
        tx.commit().await
    }

    /// Forgets what a backend kept.
    pub async fn forget_cached_image(&self, backend: &str, image_id: Uuid) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let delete = Sql::new("DELETE FROM image_cache").filter("image_id = ", image_id).filter("backend = ", backend);
        tx.execute("forget a cached image", delete).await?;
        tx.commit().await
    }
}

/// How many snapshots and clones of a volume were accepted and are not made yet.
async fn copies_begun(tx: &mut Session, volume_id: Uuid) -> Result<i64, StoreError> {
    let mut count = 0;
    for (table, of) in [("snapshots", "volume_id = "), ("volumes", "source_volume_id = ")] {
        let query = Sql::new(format!("SELECT COUNT(*) FROM {table}")).filter(of, volume_id).filter("status = ", "creating");
        count += tx.number("count copies that are being made", query).await?;
    }
    Ok(count)
}

fn cached(row: &Row) -> Result<CachedImage, StoreError> {
    Ok(CachedImage {
        image_id: row.uuid("image_id")?,
        volume_id: row.uuid("volume_id")?,
        size_gib: row.size("size_gib")?,
        provider: row.optional_json("provider")?,
        is_current: row.flag("is_current")?,
    })
}
