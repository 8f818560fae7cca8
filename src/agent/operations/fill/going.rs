//! Keeping a guest going that QEMU pauses because it cannot read of its image.
//!
//! QEMU pauses it when a read waited too long, and when the agent was restarted: before libvirt 9.1 it cannot be told to wait for that, so the
//! first read after it fails. As long as the image comes, the guest goes on at once. One that was paused for anything else stays so: by
//! somebody, for another disk, or because the host has no room for what it writes. QEMU tells of a disk that failed also later, though: a
//! guest that has waited for its image once is resumed whatever I/O fails then, as long as it is being filled, and every few seconds at most.

use super::super::Shared;
use crate::agent::api::{AgentEvent, GuestChange};
use crate::agent::journal::FillTask;
use std::time::{Duration, Instant};
use tokio::sync::broadcast::error::RecvError;

/// First and longest pause before a guest goes on that was paused again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// A guest that ran for so long was not paused again.
const CALM: Duration = Duration::from_secs(10);

/// Lets the guest go on, now and each time that it is paused. Never ends.
pub(super) async fn keep_going(shared: &Shared, task: &FillTask) {
    // Before the first look, so that nothing falls between the two.
    let mut events = shared.registry.events();
    let mut pause = PAUSES.0;
    loop {
        resume(shared, task).await;
        let resumed = Instant::now();
        loop {
            match events.recv().await {
                Ok(AgentEvent::Guest { guest, change: GuestChange::Paused, .. }) if guest == task.guest => break,
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => break,
                // The agent is about to end.
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
        pause = if resumed.elapsed() > CALM { PAUSES.0 } else { PAUSES.1.min(pause * 2) };
        tokio::time::sleep(pause).await;
    }
}

/// Where libvirt cannot be asked, or the guest is not paused for that, nothing is done.
async fn resume(shared: &Shared, task: &FillTask) {
    match shared.hypervisor.resume_after_io_error(task.guest, &task.disks).await {
        Ok(true) => {
            tracing::info!(guest = %task.guest, "goes on: its image comes again");
            shared.registry.tell_guest(task.guest, task.guest_name.clone(), GuestChange::Resumed);
        }
        Ok(false) => {}
        Err(error) => tracing::warn!(guest = %task.guest, %error, "it is not known whether the guest is paused"),
    }
}
