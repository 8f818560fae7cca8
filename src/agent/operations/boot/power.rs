//! Starting and stopping a guest, whoever made its disks.
//!
//! ```text
//! start:  ConnectVolumes -> StartGuest
//! stop:   ShutDownGuest (asked, and left running if it does not)   or   StopGuest (its power is cut at once)
//! ```
//! A stop takes no storage from the guest: its volumes stay attached, and connected.

use super::{
    super::{
        Shared, fill,
        ports::{PortError, PortResult},
        reconnect,
        steps::missing,
    },
    children::end_of,
    local::{give_key, local_disks},
    rescue::rescue_disk,
};
use crate::agent::api::StepState;
use crate::agent::journal::{OperationRecord, StartTask, Step, StopTask, Task};
use crate::model::{ErrorKind, GuestUuid};
use futures_util::{StreamExt, stream};
use std::sync::Arc;

/// The steps of a start.
pub(in super::super) const START: [Step; 2] = [Step::ConnectVolumes, Step::StartGuest];

/// Volumes of one guest connected side by side.
const WIDTH: usize = 8;

/// The one step of a stop.
pub(in super::super) const fn stop_step(task: &StopTask) -> Step {
    if task.force { Step::StopGuest } else { Step::ShutDownGuest }
}

/// Does a step of a start.
pub(in super::super) async fn start_step(shared: &Arc<Shared>, task: &StartTask, step: Step) -> PortResult<()> {
    match step {
        Step::ConnectVolumes => connect_volumes(shared, task.guest).await,
        Step::StartGuest => match rescue_disk(shared, task.guest) {
            Some(disk) => shared.hypervisor.start_rescue(task.guest, &disk).await,
            None => shared.hypervisor.start_guest(task.guest).await,
        },
        other => Err(missing(other.name())),
    }
}

/// Does a step of a stop.
pub(in super::super) async fn stop(shared: &Shared, task: &StopTask, step: Step) -> PortResult<()> {
    match step {
        Step::StopGuest => shared.hypervisor.stop_guest(task.guest).await,
        Step::ShutDownGuest => shared.hypervisor.shut_down_guest(task.guest).await,
        other => Err(missing(other.name())),
    }
}

/// Connects what of the guest's volumes is not connected, side by side, and proves each to be the volume; images that still come to its
/// disks are served, its logical volumes and RBD images must be there, and libvirt gets the
/// keys of those. All volumes are tried, whatever becomes of one.
pub(super) async fn connect_volumes(shared: &Arc<Shared>, guest: GuestUuid) -> PortResult<()> {
    fill::make_ready(shared, guest).await?;
    for disk in shared.registry.booted(guest).iter().flat_map(local_disks) {
        shared.boot_sources.check_seen(disk).await?;
        give_key(shared, disk).await?;
    }
    // What the guest has been given is its own once that has ended; where the host lost power before, it has yet to be connected again.
    let is_given = |record: &OperationRecord| {
        let is_begun = |state| matches!(state, StepState::Started | StepState::Succeeded);
        matches!(record.task, Task::Attach(_))
            && record.task.guest() == guest
            && !record.state.is_over()
            && record.steps.iter().any(|step| step.step == Step::AttachDisk && is_begun(step.state))
    };
    for record in shared.registry.records().into_iter().filter(is_given) {
        if let Err(error) = end_of(shared, record.id).await {
            tracing::warn!(operation = %record.id, %error, "it is not waited for any longer");
        }
    }
    let attached = shared.registry.attachments().into_iter().filter(|record| record.guest == guest);
    let connecting = stream::iter(attached.collect::<Vec<_>>()).map(|record| {
        let (shared, volume) = (shared.clone(), record.volume);
        // Never cut midway, whoever stops waiting: that would leave what nobody knows of.
        let connecting = tokio::spawn(async move { reconnect::reconnect(&shared, &record).await });
        async move {
            let connected =
                connecting.await.unwrap_or_else(|error| Err(PortError::new(ErrorKind::Internal, error.to_string())));
            connected.map_err(|error| PortError { message: format!("volume {volume}: {}", error.message), ..error })
        }
    });
    let connected: Vec<_> = connecting.buffer_unordered(WIDTH).collect().await;
    connected.into_iter().collect::<PortResult<Vec<_>>>().map(drop)
}
