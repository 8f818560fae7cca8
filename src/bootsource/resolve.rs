//! From a mapping to a plan: what each entry comes to, with images, volumes and snapshots at hand. Pure.
//!
//! The root disk gets the first target name of its bus, or the name that the request or the image gives it; the others follow in
//! the order of the mapping. A machine without an order of its own boots from the first.

use super::{
    Mapping, MappingError,
    mapping::{Destination, Entry, Source},
};
use crate::model::{
    BootPlan, DiskBus, DiskFormat, ForeignFormat, GIB, Image, ImageFile, LocalContent, MIB, PlannedDisk, PlannedStorage,
    Volume, VolumeOrigin, VolumeSnapshot,
};
use std::collections::{HashMap, HashSet};

/// What a mapping is resolved with.
#[derive(Debug, Default)]
pub struct Facts {
    /// Images by what the mapping calls them.
    pub images: HashMap<String, Image>,
    /// Volumes.
    pub volumes: HashMap<String, Volume>,
    /// Snapshots.
    pub snapshots: HashMap<String, VolumeSnapshot>,
    /// `root_device_name` of the image that is booted.
    pub root_device_name: Option<String>,
    /// The guest's name.
    pub guest_name: String,
    /// Target names that the guest has already.
    pub taken: Vec<String>,
    /// Bus where neither mapping nor image names one.
    pub default_bus: DiskBus,
    /// What makes the names of new volumes unlike all others.
    pub suffix: String,
}

impl Mapping {
    /// Makes the plan.
    ///
    /// # Errors
    /// The entry, and what about the thing it names does not fit.
    pub fn resolve(&self, facts: &Facts) -> Result<BootPlan, MappingError> {
        let mut taken: HashSet<String> = facts.taken.iter().cloned().collect();
        for entry in &self.entries {
            if let Some(name) = &entry.device_name
                && !taken.insert(name.clone())
            {
                return Err(entry.wrong("device_name", format!("guest {} has a disk {name} already", facts.guest_name)));
            }
        }
        let mut disks: Vec<PlannedDisk> = Vec::with_capacity(self.entries.len());
        let mut remarks = vec![];
        for (index, entry) in self.entries.iter().enumerate() {
            let is_root = index == 0;
            let bus = bus(entry, facts);
            let target = match &entry.device_name {
                Some(name) if !name.starts_with(bus.target_prefix()) => {
                    return Err(entry.wrong("device_name", format!("{name} is no name of bus {bus}")));
                }
                Some(name) => name.clone(),
                None => free_target(bus, is_root.then_some(facts.root_device_name.as_deref()).flatten(), &mut taken),
            };
            let storage = storage(entry, facts, &target, is_root)?;
            // Two names may be one volume's.
            if matches!(storage, PlannedStorage::Volume(_)) && disks.iter().any(|disk| disk.storage == storage) {
                return Err(entry.wrong("uuid", "is that of another entry: a guest has a volume once"));
            }
            if let (Source::Volume, Some(_)) = (entry.source, entry.size_gib) {
                remarks.push(format!("{}, volume_size: has no effect, a volume that is there has its size", entry.name));
            }
            let is_local = matches!(storage, PlannedStorage::Local(_));
            disks.push(PlannedDisk {
                target,
                bus,
                delete_on_termination: entry.delete_on_termination.unwrap_or(is_local),
                tag: entry.tag.clone(),
                storage,
            });
        }
        if let Some((root, entry)) = disks.first().zip(self.entries.first()) {
            boots_first(root, entry, facts, &disks)?;
        }
        Ok(BootPlan { disks, remarks })
    }
}

/// libvirt sorts the disks of a bus by their names, and has a guest boot from the first. Of those that the guest has already, only a
/// virtio one is known to be no CD's drive, which is passed over.
fn boots_first(root: &PlannedDisk, entry: &Entry, facts: &Facts, disks: &[PlannedDisk]) -> Result<(), MappingError> {
    let prefix = root.bus.target_prefix();
    // Of two names the longer is the later one.
    let place = |name: &str| (name.len(), name.to_owned());
    let planned = disks.iter().map(|disk| &disk.target);
    let there = facts.taken.iter().filter(|_| root.bus == DiskBus::Virtio);
    let before = planned.chain(there).find(|name| name.starts_with(prefix) && place(name) < place(&root.target));
    let Some(before) = before else { return Ok(()) };
    let problem = format!(
        "guest {} would boot from {before}, which comes before its root disk {}: name the root disk before all others of bus {}, or put \
         it onto another",
        facts.guest_name, root.target, root.bus
    );
    Err(entry.wrong("device_name", problem))
}

