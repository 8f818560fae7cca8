//! Limits and counters. A counter is written in the transaction that adds or removes what it counts, so it is always the sum it
//! stands for; there is no reserving first and committing later that a crash could come between.

use std::collections::BTreeMap;

use super::engine::{Session, Sql};
use super::extend::Extension;
use super::{Store, StoreError, rows};
use crate::domain::{Migration, Operation, Phase, Refusal};

/// Limits by resource, as configured: for those that neither the project nor the default class has another for. -1 is none.
pub type Limits = BTreeMap<String, i64>;

/// What there may be and what there is of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaLine {
    /// `volumes`, `gigabytes`, `snapshots`, `volumes_<type>` …
    pub resource: String,
    /// What may be; -1 is without limit.
    pub limit: i64,
    /// What is.
    pub in_use: i64,
    /// What is set aside for work under way.
    pub reserved: i64,
}

/// A counter that is not the sum it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// A project's id, or `pool:<host@backend#pool>`.
    pub owner: String,
    /// Of what.
    pub resource: String,
    /// What the counter says.
    pub counted: i64,
    /// What there is.
    pub summed: i64,
}

/// The class whose limits hold for every project that has none of its own.
const DEFAULT_CLASS: &str = "class:default";

/// What so many volumes of this size change, by resource: `sign` is 1 or -1.
pub(super) fn of_volume(type_name: &str, size_gib: u64, sign: i64) -> Vec<(String, i64)> {
    counted("volumes", type_name, size_gib, sign)
}

/// What it changes that a volume has this type: the counters by type alone.
pub(super) fn of_type(type_name: &str, size_gib: u64, sign: i64) -> Vec<(String, i64)> {
    by_type(type_name, of_volume(type_name, size_gib, sign).into_iter())
}

/// Those of some changes that are by type; the others stay.
pub(super) fn by_type(type_name: &str, changes: impl Iterator<Item = (String, i64)>) -> Vec<(String, i64)> {
    let mut changes: Vec<_> = changes.filter(|(resource, _)| resource.ends_with(&format!("_{type_name}"))).collect();
    changes.sort();
    changes
}

/// What a snapshot changes. It counts by its whole size, as in the field's service.
pub(super) fn of_snapshot(type_name: &str, size_gib: u64, sign: i64) -> Vec<(String, i64)> {
    counted("snapshots", type_name, size_gib, sign)
}

/// What a backup changes. It counts by its volume's size, as in the field's service: what is stored is less.
pub(super) fn of_backup(size_gib: u64, sign: i64) -> Vec<(String, i64)> {
    let gib = i64::try_from(size_gib).unwrap_or(i64::MAX).saturating_mul(sign);
    vec![("backup_gigabytes".to_owned(), gib), ("backups".to_owned(), sign)]
}

/// What it changes that a volume gets larger, or does not after all: GiB alone.
pub(super) fn of_growth(type_name: &str, gained_gib: u64, sign: i64) -> Vec<(String, i64)> {
    let mut changes = of_volume(type_name, gained_gib, sign);
    changes.retain(|(resource, _)| resource.starts_with("gigabytes"));
    changes
}

fn counted(things: &str, type_name: &str, size_gib: u64, sign: i64) -> Vec<(String, i64)> {
    let gib = i64::try_from(size_gib).unwrap_or(i64::MAX).saturating_mul(sign);
    let mut changes = vec![(things.to_owned(), sign), ("gigabytes".to_owned(), gib)];
    if !type_name.is_empty() {
        changes.push((format!("{things}_{type_name}"), sign));
        changes.push((format!("gigabytes_{type_name}"), gib));
    }
    // Always in one order, so that two transactions never wait for each other.
    changes.sort();
    changes
}

/// Charges a project, or refuses where a limit would be passed: the transaction is then dropped.
pub(super) async fn charge(
    tx: &mut Session,
    project_id: &str,
    changes: &[(String, i64)],
    configured: &Limits,
) -> Result<(), StoreError> {
    let limits = limits_of(tx, project_id, configured).await?;
    for (resource, delta) in changes {
        let in_use = add(tx, project_id, resource, *delta).await?;
        let limit = limits.get(resource).copied().unwrap_or(-1);
        if *delta > 0 && limit >= 0 && in_use > limit {
            let in_use = in_use - delta;
            return Err(Refusal::OverQuota { resource: resource.clone(), requested: *delta, in_use, limit }.into());
        }
    }
    Ok(())
}

