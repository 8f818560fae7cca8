//! The image that a guest's root disk was made of: what a rebuild or a rescue takes where none is asked for, and what a snapshot names.

use super::super::Shared;
use crate::agent::api::ApiError;
use crate::agent::journal::BootRecord;
use crate::model::{ErrorKind, GIB, GuestUuid, Image, ImageId, LocalContent, PlannedDisk, PlannedStorage, VolumeOrigin};

fn planned_root(booted: &BootRecord) -> Option<&PlannedDisk> {
    booted.plan.as_ref()?.disks.first()
}

/// The image of the root disk.
pub(in super::super) fn base_image(booted: &BootRecord) -> Option<ImageId> {
    match &planned_root(booted)?.storage {
        PlannedStorage::Local(LocalContent::Image { image, .. }) => Some(image.id),
        PlannedStorage::NewVolume { origin: VolumeOrigin::Image(image), .. } => Some(*image),
        _ => None,
    }
}

/// The size that was asked for the ephemeral root disk, GiB.
pub(super) fn root_size_gib(shared: &Shared, guest: GuestUuid) -> Option<u64> {
    match &planned_root(&shared.registry.booted(guest)?)?.storage {
        PlannedStorage::Local(LocalContent::Image { size_bytes, .. }) => size_bytes.map(|bytes| bytes / GIB),
        _ => None,
    }
}

/// The image that is asked for by id or unique name; of nothing the guest's own.
pub(super) async fn image_or_own(shared: &Shared, guest: GuestUuid, name: &str, asked: &str) -> Result<Image, ApiError> {
    if !asked.is_empty() {
        return Ok(shared.boot_sources.find_image(asked).await?);
    }
    let Some(own) = shared.registry.booted(guest).as_ref().and_then(base_image) else {
        let problem = format!("the root disk of guest {name} was not made of an image: say which to take (--image)");
        return Err(ApiError::new(ErrorKind::InvalidInput, problem));
    };
    Ok(shared.boot_sources.find_image(&own.to_string()).await?)
}
