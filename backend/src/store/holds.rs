//! The older way of attaching, in which a client moves the volume's status by actions. Behind each action is an attachment, so
//! that what holds a volume is in one place whichever way it was asked for:
//!
//! ```text
//! os-reserve ───────────────▶ an attachment without a host, `attaching`
//! os-initialize_connection ─▶ … with a host, which is let in (made here where nobody reserved)
//! os-attach ────────────────▶ … `attached`
//! os-begin_detaching ───────▶ the volume alone is `detaching`; os-roll_detaching takes that back
//! os-terminate_connection ──▶ the host is let in no more; an attachment that never got to `attached` is forgotten
//! os-detach ────────────────▶ the attachment is forgotten
//! ```

use serde_json::json;
use uuid::Uuid;

use super::attachments;
use super::engine::{Session, Sql, Value};
use super::{Ending, Store, StoreError, now_us, operations, volumes};
use crate::domain::place::volume_queue;
use crate::domain::{
    Asker, AttachMode, AttachStatus, Attachment, Connector, NewOperation, Operation, OperationKind, Refusal, Volume,
    VolumeStatus, rules,
};

/// What os-attach says of the guest.
#[derive(Clone, Debug)]
pub struct Attached {
    /// Which guest.
    pub instance_id: Option<Uuid>,
    /// What the host may do.
    pub mode: AttachMode,
    /// The device's name in the guest.
    pub mountpoint: Option<String>,
    /// The host's name, where the volume is attached to a host and no guest.
    pub host_name: Option<String>,
}

