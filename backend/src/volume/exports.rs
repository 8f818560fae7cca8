//! What hosts may see. The database says it; this makes the target agree, at the start and whenever the target daemon has
//! begun a new life: the same names, numbers, accounts and serials, so that hosts which were logged in come back by themselves.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};
use uuid::Uuid;

use super::attachments;
use super::error::{VolumeError, chain};
use super::host::{Parts, stored};
use crate::domain::place::backend_of;
use crate::domain::{AttachStatus, Attachment, Volume};
use crate::drivers::Reach;
use crate::targets::tgt::TgtError;
use crate::targets::{Access, Export, TargetError};

/// Between tries of what could not be restored: doubled each time, up to the longest.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The export of a volume for those of `attachments` that have a host and are not going; none where hosts go to the storage
/// themselves.
pub(super) fn of(parts: &Parts, volume: &Volume, attachments: &[Attachment]) -> Result<Option<Export>, VolumeError> {
    let Reach::Local(path) = parts.driver(&volume.host)?.reach(&stored(volume)) else { return Ok(None) };
    Ok(Some(Export {
        volume_id: volume.id,
        // The database numbers volumes from 1; two billion of them is beyond one machine.
        target_id: i32::try_from(volume.seq).unwrap_or(i32::MAX),
        path,
        accesses: attachments.iter().filter(|one| one.status != AttachStatus::Detaching).filter_map(access).collect(),
    }))
}

/// The access an attachment gives its host.
pub(super) fn access(attachment: &Attachment) -> Option<Access> {
    let initiator = attachment.initiator()?.to_owned();
    Some(Access { initiator, chap: attachment.chap.clone()? })
}

/// Shows everything that is to be shown, finishes what was being taken away, then lets hosts in. What could not be done for one
/// volume (its file is missing) is no reason to keep the others from their hosts: given are the volumes to be tried again.
pub(super) async fn restore(parts: &Parts) -> Result<Vec<Uuid>, VolumeError> {
    let mut failed = Vec::new();
    let mut shown = 0;
    let mut volumes = Vec::new();
    for backend in parts.backends.keys() {
        let of_backend = parts.store.volumes_with_host(backend).await?;
        if parts.is_ready(backend) { volumes.extend(of_backend) } else { failed.extend(of_backend) }
    }
    for volume_id in volumes {
        match restore_one(parts, volume_id).await {
            Ok(true) => shown += 1,
            Ok(false) => {}
            Err(error) if is_without_daemon(&error) => return Err(error),
            Err(error) => {
                error!(volume = %volume_id, "cannot restore what hosts may see of it: {}; trying again later", chain(&error));
                failed.push(volume_id);
            }
        }
    }
    parts.target.open().await?;
    if shown > 0 {
        info!(volumes = shown, "shown again to their hosts");
    }
    Ok(failed)
}

/// The same for one volume; whether it is shown to anybody now.
async fn restore_one(parts: &Parts, volume_id: Uuid) -> Result<bool, VolumeError> {
    let _turn = parts.locks.lock(volume_id).await;
    let Some(volume) = parts.volume_if_any(volume_id).await? else { return Ok(false) };
    let attachments = parts.store.attachments_of(&[volume_id]).await?;
    if attachments.is_empty() {
        // They went while it could not be restored: what a life before showed of it goes, too.
        if let Some(export) = of(parts, &volume, &[])? {
            parts.target.remove(&export).await?;
        }
        return Ok(false);
    }
    let export = of(parts, &volume, &attachments)?.filter(|export| !export.accesses.is_empty());
    // Taken away even where the rest cannot be shown.
    let shown = match &export {
        Some(export) => parts.target.export(export).await,
        None => Ok(()),
    };
    let mut stay = Vec::new();
    for attachment in attachments {
        if attachment.status == AttachStatus::Detaching {
            attachments::take_away(parts, &volume, &attachment).await?;
        } else {
            stay.push(attachment);
        }
    }
    shown?;
    // The portal may be another than the one that was told.
    for attachment in stay.iter().filter(|one| one.connector.is_some()) {
        let connection = attachments::connection(parts, &volume, attachment).await?;
        if attachment.connection.as_ref() != Some(&connection) {
            parts.store.set_connection(attachment.id, &connection).await?;
        }
    }
    Ok(export.is_some())
}

