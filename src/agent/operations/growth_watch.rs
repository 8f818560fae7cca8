//! The watch on the service: a volume that somebody else extended while a guest of this host has it is grown here too, by an
//! operation without the service's part.
//!
//! The service tells nobody of it (Cinder tells Nova, which knows nothing of our guests), so it is looked at now and then: one
//! request for all volumes, none where nothing is attached. Jitter keeps the hosts of a cloud from asking in step.

use super::{Shared, plan};
use crate::agent::journal::{AttachmentRecord, OperationRecord, Task};
use crate::model::{GIB, Volume, VolumeId};
use backon::{BackoffBuilder as _, ConstantBuilder};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// The pause until the next look.
pub(super) fn pause(interval: Duration) -> Duration {
    // From two to four thirds of it.
    ConstantBuilder::default().with_delay(interval * 2 / 3).with_jitter().build().next().unwrap_or(interval)
}

/// Looks once. Returns what is to be grown.
pub(super) async fn look(shared: &Shared) -> Vec<Task> {
    let mut attached: BTreeMap<VolumeId, Vec<AttachmentRecord>> = BTreeMap::new();
    for record in shared.registry.attachments() {
        attached.entry(record.volume).or_default().push(record);
    }
    let mut tasks = vec![];
    for volume in volumes(shared, attached.keys().copied().collect()).await {
        let Some(records) = attached.get(&volume.id) else { continue };
        let lags = records.iter().any(|record| {
            // What an operator has given up is left at that; a later extension is another matter.
            record.observed.size_bytes / GIB < volume.size_gib && record.given_up_gib.is_none_or(|gib| gib < volume.size_gib)
        });
        // One that is being extended still is looked at the next time.
        if lags && volume.status == "in-use" && !volume.encrypted && !is_settled(shared, &volume) {
            tracing::info!(volume = %volume.id, size_gib = volume.size_gib, "was extended by somebody else");
            tasks.push(Task::Extend(plan::extend_task(volume.id, volume.size_gib, false, records)));
        }
    }
    tasks
}

/// These volumes as the service has them: by one request, and one more for each that another project owns.
async fn volumes(shared: &Shared, mut wanted: BTreeSet<VolumeId>) -> Vec<Volume> {
    let mut found = vec![];
    if wanted.len() > 1 {
        match shared.volumes.volumes().await {
            Ok(all) => found.extend(all.into_iter().filter(|volume| wanted.remove(&volume.id))),
            Err(error) => {
                tracing::debug!(%error, "the service's volumes cannot be looked at now");
                return found;
            }
        }
    }
    for id in wanted {
        match shared.volumes.volume(id).await {
            Ok(volume) => found.push(volume),
            Err(error) if error.is_passing() => break,
            Err(error) => tracing::debug!(volume = %id, %error, "cannot be looked at"),
        }
    }
    found
}

/// Somebody is at it.
fn is_settled(shared: &Shared, volume: &Volume) -> bool {
    let settles = |record: &OperationRecord| match &record.task {
        Task::Extend(task) if task.volume == volume.id => !record.state.is_over(),
        _ => false,
    };
    shared.registry.records().iter().any(settles)
}
