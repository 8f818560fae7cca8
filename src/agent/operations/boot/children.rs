//! Operations that a boot, a rebuild or a delete has done for it: each is journalled and shown as any other, and survives whoever waits for it.

use super::super::{
    Shared,
    executor::{self, Run},
    plan,
    ports::{PortError, PortResult},
};
use crate::agent::api::{AttachRequest, OperationState};
use crate::agent::journal::{AttachTask, Change, OperationRecord, Task};
use crate::model::{AttachmentId, DiskBus, DiskWishes, ErrorKind, GuestUuid, OperationId, VolumeId};
use futures_util::future::join_all;
use std::{collections::BTreeSet, pin::Pin, sync::Arc};
use tokio::sync::broadcast::error::RecvError;

/// A volume that a boot, or a rebuild, attaches.
pub(super) struct Wanted {
    pub(super) volume: VolumeId,
    pub(super) guest: GuestUuid,
    pub(super) bus: DiskBus,
    pub(super) target: String,
    pub(super) wishes: DiskWishes,
    /// What reserves it for the guest already.
    pub(super) reservation: Option<AttachmentId>,
}

/// Gives the guest the volume.
pub(super) async fn attach(shared: &Arc<Shared>, wanted: Wanted) -> PortResult<()> {
    let Wanted { volume, guest, .. } = wanted;
    let facts = shared.hypervisor.guest(&guest.to_string()).await?;
    let request = AttachRequest {
        volume: volume.to_string(),
        guest: guest.to_string(),
        bus: Some(wanted.bus),
        target: Some(wanted.target),
        read_only: false,
        wishes: wanted.wishes,
    };
    let mut volume = shared.volumes.volume(volume).await?;
    plan::own_reservation(&mut volume, wanted.reservation);
    let planned = plan::plan_attach(&request, &volume, &facts, None, wanted.bus);
    let task = planned.map_err(|error| PortError::new(error.kind, error.message))?;
    run(shared, Task::Attach(AttachTask { reservation: wanted.reservation, by_hand: false, ..task })).await
}

/// Sees to it that the guest has not got the volume, whatever is under way.
pub(super) async fn detach(shared: &Arc<Shared>, volume: VolumeId, guest: GuestUuid) -> PortResult<()> {
    settled(shared, volume, guest).await?;
    let Some(attached) = shared.registry.attachment(volume, guest) else { return Ok(()) };
    let task = Task::Detach(crate::agent::journal::DetachTask { volume, guest, guest_name: attached.guest_name });
    run(shared, task).await
}

/// Waits for the end of what this guest has under way with the volume.
pub(super) async fn settled(shared: &Shared, volume: VolumeId, guest: GuestUuid) -> PortResult<()> {
    match under_way(shared, volume, guest) {
        Some(under_way) => end_of(shared, under_way.id).await.map(drop),
        None => Ok(()),
    }
}

/// Takes away all volumes of a guest that is about to be undefined, also what somebody attached, or is attaching, meanwhile: they would stay
/// attached for nobody.
pub(super) async fn detach_all(shared: &Arc<Shared>, guest: GuestUuid) -> PortResult<()> {
    loop {
        let attached =
            shared.registry.attachments().into_iter().filter(|record| record.guest == guest).map(|record| record.volume);
        let is_attach = |record: &OperationRecord| matches!(record.task, Task::Attach(_)) && !record.state.is_over();
        let records = shared.registry.records().into_iter();
        let coming =
            records.filter(|record| is_attach(record) && record.task.guest() == guest).map(|record| record.task.volume());
        let volumes: BTreeSet<_> = attached.chain(coming).collect();
        if volumes.is_empty() {
            return Ok(());
        }
        let detached = join_all(volumes.into_iter().map(|volume| detach(shared, volume, guest))).await;
        detached.into_iter().collect::<PortResult<()>>()?;
    }
}

/// The unfinished operation that this guest has with the volume.
fn under_way(shared: &Shared, volume: VolumeId, guest: GuestUuid) -> Option<OperationRecord> {
    let of_both = |record: &OperationRecord| {
        matches!(record.task, Task::Attach(_) | Task::Detach(_))
            && record.task.volume() == volume
            && record.task.guest() == guest
    };
    shared.registry.records().into_iter().find(|record| of_both(record) && !record.state.is_over())
}

async fn run(shared: &Arc<Shared>, task: Task) -> PortResult<()> {
    let record = executor::new_record(task);
    let id = record.id;
    let change = Change::PutOperation(Box::new(record.clone()));
    shared.journal.commit(vec![change]).await.map_err(|error| PortError::new(error.kind(), error.to_string()))?;
    launch(shared, record);
    let ended = end_of(shared, id).await?;
    if ended.state == OperationState::Succeeded {
        return Ok(());
    }
    let (kind, message) = match ended.failure {
        Some(failure) => (failure.kind, failure.message),
        None => (ErrorKind::Internal, ended.state.to_string()),
    };
    Err(PortError::new(kind, format!("the {} of volume {}: {message}", ended.task.kind(), ended.task.volume())))
}

/// Lets an operation go that is in the journal. On its own: a wait that is given up cuts nothing.
pub(in super::super) fn launch(shared: &Arc<Shared>, record: OperationRecord) {
    // A type of its own, since an operation that begins another would contain itself.
    let run: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(Run::new(shared.clone(), record).run());
    tokio::spawn(run);
}

/// Waits for an operation's end. One that is stuck is an error: it goes on by itself, and whoever needs its end asks again.
pub(super) async fn end_of(shared: &Shared, id: OperationId) -> PortResult<OperationRecord> {
    let mut events = shared.registry.events();
    // It may not have begun: until then it is not known.
    loop {
        match shared.registry.record(id) {
            Some(record) if record.state == OperationState::Stuck => {
                let why = record.failure.map(|failure| failure.message).unwrap_or_default();
                let message = format!("the {} of volume {} is stuck: {why}", record.task.kind(), record.task.volume());
                return Err(PortError::new(ErrorKind::Conflict, message));
            }
            Some(record) if record.state.is_final() => return Ok(record),
            _ => {}
        }
        if let Err(RecvError::Closed) = events.recv().await {
            return Err(PortError::new(ErrorKind::Unavailable, "the agent is stopping"));
        }
    }
}
