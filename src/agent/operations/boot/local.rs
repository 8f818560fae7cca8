//! Ephemeral disks as they are when their guest is to start, and when they go: a disk on RBD is opened by a key that libvirt holds in its
//! memory alone, so it is given anew before each start, and forgotten with the disk.

use super::super::{Shared, ports::PortResult};
use crate::agent::journal::{BootRecord, OperationRecord, Task};
use crate::model::{BootedDisk, GuestUuid, LocalDisk, SecretKind};
use std::collections::BTreeSet;
use uuid::Uuid;

/// The ephemeral disks of a guest that was booted, that which it is rescued by among them.
pub(in super::super) fn local_disks(booted: &BootRecord) -> impl Iterator<Item = &LocalDisk> {
    let own = booted.disks.iter().filter_map(|disk| match disk {
        BootedDisk::Local(disk) => Some(disk),
        BootedDisk::Volume { .. } => None,
    });
    own.chain(&booted.rescue)
}

/// The secrets of disks that an operation has made, or is to remove.
pub(in super::super) fn secrets_of(record: &OperationRecord) -> Vec<Uuid> {
    let of_task = match &record.task {
        Task::Delete(task) => task.disks.as_slice(),
        Task::Rebuild(task) => std::slice::from_ref(&task.root),
        Task::Unrescue(task) => std::slice::from_ref(&task.disk),
        _ => &[],
    };
    of_task.iter().chain(&record.facts.disks).filter_map(|disk| disk.place.secret()).collect()
}

/// Gives libvirt the key of a disk. One that needs none is fine.
pub(super) async fn give_key(shared: &Shared, disk: &LocalDisk) -> PortResult<()> {
    if let Some((secret, key)) = shared.boot_sources.disk_key(disk).await? {
        let whose = format!("disk {}", disk.path.display());
        shared.hypervisor.define_secret(secret, SecretKind::Ceph, &whose, &key).await?;
    }
    Ok(())
}

/// Gives libvirt the keys of all disks of this host's guests but those that it has. Returns how many could not be given; each was logged.
pub(in super::super) async fn give_keys(shared: &Shared, but: &BTreeSet<Uuid>) -> usize {
    let mut failed = 0;
    for booted in shared.registry.booted_guests() {
        for disk in local_disks(&booted).filter(|disk| disk.place.secret().is_some_and(|secret| !but.contains(&secret))) {
            if let Err(error) = give_key(shared, disk).await {
                tracing::error!(guest = booted.guest_name, disk = disk.target, %error, "libvirt was not given the disk's key");
                failed += 1;
            }
        }
    }
    failed
}

/// Removes a disk, and has libvirt forget its key. `made`: the disk, if it is known to have been made: nobody gives a key before.
pub(super) async fn remove_disk(shared: &Shared, guest: GuestUuid, name: &str, made: Option<&LocalDisk>) -> PortResult<()> {
    shared.boot_sources.remove_disk(guest, name, made).await?;
    match made.and_then(|disk| disk.place.secret()) {
        Some(secret) => shared.hypervisor.undefine_secret(secret).await,
        None => Ok(()),
    }
}