fn find<'a, T>(map: &'a HashMap<String, T>, entry: &Entry) -> Result<&'a T, MappingError> {
    entry.uuid.as_ref().and_then(|uuid| map.get(uuid)).ok_or_else(|| entry.wrong("uuid", "names nothing that was found"))
}

/// The entry's, else what its device name tells, else the image's, else the host's.
fn bus(entry: &Entry, facts: &Facts) -> DiskBus {
    let by_name = entry.device_name.as_ref().map(|name| {
        let is_scsi = name.starts_with(DiskBus::Scsi.target_prefix());
        if is_scsi { DiskBus::Scsi } else { DiskBus::Virtio }
    });
    let by_image = entry.uuid.as_ref().and_then(|uuid| facts.images.get(uuid)).and_then(|image| image.disk_bus);
    entry.disk_bus.or(by_name).or(by_image).unwrap_or(facts.default_bus)
}

/// `wanted`, where it is of this bus and free, else the first free one.
fn free_target(bus: DiskBus, wanted: Option<&str>, taken: &mut HashSet<String>) -> String {
    let prefix = bus.target_prefix();
    let wanted = wanted.map(|name| name.strip_prefix("/dev/").unwrap_or(name));
    let is_plain = |name: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|letters| (1..=3).contains(&letters.len()) && letters.bytes().all(|byte| byte.is_ascii_lowercase()))
    };
    if let Some(name) = wanted.filter(|name| is_plain(name))
        && taken.insert(name.to_owned())
    {
        return name.to_owned();
    }
    // A mapping has fewer entries than there are names of two letters, and a guest fewer disks still.
    let one = (b'a'..=b'z').map(|letter| char::from(letter).to_string());
    let two =
        (b'a'..=b'z').flat_map(|first| (b'a'..=b'z').map(move |second| format!("{}{}", char::from(first), char::from(second))));
    let name =
        one.chain(two).map(|letters| format!("{prefix}{letters}")).find(|name| !taken.contains(name)).unwrap_or_default();
    taken.insert(name.clone());
    name
}

fn storage(entry: &Entry, facts: &Facts, target: &str, is_root: bool) -> Result<PlannedStorage, MappingError> {
    let new_volume = |size_gib: u64, origin: VolumeOrigin| PlannedStorage::NewVolume {
        name: format!("{}-{target}-{}", facts.guest_name, facts.suffix),
        size_gib,
        volume_type: entry.volume_type.clone(),
        origin,
    };
    let size = || entry.size_gib.ok_or_else(|| entry.wrong("volume_size", "is missing"));
    Ok(match (entry.source, entry.destination) {
        (Source::Volume, _) => {
            let volume = find(&facts.volumes, entry)?;
            if is_root && !volume.bootable {
                return Err(entry.wrong(
                    "uuid",
                    format!("volume {} is not marked as bootable (openstack volume set --bootable)", volume.id),
                ));
            }
            if volume.status != "available" && !(volume.multiattach && volume.status == "in-use") {
                return Err(entry.wrong(
                    "uuid",
                    format!("volume {} is {}: only one that is available can be attached", volume.id, volume.status),
                ));
            }
            PlannedStorage::Volume(volume.id)
        }
        (Source::Snapshot, _) => {
            let snapshot = find(&facts.snapshots, entry)?;
            if snapshot.status != "available" {
                return Err(entry.wrong("uuid", format!("snapshot {} is {}, not available", snapshot.id, snapshot.status)));
            }
            let size_gib = entry.size_gib.unwrap_or(snapshot.size_gib);
            if size_gib < snapshot.size_gib {
                return Err(
                    entry.wrong("volume_size", format!("{size_gib} GiB is less than the snapshot's {} GiB", snapshot.size_gib))
                );
            }
            new_volume(size_gib, VolumeOrigin::Snapshot(snapshot.id))
        }
        (Source::Blank, Destination::Volume) => new_volume(size()?, VolumeOrigin::Blank),
        (Source::Blank, Destination::Local) => {
            let size_bytes = match entry.swap_mib {
                Some(size_mib) => size_mib.saturating_mul(MIB),
                None => bytes(size()?),
            };
            PlannedStorage::Local(LocalContent::Blank { size_bytes, filesystem: entry.filesystem })
        }
        (Source::Image, Destination::Volume) => {
            let image = find(&facts.images, entry)?;
            active(image)?;
            if image.size_bytes == 0 {
                return Err(empty(image));
            }
            let Some(size_gib) = entry.size_gib.or(known_gib(image)) else {
                let problem =
                    format!("is missing, and image {} does not tell how large its disk is: give it, GiB (--size)", image.id);
                return Err(entry.wrong("volume_size", problem));
            };
            fits(entry, image, size_gib)?;
            new_volume(size_gib, VolumeOrigin::Image(image.id))
        }
        (Source::Image, Destination::Local) => {
            let image = find(&facts.images, entry)?;
            if let Some(size_gib) = entry.size_gib {
                fits(entry, image, size_gib)?;
            }
            PlannedStorage::Local(local_content(image, entry.size_gib)?)
        }
    })
}

