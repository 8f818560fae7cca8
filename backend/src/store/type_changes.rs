//! Volume types in the database: change, remove, and who may use those that are not public.

use std::collections::BTreeMap;

use super::engine::{Session, Sql, Value};
use super::{Store, StoreError, now_us, types};
use crate::domain::{Refusal, VolumeType};

/// What an administrator may change of a type; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct TypeChange {
    /// A new name.
    pub name: Option<String>,
    /// A new description, or none any more.
    pub description: Option<Option<String>>,
    /// Whether every project may use it.
    pub is_public: Option<bool>,
}

/// Resources of which there is one more for each type: `volumes_<type>` …
const PER_TYPE: [&str; 3] = ["gigabytes", "snapshots", "volumes"];

impl Store {
    /// Changes a type. Counters and limits that are called after it follow its name.
    pub async fn change_type(&self, id: &str, change: TypeChange) -> Result<VolumeType, StoreError> {
        let mut tx = self.begin().await?;
        let old = lock(&mut tx, id).await?;
        let name = change.name.unwrap_or_else(|| old.name.clone());
        if name != old.name {
            let taken = Sql::new("SELECT COUNT(*) FROM volume_types").filter("name = ", &name);
            if tx.number("look for a volume type", taken).await? > 0 {
                return Err(Refusal::VolumeTypeExists(name).into());
            }
            for things in PER_TYPE {
                let (from, to) = (format!("{things}_{}", old.name), format!("{things}_{name}"));
                for table in ["usages", "quotas"] {
                    // What a type of that name, long gone, has left behind.
                    tx.execute("rename a counter", Sql::new(format!("DELETE FROM {table}")).filter("resource = ", &to)).await?;
                    let rename = Sql::update(table, [("resource", to.as_str().into())]).filter("resource = ", &from);
                    tx.execute("rename a counter", rename).await?;
                }
            }
        }
        let update = Sql::update(
            "volume_types",
            [
                ("name", name.into()),
                ("description", change.description.unwrap_or(old.description).into()),
                ("is_public", change.is_public.unwrap_or(old.is_public).into()),
                ("updated_at_us", now_us().into()),
            ],
        );
        tx.execute("change a volume type", update.filter("id = ", id)).await?;
        let changed = lock(&mut tx, id).await?;
        tx.commit().await?;
        Ok(changed)
    }

    /// Changes a type's extra specs; `change` sees them as they are.
    pub async fn change_extra_specs(
        &self,
        id: &str,
        change: impl FnOnce(&mut BTreeMap<String, String>) -> Result<(), Refusal> + Send,
    ) -> Result<BTreeMap<String, String>, StoreError> {
        let mut tx = self.begin().await?;
        let mut specs = lock(&mut tx, id).await?.extra_specs;
        change(&mut specs)?;
        let update = Sql::update("volume_types", [("extra_specs", Value::from(&specs)), ("updated_at_us", now_us().into())]);
        tx.execute("change extra specs", update.filter("id = ", id)).await?;
        tx.commit().await?;
        Ok(specs)
    }

    /// Removes a type that no volume is of.
    pub async fn delete_type(&self, id: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        lock(&mut tx, id).await?;
        let used = Sql::new("SELECT COUNT(*) FROM volumes").filter("volume_type_id = ", id);
        if tx.number("look for a type's volumes", used).await? > 0 {
            return Err(Refusal::Invalid("Target volume type is still in use.".into()).into());
        }
        let default = Sql::new("SELECT COUNT(*) FROM default_types").filter("volume_type_id = ", id);
        if tx.number("look for a type's projects", default).await? > 0 {
            let text = format!("The volume type {id} is a default volume type and cannot be deleted.");
            return Err(Refusal::Invalid(text).into());
        }
        tx.execute("forget who may use a type", Sql::new("DELETE FROM volume_type_access").filter("volume_type_id = ", id))
            .await?;
        tx.execute("forget a volume type", Sql::new("DELETE FROM volume_types").filter("id = ", id)).await?;
        tx.commit().await
    }

    /// The projects that may use a type which is not public.
    pub async fn type_access(&self, id: &str) -> Result<Vec<String>, StoreError> {
        let query = Sql::new("SELECT project_id FROM volume_type_access").filter("volume_type_id = ", id);
        let rows = self.read().await?.all("read who may use a type", query).await?;
        rows.iter().map(|row| row.text("project_id")).collect()
    }

    /// Lets a project use a type that is not public.
    pub async fn add_type_access(&self, id: &str, project_id: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        lock(&mut tx, id).await?;
        let mut insert = Sql::insert("volume_type_access", [("volume_type_id", id.into()), ("project_id", project_id.into())]);
        insert.push(" ON CONFLICT (volume_type_id, project_id) DO NOTHING");
        if tx.execute("let a project use a type", insert).await? == 0 {
            let text = format!("Volume type access for {id} / {project_id} combination already exists.");
            return Err(Refusal::Conflict(text).into());
        }
        tx.commit().await
    }

    /// Lets it no more.
    pub async fn remove_type_access(&self, id: &str, project_id: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let delete = Sql::new("DELETE FROM volume_type_access").filter("volume_type_id = ", id);
        if tx.execute("let a project use a type no more", delete.filter("project_id = ", project_id)).await? == 0 {
            let text = format!("Volume type access not found for {id} / {project_id} combination.");
            return Err(Refusal::NotFound(text).into());
        }
        tx.commit().await
    }
}

/// Reads a type and keeps others from changing it until the transaction ends.
pub(super) async fn lock(tx: &mut Session, id: &str) -> Result<VolumeType, StoreError> {
    types::find_locked(tx, id).await?.ok_or_else(|| Refusal::VolumeTypeNotFound(id.to_owned()).into())
}

/// The type that a project's volumes get which ask for none.
impl Store {
    /// A project's, where it has one of its own.
    pub async fn default_type_of(&self, project_id: &str) -> Result<Option<String>, StoreError> {
        let query = Sql::new("SELECT volume_type_id FROM default_types").filter("project_id = ", project_id);
        let row = self.read().await?.optional("read a project's default type", query).await?;
        row.map(|row| row.text("volume_type_id")).transpose()
    }

    /// All projects' that have one of their own, with its type.
    pub async fn default_types(&self) -> Result<Vec<(String, String)>, StoreError> {
        let query = Sql::new("SELECT project_id, volume_type_id FROM default_types ORDER BY project_id");
        let rows = self.read().await?.all("list default types", query).await?;
        rows.iter().map(|row| Ok((row.text("project_id")?, row.text("volume_type_id")?))).collect()
    }

    /// Gives a project one, or none of its own any more.
    pub async fn set_default_type(&self, project_id: &str, type_id: Option<&str>) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        tx.execute("forget a default type", Sql::new("DELETE FROM default_types").filter("project_id = ", project_id)).await?;
        if let Some(type_id) = type_id {
            lock(&mut tx, type_id).await?;
            let insert = Sql::insert("default_types", [("project_id", project_id.into()), ("volume_type_id", type_id.into())]);
            tx.execute("set a default type", insert).await?;
        }
        tx.commit().await
    }
}
