//! LVM's commands, each with a deadline, on the devices of the volume group alone.
//!
//! Volumes are named by their id, as the field's LVM driver does it; `snapshot-…` is a name that LVM keeps for itself, hence the
//! `_`. A tag says what is this service's: whatever has the right name without it is somebody else's and is never touched.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use uuid::Uuid;

use super::devices;
use super::error::LvmError;
use super::report::{self, COLUMNS, LogicalVolume};
use crate::command;
use crate::config::Lvm;

/// A look is short unless the machine or a disk is in trouble.
const LOOK_WITHIN: Duration = Duration::from_secs(60);

/// A change waits for other changes of the same volume group, and for writes on their way to it.
const CHANGE_WITHIN: Duration = Duration::from_secs(300);

/// A pool that is fuller, in data or metadata, gets nothing new: what is left is for writes to what is there. A pool with no
/// room for metadata stops all its volumes.
pub(super) const FULL_PERCENT: f64 = 95.0;

/// The tags of what is this service's.
pub(super) const VOLUME: &str = "bowline.volume";
pub(super) const SNAPSHOT: &str = "bowline.snapshot";

pub(super) fn volume_name(id: Uuid) -> String {
    format!("volume-{id}")
}

pub(super) fn snapshot_name(id: Uuid) -> String {
    format!("_snapshot-{id}")
}

/// The commands for one thin pool.
#[derive(Debug)]
pub(super) struct Tool {
    settings: Lvm,
    /// The disks of the volume group, once known.
    disks: RwLock<Vec<String>>,
}

/// What was found: the pool, and those of the volumes asked for that exist.
pub(super) struct Found {
    pub(super) pool: LogicalVolume,
    volumes: Vec<LogicalVolume>,
    settings: Lvm,
}

impl Tool {
    pub(super) fn new(settings: Lvm) -> Self {
        Self { settings, disks: RwLock::default() }
    }

    /// `group/name`, as LVM's commands take it.
    pub(super) fn full(&self, name: &str) -> String {
        format!("{}/{name}", self.settings.volume_group)
    }

    pub(super) fn pool_name(&self) -> String {
        self.full(&self.settings.thin_pool)
    }

    /// Finds the disks of the volume group.
    pub(super) async fn find_disks(&self) -> Result<(), LvmError> {
        let arguments = words(["--reportformat", "json", "--options", "pv_name,vg_name", "--devices"]);
        let arguments = [arguments, vec![devices::to_look_at().join(",")]].concat();
        let stdout = lvm("pvs").run_whole(arguments, LOOK_WITHIN).await;
        let stdout = stdout.map_err(|source| LvmError::Command { operation: "look for volume groups".to_owned(), source })?;
        let disks = report::disks_of(&stdout, &self.settings.volume_group)?;
        if disks.is_empty() {
            return Err(LvmError::NoGroup { group: self.settings.volume_group.clone() });
        }
        *self.disks.write().unwrap_or_else(PoisonError::into_inner) = disks;
        Ok(())
    }

    /// Looks at the pool and at what has these names, at one moment.
    pub(super) async fn look(&self, names: &[&str]) -> Result<Found, LvmError> {
        let pool = &self.settings.thin_pool;
        let wanted: Vec<String> = names.iter().chain([&pool.as_str()]).map(|name| format!("lv_name=\"{name}\"")).collect();
        let mut volumes = self.select(&wanted.join(" || ")).await?;
        if volumes.iter().any(|one| one.missing_disks > 0) {
            // The volume group may have got a disk since.
            self.find_disks().await?;
            volumes = self.select(&wanted.join(" || ")).await?;
        }
        let (pools, volumes): (Vec<_>, Vec<_>) = volumes.into_iter().partition(|one| one.name == *pool);
        let pool = pools
            .into_iter()
            .next()
            .filter(|pool| pool.kind == "thin-pool")
            .ok_or_else(|| LvmError::NoPool { group: self.settings.volume_group.clone(), pool: pool.clone() })?;
        Ok(Found { pool, volumes, settings: self.settings.clone() })
    }

    /// This service's volumes that have no device just now.
    pub(super) async fn inactive_volumes(&self) -> Result<Vec<String>, LvmError> {
        let all = self.select(&format!("lv_tags={{\"{VOLUME}\"}}")).await?;
        let pool = &self.settings.thin_pool;
        Ok(all.into_iter().filter(|one| !one.is_active && one.pool == *pool).map(|one| self.full(&one.name)).collect())
    }

    /// All in the pool that is this service's.
    pub(super) async fn all_own(&self) -> Result<Vec<LogicalVolume>, LvmError> {
        let mut all = self.select(&format!("lv_tags={{\"{VOLUME}\"}} || lv_tags={{\"{SNAPSHOT}\"}}")).await?;
        all.retain(|one| one.pool == self.settings.thin_pool);
        Ok(all)
    }

