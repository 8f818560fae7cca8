//! Planning a snapshot: what of the guest is caught, and what the image says of it. Nothing is touched.

use super::super::{Shared, boot::base_image, fill, ports::GuestFacts};
use crate::agent::api::ApiError;
use crate::agent::journal::{AttachmentRecord, BootRecord, SnapshotTask, Step, Task};
use crate::model::{
    BootedDisk, ErrorKind, Filesystem, GIB, ImageId, InstanceContent, InstanceDisk, LocalContent, MIB, NewImage, PlannedDisk,
    PlannedStorage, SnapshotRequest, SnapshotSource,
};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Characters of the image's name that a snapshot's name has; the service's names end at 255.
const NAME_CHARS: usize = 200;

/// Plans a snapshot.
pub(in super::super) async fn plan_snapshot(shared: &Shared, request: &SnapshotRequest) -> Result<Task, ApiError> {
    let guest = shared.hypervisor.guest(&request.guest).await?;
    let Some(booted) = shared.registry.booted(guest.uuid) else {
        let message = format!(
            "guest {} was not booted by this host's Bowline, so what its root disk is, is not known here: its volumes can be \
             snapshotted in the volume service",
            guest.name
        );
        return Err(ApiError::new(ErrorKind::NotFound, message));
    };
    let mut attached = shared.registry.attachments();
    attached.retain(|record| record.guest == guest.uuid);
    let image_id = ImageId(Uuid::new_v4());
    let (source, target) = match booted.disks.first() {
        Some(BootedDisk::Local(disk)) => {
            fill::check_filled(disk, &guest.name)?;
            (SnapshotSource::Disk(disk.clone()), disk.target.clone())
        }
        Some(BootedDisk::Volume { volume, .. }) if attached.iter().any(|record| record.volume == *volume) => {
            let disks = instance_disks(&booted, attached, &request.name, image_id);
            let target = disks.first().map(|disk| disk.target.clone()).unwrap_or_default();
            (SnapshotSource::Volumes(disks), target)
        }
        Some(BootedDisk::Volume { volume, .. }) => {
            let message = format!("volume {volume}, the root disk of guest {}, is detached: attach it first", guest.name);
            return Err(ApiError::new(ErrorKind::Conflict, message));
        }
        None => {
            return Err(ApiError::new(ErrorKind::NotFound, format!("guest {} was booted without a disk", guest.name)));
        }
    };
    let image = image(&guest, &booted, request, image_id, &source, &target);
    // By its UUID it is the same request, whatever the guest was called in it.
    let request = SnapshotRequest { guest: guest.uuid.to_string(), ..request.clone() };
    Ok(Task::Snapshot(SnapshotTask { guest: guest.uuid, guest_name: guest.name, request, image, source }))
}

/// What the image says of itself, in Nova's words.
fn image(
    guest: &GuestFacts,
    booted: &BootRecord,
    request: &SnapshotRequest,
    id: ImageId,
    source: &SnapshotSource,
    root: &str,
) -> NewImage {
    let mut properties = BTreeMap::from([
        ("image_type".to_owned(), "snapshot".to_owned()),
        ("image_state".to_owned(), "available".to_owned()),
        ("instance_uuid".to_owned(), guest.uuid.to_string()),
        ("root_device_name".to_owned(), format!("/dev/{root}")),
    ]);
    properties.extend(base_image(booted).map(|base| ("base_image_ref".to_owned(), base.to_string())));
    let (disk_format, min_disk_gib) = match source {
        SnapshotSource::Disk(disk) => {
            properties.insert("hw_disk_bus".to_owned(), disk.bus.as_str().to_owned());
            // Its size is known once it is caught.
            ("qcow2", 0)
        }
        SnapshotSource::Volumes(disks) => match disks.first().map(|disk| &disk.content) {
            Some(InstanceContent::Volume { size_gib, .. }) => ("raw", *size_gib),
            _ => ("raw", 0),
        },
    };
    NewImage { id, name: request.name.clone(), disk_format: disk_format.to_owned(), min_disk_gib, properties }
}