/// Takes away what the target still shows from a life before and nobody is to see any more.
pub(super) async fn forget_others(parts: &Parts) -> Result<(), VolumeError> {
    let mut exports = Vec::new();
    for backend in parts.backends.keys() {
        for volume_id in parts.store.volumes_with_host(backend).await? {
            let volume = parts.store.volume(volume_id).await?;
            exports.extend(of(parts, &volume, &parts.store.attachments_of(&[volume_id]).await?)?);
        }
    }
    Ok(parts.target.keep_only(&exports).await?)
}

/// Without the daemon no other volume fares better, and its next life begins with all of them anyway.
fn is_without_daemon(error: &VolumeError) -> bool {
    matches!(error, VolumeError::Target(TargetError::Daemon { source: TgtError::Down | TgtError::Socket { .. }, .. }))
}

/// Backends that an administrator had declared gone, and that were heard of since: attachments may have been ended without them.
#[derive(Default)]
pub(super) struct Returned(Mutex<BTreeSet<String>>);

impl Returned {
    fn change(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, backend: &str) {
        self.change().insert(backend.to_owned());
    }

    pub(super) fn is_some(&self) -> bool {
        !self.change().is_empty()
    }
}

/// Takes away what hosts were shown of attachments that were ended while their backend was taken for gone. Gives the volumes that it could
/// not be done for; a backend whose volumes cannot be listed is left for the next report.
async fn look_at_returned(parts: &Parts) -> Vec<Uuid> {
    let backends = std::mem::take(&mut *parts.returned.change());
    let mut failed = Vec::new();
    for backend in backends {
        let kept = match parts.store.kept_by(&backend).await {
            Ok(kept) => kept,
            Err(error) => {
                warn!(backend, "cannot see which volumes it has: {}; trying again", chain(&error));
                parts.returned.add(&backend);
                continue;
            }
        };
        for volume in kept.iter().filter(|kept| kept.kind == "volume") {
            if let Err(error) = restore_one(parts, volume.id).await {
                warn!(volume = %volume.id, "cannot restore what hosts may see of it: {}; trying again", chain(&error));
                failed.push(volume.id);
            }
        }
    }
    failed
}

/// Restores everything in each new life of the target daemon, and tries again what `failed`, for as long as there is a manager.
pub(super) async fn keep(
    parts: Weak<Parts>,
    mut generation: watch::Receiver<u64>,
    recovered: Arc<Notify>,
    mut failed: Vec<Uuid>,
) {
    let mut pause = SHORTEST_PAUSE;
    let mut all_failed = false;
    loop {
        let later = async {
            if failed.is_empty() && !all_failed {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(pause).await;
        };
        let begun_anew = tokio::select! {
            changed = generation.changed() => match changed {
                Ok(()) => true,
                Err(_) => return,
            },
            () = later => all_failed,
            () = recovered.notified() => all_failed,
        };
        let Some(parts) = parts.upgrade() else { return };
        pause = if begun_anew && !all_failed { SHORTEST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
        if begun_anew {
            match restore(&parts).await {
                Ok(still) => (failed, all_failed) = (still, false),
                Err(error) => {
                    error!("cannot show volumes to their hosts again: {}; trying again", chain(&error));
                    all_failed = true;
                }
            }
        } else {
            failed = restore_failed(&parts, failed).await;
            failed.extend(look_at_returned(&parts).await);
        }
    }
}

/// Restores one where its storage works by now.
async fn restore_late(parts: &Parts, volume_id: Uuid) -> Result<Option<bool>, VolumeError> {
    match parts.volume_if_any(volume_id).await? {
        Some(volume) if !parts.is_ready(backend_of(&volume.host)) => Ok(None),
        _ => restore_one(parts, volume_id).await.map(Some),
    }
}

/// Tries volumes again that could not be restored; gives those that still cannot.
async fn restore_failed(parts: &Parts, failed: Vec<Uuid>) -> Vec<Uuid> {
    let mut still = Vec::new();
    for volume_id in failed {
        match restore_late(parts, volume_id).await {
            Ok(None) => still.push(volume_id),
            Ok(Some(_)) => info!(volume = %volume_id, "restored what hosts may see of it"),
            Err(error) => {
                warn!(volume = %volume_id, "still cannot restore what hosts may see of it: {}", chain(&error));
                still.push(volume_id);
            }
        }
    }
    still
}
