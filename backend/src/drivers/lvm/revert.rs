//! A volume that gets a snapshot's bytes again: a copy of the snapshot takes its name. LVM's own way, to merge the snapshot into
//! the volume, would use the snapshot up.
//!
//! ```text
//! volume ── a copy is made, as large as the volume ─▶ volume, _revert
//!        ── the volume is renamed ─────────────────▶ _replaced, _revert      (cut off here there is no volume, but a whole copy)
//!        ── the copy is renamed ───────────────────▶ _replaced, volume
//!        ── what was replaced is removed ──────────▶ volume
//! ```
//! Done again after a cut at any arrow, it ends alike.

use uuid::Uuid;

use super::error::LvmError;
use super::tool::{SNAPSHOT, VOLUME, snapshot_name, volume_name};
use super::{LvmDriver, Wanted};
use crate::drivers::{DriverError, Stored, StoredSnapshot};

/// The names of the copy and of what it replaces, both only during a revert.
pub(super) fn names(volume_id: Uuid) -> [String; 2] {
    [format!("_revert-{volume_id}"), format!("_replaced-{volume_id}")]
}

impl LvmDriver {
    pub(super) async fn revert_to(&self, volume: &Stored, snapshot: &StoredSnapshot) -> Result<(), DriverError> {
        let [copy, replaced] = names(volume.id);
        let (name, from) = (volume_name(volume.id), snapshot_name(snapshot.id));
        let found = self.tool.look(&[&name, &copy, &replaced]).await?;
        if found.own(&name, VOLUME)?.is_some() {
            self.remove(&[&copy, &replaced], VOLUME).await?;
            let wanted = Wanted { name: &copy, tag: VOLUME, size_bytes: volume.size_bytes, from: Some((&from, SNAPSHOT)) };
            self.make(wanted).await?;
            self.rename(&name, &replaced).await?;
        } else {
            found.existing(&copy, VOLUME)?;
        }
        self.rename(&copy, &name).await?;
        Ok(self.remove(&[&replaced], VOLUME).await?)
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), LvmError> {
        let (from, to) = (self.tool.full(from), self.tool.full(to));
        self.tool.change("lvrename", format!("rename {from} to {to}"), [], &[&from, &to]).await
    }
}
