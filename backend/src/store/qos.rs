//! Quality-of-service specs in the database, and which types have them.

use std::collections::BTreeMap;

use super::engine::{Row, Session, Sql, Value};
use super::{Store, StoreError, now_us, rows};
use crate::domain::{QosConsumer, QosSpecs, Refusal, VolumeType};

impl Store {
    /// All specs, by name.
    pub async fn all_qos(&self) -> Result<Vec<QosSpecs>, StoreError> {
        let query = Sql::new("SELECT * FROM qos_specs ORDER BY name");
        self.read().await?.all("list qos specs", query).await?.iter().map(read).collect()
    }

    /// One set of specs; refused as "not found" where there is none.
    pub async fn qos(&self, id: &str) -> Result<QosSpecs, StoreError> {
        find(&mut self.read().await?, id).await
    }

    /// The specs of a type, where it has some.
    pub async fn qos_of_type(&self, type_id: &str) -> Result<Option<QosSpecs>, StoreError> {
        let query = Sql::new("SELECT q.* FROM qos_specs q JOIN volume_types t ON t.qos_specs_id = q.id");
        let query = query.filter("t.id = ", type_id);
        self.read().await?.optional("read a type's qos specs", query).await?.as_ref().map(read).transpose()
    }

    /// Records specs.
    pub async fn insert_qos(&self, new: &QosSpecs) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let mut insert = Sql::insert(
            "qos_specs",
            [
                ("id", new.id.as_str().into()),
                ("name", new.name.as_str().into()),
                ("consumer", new.consumer.as_str().into()),
                ("specs", Value::from(&new.specs)),
                ("created_at_us", now_us().into()),
            ],
        );
        insert.push(" ON CONFLICT (name) DO NOTHING");
        if tx.execute("record qos specs", insert).await? == 0 {
            return Err(Refusal::Conflict(format!("QoS Specs {} already exists.", new.name)).into());
        }
        tx.commit().await
    }

    /// Changes specs; `change` sees them as they are.
    pub async fn change_qos(
        &self,
        id: &str,
        change: impl FnOnce(&mut QosConsumer, &mut BTreeMap<String, String>) -> Result<(), Refusal> + Send,
    ) -> Result<QosSpecs, StoreError> {
        let mut tx = self.begin().await?;
        let mut specs = lock(&mut tx, id).await?;
        change(&mut specs.consumer, &mut specs.specs)?;
        let update =
            Sql::update("qos_specs", [("consumer", specs.consumer.as_str().into()), ("specs", Value::from(&specs.specs))]);
        tx.execute("change qos specs", update.filter("id = ", id)).await?;
        tx.commit().await?;
        Ok(specs)
    }

    /// Removes specs; where types have them, only when `force`d, and then no longer.
    pub async fn delete_qos(&self, id: &str, force: bool) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        lock(&mut tx, id).await?;
        let used = Sql::new("SELECT COUNT(*) FROM volume_types").filter("qos_specs_id = ", id);
        if tx.number("look for the types of qos specs", used).await? > 0 && !force {
            return Err(Refusal::Invalid(format!("QoS Specs {id} is still associated with entities.")).into());
        }
        disassociate(&mut tx, id, None).await?;
        tx.execute("forget qos specs", Sql::new("DELETE FROM qos_specs").filter("id = ", id)).await?;
        tx.commit().await
    }

    /// The types that have these specs.
    pub async fn types_of_qos(&self, id: &str) -> Result<Vec<VolumeType>, StoreError> {
        let mut session = self.read().await?;
        find(&mut session, id).await?;
        let mut query = Sql::new("SELECT * FROM volume_types").filter("qos_specs_id = ", id);
        query.push(" ORDER BY name");
        session.all("list the types of qos specs", query).await?.iter().map(rows::volume_type).collect()
    }

    /// Gives a type these specs. A type has one set.
    pub async fn associate_qos(&self, id: &str, type_id: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        lock(&mut tx, id).await?;
        let volume_type = super::types::find_locked(&mut tx, type_id).await?;
        let volume_type = volume_type.ok_or_else(|| Refusal::VolumeTypeNotFound(type_id.to_owned()))?;
        if volume_type.qos_specs_id.as_deref().is_some_and(|other| other != id) {
            let text = format!("Type {type_id} is already associated with another qos specs: {}", volume_type.name);
            return Err(Refusal::Invalid(text).into());
        }
        let update = Sql::update("volume_types", [("qos_specs_id", id.into())]).filter("id = ", type_id);
        tx.execute("give a type qos specs", update).await?;
        tx.commit().await
    }

    /// Takes these specs from a type, or from all.
    pub async fn disassociate_qos(&self, id: &str, type_id: Option<&str>) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        lock(&mut tx, id).await?;
        disassociate(&mut tx, id, type_id).await?;
        tx.commit().await
    }
}

async fn disassociate(tx: &mut Session, id: &str, type_id: Option<&str>) -> Result<(), StoreError> {
    let mut update = Sql::update("volume_types", [("qos_specs_id", Value::Text(None))]).filter("qos_specs_id = ", id);
    if let Some(type_id) = type_id {
        update = update.filter("id = ", type_id);
    }
    tx.execute("take qos specs from types", update).await?;
    Ok(())
}

async fn find(session: &mut Session, id: &str) -> Result<QosSpecs, StoreError> {
    one(session, Sql::new("SELECT * FROM qos_specs").filter("id = ", id), id).await
}

async fn lock(tx: &mut Session, id: &str) -> Result<QosSpecs, StoreError> {
    one(tx, Sql::new("SELECT * FROM qos_specs").filter("id = ", id).for_update(), id).await
}

async fn one(session: &mut Session, query: Sql, id: &str) -> Result<QosSpecs, StoreError> {
    match session.optional("read qos specs", query).await? {
        Some(row) => read(&row),
        None => Err(Refusal::NotFound(format!("No such QoS spec {id}.")).into()),
    }
}

fn read(row: &Row) -> Result<QosSpecs, StoreError> {
    Ok(QosSpecs {
        id: row.text("id")?,
        name: row.text("name")?,
        consumer: row.word("consumer", QosConsumer::parse)?,
        specs: row.json("specs")?,
    })
}
