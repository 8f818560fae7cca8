//! An image of an ephemeral disk: caught into a file of this host, uploaded from there.

use super::{
    super::{Shared, ports::PortResult},
    freeze, image,
};
use crate::agent::journal::{Facts, SnapshotTask, Step};
use crate::model::{LocalDisk, NewImage, OperationId, Stillness};
use std::sync::Arc;

/// Catches the disk as it is now.
pub(super) async fn capture(
    shared: &Arc<Shared>,
    id: OperationId,
    task: &SnapshotTask,
    disk: &LocalDisk,
    facts: &mut Facts,
) -> PortResult<()> {
    if !shared.hypervisor.guest(&task.guest.to_string()).await?.active {
        shared.boot_sources.capture_stopped(disk, task.image.id).await?;
        facts.stillness = Some(Stillness::Off);
        return Ok(());
    }
    let file = shared.boot_sources.clear_capture(task.image.id).await?;
    let begin = shared.hypervisor.begin_backup(task.guest, &disk.target, &file);
    let (backup, stillness) = freeze::while_frozen(shared, task, Step::CaptureDisk, begin).await?;
    backup.wait(shared.download_timeout, shared.telling(id, &disk.target)).await?;
    facts.stillness = Some(stillness);
    Ok(())
}

/// Gives what was caught to the image service.
pub(super) async fn upload(shared: &Arc<Shared>, id: OperationId, task: &SnapshotTask, facts: &Facts) -> PortResult<()> {
    let min_disk_gib = shared.boot_sources.captured_gib(task.image.id).await?;
    let image = NewImage { min_disk_gib, ..image(task, facts) };
    shared.boot_sources.create_image(&image).await?;
    shared.boot_sources.upload_capture(image.id, shared.telling(id, "image")).await
}

/// Ends the catching, and throws away what was caught.
pub(super) async fn discard(shared: &Arc<Shared>, task: &SnapshotTask) -> PortResult<()> {
    shared.hypervisor.abort_backup(task.guest, &shared.boot_sources.capture_path(task.image.id)).await?;
    shared.boot_sources.remove_capture(task.image.id).await
}