/// Refuses a volume that is larger than each of the project's may be.
pub(super) async fn check_size(
    tx: &mut Session,
    project_id: &str,
    size_gib: u64,
    configured: &Limits,
) -> Result<(), StoreError> {
    const RESOURCE: &str = "per_volume_gigabytes";
    let limit = limits_of(tx, project_id, configured).await?.get(RESOURCE).copied().unwrap_or(-1);
    let requested = i64::try_from(size_gib).unwrap_or(i64::MAX);
    if limit >= 0 && requested > limit {
        return Err(Refusal::OverQuota { resource: RESOURCE.into(), requested, in_use: 0, limit }.into());
    }
    Ok(())
}

/// Gives back what was charged.
pub(super) async fn release(tx: &mut Session, project_id: &str, changes: &[(String, i64)]) -> Result<(), StoreError> {
    for (resource, delta) in changes {
        add(tx, project_id, resource, *delta).await?;
    }
    Ok(())
}

/// Counts a volume in its pool.
pub(super) async fn charge_pool(tx: &mut Session, host: &str, size_gib: u64) -> Result<(), StoreError> {
    add(tx, &format!("pool:{host}"), "gigabytes", i64::try_from(size_gib).unwrap_or(i64::MAX)).await?;
    Ok(())
}

/// Takes a volume out of its pool's count; nothing where it never had a pool.
pub(super) async fn release_pool(tx: &mut Session, host: &str, size_gib: u64) -> Result<(), StoreError> {
    if !host.is_empty() {
        add(tx, &format!("pool:{host}"), "gigabytes", -i64::try_from(size_gib).unwrap_or(i64::MAX)).await?;
    }
    Ok(())
}

/// Adds to a counter; gives what it is now. The row is locked until the transaction ends.
async fn add(tx: &mut Session, owner: &str, resource: &str, delta: i64) -> Result<i64, StoreError> {
    let mut upsert = Sql::insert("usages", [("owner", owner.into()), ("resource", resource.into()), ("in_use", delta.into())]);
    upsert.push(" ON CONFLICT (owner, resource) DO UPDATE SET in_use = usages.in_use + excluded.in_use RETURNING in_use");
    tx.number("count", upsert).await
}

async fn limits_of(session: &mut Session, project_id: &str, configured: &Limits) -> Result<Limits, StoreError> {
    let mut limits = configured.clone();
    let query = Sql::new("SELECT owner, resource, hard_limit FROM quotas WHERE owner = ? OR owner = ?");
    let rows = session.all("read quotas", query.bind(project_id).bind(DEFAULT_CLASS)).await?;
    // The class first: the project's own limits win.
    for own in [false, true] {
        for row in &rows {
            if (row.text("owner")? == project_id) == own {
                limits.insert(row.text("resource")?, row.int("hard_limit")?);
            }
        }
    }
    Ok(limits)
}

impl Store {
    /// Every resource of a project: those that are configured, limited or used.
    pub async fn quotas(&self, project_id: &str, configured: &Limits) -> Result<Vec<QuotaLine>, StoreError> {
        let mut session = self.read().await?;
        let limits = limits_of(&mut session, project_id, configured).await?;
        let mut lines: BTreeMap<String, QuotaLine> = limits
            .into_iter()
            .map(|(resource, limit)| (resource.clone(), QuotaLine { resource, limit, in_use: 0, reserved: 0 }))
            .collect();
        let query = Sql::new("SELECT resource, in_use, reserved FROM usages").filter("owner = ", project_id);
        for row in session.all("read usage", query).await? {
            let resource = row.text("resource")?;
            let line = lines.entry(resource.clone()).or_insert(QuotaLine { resource, limit: -1, in_use: 0, reserved: 0 });
            (line.in_use, line.reserved) = (row.int("in_use")?, row.int("reserved")?);
        }
        Ok(lines.into_values().collect())
    }

    /// Sets a limit. `owner` is a project's id or `class:<name>`.
    pub async fn set_quota(&self, owner: &str, resource: &str, limit: i64) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let mut upsert =
            Sql::insert("quotas", [("owner", owner.into()), ("resource", resource.into()), ("hard_limit", limit.into())]);
        upsert.push(" ON CONFLICT (owner, resource) DO UPDATE SET hard_limit = excluded.hard_limit");
        tx.execute("set a quota", upsert).await?;
        tx.commit().await
    }

    /// Forgets all limits of an owner: the defaults hold again.
    pub async fn forget_quotas(&self, owner: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        tx.execute("forget quotas", Sql::new("DELETE FROM quotas").filter("owner = ", owner)).await?;
        tx.commit().await
    }

    /// Every counter that is not the sum it stands for. None, ever: this is for tests and audits.
    pub async fn usage_drift(&self) -> Result<Vec<Drift>, StoreError> {
        let mut session = self.read().await?;
        let summed = sums(&mut session).await?;
        let mut counted = Sums::new();
        for row in session.all("read usage", Sql::new("SELECT owner, resource, in_use FROM usages")).await? {
            counted.insert((row.text("owner")?, row.text("resource")?), row.int("in_use")?);
        }
        let keys: std::collections::BTreeSet<_> = summed.keys().chain(counted.keys()).cloned().collect();
        let value = |map: &Sums, key: &(String, String)| map.get(key).copied().unwrap_or(0);
        Ok(keys
            .into_iter()
            .map(|key| Drift { counted: value(&counted, &key), summed: value(&summed, &key), owner: key.0, resource: key.1 })
            .filter(|drift| drift.counted != drift.summed)
            .collect())
    }
}

