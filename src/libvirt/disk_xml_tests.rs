//! What the XML of a disk says.

use super::*;
use crate::{
    libvirt::{domain_xml::DomainXml, samples},
    model::{BlockSizes, IoTune, RbdImage, RbdNetworkDevice},
};

#[test]
fn a_block_disk() {
    let mut spec = samples::block_spec("/run/bowline/a&'b");
    spec.discard = true;
    assert_eq!(
        disk(&spec, "vdb", Place::default()).unwrap(),
        "<disk type=\"block\" device=\"disk\"><driver name=\"qemu\" type=\"raw\" cache=\"none\" io=\"native\" \
         discard=\"unmap\"/><alias name=\"ua-94333fbd-2aab-4a5a-befd-e30c2f7377fd\"/>\
         <source dev=\"/run/bowline/a&amp;&apos;b\"/><target dev=\"vdb\" bus=\"virtio\"/>\
         <serial>94333fbd-2aab-4a5a-befd-e30c2f7377fd</serial></disk>"
    );
}

#[test]
fn a_network_disk_on_the_scsi_bus_names_its_secret_and_its_address() {
    let mut spec = samples::iscsi_spec("::1");
    spec.bus = DiskBus::Scsi;
    spec.read_only = true;
    spec.shareable = true;
    let at = Place { address: Some(DriveAddress { controller: 1, unit: 9 }), iothread: None };
    assert_eq!(
        disk(&spec, "sdb", at).unwrap(),
        "<disk type=\"network\" device=\"disk\"><driver name=\"qemu\" type=\"raw\" cache=\"none\"/>\
         <alias name=\"ua-94333fbd-2aab-4a5a-befd-e30c2f7377fd\"/>\
         <source protocol=\"iscsi\" name=\"iqn.2026-01.org.example:t/1\"><host name=\"::1\" port=\"3260\"/>\
         <auth username=\"user\"><secret type=\"iscsi\" uuid=\"11111111-1111-4111-8111-111111111111\"/></auth>\
         <initiator><iqn name=\"iqn.2026-01.org.example:i\"/></initiator></source>\
         <target dev=\"sdb\" bus=\"scsi\"/><serial>94333fbd-2aab-4a5a-befd-e30c2f7377fd</serial><readonly/><shareable/>\
         <address type=\"drive\" controller=\"1\" bus=\"0\" target=\"0\" unit=\"9\"/></disk>"
    );
}

#[test]
fn an_rbd_image_names_every_monitor_and_reads_back_as_it_was_written() {
    let mut spec = samples::rbd_spec(&["10.0.0.1:6789", "[fd00::1]:3300"]);
    spec.discard = true;
    let xml = disk(&spec, "vdb", Place::default()).unwrap();
    assert_eq!(
        xml,
        "<disk type=\"network\" device=\"disk\"><driver name=\"qemu\" type=\"raw\" cache=\"none\" discard=\"unmap\"/>\
         <alias name=\"ua-94333fbd-2aab-4a5a-befd-e30c2f7377fd\"/>\
         <source protocol=\"rbd\" name=\"volumes/volume-1\"><host name=\"10.0.0.1\" port=\"6789\"/>\
         <host name=\"fd00::1\" port=\"3300\"/><auth username=\"cinder\">\
         <secret type=\"ceph\" uuid=\"11111111-1111-4111-8111-111111111111\"/></auth></source>\
         <target dev=\"vdb\" bus=\"virtio\"/><serial>94333fbd-2aab-4a5a-befd-e30c2f7377fd</serial></disk>"
    );
    let domain =
        format!("<domain><name>g</name><uuid>0d1f2e3c-4b5a-4678-9abc-def012345678</uuid><devices>{xml}</devices></domain>");
    let read = DomainXml::parse(&domain).unwrap();
    assert_eq!(read.disk_of(spec.volume).unwrap().source, Some(source_text(&spec.source).unwrap()));
}

