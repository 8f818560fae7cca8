//! How a fill begins: by itself, once for the disks of a guest.

use super::{
    super::{Shared, boot, executor::new_record, locks::Key},
    is_damaged, is_given_up, is_same, lazy_disks, under_way, with_lazy,
};
use crate::agent::journal::{BootRecord, Change, FillTask, Task};
use crate::model::{GuestUuid, LocalDisk};
use std::sync::Arc;

/// Begins to fill what is not being filled, of all guests.
pub(in super::super) async fn begin_all(shared: &Arc<Shared>) {
    for booted in shared.registry.booted_guests() {
        begin(shared, booted.guest).await;
    }
}

/// Begins to fill what is not being filled, of a guest. However many ask for it at once, it begins once.
pub(in super::super) async fn begin(shared: &Arc<Shared>, guest: GuestUuid) {
    // From here until it is known to all: journalling it takes a while.
    let _beginning = shared.locks.lock(Key::FillBegin(guest)).await;
    let Some(booted) = shared.registry.booted(guest) else { return };
    let is_wanted = |disk: &&LocalDisk| !is_damaged(disk) && !is_given_up(disk);
    let disks: Vec<_> = lazy_disks(&booted).filter(is_wanted).cloned().collect();
    // One of disks that were there before these waits only for its own end.
    let has_all = |task: &FillTask| disks.iter().all(|disk| task.disks.iter().any(|filled| is_same(filled, disk)));
    if disks.is_empty() || under_way(shared, guest).any(|(task, _)| has_all(&task)) {
        return;
    }
    let record = new_record(Task::Fill(FillTask { guest, guest_name: booted.guest_name, disks }));
    let change = Change::PutOperation(Box::new(record.clone()));
    // The next start of the agent finds that it is missing.
    if let Err(error) = shared.journal.commit(vec![change]).await {
        tracing::error!(%guest, %error, "its disks are not filled now");
        return;
    }
    boot::launch(shared, record);
}

/// A guest with disks whose fill was given up, now that it is started again. `None`: it has none.
pub(in super::super) fn taken_up_again(shared: &Shared, guest: GuestUuid) -> Option<BootRecord> {
    let booted = shared.registry.booted(guest).filter(|booted| lazy_disks(booted).any(is_given_up))?;
    Some(with_lazy(booted, |lazy| lazy.is_given_up = false))
}
