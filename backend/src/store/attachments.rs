//! Attachments in the database. A change to one and what it makes of its volume's status are one transaction.

use sqlx::{QueryBuilder, SqliteConnection};
use uuid::Uuid;

use super::{Store, StoreError, now_us, rows, volumes};
use crate::domain::rules::{self, ConnectorUpdate};
use crate::domain::{AttachMode, AttachStatus, Attachment, ChapAccount, Connector, Refusal, Volume};

/// An attachment that is asked for.
#[derive(Clone, Debug)]
pub struct NewAttachment {
    /// The volume to hold.
    pub volume_id: Uuid,
    /// The guest it is for.
    pub instance_id: Option<Uuid>,
    /// What the host may do.
    pub mode: AttachMode,
    /// The host, where it is known already.
    pub connector: Option<Connector>,
}

/// Which attachments to list; `None` is any.
#[derive(Clone, Debug, Default)]
pub struct AttachmentFilter {
    /// Those of this volume.
    pub volume_id: Option<String>,
    /// Those for this guest.
    pub instance_id: Option<String>,
    /// Those in this status.
    pub status: Option<String>,
    /// After this one.
    pub marker: Option<Uuid>,
    /// At most so many.
    pub limit: u32,
    /// Skip so many.
    pub offset: u32,
}

