//! Idempotency keys: a request that carries one makes what it makes once, however often it comes and whatever process dies.
//!
//! ```text
//!              claimed, with a fence ──── nothing was made ───▶ (gone: may be asked again)
//!                 │          ▲
//!   what it makes │          │ its process is gone: another takes it over
//!   and this row, │          │
//!   together      ▼          │
//!              made ─────────┘ the answer is told anew from what was made
//!                 │
//!                 ▼
//!              answered ──── a day ───▶ (gone)
//! ```
//!
//! The transaction that makes something updates the row by its fence. A process that was taken for gone and is not finds
//! another fence there, and its transaction is thrown away: two never make the same.

use serde_json::Value as Json;
use uuid::Uuid;

use super::engine::{Row, Session, Sql, Value};
use super::{Store, StoreError, now_us};
use crate::domain::Refusal;

/// How long a key is remembered, microseconds: a day.
const KEPT_US: i64 = 24 * 3600 * 1_000_000;

/// A first request is over after so long, whatever became of its process, microseconds. It waits for at most a minute.
const IN_HAND_US: i64 = 300_000_000;

/// A request with a key.
#[derive(Clone, Debug)]
pub struct KeyedRequest {
    /// Whose the key is.
    pub project_id: String,
    /// The key.
    pub key: String,
    /// SHA-256 of its method, its path and its body, in hex.
    pub fingerprint: String,
}

/// The right to make what a key's request asks for.
#[derive(Clone, Debug)]
pub struct Claim {
    project_id: String,
    key: String,
    fence: String,
}

/// An answer as it was given.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptAnswer {
    /// Its HTTP status.
    pub status: u16,
    /// What the API keeps of it.
    pub answer: Json,
}

/// What a request whose answer was lost has made.
#[derive(Clone, Debug)]
pub struct Made {
    /// `volume`, `snapshot` … and its id, where it was told.
    pub object: Option<(String, Uuid)>,
    /// The operation it began, where it did.
    pub operation_id: Option<Uuid>,
}

/// What there is of a key.
#[derive(Clone, Debug)]
pub enum Keyed {
    /// Nothing: do it.
    First(Claim),
    /// The first answer.
    Answered(KeptAnswer),
    /// It was done, and its answer is lost: tell it anew.
    Lost(Claim, Made),
    /// The first is still under way.
    InHand,
    /// The key was used for another request.
    Another,
}

impl Store {
    /// What there is of a key; claims it for `process` where nothing is.
    pub async fn claim_key(&self, request: &KeyedRequest, process: &str) -> Result<Keyed, StoreError> {
        let KeyedRequest { project_id, key, fingerprint } = request;
        let fence = Uuid::new_v4().to_string();
        let claim = Claim { project_id: project_id.clone(), key: key.clone(), fence: fence.clone() };
        let now = now_us();
        let mut tx = self.begin().await?;
        let mut insert = Sql::insert(
            "idempotency_keys",
            [
                ("project_id", project_id.into()),
                ("idempotency_key", key.into()),
                ("fingerprint", fingerprint.into()),
                ("process", process.into()),
                ("fence", fence.as_str().into()),
                ("created_at_us", now.into()),
            ],
        );
        insert.push(" ON CONFLICT (project_id, idempotency_key) DO NOTHING");
        if tx.execute("claim a key", insert).await? == 1 {
            tx.commit().await?;
            return Ok(Keyed::First(claim));
        }
        let query = Sql::new("SELECT * FROM idempotency_keys");
        let query = query.filter("project_id = ", project_id).filter("idempotency_key = ", key).for_update();
        // Whoever had it gave it back just now.
        let Some(row) = tx.optional("read a key", query).await? else { return Ok(Keyed::InHand) };
        if row.text("fingerprint")? != *fingerprint {
            return Ok(Keyed::Another);
        }
        if let Some(kept) = kept_answer(&row)? {
            return Ok(Keyed::Answered(kept));
        }
        if !row.text("process")?.is_empty() && row.int("created_at_us")? > now - IN_HAND_US {
            return Ok(Keyed::InHand);
        }
        let update = Sql::update(
            "idempotency_keys",
            [("process", process.into()), ("fence", fence.into()), ("created_at_us", now.into())],
        );
        let update = update.filter("project_id = ", project_id).filter("idempotency_key = ", key);
        tx.execute("take a key over", update).await?;
        tx.commit().await?;
        if row.optional_int("effect_at_us")?.is_none() {
            return Ok(Keyed::First(claim));
        }
        let object = row.optional_text("object_type")?.zip(row.optional_uuid("object_id")?);
        Ok(Keyed::Lost(claim, Made { object, operation_id: row.optional_uuid("operation_id")? }))
    }

    /// Keeps the answer for whoever asks again.
    pub async fn keep_answer(&self, claim: &Claim, kept: &KeptAnswer) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let update =
            Sql::update("idempotency_keys", [("status", u32::from(kept.status).into()), ("answer", Value::from(&kept.answer))]);
        tx.execute("keep an answer", held_by(update, claim)).await?;
        tx.commit().await
    }

    /// Gives a claim back: where nothing was made under it, the key may be used again; where something was, it is told anew to whoever
    /// asks.
    pub async fn release_key(&self, claim: &Claim) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let mut unused = held_by(Sql::new("DELETE FROM idempotency_keys"), claim);
        unused.push(" AND effect_at_us IS NULL");
        if tx.execute("release a key", unused).await? == 0 {
            let update = Sql::update("idempotency_keys", [("process", "".into())]);
            tx.execute("release a key", held_by(update, claim)).await?;
        }
        tx.commit().await
    }

    /// Gives up what a former life of this process had in hand.
    pub async fn release_keys_of(&self, process: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let mut update = Sql::update("idempotency_keys", [("process", "".into())]).filter("process = ", process);
        update.push(" AND status IS NULL");
        tx.execute("release keys", update).await?;
        tx.commit().await
    }
}

/// Says in a key's row what its request makes, in the transaction that makes it.
pub(super) async fn record(
    tx: &mut Session,
    claim: &Claim,
    made: Option<(&'static str, Uuid)>,
    operation_id: Option<Uuid>,
) -> Result<(), StoreError> {
    let mut update = Sql::update("idempotency_keys", [("effect_at_us", now_us().into())]);
    if let Some((object_type, id)) = made {
        update.push_bind(", object_type = ", object_type).push_bind(", object_id = ", id);
    }
    if let Some(id) = operation_id {
        update.push_bind(", operation_id = ", id);
    }
    if tx.execute("say what a request made", held_by(update, claim)).await? == 1 {
        return Ok(());
    }
    Err(Refusal::Conflict("This request was taken over by a repeated one with its Idempotency-Key.".into()).into())
}

/// Forgets keys that are old.
pub(super) async fn forget_old(tx: &mut Session) -> Result<(), StoreError> {
    let old = Sql::new("DELETE FROM idempotency_keys").filter("created_at_us < ", now_us() - KEPT_US);
    tx.execute("forget keys", old).await?;
    Ok(())
}

fn held_by(sql: Sql, claim: &Claim) -> Sql {
    sql.filter("project_id = ", &claim.project_id).filter("idempotency_key = ", &claim.key).filter("fence = ", &claim.fence)
}

fn kept_answer(row: &Row) -> Result<Option<KeptAnswer>, StoreError> {
    let (Some(status), Some(answer)) = (row.optional_int("status")?, row.optional_json("answer")?) else { return Ok(None) };
    let status = u16::try_from(status).map_err(|_| row.unreadable("status"))?;
    Ok(Some(KeptAnswer { status, answer }))
}