    async fn select(&self, selection: &str) -> Result<Vec<LogicalVolume>, LvmError> {
        if self.disks.read().unwrap_or_else(PoisonError::into_inner).is_empty() {
            self.find_disks().await?;
        }
        let group = &self.settings.volume_group;
        let format = ["--reportformat", "json", "--units", "b", "--nosuffix", "--options", COLUMNS, "--select", selection];
        let operation = format!("look into volume group {group}");
        let stdout = self.run("lvs", operation, words(format), &[group], LOOK_WITHIN).await?;
        report::logical_volumes(&stdout)
    }

    /// Runs a command that changes something; `operation` names what.
    pub(super) async fn change<const N: usize>(
        &self,
        program: &'static str,
        operation: String,
        options: [&str; N],
        operands: &[&str],
    ) -> Result<(), LvmError> {
        self.run(program, operation, words(options), operands, CHANGE_WITHIN).await.map(drop)
    }

    async fn run(
        &self,
        program: &'static str,
        operation: String,
        mut arguments: Vec<String>,
        operands: &[&str],
        limit: Duration,
    ) -> Result<Vec<u8>, LvmError> {
        let disks = self.disks.read().unwrap_or_else(PoisonError::into_inner).join(",");
        arguments.extend(["--devices".to_owned(), disks, "--".to_owned()]);
        arguments.extend(operands.iter().map(|operand| (*operand).to_owned()));
        let done = lvm(program).run_whole(arguments, limit).await;
        done.map_err(|source| LvmError::Command { operation, source })
    }
}

impl Found {
    /// What has this name, where it is this service's.
    pub(super) fn own(&self, name: &str, tag: &str) -> Result<Option<&LogicalVolume>, LvmError> {
        let Some(found) = self.volumes.iter().find(|one| one.name == name) else { return Ok(None) };
        let pool = &self.settings.thin_pool;
        let problem = if !found.tags.iter().any(|one| one == tag) {
            format!("it has not the tag {tag}")
        } else if found.kind != "thin" || found.pool != *pool {
            format!("it is no thin volume of {pool}")
        } else {
            return Ok(Some(found));
        };
        Err(LvmError::Foreign { name: format!("{}/{name}", self.settings.volume_group), problem })
    }

    /// The same where it must be there.
    pub(super) fn existing(&self, name: &str, tag: &str) -> Result<&LogicalVolume, LvmError> {
        let missing = || LvmError::Missing { name: format!("{}/{name}", self.settings.volume_group) };
        self.own(name, tag)?.ok_or_else(missing)
    }

    /// Refuses where the pool is sick, or too full for anything new.
    pub(super) fn room(&self) -> Result<(), LvmError> {
        let pool = format!("{}/{}", self.settings.volume_group, self.settings.thin_pool);
        if !self.pool.health.is_empty() {
            return Err(LvmError::Unhealthy { pool, health: self.pool.health.clone() });
        }
        let (data_percent, metadata_percent) = (self.pool.data_percent, self.pool.metadata_percent);
        if data_percent < FULL_PERCENT && metadata_percent < FULL_PERCENT {
            return Ok(());
        }
        Err(LvmError::Full { pool, data_percent, metadata_percent, limit_percent: FULL_PERCENT })
    }
}

/// A change must not be cut off in the middle.
fn lvm(program: &'static str) -> command::Tool {
    command::Tool { program, package: "lvm2" }
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(data: f64, metadata: f64, health: &str, tags: &[&str], kind: &str) -> Found {
        let volume = LogicalVolume {
            name: "volume-1".into(),
            size_bytes: 1 << 30,
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            is_active: true,
            kind: kind.into(),
            pool: "pool".into(),
            data_percent: data,
            metadata_percent: metadata,
            zeroes: true,
            health: health.into(),
            extent_bytes: 4 << 20,
            missing_disks: 0,
        };
        let settings = Lvm { volume_group: "fast".into(), thin_pool: "pool".into() };
        Found { pool: volume.clone(), volumes: vec![volume], settings }
    }

    #[test]
    fn what_is_not_ours_is_named_and_not_taken() {
        let ours = found(0.0, 0.0, "", &["x", VOLUME], "thin");
        assert!(ours.existing("volume-1", VOLUME).is_ok());
        assert!(ours.own("volume-2", VOLUME).unwrap().is_none());
        assert!(matches!(ours.existing("volume-2", VOLUME), Err(LvmError::Missing { name }) if name == "fast/volume-2"));
        for other in [found(0.0, 0.0, "", &[], "thin"), found(0.0, 0.0, "", &[VOLUME], "linear")] {
            assert!(matches!(other.own("volume-1", VOLUME), Err(LvmError::Foreign { name, .. }) if name == "fast/volume-1"));
        }
        assert!(matches!(ours.own("volume-1", SNAPSHOT), Err(LvmError::Foreign { .. })));
    }

    #[test]
    fn a_pool_is_full_by_its_data_or_by_its_metadata() {
        let room = |data, metadata, health| found(data, metadata, health, &[], "thin").room();
        assert!(room(94.9, 94.9, "").is_ok());
        for full in [room(95.0, 0.0, ""), room(0.0, 95.0, ""), room(f64::NAN, 0.0, "")] {
            assert!(matches!(full, Err(LvmError::Full { .. })));
        }
        assert!(matches!(room(0.0, 0.0, "metadata_read_only"), Err(LvmError::Unhealthy { .. })));
    }
}
