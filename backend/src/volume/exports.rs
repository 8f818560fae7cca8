//! What hosts may see. The database says it; this makes the target agree, at the start and whenever the target daemon has
//! begun a new life: the same names, numbers, accounts and serials, so that hosts which were logged in come back by themselves.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{error, info};
use uuid::Uuid;

use super::attach;
use super::error::{ManagerError, chain};
use super::manager::Parts;
use crate::domain::{AttachStatus, Attachment, Volume};
use crate::targets::{Access, Export};

/// When restoring exports fails, the next try comes after this.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// The export of a volume for those of `attachments` that have a host and are not going.
pub(super) fn of(parts: &Parts, volume: &Volume, attachments: &[Attachment]) -> Export {
    Export {
        volume_id: volume.id,
        // The database numbers volumes from 1; two billion of them is beyond one machine.
        target_id: i32::try_from(volume.seq).unwrap_or(i32::MAX),
        path: parts.driver.path(volume.id),
        accesses: attachments.iter().filter(|one| one.status != AttachStatus::Detaching).filter_map(access).collect(),
    }
}

/// The access an attachment gives its host.
pub(super) fn access(attachment: &Attachment) -> Option<Access> {
    let initiator = attachment.initiator()?.to_owned();
    Some(Access { initiator, chap: attachment.chap.clone()? })
}

/// Shows everything that is to be shown, finishes what was being taken away, then lets hosts in.
pub(super) async fn restore(parts: &Parts) -> Result<(), ManagerError> {
    let mut by_volume = BTreeMap::<Uuid, Vec<Attachment>>::new();
    for attachment in parts.store.attachments_with_host().await? {
        by_volume.entry(attachment.volume_id).or_default().push(attachment);
    }
    let mut shown = 0;
    for volume_id in by_volume.into_keys() {
        let _turn = parts.locks.lock(volume_id).await;
        // Read again: until it was this volume's turn, it may have changed.
        let attachments = parts.store.attachments_of(&[volume_id]).await?;
        let volume = parts.store.volume(volume_id).await?;
        let export = of(parts, &volume, &attachments);
        if !export.accesses.is_empty() {
            parts.target.export(&export).await?;
            shown += 1;
        }
        for going in attachments.iter().filter(|one| one.status == AttachStatus::Detaching) {
            attach::take_away(parts, &volume, going).await?;
        }
    }
    parts.target.open().await?;
    if shown > 0 {
        info!(volumes = shown, "shown again to their hosts");
    }
    Ok(())
}

/// Restores everything in each new life of the target daemon, for as long as there is a manager.
pub(super) async fn keep(parts: Weak<Parts>, mut generation: watch::Receiver<u64>) {
    generation.mark_unchanged();
    while generation.changed().await.is_ok() {
        loop {
            let Some(parts) = parts.upgrade() else { return };
            let Err(error) = restore(&parts).await else { break };
            error!("cannot show volumes to their hosts again: {}; trying again", chain(&error));
            drop(parts);
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }
}
