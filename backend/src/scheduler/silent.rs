//! Volume services that are down, and what waits for them.
//!
//! ```text
//! heard of for the last time ── a minute ──▶ silent: what waits says so; a volume not begun goes to another place, if any would do
//!                                              │ an administrator says that it will not come back
//!                                              ▼
//!                                            gone: everything that waits ends in a true status
//! ```
//!
//! One whose storage is down, as it says itself, is looked at in the same way; but its process lives, so what it has begun is left to it, and
//! so is what hosts are shown. Either ends when the service is up again. Any number of schedulers may look: each change is one
//! transaction that asks again.

use std::sync::Arc;

use tracing::{info, warn};

use super::role::choose;
use crate::bus::Bus;
use crate::domain::place::{VOLUME_SERVICE, backup_queue, volume_queue};
use crate::domain::{
    Migration, NewMessage, Operation, OperationKind, OperationState, Phase, ServiceRow, SnapshotStatus, VolumeStatus,
};
use crate::store::{Ending, Extension, Store, StoreError, now_us};
use crate::volume::chain;

/// The field's number for "the volume service that has it cannot be reached".
const EVENT_HOST_GONE: &str = "VOLUME_VOLUME_001_001";

/// Who has an operation while it is ended here.
const OWNER: &str = "scheduler";

/// Looks once after what waits for services that are silent or gone.
pub async fn look_after_silent(store: &Store, bus: &Arc<dyn Bus>) -> Result<(), StoreError> {
    let now = now_us();
    let services = store.services().await?;
    for service in services.iter().filter(|one| one.name == VOLUME_SERVICE && !one.is_up(now)) {
        let mut waiting = store.unended_in(&volume_queue(&service.host)).await?;
        waiting.extend(store.unended_in(&backup_queue(&service.host)).await?);
        for operation in waiting {
            if let Err(error) = look_after(store, bus, service, &operation).await {
                warn!(operation = %operation.id, host = service.host, "what waits for it cannot be ended: {}", chain(&error));
            }
        }
    }
    Ok(())
}

async fn look_after(store: &Store, bus: &Arc<dyn Bus>, service: &ServiceRow, operation: &Operation) -> Result<(), StoreError> {
    let gone = service.gone_at_us.is_some();
    let lives = service.is_heard_of(now_us());
    if lives && operation.state == OperationState::Running && operation.owner.as_deref() != Some(OWNER) {
        return Ok(());
    }
    if operation.kind == OperationKind::VolumeCreate
        && let Some(queue) = store.place_elsewhere(operation, gone, choose).await?
    {
        info!(volume = %operation.object_id, host = service.host, queue, "its host is down: placed elsewhere");
        told(bus.publish(&queue, operation.id).await);
        return Ok(());
    }
    if gone {
        // What its process could begin at any moment is taken from it first.
        if lives && (!can_be_taken(operation) || store.claim(operation.id, &operation.queue, OWNER).await?.is_none()) {
            return Ok(());
        }
        end(store, service, operation).await?;
        info!(operation = %operation.id, kind = %operation.kind, host = service.host, "ended: its host was declared gone");
        told(bus.announce(operation.id).await);
    }
    Ok(())
}

/// Whether what a service that lives has not begun can be ended without it: what it shows hosts it alone can take from them.
fn can_be_taken(operation: &Operation) -> bool {
    !matches!(operation.kind, OperationKind::BackupDelete | OperationKind::BackupImport)
        && operation.kind.object_type() != "attachment"
}

fn told(sent: Result<(), crate::bus::BusError>) {
    if let Err(error) = sent {
        warn!("{}; it is sent again later", chain(&error));
    }
}

/// Ends what a host that is gone was to do. Its storage is as it was left, so what was to be removed is still there, and nothing is
/// known of what was to be made.
async fn end(store: &Store, service: &ServiceRow, operation: &Operation) -> Result<(), StoreError> {
    let cause = format!("the volume service on {} was declared gone by an administrator", service.host);
    let ending = Ending::failed(cause.clone()).telling(NewMessage {
        resource_type: match operation.kind.object_type() {
            "snapshot" => "VOLUME_SNAPSHOT",
            "backup" => "VOLUME_BACKUP",
            _ => "VOLUME",
        },
        resource_id: operation.object_id,
        event_id: EVENT_HOST_GONE.into(),
        user_message: format!("{}:{cause}.", operation.kind),
        why_not: None,
    });
    use VolumeStatus::*;
    match operation.kind {
        OperationKind::VolumeCreate => {
            let from = store.volume(operation.object_id).await?.status;
            store.end_volume_work(operation, from, Error, ending).await
        }
        OperationKind::VolumeDelete => store.end_volume_work(operation, Deleting, ErrorDeleting, ending).await,
        OperationKind::VolumeUpload => {
            if let Some(image) = operation.id_in("image_id") {
                store.abort_image_upload(image).await?;
            }
            store.end_volume_work(operation, Uploading, Available, ending).await
        }
        // Its bytes are all there; Nova alone may not have heard of it.
        OperationKind::VolumeReimage if operation.is_written() => store.end_reimage(operation, Ending::done()).await,
        OperationKind::VolumeReimage => store.end_reimage(operation, ending).await,
        OperationKind::VolumeExtend => match Extension::of(operation) {
            Some(extension) => store.end_extend(operation, &extension, extension.old_gib, ending).await,
            None => store.end_operation(operation, ending).await,
        },
        OperationKind::VolumeRevert => {
            store.end_revert(operation, operation.id_in("snapshot_id").unwrap_or_default(), ending).await
        }
        OperationKind::SnapshotCreate => store.end_snapshot_work(operation, SnapshotStatus::Error, ending).await,
        OperationKind::SnapshotDelete => store.end_snapshot_work(operation, SnapshotStatus::ErrorDeleting, ending).await,
        OperationKind::AttachmentConnect => {
            if operation.request.get("undo").is_some() {
                store.finish_detach(operation.object_id).await?;
            }
            store.end_operation(operation, Ending::failed(cause)).await
        }
        // Nobody is let in by a host that is not there.
        OperationKind::AttachmentDelete => {
            store.finish_detach(operation.object_id).await?;
            store.end_operation(operation, Ending::done()).await
        }
        OperationKind::AttachmentRevoke => store.end_revoke(operation).await,
        OperationKind::VolumeMigrate | OperationKind::VolumeRetype => match Migration::of(operation) {
            // The host that has the volume goes on: it stays there.
            Some(migration) if matches!(migration.phase, Phase::Take { .. }) => {
                store.go_on_with_migration(operation, &migration, Phase::Undo { cause }).await.map(drop)
            }
            // It is in its new place already; what was left in the old one went with its host.
            Some(migration) if migration.phase == Phase::Clear => {
                store.end_migration(operation, &migration, Ending::done()).await
            }
            Some(migration) => store.end_migration(operation, &migration, ending).await,
            None => store.end_operation(operation, ending).await,
        },
        OperationKind::BackupCreate => store.end_backup(operation, None, ending).await.map(drop),
        OperationKind::BackupRestore => store.end_restore(operation, ending).await,
        // The backup service's own, which need no volume host.
        OperationKind::BackupDelete | OperationKind::BackupImport => Ok(()),
    }
}
