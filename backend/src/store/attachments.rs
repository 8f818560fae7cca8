//! Attachments in the database. A change to one, what it makes of its volume's status, and the operation that carries it to the
//! volume's host are one transaction.

use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use uuid::Uuid;

use super::engine::{Session, Sql, Value};
use super::{Ending, Store, StoreError, leases, now_us, operations, rows, services, volumes};
use crate::domain::place::{ISCSI, volume_queue};
use crate::domain::rules::{self, ConnectorUpdate};
use crate::domain::{
    Asker, AttachMode, AttachStatus, Attachment, ChapAccount, Connector, NewOperation, Operation, OperationKind, Refusal,
    Volume,
};

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
    /// The host that says it will be heard of, where one does.
    pub lease_host: Option<String>,
}

/// Which attachments to list; `None` is any.
#[derive(Clone, Debug, Default)]
pub struct AttachmentFilter {
    /// Those of this project.
    pub project_id: Option<String>,
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

/// The host that an attachment was for before it was given to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// Its initiator.
    pub initiator: String,
    /// Its account; the password is not needed to take it away.
    pub username: String,
}

impl Store {
    /// Takes hold of a volume. With a connector the attachment is `attaching` at once, has its account, and an operation shows the
    /// volume to its host.
    pub async fn reserve(&self, new: NewAttachment, by: Asker) -> Result<(Attachment, Option<Operation>), StoreError> {
        let mut tx = self.begin().await?;
        let volume = volumes::lock(&mut tx, new.volume_id).await?;
        rules::reserve(&volume, &of_volume(&mut tx, volume.id).await?, new.instance_id)?;
        let id = Uuid::new_v4();
        let insert = Sql::insert(
            "attachments",
            [
                ("id", id.into()),
                ("volume_id", new.volume_id.into()),
                ("project_id", volume.project_id.as_str().into()),
                ("instance_id", new.instance_id.into()),
                ("status", AttachStatus::Reserved.as_str().into()),
                ("mode", rules::mode_of(&volume, new.mode).as_str().into()),
                ("created_at_us", now_us().into()),
                ("lease_until_us", new.lease_host.as_ref().map(|_| leases::until_us(leases::LEASE_S)).into()),
                ("lease_host", new.lease_host.into()),
            ],
        );
        tx.execute("record a new attachment", insert).await?;
        tx.made("attachment", id);
        let mut operation = None;
        if let Some(connector) = &new.connector {
            name_host(&mut tx, &volume, id, connector).await?;
            // The client never learns this attachment's id where it fails, so it must not stay.
            operation = Some(connect(&mut tx, &volume, id, json!({ "undo": true }), by).await?);
        }
        settle(&mut tx, volume).await?;
        let attachment = find(&mut tx, id).await?;
        tx.commit().await?;
        Ok((attachment, operation))
    }

    /// Names the host of an attachment, or, where it is the same host again, leaves everything as it is; an operation shows the
    /// volume to it either way.
    pub async fn set_connector(&self, id: Uuid, connector: &Connector, by: Asker) -> Result<Operation, StoreError> {
        let mut tx = self.begin().await?;
        let (attachment, volume) = lock(&mut tx, id).await?;
        let mut request = json!({});
        let queued_for = volume.clone();
        if rules::update_connector(&attachment, connector)? == ConnectorUpdate::Replace {
            // A host that has it already keeps it.
            rules::give_to_host(&volume)?;
            if let (Some(initiator), Some(chap)) = (attachment.initiator(), &attachment.chap) {
                let replaced = Replaced { initiator: initiator.to_owned(), username: chap.username.clone() };
                request = json!({ "replaces": replaced });
            }
            name_host(&mut tx, &volume, id, connector).await?;
            settle(&mut tx, volume).await?;
        }
        let operation = connect(&mut tx, &queued_for, id, request, by).await?;
        tx.commit().await?;
        Ok(operation)
    }

    /// Records what the host of an attachment is told, and ends the operation that showed the volume to it.
    pub async fn end_connect(
        &self,
        operation: &Operation,
        connection: &Map<String, serde_json::Value>,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        record_connection(&mut tx, operation.object_id, connection).await?;
        operations::end(&mut tx, operation, Ending::done()).await?;
        tx.commit().await
    }