#[test]
fn an_ephemeral_disk_on_rbd_is_opened_by_its_secret_with_the_configurations_monitors() {
    let image = RbdImage { pool: "vms".into(), namespace: None, name: "bowline-1-vda".into() };
    let device = RbdNetworkDevice {
        image: image.clone(),
        monitors: vec![],
        username: Some("nova".into()),
        secret: Some(uuid::Uuid::nil()),
        conf_file: Some("/etc/ceph/a.conf".into()),
    };
    let local = LocalDisk {
        target: "vda".into(),
        bus: DiskBus::Virtio,
        path: image.to_string().into(),
        place: LocalPlace::Rbd(Box::new(device)),
        format: DiskFormat::Raw,
        base: None,
        lazy: None,
    };
    let xml = local_disk(&local, None).unwrap();
    assert_eq!(
        xml,
        "<disk type=\"network\" device=\"disk\"><driver name=\"qemu\" type=\"raw\" cache=\"writeback\" discard=\"unmap\"/>\
         <source protocol=\"rbd\" name=\"vms/bowline-1-vda\"><config file=\"/etc/ceph/a.conf\"/><auth username=\"nova\">\
         <secret type=\"ceph\" uuid=\"00000000-0000-0000-0000-000000000000\"/></auth></source>\
         <target dev=\"vda\" bus=\"virtio\"/></disk>"
    );
    let domain =
        format!("<domain><name>g</name><uuid>0d1f2e3c-4b5a-4678-9abc-def012345678</uuid><devices>{xml}</devices></domain>");
    assert_eq!(DomainXml::parse(&domain).unwrap().disks[0].source, local_source_text(&local));
}

#[test]
fn an_encrypted_disk_with_limits_and_all() {
    let mut spec = samples::block_spec("/run/bowline/a");
    let qos = [("read_iops_sec".to_owned(), "7".to_owned()), ("write_bytes_sec".to_owned(), "8".to_owned())];
    spec.tuning = DiskTuning {
        iotune: IoTune::from_qos(&qos, 1).unwrap(),
        block_sizes: BlockSizes::checked(Some(4096), Some(4096)).unwrap(),
        cache: DiskCache::WriteBack,
        queues: Some(2),
        ..DiskTuning::default()
    };
    spec.encryption = Some(DiskEncryption { version: LuksVersion::Luks1, secret: uuid::Uuid::nil() });
    spec.boot_order = Some(3);
    assert_eq!(
        disk(&spec, "vdb", Place { address: None, iothread: Some(5) }).unwrap(),
        "<disk type=\"block\" device=\"disk\"><driver name=\"qemu\" type=\"raw\" cache=\"writeback\" io=\"threads\" \
         iothread=\"5\" queues=\"2\"/><alias name=\"ua-94333fbd-2aab-4a5a-befd-e30c2f7377fd\"/><source dev=\"/run/bowline/a\">\
         <encryption format=\"luks\"><secret type=\"passphrase\" uuid=\"00000000-0000-0000-0000-000000000000\"/></encryption>\
         </source><target dev=\"vdb\" bus=\"virtio\"/><serial>94333fbd-2aab-4a5a-befd-e30c2f7377fd</serial>\
         <blockio logical_block_size=\"4096\" physical_block_size=\"4096\"/>\
         <iotune><write_bytes_sec>8</write_bytes_sec><read_iops_sec>7</read_iops_sec></iotune><boot order=\"3\"/></disk>"
    );
    spec.shareable = true;
    assert!(disk(&spec, "vdb", Place::default()).unwrap().contains("cache=\"none\" io=\"native\""), "guests share it");
}

#[test]
fn luks2_is_left_to_the_rbd_client_and_refused_elsewhere() {
    let luks2 = Some(DiskEncryption { version: LuksVersion::Luks2, secret: uuid::Uuid::nil() });
    let mut rbd = samples::rbd_spec(&["10.0.0.1:6789"]);
    rbd.encryption = luks2;
    assert!(disk(&rbd, "vdb", Place::default()).unwrap().contains("<encryption format=\"luks2\" engine=\"librbd\">"));
    let mut block = samples::block_spec("/a");
    block.encryption = luks2;
    let error = disk(&block, "vdb", Place::default()).unwrap_err();
    assert!(matches!(error, LibvirtError::NoLuks2 { .. }) && error.to_string().contains("LUKS1"), "{error}");
}

#[test]
fn a_controller_gets_the_queues_and_the_thread() {
    assert_eq!(controller(2, None, None).unwrap(), "<controller type=\"scsi\" index=\"2\" model=\"virtio-scsi\"/>");
    assert!(controller(2, Some(4), Some(1)).unwrap().contains("<driver queues=\"4\" iothread=\"1\"/>"));
}

#[test]
fn a_path_that_libvirt_could_not_take_is_refused() {
    for path in ["relative", "/nul\0byte"] {
        let error = disk(&samples::block_spec(path), "vdb", Place::default()).unwrap_err();
        assert!(matches!(error, LibvirtError::DiskXml { .. }), "{error}");
    }
}
