//! Ephemeral disks: those that the journal has and this host has not, and those that this host has and the journal has not.
//!
//! Only what is Bowline's own by place, name and shape, what no operation is at, and what no guest of libvirt's names is taken away, and
//! that is asked again before it is. A journal that was lost or brought back from a backup knows of no disk that is younger.

mod judge;

use super::Judged;
use crate::agent::journal::Task;
use crate::agent::operations::{
    Shared,
    examine::within,
    locks::Key,
    ports::{PortError, PortResult},
    rules,
};
use crate::model::{BootedDisk, ErrorKind, GuestUuid, ImageId, LocalDisk, Stored};
use futures_util::{StreamExt, stream};
use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

/// LVM waits for others at the same group: longer than anybody else may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Disks looked for side by side.
const WIDTH: usize = 8;

/// What the journal has of ephemeral disks.
#[derive(Debug, Default)]
struct Journalled {
    /// Whose, what it is called, and the disk.
    disks: Vec<(GuestUuid, String, LocalDisk)>,
    /// Guests that an operation is at: what they have is about to change.
    busy: HashSet<GuestUuid>,
    /// Images that are being made of what was caught.
    captures: HashSet<ImageId>,
}

impl Journalled {
    fn add(&mut self, shared: &Shared) {
        for record in shared.registry.booted_guests() {
            let local = record.disks.into_iter().filter_map(|disk| match disk {
                BootedDisk::Local(disk) => Some(disk),
                BootedDisk::Volume { .. } => None,
            });
            for disk in local.chain(record.rescue) {
                let disk = (record.guest, record.guest_name.clone(), disk);
                if !self.disks.contains(&disk) {
                    self.disks.push(disk);
                }
            }
        }
        for record in shared.registry.records().into_iter().filter(|record| !record.state.is_over()) {
            if !matches!(rules::lock_key(&record.task), Key::Volume(_)) {
                self.busy.insert(record.task.guest());
            }
            if let Task::Snapshot(task) = &record.task {
                self.captures.insert(task.image.id);
            }
        }
    }
}

pub(super) async fn differences(shared: &Shared) -> Vec<Judged> {
    // As old as the asking takes: what was the agent's at either end of it is no left-over.
    let mut journal = Journalled::default();
    journal.add(shared);
    let known: Vec<_> = journal.disks.iter().map(|(_, _, disk)| disk.clone()).collect();
    let stored = within(LIMIT, async { Ok(shared.boot_sources.stored(&known).await) }).await;
    let disks = stream::iter(journal.disks.clone());
    let missing: Vec<_> = disks.map(|(guest, name, disk)| look_for(shared, guest, name, disk)).buffered(WIDTH).collect().await;
    journal.add(shared);
    let (mut found, mut stores) = (vec![], vec![]);
    match stored {
        Ok(answers) => stores.extend(answers),
        Err(error) => stores.push(Err(error)),
    }
    let mut left = vec![];
    for store in stores {
        match store {
            Ok(stored) => left.extend(stored.into_iter().filter(|stored| judge::is_left(stored, &journal))),
            Err(error) => found.push(super::judge::silent("host", &error)),
        }
    }
    let named = named(shared, &left).await;
    found.extend(left.into_iter().map(|stored| judge::left(stored, &named)));
    // A guest that went meanwhile took its own along.
    let has = |guest: GuestUuid| shared.registry.booted(guest).is_some() && !journal.busy.contains(&guest);
    found.extend(missing.into_iter().filter_map(|(guest, judged)| judged.filter(|_| has(guest))));
    found
}

async fn look_for(shared: &Shared, guest: GuestUuid, name: String, disk: LocalDisk) -> (GuestUuid, Option<Judged>) {
    let said = within(LIMIT, shared.boot_sources.missing(&disk)).await;
    (guest, judge::missing((guest, &name), &disk, &said))
}

/// By whom these are named, word by word. Where nothing is left nobody is asked.
async fn named(shared: &Shared, left: &[Stored]) -> PortResult<BTreeMap<String, String>> {
    let words: Vec<_> = left.iter().flat_map(Stored::words).collect();
    if words.is_empty() {
        return Ok(BTreeMap::new());
    }
    within(LIMIT, shared.hypervisor.mentions(&words)).await
}

/// Takes away what is left. Its guest's lock is held by then, so that no boot begins with it.
pub(super) async fn remove(shared: &Shared, stored: &Stored) -> PortResult<()> {
    let mut journal = Journalled::default();
    journal.add(shared);
    let conflict = |problem: String| PortError::new(ErrorKind::Conflict, problem);
    if !judge::is_left(stored, &journal) {
        return Err(conflict("an operation is at it, or it is a guest's by now".to_owned()));
    }
    if let Some(guest) = judge::named_by(stored, &named(shared, std::slice::from_ref(stored)).await?) {
        return Err(conflict(format!("guest {guest} has it by now")));
    }
    shared.boot_sources.remove_stored(stored).await
}