/// Without a size it is the image's own, or the least that the image asks for.
fn local_content(image: &Image, size_gib: Option<u64>) -> Result<LocalContent, MappingError> {
    let size_gib = size_gib.or((image.min_disk_gib > 0).then_some(image.min_disk_gib));
    Ok(LocalContent::Image { image: file(image)?, size_bytes: size_gib.map(bytes) })
}

/// What an ephemeral disk of this image has in it, of this size or of the image's own.
///
/// # Errors
/// The image cannot be one, or wants more room.
pub fn content_of_image(image: &Image, size_gib: Option<u64>) -> Result<LocalContent, MappingError> {
    let least_gib = least_gib(image);
    match size_gib {
        Some(size_gib) if size_gib < least_gib => {
            Err(unfit(image, format!("it needs {least_gib} GiB, and the disk is to have {size_gib}"), false))
        }
        _ => local_content(image, size_gib),
    }
}

/// Whether an image can be written over a volume of this size.
///
/// # Errors
/// It has no data, or wants more room.
pub fn check_image_for_volume(image: &Image, size_gib: u64) -> Result<(), MappingError> {
    active(image)?;
    if image.size_bytes == 0 {
        return Err(empty(image));
    }
    let least_gib = least_gib(image);
    if size_gib < least_gib {
        return Err(unfit(image, format!("it needs {least_gib} GiB, and the volume has {size_gib}"), false));
    }
    Ok(())
}

/// The least disk that it fits on, GiB, as far as its record tells.
fn least_gib(image: &Image) -> u64 {
    image.min_disk_gib.max(image.size_bytes.max(image.virtual_bytes.unwrap_or(0)).div_ceil(GIB))
}

/// The same, where the record tells it for sure.
fn known_gib(image: &Image) -> Option<u64> {
    (image.min_disk_gib > 0 || image.virtual_bytes.is_some()).then(|| least_gib(image))
}

const fn bytes(size_gib: u64) -> u64 {
    size_gib.saturating_mul(GIB)
}

fn unfit(image: &Image, problem: String, is_unsupported: bool) -> MappingError {
    MappingError::Image { image: image.id.to_string(), problem, is_unsupported }
}

fn empty(image: &Image) -> MappingError {
    let problem = match &image.mapping {
        Some(_) => "it has no data of its own, only a mapping: boot it as the root disk, and it comes to what that names",
        None => "it has no data",
    };
    unfit(image, problem.to_owned(), false)
}

fn active(image: &Image) -> Result<(), MappingError> {
    if image.status == "active" {
        return Ok(());
    }
    Err(unfit(image, format!("it is {}, not active", image.status), false))
}

fn fits(entry: &Entry, image: &Image, size_gib: u64) -> Result<(), MappingError> {
    let least_gib = least_gib(image);
    if size_gib >= least_gib {
        return Ok(());
    }
    Err(entry.wrong("volume_size", format!("{size_gib} GiB is less than image {} needs ({least_gib} GiB)", image.id)))
}

/// What the cache must know of an image that becomes an ephemeral disk.
fn file(image: &Image) -> Result<ImageFile, MappingError> {
    active(image)?;
    if image.container_format != "bare" {
        return Err(unfit(
            image,
            format!("its container format is {:?}, and only bare is a disk", image.container_format),
            true,
        ));
    }
    let (format, comes_as) = match image.disk_format.as_str() {
        // A CD's bytes are a disk's bytes.
        "raw" | "iso" => (DiskFormat::Raw, None),
        "qcow2" => (DiskFormat::Qcow2, None),
        "vmdk" => (DiskFormat::Qcow2, Some(ForeignFormat::Vmdk)),
        "vhd" => (DiskFormat::Qcow2, Some(ForeignFormat::Vhd)),
        "vhdx" => (DiskFormat::Qcow2, Some(ForeignFormat::Vhdx)),
        other => {
            let problem = format!(
                "ephemeral disks are made of raw, qcow2, vmdk, vhd and vhdx, and its format is {other:?}: put it onto a volume, which the volume \
                 service converts, or convert it"
            );
            return Err(unfit(image, problem, true));
        }
    };
    if image.size_bytes == 0 {
        return Err(empty(image));
    }
    let Some(digest) = image.digest.clone() else {
        let problem = "the image service has no digest of it, so what comes cannot be verified: upload it again".to_owned();
        return Err(unfit(image, problem, false));
    };
    Ok(ImageFile { id: image.id, format, comes_as, size_bytes: image.size_bytes, digest })
}