impl Store {
    /// os-reserve: nobody else may take the volume.
    pub async fn hold(&self, volume_id: Uuid) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let volume = volumes::lock(&mut tx, volume_id).await?;
        rules::reserve(&volume, &[], None)?;
        insert(&mut tx, &volume).await?;
        attachments::settle(&mut tx, volume).await?;
        tx.commit().await
    }

    /// os-unreserve: takes that back. Where nothing is held so, nothing happens.
    pub async fn unhold(&self, volume_id: Uuid) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let volume = volumes::lock(&mut tx, volume_id).await?;
        let held = attachments::of_volume(&mut tx, volume_id).await?;
        if let Some(hold) = held.into_iter().find(is_hold) {
            attachments::forget(&mut tx, hold.id, volume).await?;
        }
        tx.commit().await
    }

    /// os-initialize_connection: names the host; the operation lets it in. The same host again gets the same answer.
    pub async fn hold_for_host(
        &self,
        volume_id: Uuid,
        connector: &Connector,
        by: Asker,
    ) -> Result<(Uuid, Operation), StoreError> {
        let mut tx = self.begin().await?;
        let volume = volumes::lock(&mut tx, volume_id).await?;
        use VolumeStatus::*;
        if !matches!(volume.status, Available | Reserved | Attaching | InUse | Detaching) {
            return Err(Refusal::NotReservable { volume_id, status: volume.status }.into());
        }
        let all = attachments::of_volume(&mut tx, volume_id).await?;
        let going = |one: &&Attachment| one.status != AttachStatus::Detaching;
        let same =
            all.iter().filter(going).find(|one| one.connector.as_ref().is_some_and(|known| known.is_same_host(connector)));
        // Those that `POST /attachments` reserved are their makers' business.
        let without_host = |one: &&Attachment| one.connector.is_none() && one.status != AttachStatus::Reserved;
        let id = match same.or_else(|| all.iter().filter(going).find(without_host)) {
            Some(attachment) => attachment.id,
            None => insert(&mut tx, &volume).await?,
        };
        let known = same.is_some();
        if !known {
            let attached = all.iter().any(|one| one.id == id && one.status == AttachStatus::Attached);
            attachments::name_host(&mut tx, &volume, id, connector).await?;
            if attached {
                let update = Sql::update("attachments", [("status", AttachStatus::Attached.as_str().into())]);
                tx.execute("keep an attachment attached", update.filter("id = ", id)).await?;
            }
            if volume.status != Detaching {
                attachments::settle(&mut tx, volume.clone()).await?;
            }
        }
        let operation = attachments::connect(&mut tx, &volume, id, json!({}), by).await?;
        tx.commit().await?;
        Ok((id, operation))
    }

    /// os-attach: the guest has it.
    pub async fn hold_attached(&self, volume_id: Uuid, attached: Attached) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let volume = volumes::lock(&mut tx, volume_id).await?;
        let all = attachments::of_volume(&mut tx, volume_id).await?;
        let mut waiting = all.iter().filter(|one| one.status == AttachStatus::Attaching);
        let hold = waiting.clone().find(|one| one.connector.is_some()).or_else(|| waiting.next());
        let Some(hold) = hold else {
            let text = format!(
                "Invalid volume: Volume {volume_id} status must be attaching to attach, but current status is: {}.",
                volume.status
            );
            return Err(Refusal::Invalid(text).into());
        };
        if volume.readonly && attached.mode == AttachMode::Rw {
            return Err(Refusal::Invalid(format!("Invalid attaching mode 'rw' for volume {volume_id}.")).into());
        }
        let mut connector = hold.connector.as_ref().map(|connector| connector.properties().clone());
        for (key, value) in [("mountpoint", attached.mountpoint), ("host", attached.host_name)] {
            if let (Some(properties), Some(value)) = (&mut connector, value) {
                properties.insert(key.into(), value.into());
            }
        }
        let update = Sql::update(
            "attachments",
            [
                ("status", AttachStatus::Attached.as_str().into()),
                ("instance_id", attached.instance_id.into()),
                ("mode", attached.mode.as_str().into()),
                ("connector", Value::Text(connector.map(|map| serde_json::Value::Object(map).to_string()))),
                ("attached_at_us", now_us().into()),
            ],
        );
        tx.execute("complete an attachment", update.filter("id = ", hold.id)).await?;
        attachments::settle(&mut tx, volume).await?;
        tx.commit().await
    }

    /// os-begin_detaching and, with `back`, os-roll_detaching.
    pub async fn mark_volume_detaching(&self, volume_id: Uuid, back: bool) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let volume = volumes::lock(&mut tx, volume_id).await?;
        let attached = attachments::of_volume(&mut tx, volume_id).await?.iter().any(|one| one.status == AttachStatus::Attached);
        match (back, volume.status) {
            (false, VolumeStatus::InUse) if attached => {
                volumes::set_status(&mut tx, volume_id, VolumeStatus::Detaching).await?;
            }
            (true, VolumeStatus::Detaching) if attached => {
                volumes::set_status(&mut tx, volume_id, VolumeStatus::InUse).await?;
            }
            // As in the field: there is nothing to take back.
            (true, _) => {}
            (false, _) => {
                let text = "Invalid volume: Unable to detach volume. Volume status must be 'in-use' and attach_status must be \
                            'attached' to detach.";
                return Err(Refusal::Invalid(text.into()).into());
            }
        }
        tx.commit().await
    }

    /// os-terminate_connection for one attachment: an operation takes the host away, and the attachment too where it is not attached.
    pub async fn begin_revoke(&self, id: Uuid, by: Asker) -> Result<Operation, StoreError> {
        let mut tx = self.begin().await?;
        let (attachment, volume) = attachments::lock(&mut tx, id).await?;
        let queue = volume_queue(&volume.host);
        let kind = if attachment.status == AttachStatus::Attached {
            OperationKind::AttachmentRevoke
        } else {
            attachments::leave(&mut tx, id, volume).await?;
            OperationKind::AttachmentDelete
        };
        let operation = NewOperation { kind, object_id: id, queue, request: json!({}), by };
        let operation = operations::accept(&mut tx, operation).await?;
        tx.commit().await?;
        Ok(operation)
    }

    /// Records that the host of an attachment is let in no more, and ends the operation.
    pub async fn end_revoke(&self, operation: &Operation) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let none = || Value::Text(None);
        let update = Sql::update(
            "attachments",
            [("connector", none()), ("connection", none()), ("chap_username", none()), ("chap_password", none())],
        );
        tx.execute("forget an attachment's host", update.filter("id = ", operation.object_id)).await?;
        operations::end(&mut tx, operation, Ending::done()).await?;
        tx.commit().await
    }

    /// os-detach where there is nothing to detach: a volume that was left on the way is available again.
    pub async fn settle_volume(&self, volume_id: Uuid) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let volume = volumes::lock(&mut tx, volume_id).await?;
        if matches!(volume.status, VolumeStatus::Detaching | VolumeStatus::Attaching | VolumeStatus::Reserved) {
            attachments::settle(&mut tx, volume).await?;
        }
        tx.commit().await
    }
}

/// What os-reserve makes: on its way to a host that nobody has named.
fn is_hold(attachment: &Attachment) -> bool {
    attachment.status == AttachStatus::Attaching && attachment.connector.is_none()
}

async fn insert(tx: &mut Session, volume: &Volume) -> Result<Uuid, StoreError> {
    let id = Uuid::new_v4();
    let insert = Sql::insert(
        "attachments",
        [
            ("id", id.into()),
            ("volume_id", volume.id.into()),
            ("project_id", volume.project_id.as_str().into()),
            ("status", AttachStatus::Attaching.as_str().into()),
            ("mode", rules::mode_of(volume, AttachMode::Rw).as_str().into()),
            ("created_at_us", now_us().into()),
        ],
    );
    tx.execute("hold a volume", insert).await?;
    Ok(id)
}
