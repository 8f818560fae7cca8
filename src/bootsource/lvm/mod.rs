//! Ephemeral disks on logical volumes.
//!
//! ```text
//! none --lvcreate, with the tag--> former bytes --zeroed--> blank --image or file system--> whole
//!   \________________________lvremove, where it has the tag________________________________/
//! ```
//! A thin volume reads as zeros from the start. A volume is named for its guest and its disk, and what has the name without the tag is
//! somebody else's. Nobody asks a volume whether it is whole: until the journal has the disk, a next try makes it anew.

mod devices;
mod group;
mod stored;
mod zero;

pub use group::VolumeGroup;
pub(super) use stored::{groups, missing};

use super::{
    BootSourceError, ImageSource,
    cache::blocking,
    disks::{DiskMaker, convert, disk_bytes, make_filesystem, run},
};
use crate::command::CommandError;
use crate::model::{DiskBus, DiskFormat, GuestUuid, LocalContent, LocalDisk, LocalDiskPlan, LocalPlace, ephemeral_disk_name};
use std::{fs, path::Path, time::Duration};

/// What writes the image finds nothing but zeros there, and leaves those out.
const INTO_ZEROS: &[&str] = &["-n", "--target-is-zero"];

impl DiskMaker {
    /// Makes a disk on a logical volume; what an earlier try left of it is replaced.
    pub(super) async fn make_logical(
        &self,
        group: &VolumeGroup,
        plan: &LocalDiskPlan,
        bus: DiskBus,
        source: &dyn ImageSource,
    ) -> Result<LocalDisk, BootSourceError> {
        let volume = ephemeral_disk_name(plan.guest, &plan.target);
        group.remove(&volume).await?;
        let device = group.device(&volume);
        match &plan.content {
            LocalContent::Image { image, size_bytes } => {
                let paths = self.clear(plan.guest, &plan.target).await?;
                let virtual_bytes = self.cache.take(image, source, &paths.base).await?;
                let size_bytes = disk_bytes(&plan.target, image, *size_bytes, virtual_bytes)?;
                self.blank_volume(group, &plan.target, &volume, size_bytes).await?;
                let (from, to) = ((paths.base.as_path(), image.format), (device.as_path(), DiskFormat::Raw));
                convert(&plan.target, from, to, INTO_ZEROS, self.copy_limit).await?;
                self.remove_files(plan.guest, &plan.target).await?;
            }
            LocalContent::Blank { size_bytes, filesystem } => {
                self.blank_volume(group, &plan.target, &volume, *size_bytes).await?;
                make_filesystem(&plan.target, &device, *filesystem).await?;
            }
        }
        let written = device.clone();
        let synced = move || fs::File::open(&written).and_then(|file| file.sync_all());
        blocking(&device.clone(), move || synced().map_err(BootSourceError::file("sync", &device))).await?;
        let (target, path) = (plan.target.clone(), group.device(&volume));
        let (place, format) = (LocalPlace::LogicalVolume, DiskFormat::Raw);
        Ok(LocalDisk { target, bus, path, place, format, base: None, lazy: None })
    }

    /// A volume that reads as zeros all over: whatever its extents held, no guest gets to see.
    async fn blank_volume(
        &self,
        group: &VolumeGroup,
        target: &str,
        volume: &str,
        size_bytes: u64,
    ) -> Result<(), BootSourceError> {
        group.create(volume, size_bytes).await?;
        if group.is_thin() {
            return Ok(());
        }
        let device = group.device(volume);
        if zero::by_device(&device).await? {
            return Ok(());
        }
        let step = zero::AT_ONCE_BYTES.to_string();
        let arguments = ["--zeroout".into(), "--step".into(), step.into(), "--".into(), device.into()];
        run(target, "blkdiscard", &arguments, self.copy_limit).await
    }
}

/// Removes the volume of a disk. `made`: the disk, where it is known to have been made; then it is where that says, though its group may
/// not be seen now, and nowhere else.
pub(super) async fn remove(
    configured: Option<&VolumeGroup>,
    guest: GuestUuid,
    name: &str,
    made: Option<&LocalDisk>,
) -> Result<(), BootSourceError> {
    let volume = ephemeral_disk_name(guest, name);
    match made.map(|disk| (&disk.place, group_of(&disk.path))) {
        Some((LocalPlace::File | LocalPlace::Rbd(_), _)) => return Ok(()),
        Some((LocalPlace::LogicalVolume, Some(group))) => return VolumeGroup::new(group, None).remove(&volume).await,
        Some((LocalPlace::LogicalVolume, None)) | None => {}
    }
    // The settings may have named another group when it was begun. What is active shows itself.
    let mut others = groups_with(Path::new("/dev"), &volume);
    others.extend(configured.map(|group| group.name().to_owned()));
    others.sort_unstable();
    others.dedup();
    for group in others {
        match VolumeGroup::new(group, None).remove(&volume).await {
            // Where there is no group, or no LVM, nothing was made; nor is that ours which the making was refused for.
            Ok(())
            | Err(
                BootSourceError::NoVolumeGroup { .. }
                | BootSourceError::ForeignVolume { .. }
                | BootSourceError::LvmCommand { source: CommandError::Start { .. }, .. },
            ) => {}
            failed => return failed,
        }
    }
    Ok(())
}

fn group_of(device: &Path) -> Option<String> {
    Some(device.parent()?.file_name()?.to_str()?.to_owned())
}

/// The groups that have an active volume of this name: the folders of its links.
fn groups_with(dev: &Path, volume: &str) -> Vec<String> {
    let folders = fs::read_dir(dev).into_iter().flatten().flatten();
    let has_it = folders.filter(|folder| folder.path().join(volume).symlink_metadata().is_ok());
    has_it.filter_map(|folder| folder.file_name().into_string().ok()).collect()
}

/// How long a command of LVM may take: it waits for others at the same group, and for their writes.
const CHANGE_WITHIN: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_found_by_its_link_and_named_for_its_disk() {
        let dev = tempfile::tempdir().unwrap();
        let guest = GuestUuid(uuid::Uuid::from_u128(2));
        for name in ["vda", "vda-0123abcd", "rescue"] {
            let volume = ephemeral_disk_name(guest, name);
            let path = dev.path().join("fast").join(&volume);
            let disk = LocalDisk {
                target: "vdx".into(),
                bus: DiskBus::Virtio,
                path: path.clone(),
                place: LocalPlace::LogicalVolume,
                format: DiskFormat::Raw,
                base: None,
                lazy: None,
            };
            assert_eq!(disk.name(), name);
            assert_eq!(group_of(&disk.path).as_deref(), Some("fast"));
            assert!(groups_with(dev.path(), &volume).is_empty());
            fs::create_dir_all(dev.path().join("fast")).unwrap();
            // A link that leads nowhere is one.
            std::os::unix::fs::symlink("../dm-7", &path).unwrap();
            assert_eq!(groups_with(dev.path(), &volume), ["fast"]);
        }
    }
}
