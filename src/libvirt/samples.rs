//! Disks for the unit tests of this folder.

use crate::model::{
    BlockDevice, ConnectedDevice, DeviceIdentity, DiskBus, DiskSpec, ExpectedIdentity, GIB, IscsiNetworkDevice, IscsiPath,
    ObservedIdentity, Portal, RbdImage, RbdNetworkDevice, VerifiedDevice, VolumeId,
};
use uuid::Uuid;

pub(super) fn volume() -> VolumeId {
    "94333fbd-2aab-4a5a-befd-e30c2f7377fd".parse().unwrap()
}

pub(super) fn block_spec(path: &str) -> DiskSpec {
    spec(ConnectedDevice::Block(BlockDevice { path: path.into(), kernel_name: "sda".into(), paths: vec![], multipath: None }))
}

pub(super) fn iscsi_spec(host: &str) -> DiskSpec {
    spec(ConnectedDevice::IscsiNetwork(IscsiNetworkDevice {
        path: IscsiPath { portal: Portal { host: host.into(), port: 3260 }, iqn: "iqn.2026-01.org.example:t".into(), lun: 1 },
        initiator: "iqn.2026-01.org.example:i".into(),
        chap_username: Some("user".into()),
    }))
}

pub(super) fn rbd_spec(monitors: &[&str]) -> DiskSpec {
    spec(ConnectedDevice::RbdNetwork(RbdNetworkDevice {
        image: RbdImage { pool: "volumes".into(), namespace: None, name: "volume-1".into() },
        monitors: monitors.iter().map(|monitor| monitor.parse().unwrap()).collect(),
        username: Some("cinder".into()),
        conf_file: None,
        secret: None,
    }))
}

fn spec(device: ConnectedDevice) -> DiskSpec {
    let observed = ObservedIdentity { identity: DeviceIdentity { serial: Some("s".into()), wwids: vec![] }, size_bytes: GIB };
    let expected = ExpectedIdentity { size_gib: 1, serial: None, journalled: None, others: vec![] };
    let device = VerifiedDevice::verify(device, observed, &expected).unwrap();
    let secret = Uuid::parse_str("11111111-1111-4111-8111-111111111111").unwrap();
    DiskSpec::new(&device, volume(), DiskBus::Virtio, "vdb".into(), Some(secret))
}
