//! What owners are told afterwards about what they asked for.

use uuid::Uuid;

use super::engine::{Row, Session, Sql};
use super::{Store, StoreError, now_us};
use crate::domain::{Message, NewMessage, Operation, Refusal};

/// How long a message is kept: the field's thirty days, microseconds.
const KEPT_US: i64 = 30 * 24 * 3600 * 1_000_000;

impl Store {
    /// The messages of a project, or of all, newest first, at most `limit`.
    pub async fn messages(&self, project_id: Option<&str>, limit: u32) -> Result<Vec<Message>, StoreError> {
        let mut query = Sql::new("SELECT * FROM messages");
        if let Some(project) = project_id {
            query = query.filter("project_id = ", project);
        }
        query.push_bind(" ORDER BY seq DESC LIMIT ", limit);
        self.read().await?.all("list messages", query).await?.iter().map(message).collect()
    }

    /// One message and whose it is; refused as "not found" where there is none.
    pub async fn message(&self, id: Uuid) -> Result<(String, Message), StoreError> {
        let query = Sql::new("SELECT * FROM messages").filter("id = ", id);
        match self.read().await?.optional("read a message", query).await? {
            Some(row) => Ok((row.text("project_id")?, message(&row)?)),
            None => Err(Refusal::MessageNotFound(id.to_string()).into()),
        }
    }

    /// Forgets a message.
    pub async fn forget_message(&self, id: Uuid) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        tx.execute("forget a message", Sql::new("DELETE FROM messages").filter("id = ", id)).await?;
        tx.commit().await
    }
}

/// Keeps a message for the owner of an operation.
pub(super) async fn tell(tx: &mut Session, operation: &Operation, new: NewMessage) -> Result<(), StoreError> {
    tell_project(tx, &operation.project_id, operation.request_id.as_deref(), new).await
}

/// Keeps a message for a project.
pub(super) async fn tell_project(
    tx: &mut Session,
    project_id: &str,
    request_id: Option<&str>,
    new: NewMessage,
) -> Result<(), StoreError> {
    let now = now_us();
    let why_not = new.why_not.and_then(|list| serde_json::to_string(&list).ok());
    let insert = Sql::insert(
        "messages",
        [
            ("id", Uuid::new_v4().into()),
            ("project_id", project_id.into()),
            ("request_id", request_id.into()),
            ("resource_type", new.resource_type.into()),
            ("resource_id", new.resource_id.into()),
            ("event_id", new.event_id.into()),
            ("message_level", "ERROR".into()),
            ("user_message", new.user_message.into()),
            ("why_not", why_not.into()),
            ("created_at_us", now.into()),
            ("expires_at_us", (now + KEPT_US).into()),
        ],
    );
    tx.execute("keep a message", insert).await?;
    Ok(())
}

fn message(row: &Row) -> Result<Message, StoreError> {
    Ok(Message {
        id: row.uuid("id")?,
        request_id: row.optional_text("request_id")?,
        resource_type: row.text("resource_type")?,
        resource_id: row.uuid("resource_id")?,
        event_id: row.text("event_id")?,
        message_level: row.text("message_level")?,
        user_message: row.text("user_message")?,
        why_not: row.optional_json("why_not")?,
        created_at_us: row.int("created_at_us")?,
        expires_at_us: row.int("expires_at_us")?,
    })
}
