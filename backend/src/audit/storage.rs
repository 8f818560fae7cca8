//! Volumes and snapshots of each backend of this machine, against their rows.
//!
//! Several backends may have one storage, on one machine or, where hosts go to it themselves, on several: what is another's is no
//! orphan.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::{AuditError, Repair, Report};
use crate::config::{Backend, Config, DriverKind};
use crate::domain::place::VOLUME_SERVICE;
use crate::drivers::{self, DriverError, Found, FoundKind, VolumeDriver};
use crate::store::{Kept, Store};
use crate::volume::chain;

/// In these a volume or snapshot need not have storage.
const WITHOUT_STORAGE: [&str; 5] = ["creating", "downloading", "deleting", "error", "error_deleting"];

pub(super) async fn compare(config: &Config, store: &Store, repair: Repair, report: &mut Report) -> Result<(), AuditError> {
    for (name, backend) in config.all_backends() {
        let place = format!("{}@{name}", config.host_name());
        let driver = drivers::open(&backend, config.state_dir.join("volumes"), &config.state_dir.join("mnt"));
        let beside = beside(config, store, &place, &backend).await?;
        let one = Place { place: &place, beside, store, driver: driver.as_ref(), repair };
        let compared = one.compare(report).await;
        driver.leave().await;
        compared?;
    }
    Ok(())
}

/// The other places that may have something on a backend's storage.
async fn beside(config: &Config, store: &Store, place: &str, backend: &Backend) -> Result<Vec<String>, AuditError> {
    let storage = Storage::of(backend, config);
    let here = format!("{}@", config.host_name());
    let mut beside: BTreeSet<String> = config
        .all_backends()
        .iter()
        .filter(|(_, other)| Storage::of(other, config) == storage)
        .map(|(name, _)| format!("{here}{name}"))
        .collect();
    if matches!(backend.driver, DriverKind::Rbd | DriverKind::Nfs) {
        // What other machines are told is not known here.
        let services = store.services().await?.into_iter().filter(|service| service.name == VOLUME_SERVICE);
        beside.extend(services.map(|service| service.host).filter(|host| !host.starts_with(&here)));
    }
    beside.remove(place);
    Ok(beside.into_iter().collect())
}

/// Where the bytes of a backend are.
#[derive(PartialEq, Eq)]
enum Storage {
    Directory(PathBuf),
    ThinPool(String, String),
    CephPool(PathBuf, String, String),
    Share(String),
}

impl Storage {
    fn of(backend: &Backend, config: &Config) -> Self {
        match backend.driver {
            DriverKind::Files => {
                Self::Directory(backend.directory.clone().unwrap_or_else(|| config.state_dir.join(Path::new("volumes"))))
            }
            DriverKind::Lvm => Self::ThinPool(backend.lvm.volume_group.clone(), backend.lvm.thin_pool.clone()),
            DriverKind::Rbd => {
                Self::CephPool(backend.rbd.conf_file.clone(), backend.rbd.pool.clone(), backend.rbd.namespace.clone())
            }
            DriverKind::Nfs => Self::Share(backend.nfs.share.trim_end_matches('/').to_owned()),
        }
    }
}

struct Place<'a> {
    place: &'a str,
    beside: Vec<String>,
    store: &'a Store,
    driver: &'a dyn VolumeDriver,
    repair: Repair,
}