impl Store {
    /// Takes hold of a volume. With a connector the attachment is `attaching` at once and has its account.
    pub async fn reserve(&self, new: NewAttachment) -> Result<(Volume, Attachment), StoreError> {
        let op = || StoreError::query("record a new attachment");
        let mut tx = self.writer.begin().await.map_err(op())?;
        let volume = volumes::find(&mut tx, new.volume_id).await?;
        rules::reserve(&volume)?;
        let id = Uuid::new_v4();
        sqlx::query(
            "INSERT INTO attachments (id, volume_id, instance_id, status, mode, created_at_us) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(id.to_string())
        .bind(new.volume_id.to_string())
        .bind(new.instance_id.map(|id| id.to_string()))
        .bind(AttachStatus::Reserved.as_str())
        .bind(new.mode.as_str())
        .bind(now_us())
        .execute(&mut *tx)
        .await
        .map_err(op())?;
        if let Some(connector) = &new.connector {
            name_host(&mut tx, new.volume_id, id, connector).await?;
        }
        let volume = settle(&mut tx, volume).await?;
        let attachment = find(&mut tx, id).await?;
        tx.commit().await.map_err(op())?;
        Ok((volume, attachment))
    }

    /// Names the host of an attachment, or, where it is the same host again, leaves everything as it is.
    pub async fn set_connector(&self, id: Uuid, connector: &Connector) -> Result<(Volume, Attachment), StoreError> {
        let op = || StoreError::query("record an attachment's host");
        let mut tx = self.writer.begin().await.map_err(op())?;
        let attachment = find(&mut tx, id).await?;
        let mut volume = volumes::find(&mut tx, attachment.volume_id).await?;
        if rules::update_connector(&attachment, connector)? == ConnectorUpdate::Replace {
            name_host(&mut tx, attachment.volume_id, id, connector).await?;
            volume = settle(&mut tx, volume).await?;
        }
        let attachment = find(&mut tx, id).await?;
        tx.commit().await.map_err(op())?;
        Ok((volume, attachment))
    }

    /// Records that the host has connected.
    pub async fn complete(&self, id: Uuid) -> Result<(), StoreError> {
        let op = || StoreError::query("complete an attachment");
        let mut tx = self.writer.begin().await.map_err(op())?;
        let attachment = find(&mut tx, id).await?;
        rules::complete(&attachment)?;
        sqlx::query("UPDATE attachments SET status = ?, attached_at_us = COALESCE(attached_at_us, ?) WHERE id = ?")
            .bind(AttachStatus::Attached.as_str())
            .bind(now_us())
            .bind(id.to_string())
            .execute(&mut *tx)
            .await
            .map_err(op())?;
        let volume = volumes::find(&mut tx, attachment.volume_id).await?;
        settle(&mut tx, volume).await?;
        tx.commit().await.map_err(op())
    }

    /// Records the intent to let go, before anything is taken from the host. Repeating it is harmless.
    pub async fn begin_detach(&self, id: Uuid) -> Result<Attachment, StoreError> {
        let op = || StoreError::query("record a detach");
        let mut tx = self.writer.begin().await.map_err(op())?;
        let attachment = find(&mut tx, id).await?;
        sqlx::query("UPDATE attachments SET status = ? WHERE id = ?")
            .bind(AttachStatus::Detaching.as_str())
            .bind(id.to_string())
            .execute(&mut *tx)
            .await
            .map_err(op())?;
        let volume = volumes::find(&mut tx, attachment.volume_id).await?;
        settle(&mut tx, volume).await?;
        tx.commit().await.map_err(op())?;
        Ok(attachment)
    }

    /// Forgets an attachment that nobody can use any more.
    pub async fn finish_detach(&self, id: Uuid) -> Result<(), StoreError> {
        let op = || StoreError::query("forget an attachment");
        let mut tx = self.writer.begin().await.map_err(op())?;
        let attachment = find(&mut tx, id).await?;
        sqlx::query("DELETE FROM attachments WHERE id = ?").bind(id.to_string()).execute(&mut *tx).await.map_err(op())?;
        let volume = volumes::find(&mut tx, attachment.volume_id).await?;
        settle(&mut tx, volume).await?;
        tx.commit().await.map_err(op())
    }

    /// Reads one attachment; refused as "not found" where there is none.
    pub async fn attachment(&self, id: Uuid) -> Result<Attachment, StoreError> {
        let mut connection = self.readers.acquire().await.map_err(StoreError::query("read an attachment"))?;
        find(&mut connection, id).await
    }

    /// Lists attachments, oldest first.
    pub async fn attachments(&self, filter: &AttachmentFilter) -> Result<Vec<Attachment>, StoreError> {
        let op = || StoreError::query("list attachments");
        let mut connection = self.readers.acquire().await.map_err(op())?;
        let mut query = QueryBuilder::new("SELECT * FROM attachments WHERE 1 = 1");
        for (column, value) in
            [("volume_id", &filter.volume_id), ("instance_id", &filter.instance_id), ("status", &filter.status)]
        {
            if let Some(value) = value {
                query.push(format!(" AND {column} = ")).push_bind(value.clone());
            }
        }
        if let Some(marker) = filter.marker {
            find(&mut connection, marker).await?;
            query.push(" AND seq > (SELECT seq FROM attachments WHERE id = ").push_bind(marker.to_string()).push(")");
        }
        query.push(" ORDER BY seq LIMIT ").push_bind(i64::from(filter.limit));
        query.push(" OFFSET ").push_bind(i64::from(filter.offset));
        let rows = query.build().fetch_all(&mut *connection).await.map_err(op())?;
        rows.iter().map(rows::attachment).collect()
    }

    /// The attachments of all these volumes.
    pub async fn attachments_of(&self, volume_ids: &[Uuid]) -> Result<Vec<Attachment>, StoreError> {
        if volume_ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = QueryBuilder::new("SELECT * FROM attachments WHERE volume_id IN (");
        let mut list = query.separated(", ");
        for id in volume_ids {
            list.push_bind(id.to_string());
        }
        query.push(") ORDER BY seq");
        let rows = query.build().fetch_all(&self.readers).await.map_err(StoreError::query("list attachments"))?;
        rows.iter().map(rows::attachment).collect()
    }

    /// The volumes with attachments that a host may use or is about to lose: what must be exported, and what was left half
    /// taken away. Only the ids, so that a row that cannot be read concerns its own volume alone.
    pub async fn volumes_with_host(&self) -> Result<Vec<Uuid>, StoreError> {
        let query =
            "SELECT DISTINCT volume_id FROM attachments WHERE connector IS NOT NULL OR status = 'detaching' ORDER BY volume_id";
        let ids: Vec<String> =
            sqlx::query_scalar(query).fetch_all(&self.readers).await.map_err(StoreError::query("list exported volumes"))?;
        let parse = |id: String| Uuid::parse_str(&id).map_err(|_| StoreError::Unreadable { id, column: "volume_id" });
        ids.into_iter().map(parse).collect()
    }
}

/// The attachments of a volume, within a transaction.
pub(super) async fn of_volume(connection: &mut SqliteConnection, volume_id: Uuid) -> Result<Vec<Attachment>, StoreError> {
    let rows = sqlx::query("SELECT * FROM attachments WHERE volume_id = ? ORDER BY seq")
        .bind(volume_id.to_string())
        .fetch_all(connection)
        .await
        .map_err(StoreError::query("read a volume's attachments"))?;
    rows.iter().map(rows::attachment).collect()
}

async fn find(connection: &mut SqliteConnection, id: Uuid) -> Result<Attachment, StoreError> {
    let row = sqlx::query("SELECT * FROM attachments WHERE id = ?")
        .bind(id.to_string())
        .fetch_optional(connection)
        .await
        .map_err(StoreError::query("read an attachment"))?;
    match row {
        Some(row) => rows::attachment(&row),
        None => Err(Refusal::AttachmentNotFound(id.to_string()).into()),
    }
}

/// Makes an attachment `attaching` for a host. Attachments of one volume for one initiator share an account, for such a
/// host has one session for them all and could not log in anew with the account of an attachment that is gone.
async fn name_host(
    connection: &mut SqliteConnection,
    volume_id: Uuid,
    id: Uuid,
    connector: &Connector,
) -> Result<(), StoreError> {
    let siblings = of_volume(connection, volume_id).await?;
    let shared = siblings
        .into_iter()
        .filter(|other| other.id != id && other.status != AttachStatus::Detaching)
        .filter(|other| other.initiator() == Some(connector.initiator()))
        .find_map(|other| other.chap);
    let chap = shared.unwrap_or_else(ChapAccount::random);
    sqlx::query("UPDATE attachments SET status = ?, connector = ?, chap_username = ?, chap_password = ? WHERE id = ?")
        .bind(AttachStatus::Attaching.as_str())
        .bind(serde_json::Value::Object(connector.properties().clone()).to_string())
        .bind(chap.username.as_str())
        .bind(chap.password.reveal())
        .bind(id.to_string())
        .execute(connection)
        .await
        .map_err(StoreError::query("record an attachment's host"))?;
    Ok(())
}

/// Gives the volume the status its attachments now make of it.
async fn settle(connection: &mut SqliteConnection, mut volume: Volume) -> Result<Volume, StoreError> {
    let status = rules::status_held_by(&of_volume(connection, volume.id).await?);
    if volume.status.may_become(status) {
        volumes::set_status(connection, volume.id, status).await?;
        volume.status = status;
    }
    Ok(volume)
}
