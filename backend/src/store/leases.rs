//! Leases of attachments: a host that asks for one says that it will be heard of. Where it is not, what it never was let in to is
//! taken back, so that no volume is held for ever. What a guest of it may have is told and left alone (CVE-2023-2088): only that
//! host, or who runs it, can say that it has let go. An attachment made without a lease is nobody's to end here.
//!
//! ```text
//! the lease ran out while …   reserved, or attaching and never exported   taken away, its project is told
//!                             detaching, and nothing does it              taken away
//!                             anything else                               marked lost, told once; a renewal clears it
//! ```

use serde_json::json;
use uuid::Uuid;

use super::engine::{Session, Sql, Value};
use super::{Store, StoreError, attachments, messages, now_us, operations};
use crate::domain::place::volume_queue;
use crate::domain::{Asker, AttachStatus, Attachment, NewMessage, NewOperation, Operation, OperationKind, Volume};

/// How long a host may be silent where it says nothing else, seconds. Longer than a reboot.
pub const LEASE_S: u32 = 900;

/// The field's number for "a volume could not be attached".
const EVENT_NOT_ATTACHED: &str = "VOLUME_VOLUME_002_001";

/// What became of an attachment whose lease ran out.
#[derive(Clone, Debug)]
pub enum LeaseEnd {
    /// It was renewed meanwhile, or is being taken away already.
    Nothing,
    /// It is gone.
    Removed,
    /// The volume's host takes it away.
    Removing(Box<Operation>),
    /// A guest may have it.
    Lost,
}

/// When a lease of so many seconds that begins now runs out, microseconds since the epoch.
pub(super) fn until_us(ttl_s: u32) -> i64 {
    now_us() + i64::from(ttl_s) * 1_000_000
}

impl Store {
    /// A host is heard of: its leases in a project run for `ttl_s` from now. Gives until when, and its attachments.
    pub async fn renew_leases(&self, project_id: &str, host: &str, ttl_s: u32) -> Result<(i64, Vec<Uuid>), StoreError> {
        let mut tx = self.begin().await?;
        let until_us = until_us(ttl_s);
        let update = Sql::update("attachments", [("lease_until_us", until_us.into()), ("lease_lost_at_us", Value::Int(None))]);
        tx.execute("renew leases", update.filter("lease_host = ", host).filter("project_id = ", project_id)).await?;
        let held = Sql::new("SELECT id FROM attachments").filter("lease_host = ", host).filter("project_id = ", project_id);
        let ids = tx.all("list leases", held).await?.iter().map(|row| row.uuid("id")).collect::<Result<_, _>>()?;
        tx.commit().await?;
        Ok((until_us, ids))
    }

    /// The attachments whose lease ran out and is not known to have.
    pub async fn expired_leases(&self) -> Result<Vec<Uuid>, StoreError> {
        let mut query = Sql::new("SELECT id FROM attachments").filter("lease_until_us < ", now_us());
        query.push(" AND lease_lost_at_us IS NULL");
        self.read().await?.all("list expired leases", query).await?.iter().map(|row| row.uuid("id")).collect()
    }

    /// Does what is to be done about an attachment whose lease ran out.
    pub async fn end_lease(&self, id: Uuid) -> Result<LeaseEnd, StoreError> {
        let mut tx = self.begin().await?;
        let (attachment, volume) = attachments::lock(&mut tx, id).await?;
        let Some(lease) = attachment.lease.clone().filter(|lease| lease.until_us < now_us() && lease.lost_at_us.is_none())
        else {
            return Ok(LeaseEnd::Nothing);
        };
        let exported = attachment.connector.is_some() && attachment.connection.is_some();
        let what = format!("Attachment {id} of volume {} was made for host {}, which fell silent", volume.id, lease.host);
        let end = match attachment.status {
            AttachStatus::Reserved | AttachStatus::Attaching if attachment.connector.is_none() => {
                tell(&mut tx, &volume, format!("{what} before it was let in. The attachment was removed.")).await?;
                attachments::forget(&mut tx, id, volume).await?;
                LeaseEnd::Removed
            }
            AttachStatus::Attaching if !exported => {
                tell(&mut tx, &volume, format!("{what} before it was let in. The attachment is removed.")).await?;
                attachments::leave(&mut tx, id, volume.clone()).await?;
                LeaseEnd::Removing(take_away(&mut tx, &attachment, &volume).await?.into())
            }
            AttachStatus::Detaching => {
                let query =
                    Sql::new("SELECT id FROM operations WHERE state IN ('queued', 'running') AND object_id = ?").bind(id);
                if tx.optional("look for an operation", query).await?.is_some() {
                    return Ok(LeaseEnd::Nothing);
                }
                LeaseEnd::Removing(take_away(&mut tx, &attachment, &volume).await?.into())
            }
            _ => {
                tell(&mut tx, &volume, format!("{what}. A guest there may have the volume, so it is left as it is.")).await?;
                let update = Sql::update("attachments", [("lease_lost_at_us", now_us().into())]);
                tx.execute("record a lost lease", update.filter("id = ", id)).await?;
                LeaseEnd::Lost
            }
        };
        tx.commit().await?;
        Ok(end)
    }
}

async fn take_away(tx: &mut Session, attachment: &Attachment, volume: &Volume) -> Result<Operation, StoreError> {
    let by = Asker { project_id: volume.project_id.clone(), ..Asker::default() };
    let (kind, queue) = (OperationKind::AttachmentDelete, volume_queue(&volume.host));
    operations::accept(tx, NewOperation { kind, object_id: attachment.id, queue, request: json!({}), by }).await
}

async fn tell(tx: &mut Session, volume: &Volume, user_message: String) -> Result<(), StoreError> {
    let (resource_type, event_id) = ("VOLUME", EVENT_NOT_ATTACHED.to_owned());
    let message = NewMessage { resource_type, resource_id: volume.id, event_id, user_message, why_not: None };
    messages::tell_project(tx, &volume.project_id, None, message).await
}
