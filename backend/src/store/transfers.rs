//! Volumes offered to other projects. What changes hands, and what both projects' quotas make of it, is one transaction.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::engine::{Row, Session, Sql};
use super::{Limits, Store, StoreError, now_us, quotas, snapshots, volumes};
use crate::domain::{Refusal, Transfer, VolumeStatus};
use crate::hex::hex;
use crate::secret::{Secret, random_alphanumeric};

/// An offer to be made.
#[derive(Clone, Debug)]
pub struct NewTransfer {
    /// What is offered.
    pub volume_id: Uuid,
    /// The owner's name for it.
    pub name: Option<String>,
    /// Whether the volume is to go without its snapshots.
    pub no_snapshots: bool,
}

/// What whoever takes the volume must bring; told once, when the offer is made.
#[derive(Clone, Debug)]
pub struct TransferKey(pub Secret);

impl Store {
    /// Offers a volume; nobody may use it meanwhile.
    pub async fn offer(&self, new: NewTransfer) -> Result<(Transfer, TransferKey), StoreError> {
        let mut tx = self.begin().await?;
        let volume = volumes::lock(&mut tx, new.volume_id).await?;
        if volume.status != VolumeStatus::Available {
            return Err(Refusal::Invalid("Invalid volume: status must be available".into()).into());
        }
        if new.no_snapshots && snapshots::count_of(&mut tx, volume.id).await? > 0 {
            let text = "Invalid volume: a volume with snapshots is transferred with them; delete them first, or leave no_snapshots out";
            return Err(Refusal::Invalid(text.into()).into());
        }
        let busy =
            Sql::new("SELECT COUNT(*) FROM snapshots").filter("volume_id = ", volume.id).filter("status <> ", "available");
        if tx.number("look for snapshots at work", busy).await? > 0 {
            return Err(Refusal::Invalid("Invalid snapshot: all snapshots of the volume must be available".into()).into());
        }
        let (id, key, salt) = (Uuid::new_v4(), Secret::random(16), random_alphanumeric(8));
        let insert = Sql::insert(
            "transfers",
            [
                ("id", id.into()),
                ("volume_id", volume.id.into()),
                ("project_id", volume.project_id.as_str().into()),
                ("name", new.name.into()),
                ("key_digest", digest(&salt, key.reveal()).into()),
                ("salt", salt.into()),
                ("no_snapshots", new.no_snapshots.into()),
                ("created_at_us", now_us().into()),
            ],
        );
        tx.execute("record a transfer", insert).await?;
        volumes::set_status(&mut tx, volume.id, VolumeStatus::AwaitingTransfer).await?;
        let (transfer, _, _) = find(&mut tx, id).await?;
        tx.commit().await?;
        Ok((transfer, TransferKey(key)))
    }

