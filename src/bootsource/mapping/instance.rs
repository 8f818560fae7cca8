//! The mapping that an image of a guest carries: an entry for each of its disks, in the form that Nova gives such an image (every
//! field of its table, those without a meaning for another guest empty), so that Nova and we read it alike.

use crate::model::{InstanceContent, InstanceDisk, SnapshotId};
use serde_json::{Value, json};

/// The property `block_device_mapping` of an image that names snapshots. The first disk is the root disk; `snapshot` gives the
/// snapshot that was taken of the disk with a target name.
pub fn of_instance(disks: &[InstanceDisk], snapshot: impl Fn(&str) -> Option<SnapshotId>) -> String {
    let entries = disks.iter().enumerate().map(|(index, disk)| {
        let (size, source, destination, guest_format) = match &disk.content {
            InstanceContent::Volume { size_gib, .. } => (size_gib, "snapshot", "volume", None),
            InstanceContent::Blank { size_gib, swap_mib, filesystem } => {
                // Of swap space Nova, too, means MiB.
                let size = swap_mib.as_ref().unwrap_or(size_gib);
                (size, "blank", "local", filesystem.map(|filesystem| filesystem.as_str()))
            }
        };
        json!({
            "source_type": source,
            "destination_type": destination,
            "snapshot_id": snapshot(&disk.target),
            "boot_index": if index == 0 { Value::from(0) } else { Value::Null },
            "device_name": format!("/dev/{}", disk.target),
            "device_type": "disk",
            "disk_bus": disk.bus.as_str(),
            "guest_format": guest_format,
            "volume_size": size,
            "delete_on_termination": disk.delete_on_termination,
            "tag": disk.tag,
            "image_id": null,
            "volume_id": null,
            "volume_type": null,
            "no_device": null,
        })
    });
    Value::from_iter(entries).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootsource::{Facts, Mapping};
    use crate::model::{
        BootRequest, DiskBus, Filesystem, Image, ImageId, LocalContent, MIB, PlannedStorage, VolumeId, VolumeOrigin,
        VolumeSnapshot,
    };
    use uuid::Uuid;

    fn volume(target: &str, bus: DiskBus) -> InstanceDisk {
        let content = InstanceContent::Volume { volume: VolumeId(Uuid::nil()), size_gib: 2, snapshot_name: String::new() };
        InstanceDisk { target: target.into(), bus, delete_on_termination: true, tag: Some(format!("tag-{target}")), content }
    }

    #[test]
    fn what_is_written_is_read_again_as_the_same_disks() {
        let swap = InstanceContent::Blank { size_gib: 1, swap_mib: Some(300), filesystem: Some(Filesystem::Swap) };
        let disks = [
            volume("sda", DiskBus::Scsi),
            InstanceDisk { target: "vda".into(), bus: DiskBus::Virtio, delete_on_termination: true, tag: None, content: swap },
            volume("vdb", DiskBus::Virtio),
        ];
        let id = |target: &str| Some(SnapshotId(Uuid::from_u128(target.bytes().map(u128::from).sum())));
        let image = Image {
            id: ImageId(Uuid::nil()),
            name: "snap".into(),
            status: "active".into(),
            disk_format: "raw".into(),
            container_format: "bare".into(),
            size_bytes: 0,
            min_disk_gib: 0,
            min_ram_mib: 0,
            virtual_bytes: None,
            digest: None,
            mapping: Some(of_instance(&disks, id)),
            is_mapping_v2: true,
            root_device_name: Some("/dev/sda".into()),
            disk_bus: None,
        };
        let request = BootRequest {
            guest: "g".into(),
            image: Some("snap".into()),
            image_size_gib: None,
            mapping: String::new(),
            clauses: vec![],
            lazy: false,
            definition: None,
        };
        let mapping = Mapping::of(&request, Some(&image)).unwrap();
        let mut facts = Facts { guest_name: "g".into(), ..Facts::default() };
        for target in ["sda", "vdb"] {
            let id = id(target).unwrap();
            let snapshot = VolumeSnapshot {
                id,
                volume: VolumeId(Uuid::nil()),
                name: String::new(),
                status: "available".into(),
                size_gib: 2,
            };
            facts.snapshots.insert(id.to_string(), snapshot);
        }
        let plan = mapping.resolve(&facts).unwrap();
        let targets: Vec<_> = plan.disks.iter().map(|disk| disk.target.as_str()).collect();
        assert_eq!(targets, ["sda", "vda", "vdb"], "the root disk first");
        for (disk, target) in [(&plan.disks[0], "sda"), (&plan.disks[2], "vdb")] {
            let PlannedStorage::NewVolume { size_gib: 2, origin: VolumeOrigin::Snapshot(found), .. } = &disk.storage else {
                panic!("{disk:?}")
            };
            assert_eq!(Some(*found), id(target));
            assert!(disk.delete_on_termination && disk.tag.as_deref() == Some(&format!("tag-{target}")), "{disk:?}");
        }
        let swap = LocalContent::Blank { size_bytes: 300 * MIB, filesystem: Some(Filesystem::Swap) };
        assert_eq!(plan.disks[1].storage, PlannedStorage::Local(swap));
    }
}
