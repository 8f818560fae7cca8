//! The keys of volumes and backups, sealed. One row a key; its `owner_id` is the volume or backup that it opens, and it goes with that
//! in one transaction.

use uuid::Uuid;

use super::engine::{Session, Sql};
use super::{Store, StoreError, now_us};
use crate::domain::NewKey;

impl Store {
    /// A key as it was sealed; none where there is no such.
    pub async fn sealed_key(&self, id: Uuid) -> Result<Option<String>, StoreError> {
        let query = Sql::new("SELECT sealed FROM volume_keys").filter("id = ", id);
        let row = self.read().await?.optional("read a key", query).await?;
        row.map(|row| row.text("sealed")).transpose()
    }

    /// The oldest key of this service's own, as it was sealed; none where it has none.
    pub async fn oldest_kept_key(&self) -> Result<Option<(Uuid, String)>, StoreError> {
        let mut query = Sql::new("SELECT id, sealed FROM volume_keys").filter("kept = ", true);
        query.push(" ORDER BY created_at_us, id LIMIT 1");
        let row = self.read().await?.optional("look for keys", query).await?;
        row.map(|row| Ok((row.uuid("id")?, row.text("sealed")?))).transpose()
    }

    /// The project whose volume or backup a key of this service's own opens, and since when, microseconds since the epoch.
    pub async fn owner_of_key(&self, id: Uuid) -> Result<Option<(String, i64)>, StoreError> {
        let query = Sql::new(
            "SELECT created_at_us, COALESCE((SELECT project_id FROM volumes WHERE volumes.id = owner_id), \
             (SELECT project_id FROM backups WHERE backups.id = owner_id), '') AS project_id FROM volume_keys",
        );
        let query = query.filter("id = ", id).filter("kept = ", true);
        let row = self.read().await?.optional("read whose a key is", query).await?;
        row.map(|row| Ok((row.text("project_id")?, row.int("created_at_us")?))).transpose()
    }
}

/// Records the key of something that is being made.
pub(super) async fn insert(tx: &mut Session, key: &NewKey, owner_id: Uuid) -> Result<(), StoreError> {
    let insert = Sql::insert(
        "volume_keys",
        [
            ("id", key.id.into()),
            ("owner_id", owner_id.into()),
            ("sealed", key.sealed.as_str().into()),
            ("kept", key.is_kept.into()),
            ("created_at_us", now_us().into()),
        ],
    );
    tx.execute("record a key", insert).await?;
    Ok(())
}

/// Forgets the key of a volume that nothing is to be written to any more, where a key manager outside has it.
pub(super) async fn forget_in_transit(tx: &mut Session, owner_id: Uuid) -> Result<(), StoreError> {
    let delete = Sql::new("DELETE FROM volume_keys").filter("owner_id = ", owner_id).filter("kept = ", false);
    tx.execute("forget a key in transit", delete).await?;
    Ok(())
}

/// Forgets the key of something that is gone.
pub(super) async fn forget(tx: &mut Session, owner_id: Uuid) -> Result<(), StoreError> {
    tx.execute("forget a key", Sql::new("DELETE FROM volume_keys").filter("owner_id = ", owner_id)).await?;
    Ok(())
}