    /// Records what the host of an attachment is told.
    pub async fn set_connection(&self, id: Uuid, connection: &Map<String, serde_json::Value>) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        record_connection(&mut tx, id, connection).await?;
        tx.commit().await
    }

    /// Records the account that the storage made for an attachment alone.
    pub async fn set_account(&self, id: Uuid, account: &ChapAccount) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let update = Sql::update(
            "attachments",
            [("chap_username", account.username.as_str().into()), ("chap_password", account.password.reveal().into())],
        );
        tx.execute("record an account", update.filter("id = ", id)).await?;
        tx.commit().await
    }

    /// Records that the host has connected.
    pub async fn complete(&self, id: Uuid) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let (attachment, volume) = lock(&mut tx, id).await?;
        rules::complete(&attachment)?;
        let mut update = Sql::update("attachments", [("status", AttachStatus::Attached.as_str().into())]);
        update.push_bind(", attached_at_us = COALESCE(attached_at_us, ", now_us()).push(")");
        tx.execute("complete an attachment", update.filter("id = ", id)).await?;
        settle(&mut tx, volume).await?;
        tx.commit().await
    }

    /// Records the intent to let go, before anything is taken from the host, and the operation that does it. Repeating it is
    /// harmless. An attachment that has no host yet is forgotten at once.
    pub async fn begin_detach(&self, id: Uuid, by: Asker) -> Result<(Attachment, Option<Operation>), StoreError> {
        let mut tx = self.begin().await?;
        let (attachment, volume) = lock(&mut tx, id).await?;
        if attachment.connector.is_none() {
            forget(&mut tx, id, volume).await?;
            tx.commit().await?;
            return Ok((attachment, None));
        }
        let queue = volume_queue(&volume.host);
        leave(&mut tx, id, volume).await?;
        let operation = NewOperation { kind: OperationKind::AttachmentDelete, object_id: id, queue, request: json!({}), by };
        let operation = operations::accept(&mut tx, operation).await?;
        tx.commit().await?;
        Ok((attachment, Some(operation)))
    }

    /// The same without an operation, for the volume's host itself.
    pub async fn mark_detaching(&self, id: Uuid) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let (_, volume) = lock(&mut tx, id).await?;
        leave(&mut tx, id, volume).await?;
        tx.commit().await
    }

    /// Forgets an attachment that nobody can use any more; where it is gone already, nothing happens.
    pub async fn finish_detach(&self, id: Uuid) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        match lock(&mut tx, id).await {
            Ok((_, volume)) => forget(&mut tx, id, volume).await?,
            Err(StoreError::Refused(Refusal::AttachmentNotFound(_))) => {}
            Err(error) => return Err(error),
        }
        tx.commit().await
    }

    /// Reads one attachment; refused as "not found" where there is none.
    pub async fn attachment(&self, id: Uuid) -> Result<Attachment, StoreError> {
        find(&mut self.read().await?, id).await
    }

    /// Lists attachments, oldest first.
    pub async fn attachments(&self, filter: &AttachmentFilter) -> Result<Vec<Attachment>, StoreError> {
        let mut session = self.read().await?;
        let mut query = Sql::new("SELECT * FROM attachments WHERE 1 = 1");
        for (column, value) in [
            (" AND project_id = ", &filter.project_id),
            (" AND volume_id = ", &filter.volume_id),
            (" AND instance_id = ", &filter.instance_id),
            (" AND status = ", &filter.status),
        ] {
            if let Some(value) = value {
                query.push_bind(column, value);
            }
        }
        if let Some(marker) = filter.marker {
            find(&mut session, marker).await?;
            query.push_bind(" AND seq > (SELECT seq FROM attachments WHERE id = ", marker).push(")");
        }
        query.push_bind(" ORDER BY seq LIMIT ", filter.limit).push_bind(" OFFSET ", filter.offset);
        session.all("list attachments", query).await?.iter().map(rows::attachment).collect()
    }

    /// The attachments of all these volumes.
    pub async fn attachments_of(&self, volume_ids: &[Uuid]) -> Result<Vec<Attachment>, StoreError> {
        let Some((first, rest)) = volume_ids.split_first() else { return Ok(Vec::new()) };
        let mut query = Sql::new("SELECT * FROM attachments WHERE volume_id IN (");
        query.push_bind("", *first);
        for id in rest {
            query.push_bind(", ", *id);
        }
        query.push(") ORDER BY seq");
        self.read().await?.all("list attachments", query).await?.iter().map(rows::attachment).collect()
    }

    /// The volumes of a backend (`host@backend`) with attachments that a host may use or is about to lose: what must be exported,
    /// and what was left half taken away. Only the ids, so that a row that cannot be read concerns its own volume alone.
    pub async fn volumes_with_host(&self, backend: &str) -> Result<Vec<Uuid>, StoreError> {
        let mut query = Sql::new(
            "SELECT DISTINCT a.volume_id AS id FROM attachments a JOIN volumes v ON v.id = a.volume_id
             WHERE (a.connector IS NOT NULL OR a.status = 'detaching')",
        );
        let pool_prefix = format!("{backend}#");
        let length = i64::try_from(pool_prefix.chars().count()).unwrap_or(i64::MAX);
        query.push_bind(" AND substr(v.host, 1, CAST(", length).push_bind(" AS INTEGER)) = ", pool_prefix);
        query.push(" ORDER BY a.volume_id");
        self.read().await?.all("list exported volumes", query).await?.iter().map(|row| row.uuid("id")).collect()
    }
}

