//! Extending in the database. The new size is written before the storage has it, with the status `extending`: what was cut off by a
//! crash is known, and is finished at the next start.

use uuid::Uuid;

use super::{Store, StoreError, attachments, now_us, volumes};
use crate::domain::{VolumeStatus, rules};

impl Store {
    /// Records that the volume is to be extended, where it may be.
    pub async fn begin_extend(&self, id: Uuid, size_gib: u64, attached: bool) -> Result<(), StoreError> {
        let op = || StoreError::query("record an extension");
        let mut tx = self.writer.begin().await.map_err(op())?;
        let volume = volumes::find(&mut tx, id).await?;
        rules::extend(&volume, size_gib, attached)?;
        sqlx::query("UPDATE volumes SET size_gib = ?, status = ?, updated_at_us = ? WHERE id = ?")
            .bind(i64::try_from(size_gib).unwrap_or(i64::MAX))
            .bind(VolumeStatus::Extending.as_str())
            .bind(now_us())
            .bind(id.to_string())
            .execute(&mut *tx)
            .await
            .map_err(op())?;
        tx.commit().await.map_err(op())
    }

    /// Records that the volume has `size_gib` now, and the end: what its attachments make of it, or that it failed.
    pub async fn end_extend(&self, id: Uuid, size_gib: u64, failed: bool) -> Result<(), StoreError> {
        let op = || StoreError::query("record the end of an extension");
        let mut tx = self.writer.begin().await.map_err(op())?;
        let held = rules::status_held_by(&attachments::of_volume(&mut tx, id).await?);
        let status = if failed { VolumeStatus::ErrorExtending } else { held };
        sqlx::query("UPDATE volumes SET size_gib = ?, status = ?, updated_at_us = ? WHERE id = ? AND status = ?")
            .bind(i64::try_from(size_gib).unwrap_or(i64::MAX))
            .bind(status.as_str())
            .bind(now_us())
            .bind(id.to_string())
            .bind(VolumeStatus::Extending.as_str())
            .execute(&mut *tx)
            .await
            .map_err(op())?;
        tx.commit().await.map_err(op())
    }
}