/// The guest's disks: those of its boot in their order, the root disk first, then what was attached since.
fn instance_disks(booted: &BootRecord, mut attached: Vec<AttachmentRecord>, name: &str, image: ImageId) -> Vec<InstanceDisk> {
    let planned = |target: &str| -> Option<&PlannedDisk> {
        booted.plan.as_ref().and_then(|plan| plan.disks.iter().find(|disk| disk.target == target))
    };
    let name: String = name.chars().take(NAME_CHARS).collect();
    let suffix: String = image.to_string().chars().take(8).collect();
    let of_volume = |record: AttachmentRecord, delete_on_termination| InstanceDisk {
        delete_on_termination,
        tag: record.wishes.tag,
        bus: record.bus,
        content: InstanceContent::Volume {
            volume: record.volume,
            size_gib: record.observed.size_bytes.div_ceil(GIB),
            snapshot_name: format!("snapshot for {name} {} {suffix}", record.target),
        },
        target: record.target,
    };
    let mut disks = vec![];
    for disk in &booted.disks {
        match disk {
            BootedDisk::Volume { volume, delete_on_termination } => {
                if let Some(index) = attached.iter().position(|record| record.volume == *volume) {
                    let record = attached.swap_remove(index);
                    let goes = *delete_on_termination && !record.by_hand;
                    disks.push(of_volume(record, goes));
                }
            }
            BootedDisk::Local(disk) => {
                let planned = planned(&disk.target);
                // Bytes of an ephemeral disk beside the root disk are in no snapshot, as with Nova.
                if let Some(PlannedStorage::Local(LocalContent::Blank { size_bytes, filesystem })) =
                    planned.map(|disk| &disk.storage)
                {
                    disks.push(InstanceDisk {
                        target: disk.target.clone(),
                        bus: disk.bus,
                        delete_on_termination: true,
                        tag: planned.and_then(|disk| disk.tag.clone()),
                        content: InstanceContent::Blank {
                            size_gib: size_bytes.div_ceil(GIB),
                            swap_mib: (*filesystem == Some(Filesystem::Swap)).then_some(size_bytes.div_ceil(MIB)),
                            filesystem: *filesystem,
                        },
                    });
                }
            }
        }
    }
    attached.sort_by(|one, other| (one.target.len(), &one.target).cmp(&(other.target.len(), &other.target)));
    disks.extend(attached.into_iter().map(|record| of_volume(record, false)));
    disks
}

/// Looks again whether the guest still has what is to be caught.
pub(in super::super) fn check_still(shared: &Shared, task: &SnapshotTask) -> Result<(), ApiError> {
    let has_it = match &task.source {
        SnapshotSource::Disk(disk) => shared
            .registry
            .booted(task.guest)
            .is_some_and(|booted| booted.disks.iter().any(|one| *one == BootedDisk::Local(disk.clone()))),
        SnapshotSource::Volumes(disks) => disks.iter().all(|disk| match disk.content {
            InstanceContent::Volume { volume, .. } => shared.registry.attachment(volume, task.guest).is_some(),
            InstanceContent::Blank { .. } => true,
        }),
    };
    if has_it {
        return Ok(());
    }
    let message = format!("guest {} has not got the disks any more that were to be snapshotted", task.guest_name);
    Err(ApiError::new(ErrorKind::Conflict, message))
}

/// A step of a snapshot in words.
pub(in super::super) fn describe(step: Step, task: &SnapshotTask) -> String {
    let (guest, image) = (&task.guest_name, &task.image);
    let frozen = if task.request.freeze { ", its filesystems frozen for that moment if its agent answers" } else { "" };
    match (step, &task.source) {
        (Step::CaptureDisk, SnapshotSource::Disk(disk)) => format!(
            "catch disk {} of guest {guest} as it is{frozen}; its other disks and volumes are not in the image",
            disk.target
        ),
        (Step::UploadImage, _) => {
            format!("upload it as image {:?} ({}), and compare what arrived", image.name, image.id)
        }
        (Step::RemoveCapture, _) => "remove from this host what was caught".to_owned(),
        (Step::SnapshotVolumes, SnapshotSource::Volumes(disks)) => {
            let volumes = disks.iter().filter_map(|disk| match disk.content {
                InstanceContent::Volume { volume, size_gib, .. } => Some(format!("{} {volume} ({size_gib} GiB)", disk.target)),
                InstanceContent::Blank { .. } => None,
            });
            let volumes: Vec<_> = volumes.collect();
            format!("have the volume service take snapshots of {}, side by side{frozen}", volumes.join("; "))
        }
        (Step::RegisterImage, _) => format!("make image {:?} ({}), which names them", image.name, image.id),
        (other, _) => other.name().to_owned(),
    }
}
