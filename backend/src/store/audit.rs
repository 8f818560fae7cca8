//! What there should be, for comparing with what there is; and what stays in a status that nobody works on.

use uuid::Uuid;

use super::engine::{Row, Sql};
use super::{Store, StoreError, attachments, now_us, quotas, rows, snapshots, volumes};
use crate::domain::volume::GIB;
use crate::domain::{Operation, SnapshotStatus, VolumeStatus, rules};

/// What changed less than this ago may be between two steps, microseconds.
const AT_REST_US: i64 = 60_000_000;

/// A volume or a snapshot that a backend should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// `volume` or `snapshot`.
    pub kind: &'static str,
    /// Its id.
    pub id: Uuid,
    /// The id its storage knows it by.
    pub storage_id: Uuid,
    /// Its size.
    pub size_bytes: u64,
    /// Its status.
    pub status: String,
    /// Whether an operation about it has not ended.
    pub is_busy: bool,
    /// What its driver wants to find again.
    pub provider: Option<serde_json::Value>,
}

/// An image as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptImage {
    /// Its id.
    pub id: Uuid,
    /// Whether its bytes are there, as recorded.
    pub is_active: bool,
    /// How many they are.
    pub size_bytes: Option<u64>,
}

/// Something in a status that an operation should end, and none does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// `volume`, `snapshot` or `attachment`.
    pub kind: &'static str,
    /// Its id.
    pub id: Uuid,
    /// What it is.
    pub status: String,
}

const UNENDED: &str = "EXISTS (SELECT 1 FROM operations o WHERE o.object_id = x.id AND o.state IN ('queued', 'running'))";

/// Statuses of volumes that only an operation about the volume itself ends.
const ON_THE_WAY: &str = "('creating', 'downloading', 'deleting', 'uploading', 'extending', 'reverting', 'retyping')";

impl Store {
    /// What a backend, `host@backend`, should have.
    pub async fn kept_by(&self, backend: &str) -> Result<Vec<Kept>, StoreError> {
        let prefix = format!("{backend}#");
        let length = i64::try_from(prefix.chars().count()).unwrap_or(i64::MAX);
        let mut session = self.read().await?;
        let mut all = Vec::new();
        let volumes = format!(
            "SELECT x.id, COALESCE(x.name_id, x.id) AS storage_id, x.size_gib, x.status, x.provider, CAST(CASE WHEN {UNENDED} THEN 1 ELSE 0 END AS BIGINT) AS busy \
             FROM volumes x WHERE substr(x.host, 1, CAST(? AS INTEGER)) = ?"
        );
        for row in session.all("list what there should be", Sql::new(volumes).bind(length).bind(&prefix)).await? {
            all.push(kept("volume", &row)?);
        }
        let snapshots = format!(
            "SELECT x.id, x.id AS storage_id, x.size_gib, x.status, x.provider, CAST(CASE WHEN {UNENDED} THEN 1 ELSE 0 END AS BIGINT) AS busy FROM snapshots x \
             JOIN volumes v ON v.id = x.volume_id WHERE substr(v.host, 1, CAST(? AS INTEGER)) = ?"
        );
        for row in session.all("list what there should be", Sql::new(snapshots).bind(length).bind(&prefix)).await? {
            all.push(kept("snapshot", &row)?);
        }
        Ok(all)
    }

    /// The ids of what work that has not ended keeps on storage beside volumes and snapshots.
    pub async fn ids_at_work(&self) -> Result<Vec<Uuid>, StoreError> {
        let query = Sql::new("SELECT * FROM operations WHERE state IN ('queued', 'running')");
        let rows = self.read().await?.all("list what is under way", query).await?;
        let operations = rows.iter().map(rows::operation).collect::<Result<Vec<_>, _>>()?;
        Ok(operations.iter().flat_map(Operation::storage_ids).collect())
    }

    /// Every image.
    pub async fn kept_images(&self) -> Result<Vec<KeptImage>, StoreError> {
        let rows = self.read().await?.all("list images", Sql::new("SELECT id, status, size_bytes FROM images")).await?;
        let image = |row: &Row| {
            let size_bytes = row.optional_int("size_bytes")?.and_then(|size| u64::try_from(size).ok());
            Ok(KeptImage { id: row.uuid("id")?, is_active: row.text("status")? == "active", size_bytes })
        };
        rows.iter().map(image).collect()
    }

    /// What stays in a status that nobody works on.
    pub async fn stuck(&self) -> Result<Vec<Stuck>, StoreError> {
        let mut session = self.read().await?;
        let before = now_us() - AT_REST_US;
        let mut all = Vec::new();
        for (kind, statuses, changed) in [
            ("volume", ON_THE_WAY, "COALESCE(x.updated_at_us, x.created_at_us)"),
            ("snapshot", "('creating', 'deleting')", "COALESCE(x.updated_at_us, x.created_at_us)"),
            ("attachment", "('detaching')", "x.created_at_us"),
        ] {
            let query = format!(
                "SELECT x.id, x.status FROM {kind}s x WHERE x.status IN {statuses} AND NOT {UNENDED} AND {changed} < ?"
            );
            for row in session.all("look for what nobody works on", Sql::new(query).bind(before)).await? {
                all.push(Stuck { kind, id: row.uuid("id")?, status: row.text("status")? });
            }
        }
        Ok(all)
    }

    /// Gives what is stuck the status that is true of it: what was to be made was not, what was to be removed may be half there. Whether
    /// that was done: an attachment is its volume's host's to take away.
    pub async fn end_stuck(&self, stuck: &Stuck) -> Result<bool, StoreError> {
        use VolumeStatus::*;
        let mut tx = self.begin().await?;
        let mut query = Sql::new("SELECT id FROM operations WHERE state IN ('queued', 'running')");
        query.push_bind(" AND object_id = ", stuck.id);
        if tx.optional("look for an operation", query).await?.is_some() {
            return Ok(false);
        }
        match stuck.kind {
            "volume" => {
                let volume = volumes::lock(&mut tx, stuck.id).await?;
                let status = match volume.status {
                    Creating | Downloading | Reverting => Error,
                    Deleting => ErrorDeleting,
                    Extending => ErrorExtending,
                    Uploading | Retyping => rules::status_held_by(&attachments::of_volume(&mut tx, stuck.id).await?),
                    _ => return Ok(false),
                };
                volumes::set_status(&mut tx, stuck.id, status).await?;
            }
            "snapshot" => {
                let status = match snapshots::lock(&mut tx, stuck.id).await?.status {
                    SnapshotStatus::Creating => SnapshotStatus::Error,
                    SnapshotStatus::Deleting => SnapshotStatus::ErrorDeleting,
                    _ => return Ok(false),
                };
                snapshots::set_status(&mut tx, stuck.id, status).await?;
            }
            _ => return Ok(false),
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Counts everything anew.
    pub async fn recount_usage(&self) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        if tx.is_postgres() {
            // Who has counted already is waited for, and who has not counts after: nothing is counted twice or missed.
            tx.execute("keep counters", Sql::new("LOCK TABLE usages IN EXCLUSIVE MODE")).await?;
        }
        quotas::recount(&mut tx).await?;
        tx.commit().await
    }
}

fn kept(kind: &'static str, row: &Row) -> Result<Kept, StoreError> {
    Ok(Kept {
        kind,
        id: row.uuid("id")?,
        storage_id: row.uuid("storage_id")?,
        size_bytes: row.size("size_gib")?.saturating_mul(GIB),
        status: row.text("status")?,
        is_busy: row.flag("busy")?,
        provider: row.optional_json("provider")?,
    })
}
