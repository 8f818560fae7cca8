//! Volumes in the database: make, read, change, forget.

use std::collections::BTreeMap;

use sqlx::SqliteConnection;
use uuid::Uuid;

use super::rows::{self, VOLUME_COLUMNS};
use super::{Store, StoreError, attachments, now_us};
use crate::domain::{NewVolume, Refusal, Volume, VolumeStatus, rules};

/// What the owner may change; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct VolumeChange {
    /// A new name, or none any more.
    pub name: Option<Option<String>>,
    /// A new description, or none any more.
    pub description: Option<Option<String>>,
    /// The whole metadata, in place of what was there.
    pub metadata: Option<BTreeMap<String, String>>,
}

impl Store {
    /// Records a volume as `creating`.
    pub async fn insert_volume(&self, new: NewVolume) -> Result<Volume, StoreError> {
        let op = || StoreError::query("record a new volume");
        let id = new.id.to_string();
        let metadata = metadata_text(&id, &new.metadata)?;
        // Fetching stops at the row, before SQLite commits by itself, and a commit that fails then (the disk is full) is never
        // heard of. Nothing that returns rows may write outside of a transaction.
        let mut tx = self.writer.begin().await.map_err(op())?;
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "INSERT INTO volumes (id, name, description, size_gib, status, multiattach, availability_zone, metadata, created_at_us)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING {VOLUME_COLUMNS}"
        )))
        .bind(id)
        .bind(new.name)
        .bind(new.description)
        .bind(i64::try_from(new.size_gib).unwrap_or(i64::MAX))
        .bind(VolumeStatus::Creating.as_str())
        .bind(new.multiattach)
        .bind(new.availability_zone)
        .bind(metadata)
        .bind(now_us())
        .fetch_one(&mut *tx)
        .await
        .map_err(op())?;
        tx.commit().await.map_err(op())?;
        rows::volume(&row)
    }

    /// Reads one volume; refused as "not found" where there is none.
    pub async fn volume(&self, id: Uuid) -> Result<Volume, StoreError> {
        let mut connection = self.readers.acquire().await.map_err(StoreError::query("read a volume"))?;
        find(&mut connection, id).await
    }

    /// Volumes whose work was accepted and not finished when the service last stopped.
    pub async fn unfinished_volumes(&self) -> Result<Vec<Volume>, StoreError> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {VOLUME_COLUMNS} FROM volumes WHERE status IN ('creating', 'deleting', 'extending') ORDER BY seq"
        )))
        .fetch_all(&self.readers)
        .await
        .map_err(StoreError::query("find unfinished volumes"))?;
        rows.iter().map(rows::volume).collect()
    }

    /// How many volumes there are and how many GiB they have.
    pub async fn usage(&self) -> Result<(i64, i64), StoreError> {
        sqlx::query_as("SELECT COUNT(*), COALESCE(SUM(size_gib), 0) FROM volumes")
            .fetch_one(&self.readers)
            .await
            .map_err(StoreError::query("count the volumes"))
    }

    /// Changes what the owner may change. `change` sees the volume as it is.
    pub async fn change_volume(
        &self,
        id: Uuid,
        change: impl FnOnce(&Volume) -> Result<VolumeChange, Refusal> + Send,
    ) -> Result<Volume, StoreError> {
        let op = || StoreError::query("change a volume");
        let mut tx = self.writer.begin().await.map_err(op())?;
        let volume = find(&mut tx, id).await?;
        let change = change(&volume)?;
        let text_id = id.to_string();
        let metadata = metadata_text(&text_id, &change.metadata.unwrap_or(volume.metadata))?;
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "UPDATE volumes SET name = ?, description = ?, metadata = ?, updated_at_us = ? WHERE id = ? RETURNING {VOLUME_COLUMNS}"
        )))
        .bind(change.name.unwrap_or(volume.name))
        .bind(change.description.unwrap_or(volume.description))
        .bind(metadata)
        .bind(now_us())
        .bind(text_id)
        .fetch_one(&mut *tx)
        .await
        .map_err(op())?;
        tx.commit().await.map_err(op())?;
        rows::volume(&row)
    }

    /// Records that the volume is to be deleted, where it may be.
    pub async fn begin_delete(&self, id: Uuid) -> Result<Volume, StoreError> {
        let op = || StoreError::query("record a deletion");
        let mut tx = self.writer.begin().await.map_err(op())?;
        let volume = find(&mut tx, id).await?;
        rules::delete_volume(&volume, &attachments::of_volume(&mut tx, id).await?)?;
        set_status(&mut tx, id, VolumeStatus::Deleting).await?;
        tx.commit().await.map_err(op())?;
        Ok(volume)
    }

    /// Ends a volume's work: `from` becomes `to`. Without effect where it is no longer `from`.
    pub async fn end_work(&self, id: Uuid, from: VolumeStatus, to: VolumeStatus) -> Result<(), StoreError> {
        sqlx::query("UPDATE volumes SET status = ?, updated_at_us = ? WHERE id = ? AND status = ?")
            .bind(to.as_str())
            .bind(now_us())
            .bind(id.to_string())
            .bind(from.as_str())
            .execute(&self.writer)
            .await
            .map_err(StoreError::query("end a volume's work"))?;
        Ok(())
    }

    /// Forgets a volume whose storage is gone.
    pub async fn forget_volume(&self, id: Uuid) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM volumes WHERE id = ? AND status = 'deleting'")
            .bind(id.to_string())
            .execute(&self.writer)
            .await
            .map_err(StoreError::query("forget a volume"))?;
        Ok(())
    }
}

/// Reads one volume within a transaction.
pub(super) async fn find(connection: &mut SqliteConnection, id: Uuid) -> Result<Volume, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!("SELECT {VOLUME_COLUMNS} FROM volumes WHERE id = ?")))
        .bind(id.to_string())
        .fetch_optional(connection)
        .await
        .map_err(StoreError::query("read a volume"))?;
    match row {
        Some(row) => rows::volume(&row),
        None => Err(Refusal::VolumeNotFound(id.to_string()).into()),
    }
}

/// Sets a volume's status within a transaction.
pub(super) async fn set_status(connection: &mut SqliteConnection, id: Uuid, status: VolumeStatus) -> Result<(), StoreError> {
    sqlx::query("UPDATE volumes SET status = ?, updated_at_us = ? WHERE id = ?")
        .bind(status.as_str())
        .bind(now_us())
        .bind(id.to_string())
        .execute(connection)
        .await
        .map_err(StoreError::query("change a volume's status"))?;
    Ok(())
}

fn metadata_text(id: &str, metadata: &BTreeMap<String, String>) -> Result<String, StoreError> {
    serde_json::to_string(metadata).map_err(|_| StoreError::Unreadable { id: id.to_owned(), column: "metadata" })
}