impl Place<'_> {
    async fn compare(&self, report: &mut Report) -> Result<(), AuditError> {
        let Some(earlier) = self.look(report).await else { return Ok(()) };
        let earlier: BTreeSet<String> = earlier.into_iter().map(|one| one.name).collect();
        let mut known = self.known().await?;
        let before = self.store.kept_by(self.place).await?;
        let Some(found) = self.look(report).await else { return Ok(()) };
        let after = self.store.kept_by(self.place).await?;
        known.extend(self.known().await?);
        // What has come since is somebody's work, of which the first reading could not know.
        let stayed: Vec<&Found> = found.iter().filter(|one| earlier.contains(&one.name)).collect();
        self.unknown(&known, &stayed, report).await?;
        self.absent_and_wrong(&before, &after, &found, report).await;
        Ok(())
    }

    /// What there is; none where that cannot be said, which is no reason to say nothing of other storages.
    async fn look(&self, report: &mut Report) -> Option<Vec<Found>> {
        match self.driver.list().await {
            Ok(found) => Some(found),
            Err(error) => {
                report.add("unreachable", self.place, "its storage", format!("it cannot be looked at: {}", chain(&error)));
                None
            }
        }
    }

    /// What may be on this storage now: what is kept here or by who shares it, what work that is under way makes, and volumes to clone
    /// images from, also those that are being made for the first time.
    async fn known(&self) -> Result<BTreeSet<(FoundKind, Uuid)>, AuditError> {
        let mut known = BTreeSet::new();
        let images = self.store.image_ids().await?;
        for place in self.beside.iter().map(String::as_str).chain([self.place]) {
            for kept in self.store.kept_by(place).await? {
                known.insert((if kept.kind == "volume" { FoundKind::Volume } else { FoundKind::Snapshot }, kept.storage_id));
                if kept.is_busy {
                    known.insert((FoundKind::Unfinished, kept.storage_id));
                }
            }
            let cached = self.store.cached_images(place).await?.into_iter().map(|kept| kept.volume_id);
            let to_be_cached = images.iter().map(|id| Uuid::new_v5(id, place.as_bytes()));
            known.extend(cached.chain(to_be_cached).flat_map(unfinished_or_whole));
        }
        known.extend(self.store.ids_at_work().await?.into_iter().flat_map(unfinished_or_whole));
        Ok(known)
    }

    /// What there was before the first reading of the database and after it, and neither reading knows.
    async fn unknown(
        &self,
        known: &BTreeSet<(FoundKind, Uuid)>,
        found: &[&Found],
        report: &mut Report,
    ) -> Result<(), AuditError> {
        for one in found.iter().filter(|one| !known.contains(&(one.kind, one.id))) {
            let (kind, meaning) = match one.kind {
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

    /// What should be there and is not, or is of another size, in both readings of the database.
    async fn absent_and_wrong(&self, before: &[Kept], after: &[Kept], found: &[Found], report: &mut Report) {
        let kind_of = |found: &Found| match found.kind {
            FoundKind::Volume => Some("volume"),
            FoundKind::Snapshot => Some("snapshot"),
            FoundKind::Unfinished => None,
        };
        let there: BTreeMap<(&str, Uuid), &Found> =
            found.iter().filter_map(|one| Some(((kind_of(one)?, one.id), one))).collect();
        for kept in before.iter().filter(|kept| !kept.is_busy && after.contains(kept)) {
            let object = format!("{} {}", kept.kind, kept.id);
            let need_not = WITHOUT_STORAGE.contains(&kept.status.as_str());
            let Some(found) = there.get(&(kept.kind, kept.storage_id)) else {
                if !need_not {
                    let kind = if kept.kind == "volume" { "missing_volume" } else { "missing_snapshot" };
                    let meaning = format!(
                        "it is {}, and its storage is not there. Restore it, or delete the {}.",
                        kept.status, kept.kind
                    );
                    report.add(kind, self.place, object, meaning);
                }
                continue;
            };
            if need_not {
                continue;
            }
            match self.driver.size_of_found(found, kept.provider.as_ref()).await {
                Ok(size) if size == kept.size_bytes => {}
                Ok(size) => {
                    let wanted = kept.size_bytes;
                    let meaning = if size > wanted {
                        "Extend it to what it has, so that its row says so."
                    } else {
                        "What was beyond is lost; compare it with a backup."
                    };
                    let meaning = format!("it has {size} bytes and should have {wanted}. {meaning}");
                    report.add("wrong_size", self.place, object, meaning);
                }
                // It cannot be read, as a volume.
                Err(error @ DriverError::Stream { .. }) => report.add("wrong_bytes", self.place, object, chain(&error)),
                Err(error) => report.not_looked_at.push(format!("{object}: {}", chain(&error))),
            }
        }
    }
}

fn unfinished_or_whole(id: Uuid) -> [(FoundKind, Uuid); 2] {
    [(FoundKind::Volume, id), (FoundKind::Unfinished, id)]
}
