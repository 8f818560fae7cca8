//! What there is of this service's in the pool, and moving something of it aside.

use uuid::Uuid;

use super::LvmDriver;
use super::error::LvmError;
use super::revert;
use super::tool::{SNAPSHOT, VOLUME, snapshot_name, volume_name};
use crate::drivers::{Found, FoundKind};

/// What the names of what was moved aside begin with, and its tag: it is nobody's any more.
const ASIDE: &str = "quarantine-";
const ASIDE_TAG: &str = "bowline.quarantine";

impl LvmDriver {
    pub(super) async fn found(&self) -> Result<Vec<Found>, LvmError> {
        let all = self.tool.all_own().await?;
        let found = |one: super::LogicalVolume| {
            let (kind, id) = kind_of(&one.name)?;
            Some(Found { kind, id, name: one.name, size_bytes: one.size_bytes })
        };
        Ok(all.into_iter().filter_map(found).collect())
    }

    /// Renames it, and takes from it the tags by which it is known.
    pub(super) async fn put_aside(&self, found: &Found) -> Result<String, LvmError> {
        let from = self.tool.full(&found.name);
        let to = self.tool.full(&format!("{ASIDE}{}", found.name.trim_start_matches('_')));
        self.tool.change("lvrename", format!("rename {from} to {to}"), [], &[&from, &to]).await?;
        let options = ["--addtag", ASIDE_TAG, "--deltag", VOLUME, "--deltag", SNAPSHOT];
        self.tool.change("lvchange", format!("change the tags of {to}"), options, &[&to]).await?;
        Ok(to)
    }
}

/// What a volume with one of our tags is, by its name.
fn kind_of(name: &str) -> Option<(FoundKind, Uuid)> {
    let id = Uuid::parse_str(name.get(name.len().checked_sub(36)?..)?).ok()?;
    if name == volume_name(id) {
        Some((FoundKind::Volume, id))
    } else if name == snapshot_name(id) {
        Some((FoundKind::Snapshot, id))
    } else {
        revert::names(id).contains(&name.to_owned()).then_some((FoundKind::Unfinished, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_known_by_its_name() {
        let id = Uuid::new_v4();
        assert_eq!(kind_of(&volume_name(id)), Some((FoundKind::Volume, id)));
        assert_eq!(kind_of(&snapshot_name(id)), Some((FoundKind::Snapshot, id)));
        assert_eq!(kind_of(&format!("_replaced-{id}")), Some((FoundKind::Unfinished, id)));
        for other in ["pool", "é", &format!("quarantine-volume-{id}")] {
            assert_eq!(kind_of(other), None);
        }
    }
}
