//! Who is alive, and what it has room for. Each backend of a volume host is a service of its own, as in the field.

use uuid::Uuid;

use super::engine::{Session, Sql, Value};
use super::{Store, StoreError, now_us};
use crate::domain::place::{STORAGE_PROTOCOL, VOLUME_SERVICE, backend_of};
use crate::domain::{Pool, Refusal, ServiceRow};

impl Store {
    /// Says that a service lives, what it has room for, and why its storage cannot be used, where that is so. `true`: it had been declared
    /// gone, and is not any more.
    pub async fn heartbeat(
        &self,
        name: &str,
        host: &str,
        zone: &str,
        pools: &[Pool],
        problem: Option<&str>,
    ) -> Result<bool, StoreError> {
        let pools = serde_json::to_string(pools).map_err(|_| StoreError::Unreadable { id: host.into(), column: "pools" })?;
        let now = now_us();
        let mut tx = self.begin().await?;
        let before = Sql::new("SELECT gone_at_us FROM services").filter("name = ", name).filter("host = ", host).for_update();
        let before = tx.optional("see whether a service was declared gone", before).await?;
        let was_gone = before.map(|row| row.optional_int("gone_at_us")).transpose()?.flatten().is_some();
        let mut upsert = Sql::insert(
            "services",
            [
                ("id", Uuid::new_v4().into()),
                ("name", name.into()),
                ("host", host.into()),
                ("availability_zone", zone.into()),
                ("pools", pools.into()),
                ("started_at_us", now.into()),
                ("heartbeat_at_us", now.into()),
                ("problem", problem.into()),
            ],
        );
        upsert.push(
            " ON CONFLICT (name, host) DO UPDATE SET availability_zone = excluded.availability_zone, pools = excluded.pools, \
             heartbeat_at_us = excluded.heartbeat_at_us, problem = excluded.problem, \
             gone_at_us = CASE WHEN excluded.problem IS NULL THEN NULL ELSE services.gone_at_us END",
        );
        tx.execute("say that a service lives", upsert).await?;
        tx.commit().await?;
        Ok(was_gone && problem.is_none())
    }

    /// Records that a service, or its storage, will not come back; refused where it is up. It is taken back when it is up again.
    pub async fn declare_gone(&self, name: &str, host: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let now = now_us();
        let services = all(&mut tx).await?;
        let named = |service: &&ServiceRow| service.name == name && service.host == host;
        let service = services.iter().find(named).ok_or_else(|| Refusal::ServiceNotFound(format!("{name} on {host}")))?;
        if service.is_up(now) {
            let text = format!(
                "{name} on {host} lives: only a service that was not heard of for a minute, or whose storage is down, can be declared gone."
            );
            return Err(Refusal::Conflict(text).into());
        }
        let update = Sql::update("services", [("gone_at_us", now.into()), ("updated_at_us", now.into())]);
        tx.execute("declare a service gone", update.filter("name = ", name).filter("host = ", host)).await?;
        tx.commit().await
    }

    /// All services, by name and host.
    pub async fn services(&self) -> Result<Vec<ServiceRow>, StoreError> {
        all(&mut self.read().await?).await
    }

    /// Takes a service out of use, or back into it.
    pub async fn set_service_disabled(
        &self,
        name: &str,
        host: &str,
        disabled: bool,
        reason: Option<&str>,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let update = Sql::update(
            "services",
            [("disabled", disabled.into()), ("disabled_reason", Value::from(reason)), ("updated_at_us", now_us().into())],
        );
        let changed = tx.execute("change a service", update.filter("name = ", name).filter("host = ", host)).await?;
        if changed == 0 {
            return Err(Refusal::ServiceNotFound(format!("{name} on {host}")).into());
        }
        tx.commit().await
    }
}

/// How hosts get at what is in a pool, where its service has told of it.
pub(super) async fn protocol_of(session: &mut Session, pool: &str) -> Result<Option<String>, StoreError> {
    let mut query = Sql::new("SELECT pools FROM services").filter("name = ", VOLUME_SERVICE);
    query = query.filter("host = ", backend_of(pool));
    let Some(row) = session.optional("read a service's pools", query).await? else { return Ok(None) };
    let pools: Vec<Pool> = row.json("pools")?;
    let protocol = |pool: Pool| pool.capabilities.get(STORAGE_PROTOCOL)?.as_str().map(str::to_owned);
    Ok(pools.into_iter().find(|one| one.name == pool).and_then(protocol))
}

/// All services, within a transaction.
pub(super) async fn all(session: &mut Session) -> Result<Vec<ServiceRow>, StoreError> {
    let rows = session.all("list services", Sql::new("SELECT * FROM services ORDER BY name, host")).await?;
    rows.iter()
        .map(|row| {
            Ok(ServiceRow {
                id: row.text("id")?,
                name: row.text("name")?,
                host: row.text("host")?,
                availability_zone: row.text("availability_zone")?,
                disabled: row.flag("disabled")?,
                disabled_reason: row.optional_text("disabled_reason")?,
                pools: row.json("pools")?,
                heartbeat_at_us: row.int("heartbeat_at_us")?,
                updated_at_us: row.optional_int("updated_at_us")?,
                gone_at_us: row.optional_int("gone_at_us")?,
                problem: row.optional_text("problem")?,
            })
        })
        .collect()
}
