//! Rows to domain types. Everything read is checked: a database that was edited by hand gives an error that names the
//! column, not a wrong answer.

use serde_json::{Map, Value};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::StoreError;
use crate::domain::{AttachMode, AttachStatus, Attachment, ChapAccount, Connector, Volume, VolumeStatus};
use crate::secret::Secret;

/// All columns of a volume, in the order nobody relies on.
pub(super) const VOLUME_COLUMNS: &str =
    "seq, id, name, description, size_gib, status, multiattach, availability_zone, metadata, created_at_us, updated_at_us";

/// Reads a volume.
pub(super) fn volume(row: &SqliteRow) -> Result<Volume, StoreError> {
    let id: String = get(row, "?", "id")?;
    let status: String = get(row, &id, "status")?;
    let metadata: String = get(row, &id, "metadata")?;
    let size_gib: i64 = get(row, &id, "size_gib")?;
    let unreadable = |column| StoreError::Unreadable { id: id.clone(), column };
    Ok(Volume {
        id: Uuid::parse_str(&id).map_err(|_| unreadable("id"))?,
        seq: get(row, &id, "seq")?,
        name: get(row, &id, "name")?,
        description: get(row, &id, "description")?,
        size_gib: u64::try_from(size_gib).map_err(|_| unreadable("size_gib"))?,
        status: VolumeStatus::parse(&status).ok_or_else(|| unreadable("status"))?,
        multiattach: get(row, &id, "multiattach")?,
        availability_zone: get(row, &id, "availability_zone")?,
        metadata: serde_json::from_str(&metadata).map_err(|_| unreadable("metadata"))?,
        created_at_us: get(row, &id, "created_at_us")?,
        updated_at_us: get(row, &id, "updated_at_us")?,
    })
}

/// Reads an attachment.
pub(super) fn attachment(row: &SqliteRow) -> Result<Attachment, StoreError> {
    let id: String = get(row, "?", "id")?;
    let unreadable = |column| StoreError::Unreadable { id: id.clone(), column };
    let volume_id: String = get(row, &id, "volume_id")?;
    let instance_id: Option<String> = get(row, &id, "instance_id")?;
    let status: String = get(row, &id, "status")?;
    let mode: String = get(row, &id, "mode")?;
    let connector: Option<String> = get(row, &id, "connector")?;
    let username: Option<String> = get(row, &id, "chap_username")?;
    let password: Option<String> = get(row, &id, "chap_password")?;
    let connector = match connector {
        None => None,
        Some(text) => {
            let properties: Map<String, Value> = serde_json::from_str(&text).map_err(|_| unreadable("connector"))?;
            Some(Connector::from_properties(properties).map_err(|_| unreadable("connector"))?)
        }
    };
    Ok(Attachment {
        id: Uuid::parse_str(&id).map_err(|_| unreadable("id"))?,
        volume_id: Uuid::parse_str(&volume_id).map_err(|_| unreadable("volume_id"))?,
        instance_id: instance_id.map(|text| Uuid::parse_str(&text)).transpose().map_err(|_| unreadable("instance_id"))?,
        status: AttachStatus::parse(&status).ok_or_else(|| unreadable("status"))?,
        mode: AttachMode::parse(&mode).ok_or_else(|| unreadable("mode"))?,
        connector,
        chap: username.zip(password).map(|(username, password)| ChapAccount { username, password: Secret::new(password) }),
        created_at_us: get(row, &id, "created_at_us")?,
        attached_at_us: get(row, &id, "attached_at_us")?,
    })
}

/// Reads one column, naming the row and the column where it is of the wrong kind.
fn get<'r, T>(row: &'r SqliteRow, id: &str, column: &'static str) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(column).map_err(|_| StoreError::Unreadable { id: id.to_owned(), column })
}