type Sums = BTreeMap<(String, String), i64>;

/// Counts everything anew.
pub(super) async fn recount(tx: &mut Session) -> Result<(), StoreError> {
    let summed = sums(tx).await?;
    tx.execute("count anew", Sql::new("DELETE FROM usages")).await?;
    for ((owner, resource), in_use) in summed {
        add(tx, &owner, &resource, in_use).await?;
    }
    Ok(())
}

async fn sums(session: &mut Session) -> Result<Sums, StoreError> {
    let mut sums = Sums::new();
    for (things, table, condition) in [("volumes", "volumes", "WHERE consumes_quota = 1"), ("snapshots", "snapshots", "")] {
        let query = format!(
            "SELECT project_id, COALESCE((SELECT t.name FROM volume_types t WHERE t.id = volume_type_id), '') AS type_name, \
             COUNT(*) AS things, CAST(SUM(size_gib) AS BIGINT) AS gib FROM {table} {condition} GROUP BY project_id, volume_type_id"
        );
        for row in session.all("count everything", Sql::new(query)).await? {
            let (project, type_name) = (row.text("project_id")?, row.text("type_name")?);
            let number = row.int("things")?;
            for (resource, change) in counted(things, &type_name, row.size("gib")?, 1) {
                let change = if resource.starts_with("gigabytes") { change } else { number };
                *sums.entry((project.clone(), resource)).or_default() += change;
            }
        }
    }
    let backups =
        "SELECT project_id, COUNT(*) AS things, CAST(SUM(size_gib) AS BIGINT) AS gib FROM backups GROUP BY project_id";
    for row in session.all("count everything", Sql::new(backups)).await? {
        let project = row.text("project_id")?;
        sums.insert((project.clone(), "backups".to_owned()), row.int("things")?);
        sums.insert((project, "backup_gigabytes".to_owned()), row.int("gib")?);
    }
    for row in session.all("count everything", Sql::new(UNDER_WAY)).await? {
        for (owner, resource, change) in paid_ahead(&rows::operation(&row)?) {
            *sums.entry((owner, resource)).or_default() += change;
        }
    }
    let pools = "SELECT host, CAST(SUM(size_gib) AS BIGINT) AS gib FROM volumes WHERE host <> '' GROUP BY host";
    for row in session.all("count everything", Sql::new(pools)).await? {
        *sums.entry((format!("pool:{}", row.text("host")?), "gigabytes".to_owned())).or_default() += row.int("gib")?;
    }
    Ok(sums)
}

/// Work that is paid for before its volume shows it.
const UNDER_WAY: &str = "SELECT * FROM operations WHERE state IN ('queued', 'running') AND kind IN ('volume:extend', 'volume:migrate', 'volume:retype')";

/// What was charged for work that is under way, by owner and resource, beyond what its volume's row says.
fn paid_ahead(operation: &Operation) -> Vec<(String, String, i64)> {
    let mut paid = Vec::new();
    let mut pool = |host: &str, gib: u64| {
        paid.push((format!("pool:{host}"), "gigabytes".to_owned(), i64::try_from(gib).unwrap_or(i64::MAX)));
    };
    let (project, changes) = if let Some(migration) = Migration::of(operation).filter(|one| one.phase != Phase::Clear) {
        pool(&migration.to, migration.size_gib);
        let new = migration.new_type.filter(|_| migration.consumes_quota);
        (migration.project_id, new.map(|new| of_type(&new.name, migration.size_gib, 1)).unwrap_or_default())
    } else if let Some(extension) = Extension::of(operation) {
        let gained = extension.new_gib - extension.old_gib;
        pool(&extension.host, gained);
        let changes = if extension.consumes_quota { of_growth(&extension.type_name, gained, 1) } else { Vec::new() };
        (extension.project_id, changes)
    } else {
        return paid;
    };
    paid.extend(changes.into_iter().map(|(resource, change)| (project.clone(), resource, change)));
    paid
}
