//! Which attachments an event of this host concerns. Too many is harmless, since a look is cheap; too few is not.

use super::Watched;
use crate::model::{ConnectedDevice, HostEvent};

/// Whether something may have changed for the attachment.
pub(super) fn concerns(event: &HostEvent, watched: &Watched) -> bool {
    match (&watched.device, event) {
        // What QEMU opens itself shows nowhere in this host's kernel.
        (ConnectedDevice::IscsiNetwork(_) | ConnectedDevice::RbdNetwork(_), _) => false,
        (_, HostEvent::Missed) => true,
        (ConnectedDevice::File(_), event) => *event == HostEvent::Mounts,
        (ConnectedDevice::RbdBlock(block), event) => {
            matches!(event, HostEvent::Block { kernel_name } if block.kernel_name == *kernel_name)
        }
        (ConnectedDevice::Block(_), HostEvent::Mounts) => false,
        (ConnectedDevice::Block(block), HostEvent::IscsiSessions) => !block.paths.is_empty(),
        // The disks below a map have names of their own.
        (ConnectedDevice::Block(block), HostEvent::Block { kernel_name }) => {
            block.multipath.is_some() || block.kernel_name == *kernel_name
        }
        (ConnectedDevice::Block(block), HostEvent::IscsiTarget { iqn }) => block.paths.iter().any(|path| path.iqn == *iqn),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        AttachmentId, BlockDevice, DiskFormat, FileDevice, GuestUuid, IscsiNetworkDevice, IscsiPath, MultipathMap, NfsExport,
        RbdBlockDevice, RbdImage, VolumeId,
    };
    use uuid::Uuid;

    fn path() -> IscsiPath {
        IscsiPath { portal: "10.0.0.1".parse().unwrap(), iqn: "iqn.a".into(), lun: 1 }
    }

    fn watched(device: ConnectedDevice) -> Watched {
        Watched { id: AttachmentId(Uuid::nil()), volume: VolumeId(Uuid::nil()), guest: GuestUuid(Uuid::nil()), device }
    }

    #[test]
    fn a_disk_is_concerned_by_its_target_and_its_own_device_alone() {
        let disk = watched(ConnectedDevice::Block(BlockDevice {
            path: "/run/x".into(),
            kernel_name: "sda".into(),
            paths: vec![path()],
            multipath: None,
        }));
        assert!(concerns(&HostEvent::IscsiTarget { iqn: "iqn.a".into() }, &disk));
        assert!(concerns(&HostEvent::Block { kernel_name: "sda".into() }, &disk));
        assert!(concerns(&HostEvent::Missed, &disk));
        assert!(concerns(&HostEvent::IscsiSessions, &disk));
        assert!(!concerns(&HostEvent::IscsiTarget { iqn: "iqn.b".into() }, &disk));
        assert!(!concerns(&HostEvent::Block { kernel_name: "sdb".into() }, &disk));
        assert!(!concerns(&HostEvent::Mounts, &disk));
    }

    #[test]
    fn a_map_is_concerned_by_every_disk_since_its_own_have_names_of_their_own() {
        let map = watched(ConnectedDevice::Block(BlockDevice {
            path: "/run/x".into(),
            kernel_name: "dm-0".into(),
            paths: vec![path()],
            multipath: Some(MultipathMap { wwid: "3600a".into() }),
        }));
        for kernel_name in ["dm-0", "sdc"] {
            assert!(concerns(&HostEvent::Block { kernel_name: kernel_name.into() }, &map), "{kernel_name}");
        }
        assert!(concerns(&HostEvent::IscsiSessions, &map));
        assert!(!concerns(&HostEvent::IscsiTarget { iqn: "iqn.b".into() }, &map));
    }

    #[test]
    fn an_image_is_concerned_by_its_own_device_and_a_file_by_mounts() {
        let image = watched(ConnectedDevice::RbdBlock(RbdBlockDevice {
            path: "/run/x".into(),
            kernel_name: "rbd1".into(),
            image: RbdImage { pool: "volumes".into(), namespace: None, name: "v".into() },
            cluster: "c".into(),
            monitors: vec![],
        }));
        let file = watched(ConnectedDevice::File(FileDevice {
            path: "/run/mnt/v".into(),
            format: DiskFormat::Raw,
            export: NfsExport { server: "filer".into(), path: "/vols".into() },
            mount_point: "/run/mnt".into(),
        }));
        let of = |name: &str| HostEvent::Block { kernel_name: name.into() };
        assert!(concerns(&of("rbd1"), &image) && !concerns(&of("rbd10"), &image) && !concerns(&HostEvent::Mounts, &image));
        assert!(concerns(&HostEvent::Mounts, &file) && !concerns(&of("rbd1"), &file));
        assert!(concerns(&HostEvent::Missed, &image) && concerns(&HostEvent::Missed, &file));
    }

    #[test]
    fn what_qemu_opens_is_concerned_by_no_event_of_the_kernel() {
        let disk = watched(ConnectedDevice::IscsiNetwork(IscsiNetworkDevice {
            path: path(),
            initiator: "iqn.h".into(),
            chap_username: None,
        }));
        assert!(!concerns(&HostEvent::IscsiTarget { iqn: "iqn.a".into() }, &disk));
        assert!(!concerns(&HostEvent::Missed, &disk));
    }
}