    /// Gives the volume to whoever brings the key.
    pub async fn accept_transfer(
        &self,
        id: Uuid,
        key: &str,
        project_id: &str,
        user_id: &str,
        limits: &Limits,
    ) -> Result<Transfer, StoreError> {
        let mut tx = self.begin().await?;
        let volume_id = find(&mut tx, id).await?.0.volume_id;
        let volume = volumes::lock(&mut tx, volume_id).await?;
        // Read again, for it may be gone since the lock was waited for.
        let (transfer, salt, expected) = find(&mut tx, id).await?;
        if digest(&salt, key) != expected {
            let text = format!("Invalid auth key: Attempt to transfer {id} with invalid auth key.");
            return Err(Refusal::Invalid(text).into());
        }
        if volume.status != VolumeStatus::AwaitingTransfer {
            return Err(Refusal::Invalid(format!("Invalid volume: Volume {volume_id} is not awaiting transfer.")).into());
        }
        let type_name = volume.volume_type.as_deref().unwrap_or_default();
        let charged = Some(volume.size_gib).filter(|_| volume.consumes_quota);
        let query = Sql::new("SELECT size_gib FROM snapshots").filter("volume_id = ", volume_id);
        let sizes: Vec<u64> =
            tx.all("read snapshots", query).await?.iter().map(|row| row.size("size_gib")).collect::<Result<_, _>>()?;
        let changes = |sign: i64| {
            let of_volume = charged.iter().flat_map(move |size| quotas::of_volume(type_name, *size, sign));
            let of_snapshots = sizes.iter().flat_map(move |size| quotas::of_snapshot(type_name, *size, sign));
            let mut changes: Vec<_> = of_volume.chain(of_snapshots).collect();
            // Always in one order, so that two transactions never wait for each other.
            changes.sort();
            changes
        };
        quotas::charge(&mut tx, project_id, &changes(1), limits).await?;
        quotas::release(&mut tx, &volume.project_id, &changes(-1)).await?;
        for table in ["volumes", "snapshots"] {
            let column = if table == "volumes" { "id = " } else { "volume_id = " };
            let update = Sql::update(
                table,
                [("project_id", project_id.into()), ("user_id", user_id.into()), ("updated_at_us", now_us().into())],
            );
            tx.execute("give a volume away", update.filter(column, volume_id)).await?;
        }
        volumes::set_status(&mut tx, volume_id, VolumeStatus::Available).await?;
        tx.execute("forget a transfer", Sql::new("DELETE FROM transfers").filter("id = ", id)).await?;
        tx.commit().await?;
        Ok(transfer)
    }

    /// Takes an offer back.
    pub async fn withdraw(&self, id: Uuid) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let volume_id = find(&mut tx, id).await?.0.volume_id;
        let volume = volumes::lock(&mut tx, volume_id).await?;
        if tx.execute("forget a transfer", Sql::new("DELETE FROM transfers").filter("id = ", id)).await? == 0 {
            return Err(absent(id));
        }
        if volume.status == VolumeStatus::AwaitingTransfer {
            volumes::set_status(&mut tx, volume_id, VolumeStatus::Available).await?;
        }
        tx.commit().await
    }

    /// One offer; refused as "not found" where there is none.
    pub async fn transfer(&self, id: Uuid) -> Result<Transfer, StoreError> {
        Ok(find(&mut self.read().await?, id).await?.0)
    }

    /// The offers of a project, or of all, newest first.
    pub async fn transfers(&self, project_id: Option<&str>, limit: u32, offset: u32) -> Result<Vec<Transfer>, StoreError> {
        let mut query = Sql::new("SELECT * FROM transfers");
        if let Some(project) = project_id {
            query = query.filter("project_id = ", project);
        }
        query.push_bind(" ORDER BY created_at_us DESC, id LIMIT ", limit).push_bind(" OFFSET ", offset);
        self.read().await?.all("list transfers", query).await?.iter().map(read).collect()
    }
}

fn digest(salt: &str, key: &str) -> String {
    hex(&Sha256::digest(format!("{salt}:{key}")))
}

fn absent(id: Uuid) -> StoreError {
    Refusal::NotFound(format!("Transfer {id} could not be found.")).into()
}

/// A transfer, its salt and its key's digest.
async fn find(session: &mut Session, id: Uuid) -> Result<(Transfer, String, String), StoreError> {
    match session.optional("read a transfer", Sql::new("SELECT * FROM transfers").filter("id = ", id)).await? {
        Some(row) => Ok((read(&row)?, row.text("salt")?, row.text("key_digest")?)),
        None => Err(absent(id)),
    }
}

fn read(row: &Row) -> Result<Transfer, StoreError> {
    Ok(Transfer {
        id: row.uuid("id")?,
        volume_id: row.uuid("volume_id")?,
        project_id: row.text("project_id")?,
        name: row.optional_text("name")?,
        no_snapshots: row.flag("no_snapshots")?,
        created_at_us: row.int("created_at_us")?,
    })
}
