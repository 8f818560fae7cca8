//! Holding a guest still while its disks are caught, and never longer than that.
//!
//! ```text
//! asked --agent answers--> frozen --caught, cut off, time is up, or the agent stops--> thawed
//!   \---nobody answers, or it refuses--> runs on (caught as after a power cut)
//! ```
//! A task of its own thaws: whoever catches may hang, be cut, or go away. What a crash of the agent leaves frozen, recovery thaws.

use super::super::{
    Shared, faults,
    ports::{PortError, PortResult},
};
use crate::agent::journal::{SnapshotTask, Step};
use crate::model::{ErrorKind, GuestUuid, Stillness};
use std::sync::Arc;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until, timeout_at},
};

/// Tries to thaw before whoever waits is told that the guest may be frozen.
const THAW_TRIES: usize = 4;

/// Catches what `catch` catches while the guest stands still, if it is to and can.
pub(super) async fn while_frozen<T>(
    shared: &Arc<Shared>,
    task: &SnapshotTask,
    step: Step,
    catch: impl Future<Output = PortResult<T>> + Send,
) -> PortResult<(T, Stillness)> {
    if !task.request.freeze {
        return Ok((catch.await?, Stillness::Running));
    }
    if shared.stopping.is_cancelled() {
        return Err(stopping());
    }
    let limit = shared.freeze_timeout;
    let deadline = Instant::now() + limit;
    let (frozen, stands) = oneshot::channel();
    // Dropped with this future, however that ends.
    let (release, released) = oneshot::channel::<()>();
    let keeper = shared.keepers.spawn(keep(shared.clone(), task.guest, deadline, frozen, released));
    let gone = |_| PortError::new(ErrorKind::Internal, "the task that thaws the guest ended without a word");
    let stillness = if stands.await.unwrap_or(false) { Stillness::Frozen } else { Stillness::Running };
    if stillness == Stillness::Running {
        let caught = catch.await;
        drop(release);
        keeper.await.map_err(gone)??;
        return Ok((caught?, stillness));
    }
    faults::crash_point(step, "frozen");
    let late = |_| {
        let message = format!(
            "the disks were not caught while the guest stood still: it is thawed after {} s (guest.freeze_timeout_s)",
            limit.as_secs()
        );
        PortError { outcome_unknown: true, ..PortError::new(ErrorKind::Timeout, message) }
    };
    let caught = tokio::select! {
        // What was caught may have been caught of a guest that ran on already.
        biased;
        () = shared.stopping.cancelled() => Err(stopping()),
        caught = timeout_at(deadline, catch) => caught.unwrap_or_else(|elapsed| Err(late(elapsed))),
    };
    drop(release);
    keeper.await.map_err(gone)??;
    Ok((caught?, stillness))
}

fn stopping() -> PortError {
    PortError::new(ErrorKind::Unavailable, "the agent is stopping, and freezes no guest now: ask again when it is back")
}

/// Freezes, tells whether that worked, and thaws.
async fn keep(
    shared: Arc<Shared>,
    guest: GuestUuid,
    deadline: Instant,
    frozen: oneshot::Sender<bool>,
    released: oneshot::Receiver<()>,
) -> PortResult<()> {
    let asked = shared.hypervisor.freeze(guest, deadline.saturating_duration_since(Instant::now())).await;
    match asked {
        Ok(false) => {
            let _ = frozen.send(false);
            return Ok(());
        }
        Ok(true) => {
            let _ = frozen.send(true);
            tokio::select! {
                _ = released => {}
                () = shared.stopping.cancelled() => tracing::warn!(%guest, "thawing the guest: the agent stops"),
                () = sleep_until(deadline) => tracing::warn!(%guest, "thawing the guest: the time is up"),
            }
        }
        Err(error) => {
            tracing::warn!(%guest, %error, "the guest cannot be frozen: its disks are caught as after a power cut");
            let _ = frozen.send(false);
        }
    }
    let mut delays = shared.retry.delays();
    let mut thawed = shared.hypervisor.thaw(guest).await;
    for _ in 1..THAW_TRIES {
        let Err(error) = &thawed else { break };
        tracing::warn!(%guest, %error, "the guest may be frozen: will be tried again");
        tokio::time::sleep(delays.next().unwrap_or_default()).await;
        thawed = shared.hypervisor.thaw(guest).await;
    }
    thawed.map_err(|error| PortError { message: format!("the guest may be frozen: {}", error.message), ..error })
}
