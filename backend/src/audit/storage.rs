//! Volumes and snapshots of each backend of this machine, against their rows.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{AuditError, Repair, Report};
use crate::config::Config;
use crate::drivers::{self, DriverError, Found, FoundKind, VolumeDriver};
use crate::store::{Kept, Store};
use crate::volume::chain;

/// In these a volume or snapshot need not have storage.
const WITHOUT_STORAGE: [&str; 5] = ["creating", "downloading", "deleting", "error", "error_deleting"];

pub(super) async fn compare(config: &Config, store: &Store, repair: Repair, report: &mut Report) -> Result<(), AuditError> {
    for (name, backend) in config.all_backends() {
        let place = format!("{}@{name}", config.host_name());
        let driver = drivers::open(&backend, config.state_dir.join("volumes"), &config.state_dir.join("mnt"));
        let earlier: BTreeSet<String> = match driver.list().await {
            Ok(found) => found.into_iter().map(|one| one.name).collect(),
            Err(error @ DriverError::Unsupported { .. }) => {
                report.not_looked_at.push(format!("{place}: {}", chain(&error)));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let before = store.kept_by(&place).await?;
        let found = driver.list().await?;
        let after = store.kept_by(&place).await?;
        let backend = Backend { place: &place, store, driver: driver.as_ref(), repair };
        // What has come since is somebody's work, of which the first reading could not know.
        let stayed: Vec<&Found> = found.iter().filter(|one| earlier.contains(&one.name)).collect();
        backend.unknown(&before, &after, &stayed, report).await?;
        absent_and_wrong(&place, &before, &after, &found, report);
    }
    Ok(())
}

struct Backend<'a> {
    place: &'a str,
    store: &'a Store,
    driver: &'a dyn VolumeDriver,
    repair: Repair,
}

impl Backend<'_> {
    /// What there was before the first reading of the database and after it, and neither reading knows.
    async fn unknown(&self, before: &[Kept], after: &[Kept], found: &[&Found], report: &mut Report) -> Result<(), AuditError> {
        let all = || before.iter().chain(after);
        let known: BTreeSet<(&str, Uuid)> = all().map(|kept| (kept.kind, kept.storage_id)).collect();
        let busy: BTreeSet<Uuid> = all().filter(|kept| kept.is_busy).map(|kept| kept.storage_id).collect();
        // Volumes to clone images from, also those that are being made for the first time.
        let images = self.store.image_ids().await?;
        let mut cached: BTreeSet<Uuid> = images.iter().map(|id| Uuid::new_v5(id, self.place.as_bytes())).collect();
        cached.extend(self.store.cached_images(self.place).await?.into_iter().map(|kept| kept.volume_id));
        for one in found {
            let (kind, meaning) = match one.kind {
                FoundKind::Volume if known.contains(&("volume", one.id)) || cached.contains(&one.id) => continue,
                FoundKind::Snapshot if known.contains(&("snapshot", one.id)) => continue,
                FoundKind::Unfinished if busy.contains(&one.id) || cached.contains(&one.id) => continue,
                FoundKind::Volume => {
                    ("orphan_volume", "no volume has it. It takes room, and may be what is left of one that was lost.")
                }
                FoundKind::Snapshot => ("orphan_snapshot", "no snapshot has it. It takes room."),
                FoundKind::Unfinished => ("unfinished", "it was being made and nobody does so any more. It takes room."),
            };
            report.add(kind, self.place, &one.name, format!("{} bytes; {meaning}", one.size_bytes));
            if self.repair == Repair::SafeAndQuarantine {
                match self.driver.set_aside(one).await {
                    Ok(to) => report.mended(format!("moved to {to}")),
                    Err(error) => report.not_looked_at.push(format!("{}: {}", one.name, chain(&error))),
                }
            }
        }
        Ok(())
    }
}

/// What should be there and is not, or is of another size, in both readings of the database.
fn absent_and_wrong(place: &str, before: &[Kept], after: &[Kept], found: &[Found], report: &mut Report) {
    let kind_of = |found: &Found| match found.kind {
        FoundKind::Volume => Some("volume"),
        FoundKind::Snapshot => Some("snapshot"),
        FoundKind::Unfinished => None,
    };
    let sizes: BTreeMap<(&str, Uuid), u64> =
        found.iter().filter_map(|one| Some(((kind_of(one)?, one.id), one.size_bytes))).collect();
    for kept in before.iter().filter(|kept| !kept.is_busy && after.contains(kept)) {
        let object = format!("{} {}", kept.kind, kept.id);
        match sizes.get(&(kept.kind, kept.storage_id)) {
            None if WITHOUT_STORAGE.contains(&kept.status.as_str()) => {}
            None => {
                let kind = if kept.kind == "volume" { "missing_volume" } else { "missing_snapshot" };
                let meaning =
                    format!("it is {}, and its storage is not there. Restore it, or delete the {}.", kept.status, kept.kind);
                report.add(kind, place, object, meaning);
            }
            Some(size) if *size != kept.size_bytes && !WITHOUT_STORAGE.contains(&kept.status.as_str()) => {
                let wanted = kept.size_bytes;
                let meaning = if *size > wanted {
                    "Extend it to what it has, so that its row says so."
                } else {
                    "What was beyond is lost; compare it with a backup."
                };
                report.add("wrong_size", place, object, format!("it has {size} bytes and should have {wanted}. {meaning}"));
            }
            Some(_) => {}
        }
    }
}
