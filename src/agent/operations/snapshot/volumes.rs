//! An image that names snapshots of the guest's volumes, all taken in one moment in which the guest stands still.

use super::{
    super::{
        Shared,
        ports::{PortError, PortResult},
    },
    freeze, image,
};
use crate::agent::journal::{Facts, SnapshotTask, Step};
use crate::bootsource::of_instance;
use crate::model::{InstanceContent, InstanceDisk, NewImage, OperationId, SnapshotId, Stillness, VolumeId};
use futures_util::future::join_all;
use std::sync::Arc;

/// The disks that are volumes: target name, volume, and the snapshot's name.
fn wanted(disks: &[InstanceDisk]) -> impl Iterator<Item = (&str, VolumeId, &str)> {
    disks.iter().filter_map(|disk| match &disk.content {
        InstanceContent::Volume { volume, snapshot_name, .. } => Some((disk.target.as_str(), *volume, snapshot_name.as_str())),
        InstanceContent::Blank { .. } => None,
    })
}

/// Has the service take the snapshots, side by side.
pub(super) async fn take(
    shared: &Arc<Shared>,
    id: OperationId,
    task: &SnapshotTask,
    disks: &[InstanceDisk],
    facts: &mut Facts,
) -> PortResult<()> {
    let guest = shared.hypervisor.guest(&task.guest.to_string()).await?;
    let taken = join_all(wanted(disks).map(|(target, volume, name)| one(shared, id, target, volume, name)));
    let taken = async { Ok(taken.await) };
    let (taken, stillness) = if guest.active {
        freeze::while_frozen(shared, task, Step::SnapshotVolumes, taken).await?
    } else {
        (taken.await?, Stillness::Off)
    };
    let mut failure = None;
    for ((target, ..), taken) in wanted(disks).zip(taken) {
        match taken {
            Ok(snapshot) => facts.snapshots.push((target.to_owned(), snapshot)),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    facts.stillness = Some(stillness);
    failure.map_or(Ok(()), Err)
}

async fn one(shared: &Arc<Shared>, id: OperationId, target: &str, volume: VolumeId, name: &str) -> PortResult<SnapshotId> {
    let named = |error: PortError| PortError { message: format!("volume {volume} ({target}): {}", error.message), ..error };
    let tell = shared.telling(id, target);
    tell(0, 1);
    let snapshot = shared.volumes.create_snapshot(volume, name).await.map_err(named)?.id;
    shared.volumes.wait_snapshot_available(snapshot, shared.create_timeout).await.map_err(named)?;
    tell(1, 1);
    Ok(snapshot)
}

/// Makes the image, whose mapping is all that it has.
pub(super) async fn register(shared: &Shared, task: &SnapshotTask, disks: &[InstanceDisk], facts: &Facts) -> PortResult<()> {
    let snapshot = |target: &str| facts.snapshots.iter().find(|(of, _)| of == target).map(|(_, snapshot)| *snapshot);
    let mut image: NewImage = image(task, facts);
    image.properties.insert("block_device_mapping".to_owned(), of_instance(disks, snapshot));
    image.properties.insert("bdm_v2".to_owned(), "True".to_owned());
    shared.boot_sources.create_image(&image).await?;
    shared.boot_sources.finish_image(image.id).await
}

/// Deletes what the service took for this image. The service may still be at a request whose answer was lost, so what is not known is
/// looked for a few times before it is believed that there is none.
pub(super) async fn delete(shared: &Shared, disks: &[InstanceDisk], facts: &Facts) -> PortResult<()> {
    let names: Vec<&str> = wanted(disks).map(|(_, _, name)| name).collect();
    let mut left = names.len();
    for pause in [0, 1, 4, 8].map(|times| shared.retry.first_delay * times) {
        tokio::time::sleep(pause).await;
        let snapshots = shared.volumes.snapshots().await?;
        let ours: Vec<_> = snapshots.into_iter().filter(|snapshot| names.contains(&snapshot.name.as_str())).collect();
        left = left.saturating_sub(ours.len());
        let gone = ours.iter().map(|snapshot| shared.volumes.delete_snapshot(snapshot.id, shared.delete_timeout));
        join_all(gone).await.into_iter().collect::<PortResult<()>>()?;
        if left == 0 || facts.snapshots.len() == names.len() {
            break;
        }
    }
    Ok(())
}
