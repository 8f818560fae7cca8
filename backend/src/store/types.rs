//! Volume types in the database.

use super::engine::{Session, Sql, Value};
use super::{Store, StoreError, now_us, rows};
use crate::domain::{Refusal, VolumeType};

impl Store {
    /// Makes sure the default type is there, under the name that is configured now.
    pub async fn ensure_default_type(&self, id: &str, name: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let mut insert = Sql::insert(
            "volume_types",
            [
                ("id", id.into()),
                ("name", name.into()),
                ("description", "Default Volume Type".into()),
                ("created_at_us", now_us().into()),
            ],
        );
        insert.push(" ON CONFLICT (id) DO UPDATE SET name = excluded.name");
        tx.execute("keep the default type", insert).await?;
        tx.commit().await
    }

    /// The types a project may use; `None` is all of them. By name.
    pub async fn volume_types(&self, project_id: Option<&str>) -> Result<Vec<VolumeType>, StoreError> {
        let mut query = Sql::new("SELECT * FROM volume_types");
        if let Some(project) = project_id {
            query.push(" WHERE is_public = 1 OR id IN (SELECT volume_type_id FROM volume_type_access");
            query.push_bind(" WHERE project_id = ", project).push(")");
        }
        query.push(" ORDER BY name");
        self.read().await?.all("list volume types", query).await?.iter().map(rows::volume_type).collect()
    }

    /// A type by its id or its name, where this project may use it; `None` is any project's.
    pub async fn volume_type(&self, id_or_name: &str, project_id: Option<&str>) -> Result<VolumeType, StoreError> {
        let mut query = Sql::new("SELECT * FROM volume_types");
        query.push_bind(" WHERE (id = ", id_or_name).push_bind(" OR name = ", id_or_name).push(")");
        if let Some(project) = project_id {
            query.push(" AND (is_public = 1 OR id IN (SELECT volume_type_id FROM volume_type_access");
            query.push_bind(" WHERE project_id = ", project).push("))");
        }
        match self.read().await?.optional("read a volume type", query).await? {
            Some(row) => rows::volume_type(&row),
            None => Err(Refusal::VolumeTypeNotFound(id_or_name.to_owned()).into()),
        }
    }

    /// Records a type.
    pub async fn insert_type(&self, new: &VolumeType) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let insert = Sql::insert(
            "volume_types",
            [
                ("id", new.id.as_str().into()),
                ("name", new.name.as_str().into()),
                ("description", new.description.clone().into()),
                ("is_public", new.is_public.into()),
                ("extra_specs", Value::from(&new.extra_specs)),
                ("qos_specs_id", new.qos_specs_id.clone().into()),
                ("created_at_us", now_us().into()),
            ],
        );
        let mut taken = Sql::new("SELECT COUNT(*) FROM volume_types");
        taken = taken.filter("name = ", new.name.as_str());
        if tx.number("look for a volume type", taken).await? > 0 {
            return Err(Refusal::VolumeTypeExists(new.name.clone()).into());
        }
        tx.execute("record a volume type", insert).await?;
        tx.commit().await
    }
}

/// A type by its id, within a transaction.
pub(super) async fn find(session: &mut Session, id: &str) -> Result<Option<VolumeType>, StoreError> {
    let query = Sql::new("SELECT * FROM volume_types").filter("id = ", id);
    session.optional("read a volume type", query).await?.as_ref().map(rows::volume_type).transpose()
}

/// The same, kept from being changed by others until the transaction ends.
pub(super) async fn find_locked(tx: &mut Session, id: &str) -> Result<Option<VolumeType>, StoreError> {
    let query = Sql::new("SELECT * FROM volume_types").filter("id = ", id).for_update();
    tx.optional("read a volume type", query).await?.as_ref().map(rows::volume_type).transpose()
}