/// The attachments of a volume, within a transaction.
pub(super) async fn of_volume(session: &mut Session, volume_id: Uuid) -> Result<Vec<Attachment>, StoreError> {
    let mut query = Sql::new("SELECT * FROM attachments").filter("volume_id = ", volume_id);
    query.push(" ORDER BY seq");
    session.all("read a volume's attachments", query).await?.iter().map(rows::attachment).collect()
}

pub(super) async fn find(session: &mut Session, id: Uuid) -> Result<Attachment, StoreError> {
    match session.optional("read an attachment", Sql::new("SELECT * FROM attachments").filter("id = ", id)).await? {
        Some(row) => rows::attachment(&row),
        None => Err(Refusal::AttachmentNotFound(id.to_string()).into()),
    }
}

/// An attachment and its volume, the volume locked: whoever changes an attachment holds its volume first.
pub(super) async fn lock(tx: &mut Session, id: Uuid) -> Result<(Attachment, Volume), StoreError> {
    let volume_id = find(tx, id).await?.volume_id;
    let volume = volumes::lock(tx, volume_id).await?;
    // Read again, for it may have changed while the lock was waited for.
    Ok((find(tx, id).await?, volume))
}

pub(super) async fn forget(tx: &mut Session, id: Uuid, volume: Volume) -> Result<(), StoreError> {
    tx.execute("forget an attachment", Sql::new("DELETE FROM attachments").filter("id = ", id)).await?;
    settle(tx, volume).await?;
    Ok(())
}

pub(super) async fn leave(tx: &mut Session, id: Uuid, volume: Volume) -> Result<(), StoreError> {
    let update = Sql::update("attachments", [("status", AttachStatus::Detaching.as_str().into())]);
    tx.execute("record a detach", update.filter("id = ", id)).await?;
    settle(tx, volume).await?;
    Ok(())
}

pub(super) async fn connect(
    tx: &mut Session,
    volume: &Volume,
    id: Uuid,
    request: serde_json::Value,
    by: Asker,
) -> Result<Operation, StoreError> {
    let queue = volume_queue(&volume.host);
    operations::accept(tx, NewOperation { kind: OperationKind::AttachmentConnect, object_id: id, queue, request, by }).await
}

async fn record_connection(tx: &mut Session, id: Uuid, connection: &Map<String, serde_json::Value>) -> Result<(), StoreError> {
    let text = serde_json::Value::Object(connection.clone()).to_string();
    tx.execute("record a connection", Sql::update("attachments", [("connection", text.into())]).filter("id = ", id)).await?;
    Ok(())
}

/// Makes an attachment `attaching` for a host. Attachments of one volume for one initiator share an account, for such a
/// host has one session for them all and could not log in anew with the account of an attachment that is gone.
pub(super) async fn name_host(tx: &mut Session, volume: &Volume, id: Uuid, connector: &Connector) -> Result<(), StoreError> {
    if connector.initiator().is_none() && services::protocol_of(tx, &volume.host).await?.as_deref() == Some(ISCSI) {
        return Err(Refusal::ConnectorLacks("initiator").into());
    }
    let siblings = of_volume(tx, volume.id).await?;
    let shared = siblings
        .into_iter()
        .filter(|other| other.id != id && other.status != AttachStatus::Detaching)
        .filter(|other| other.initiator().is_some() && other.initiator() == connector.initiator())
        .find_map(|other| other.chap);
    let chap = shared.unwrap_or_else(ChapAccount::random);
    let update = Sql::update(
        "attachments",
        [
            ("status", AttachStatus::Attaching.as_str().into()),
            ("connector", serde_json::Value::Object(connector.properties().clone()).to_string().into()),
            ("connection", Value::Text(None)),
            ("chap_username", chap.username.as_str().into()),
            ("chap_password", chap.password.reveal().into()),
        ],
    );
    tx.execute("record an attachment's host", update.filter("id = ", id)).await?;
    Ok(())
}

/// Gives the volume the status its attachments now make of it.
pub(super) async fn settle(tx: &mut Session, mut volume: Volume) -> Result<Volume, StoreError> {
    let status = rules::status_held_by(&of_volume(tx, volume.id).await?);
    if volume.status.follows_attachments() && volume.status.may_become(status) {
        volumes::set_status(tx, volume.id, status).await?;
        volume.status = status;
    }
    Ok(volume)
}
