//! What there is of ours in the pool, and moving something of it aside.

use std::ffi::OsString;

use serde::Deserialize;
use uuid::Uuid;

use super::super::{DriverError, Found, FoundKind};
use super::clones::MOMENT;
use super::cluster::{Cluster, RBD, parse};
use super::failed;
use super::trash::GONE;

/// What the names of images begin with that were moved aside.
const ASIDE: &str = "quarantine-";

/// `rbd ls --long --format json`: an image, or a snapshot of one.
#[derive(Deserialize)]
struct Listed {
    image: String,
    snapshot: Option<String>,
    size: u64,
}

impl Cluster {
    /// Everything of ours. What waits in the trash for its clones to go is as it should be, and is left out.
    pub(super) async fn found(&self) -> Result<Vec<Found>, DriverError> {
        let words = ["ls", "--long", "--format", "json"].map(OsString::from);
        let listed = self.rbd_long(words.into_iter().chain(self.place())).await;
        let listed: Vec<Listed> =
            listed.and_then(|text| parse(RBD, &text)).map_err(failed(Uuid::nil(), "list the pool's images"))?;
        let found = |one: Listed| {
            let (kind, id) = kind_of(&one.image, one.snapshot.as_deref())?;
            let name = one.snapshot.map_or(one.image.clone(), |snapshot| format!("{}@{snapshot}", one.image));
            Some(Found { kind, id, name, size_bytes: one.size })
        };
        Ok(listed.into_iter().filter_map(found).collect())
    }

    /// Renames something; gives its new name.
    pub(super) async fn set_aside(&self, found: &Found) -> Result<String, DriverError> {
        found.is_surely_ours()?;
        let (command, to) = match found.name.split_once('@') {
            Some((image, snapshot)) => (&["snap", "rename"][..], self.spec(&format!("{image}@{ASIDE}{snapshot}"))),
            None => (&["rename"][..], self.spec(&format!("{ASIDE}{}", found.name))),
        };
        let from = self.spec(&found.name);
        let renamed = self.rbd(command.iter().copied().chain([from.as_str(), to.as_str()])).await;
        renamed.map(|_| to).map_err(failed(found.id, "rename it"))
    }
}

/// What an image or a snapshot of this name is, where it is one of ours.
fn kind_of(image: &str, snapshot: Option<&str>) -> Option<(FoundKind, Uuid)> {
    let of = |name: &str, prefix: &str, kind| Some((kind, Uuid::parse_str(name.strip_prefix(prefix)?).ok()?));
    let Some(snapshot) = snapshot else {
        return of(image, "volume-", FoundKind::Volume)
            .or_else(|| of(image, "making-volume-", FoundKind::Unfinished))
            .or_else(|| of(image, GONE, FoundKind::Unfinished));
    };
    of(image, "volume-", FoundKind::Volume)?;
    of(snapshot, "snapshot-", FoundKind::Snapshot).or_else(|| of(snapshot, MOMENT, FoundKind::Unfinished))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_known_by_its_name() {
        let id = Uuid::new_v4();
        let volume = format!("volume-{id}");
        assert_eq!(kind_of(&volume, None), Some((FoundKind::Volume, id)));
        assert_eq!(kind_of(&format!("making-{volume}"), None), Some((FoundKind::Unfinished, id)));
        assert_eq!(kind_of(&volume, Some(&format!("snapshot-{id}"))), Some((FoundKind::Snapshot, id)));
        assert_eq!(kind_of(&volume, Some(&format!("clone-{id}"))), Some((FoundKind::Unfinished, id)));
        for (image, snapshot) in [("vm-disk", None), ("volume-x", None), ("quarantine-volume-1", None)] {
            assert_eq!(kind_of(image, snapshot), None);
        }
        assert_eq!(kind_of(&volume, Some("nightly")), None, "an operator's");
    }
}
