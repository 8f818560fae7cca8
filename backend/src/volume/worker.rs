//! The work behind a 202. The database says what is to be done (`creating`, `deleting`) before anything is, so a crash loses
//! nothing: at the next start the same jobs are queued again, and each may be done twice. A job whose end cannot be recorded is
//! done again while the service runs.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tracing::{error, info, warn};
use uuid::Uuid;

use super::error::{ManagerError, chain};
use super::exports;
use super::extend;
use super::manager::Parts;
use crate::domain::{Refusal, Volume, VolumeStatus};
use crate::store::StoreError;

/// So many jobs at once: they wait for the disk, and more would only wait there.
const AT_ONCE: usize = 8;

/// Between tries of a job whose end cannot be recorded (the disk is full): doubled each time, up to the longest.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// One piece of work.
#[derive(Clone, Copy, Debug)]
pub(super) enum Job {
    /// Make a volume's storage.
    Create(Uuid),
    /// Remove a volume's storage.
    Delete(Uuid),
    /// Enlarge a volume's storage.
    Extend(Uuid),
}

impl Job {
    /// The job that an unfinished volume waits for.
    pub(super) fn of(volume: &Volume) -> Self {
        match volume.status {
            VolumeStatus::Deleting => Self::Delete(volume.id),
            VolumeStatus::Extending => Self::Extend(volume.id),
            _ => Self::Create(volume.id),
        }
    }
}

/// A job in the queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queued {
    job: Job,
    /// Where its end cannot be recorded, it comes again after this.
    pause: Duration,
}

impl Queued {
    /// A job that is new.
    pub(super) fn new(job: Job) -> Self {
        Self { job, pause: SHORTEST_PAUSE }
    }
}

/// Does jobs until the manager is gone.
pub(super) async fn run(parts: Weak<Parts>, mut queue: mpsc::UnboundedReceiver<Queued>) {
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(queued) = queue.recv().await {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let Some(parts) = parts.upgrade() else { return };
        // Stopping: the rest is taken up at the next start.
        let Some(guard) = parts.working() else { return };
        tokio::spawn(async move {
            let done = perform(&parts, queued.job).await;
            drop((slot, guard));
            if let Err(error) = done {
                error!(job = ?queued.job, "{}; again in {} s", chain(&error), queued.pause.as_secs());
                again(Arc::downgrade(&parts), queued).await;
            }
        });
    }
}

/// Queues a job once more, later; without holding up a service that is stopping.
async fn again(parts: Weak<Parts>, Queued { job, pause }: Queued) {
    tokio::time::sleep(pause).await;
    if let Some(parts) = parts.upgrade() {
        parts.enqueue(Queued { job, pause: (pause * 2).min(LONGEST_PAUSE) });
    }
}

/// Does a job. That storage could not be made or removed is recorded as the volume's status, and so an end like another; an
/// error is a database in which no end could be recorded.
async fn perform(parts: &Parts, job: Job) -> Result<(), StoreError> {
    match job {
        Job::Create(id) => create(parts, id).await,
        Job::Delete(id) => delete(parts, id).await,
        Job::Extend(id) => extend::extend(parts, id).await,
    }
}

async fn create(parts: &Parts, id: Uuid) -> Result<(), StoreError> {
    let _turn = parts.locks.lock(id).await;
    let Some(volume) = in_status(parts, id, VolumeStatus::Creating).await? else { return Ok(()) };
    // A size that is no number of bytes fails in the driver like any that the disk cannot take.
    let made = parts.driver.create(id, volume.size_bytes().unwrap_or(u64::MAX)).await;
    let status = match &made {
        Ok(()) => VolumeStatus::Available,
        Err(error) => {
            error!("{}", chain(error));
            VolumeStatus::Error
        }
    };
    parts.store.end_work(id, VolumeStatus::Creating, status).await?;
    if made.is_ok() {
        info!(volume = %id, size_gib = volume.size_gib, "volume made");
    }
    Ok(())
}

async fn delete(parts: &Parts, id: Uuid) -> Result<(), StoreError> {
    let _turn = parts.locks.lock(id).await;
    let Some(volume) = in_status(parts, id, VolumeStatus::Deleting).await? else { return Ok(()) };
    match remove_storage(parts, &volume).await {
        Ok(()) => {
            parts.store.forget_volume(id).await?;
            info!(volume = %id, "volume removed");
            Ok(())
        }
        Err(error) => {
            error!("{}", chain(&error));
            parts.store.end_work(id, VolumeStatus::Deleting, VolumeStatus::ErrorDeleting).await
        }
    }
}

async fn remove_storage(parts: &Parts, volume: &Volume) -> Result<(), ManagerError> {
    parts.target.remove(&exports::of(parts, volume, &[])).await?;
    parts.driver.delete(volume.id).await?;
    Ok(())
}

/// The volume, where the job is still to be done.
pub(super) async fn in_status(parts: &Parts, id: Uuid, status: VolumeStatus) -> Result<Option<Volume>, StoreError> {
    match parts.store.volume(id).await {
        Ok(volume) if volume.status == status => Ok(Some(volume)),
        Ok(volume) => {
            warn!(volume = %id, "not {status} any more but {}: nothing to do", volume.status);
            Ok(None)
        }
        Err(StoreError::Refused(Refusal::VolumeNotFound(_))) => {
            warn!(volume = %id, "was {status} and is not in the database any more: nothing to do");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
