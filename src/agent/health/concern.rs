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
    use crate::model::{AttachmentId, BlockDevice, GuestUuid, IscsiNetworkDevice, IscsiPath, VolumeId};
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
