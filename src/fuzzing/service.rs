//! Bytes of the volume service, which may be another's, wrong, or in somebody's hands.

use super::{assert_file_name, assert_one_line, assert_plain_argument, scratch};
use crate::{
    connectors::{self, Connectors, ConnectorsConfig, InitiatorChoice, IscsiConfig},
    libvirt,
    model::{
        ChapCredentials, ConnectIntent, ConnectedDevice, ConnectionInfo, DeviceIdentity, DiskBus, DiskSpec, ExpectedIdentity,
        FileDevice, GIB, IscsiConnection, IscsiNetworkDevice, IscsiPath, NfsConnection, ObservedIdentity, Portal,
        RbdConnection, RbdNetworkDevice, Secret, VerifiedDevice, VolumeId,
    },
    openstack,
};
use std::{
    cell::OnceCell,
    fs,
    path::{Component, Path},
};
use uuid::Uuid;

const RUN_DIR: &str = "/run/bowline";

/// Connection info: whatever is taken is harmless where it goes.
pub(super) fn connection_info(data: &[u8]) {
    let Ok(value) = serde_json::from_slice(data) else { return };
    match openstack::fuzzing::connection_info(value) {
        Ok(Some(info)) => {
            assert_one_line(info.protocol(), "the protocol");
            let intent = intent(&info);
            match &info {
                ConnectionInfo::Iscsi(iscsi) => iscsi_is_harmless(iscsi),
                ConnectionInfo::Rbd(rbd) => rbd_is_harmless(rbd),
                ConnectionInfo::Nfs(nfs) => nfs_is_harmless(nfs, intent.as_ref()),
                ConnectionInfo::Unsupported { .. } => assert!(intent.is_none(), "an unknown protocol has an intent"),
            }
        }
        Ok(None) => {}
        Err(error) => assert_one_line(&error.to_string(), "a refusal"),
    }
}

fn intent(info: &ConnectionInfo) -> Option<ConnectIntent> {
    thread_local!(static CONNECTORS: OnceCell<Option<Connectors>> = const { OnceCell::new() });
    let make = || {
        let iscsi = IscsiConfig { initiator: InitiatorChoice::Qemu, ..IscsiConfig::default() };
        Connectors::new(ConnectorsConfig { iscsi, run_dir: RUN_DIR.into(), ..ConnectorsConfig::default() }).ok()
    };
    CONNECTORS.with(|connectors| connectors.get_or_init(make).as_ref().and_then(|connectors| connectors.intent(info).ok()))
}

fn portal_is_harmless(portal: &Portal) {
    assert_plain_argument(&portal.to_string(), "a portal");
    assert_file_name(&portal.host, "a portal's host");
    assert_ne!(portal.port, 0);
}

fn iscsi_is_harmless(iscsi: &IscsiConnection) {
    assert!(!iscsi.paths.is_empty() || iscsi.discovery.is_some());
    let etc = scratch("iscsi");
    for path in &iscsi.paths {
        assert_plain_argument(&path.iqn, "a target's name");
        assert_file_name(&path.iqn, "a target's name");
        portal_is_harmless(&path.portal);
        let plain = ChapCredentials { username: "u".to_owned(), password: Secret::new("p".to_owned()) };
        let meant = lines_of_record(&etc, path, iscsi.chap.as_ref().map(|_| &plain));
        let written = lines_of_record(&etc, path, iscsi.chap.as_ref());
        assert!(meant.is_some(), "no record for {path}");
        assert!(written.is_none() || written == meant, "settings that nobody meant: {written:?} for {path}");
        let device = IscsiNetworkDevice {
            path: path.clone(),
            initiator: "iqn.2026-01.org.bowline.test:fuzz".to_owned(),
            chap_username: iscsi.chap.as_ref().map(|chap| chap.username.clone()),
        };
        disk_is_one(ConnectedDevice::IscsiNetwork(device));
    }
}

/// How many lines the one record has that is written, in the one place where records are.
fn lines_of_record(etc: &Path, path: &IscsiPath, chap: Option<&ChapCredentials>) -> Option<usize> {
    connectors::fuzzing::iscsi::write_record(etc, path, chap).ok()?;
    let mut files = Vec::new();
    for target in fs::read_dir(etc.join("nodes")).into_iter().flatten().flatten() {
        files.extend(fs::read_dir(target.path()).into_iter().flatten().flatten().map(|file| file.path()));
    }
    assert_eq!(files.len(), 1, "records at {files:?}");
    let text = files.first().and_then(|file| fs::read_to_string(file).ok());
    assert!(fs::remove_dir_all(etc).is_ok() && fs::create_dir_all(etc).is_ok());
    text.map(|text| text.lines().count())
}

fn rbd_is_harmless(rbd: &RbdConnection) {
    assert!(!rbd.monitors.is_empty());
    rbd.monitors.iter().for_each(portal_is_harmless);
    for name in
        [Some(&rbd.image.pool), rbd.image.namespace.as_ref(), Some(&rbd.image.name), Some(&rbd.cluster)].into_iter().flatten()
    {
        assert_plain_argument(name, "a name in Ceph");
        assert_file_name(name, "a name in Ceph");
        assert!(!name.contains(['@', ',', ':']), "a name in Ceph ends early: {name:?}");
    }
    if let Some(auth) = &rbd.auth {
        // It becomes a part of a keyring's name.
        assert_plain_argument(&auth.username, "a user");
        assert_file_name(&auth.username, "a user");
    }
    let arguments = connectors::fuzzing::rbd::arguments(rbd);
    assert!(arguments.iter().filter(|argument| argument.starts_with("--")).count() <= 8, "{arguments:?}");
    disk_is_one(ConnectedDevice::RbdNetwork(RbdNetworkDevice {
        image: rbd.image.clone(),
        monitors: rbd.monitors.clone(),
        username: rbd.auth.as_ref().map(|auth| auth.username.clone()),
        secret: rbd.auth.as_ref().and_then(|auth| auth.secret_uuid),
        conf_file: None,
    }));
}

fn nfs_is_harmless(nfs: &NfsConnection, intent: Option<&ConnectIntent>) {
    assert_file_name(&nfs.file, "a file");
    assert_one_line(&nfs.file, "a file");
    assert_plain_argument(&nfs.export.to_string(), "an export");
    let path = Path::new(&nfs.export.path);
    assert!(path.is_absolute() && path.components().all(|part| part != Component::ParentDir), "{:?}", nfs.export);
    if let Some(ConnectIntent::Nfs { mount_point, .. }) = intent {
        assert!(mount_point.starts_with(Path::new(RUN_DIR).join("mnt")), "{mount_point:?}");
        assert!(mount_point.components().all(|part| part != Component::ParentDir), "{mount_point:?}");
        disk_is_one(ConnectedDevice::File(FileDevice {
            path: mount_point.join(&nfs.file),
            format: nfs.format,
            export: nfs.export.clone(),
            mount_point: mount_point.clone(),
        }));
    }
}

/// The disk's XML has one disk and nothing that libvirt would take for more.
fn disk_is_one(device: ConnectedDevice) {
    let identity = DeviceIdentity { serial: Some("s".to_owned()), wwids: Vec::new() };
    let observed = ObservedIdentity { identity, size_bytes: GIB };
    let expected = ExpectedIdentity { size_gib: 1, serial: None, journalled: None, others: Vec::new() };
    let verified = VerifiedDevice::verify(device, observed, &expected);
    assert!(verified.is_ok(), "{verified:?}");
    let Ok(verified) = verified else { return };
    let Ok(volume) = "94333fbd-2aab-4a5a-befd-e30c2f7377fd".parse::<VolumeId>() else { return };
    let spec = DiskSpec::new(&verified, volume, DiskBus::Virtio, "vdb".to_owned(), Some(Uuid::from_u128(2)));
    let Ok(xml) = libvirt::fuzzing::disk(&spec) else { return };
    assert_eq!(xml.matches("<disk").count(), 1, "{xml}");
    let domain = format!("<domain><name>g</name><devices>{xml}</devices></domain>");
    let disks = libvirt::fuzzing::disks(&domain);
    assert!(matches!(disks, Ok(1)), "{disks:?}: {xml}");
}

/// Volumes, attachments and errors: whatever is shown of them is one line.
pub(super) fn answer(data: &[u8]) {
    openstack::fuzzing::service_answer(data);
    assert_one_line(&openstack::fuzzing::fault_message(data), "the service's words");
}

/// clouds.yaml, and that no complaint shows a password of it.
pub(super) fn clouds_yaml(data: &[u8]) {
    const PASSWORD: &str = "hunter2hunter2";
    let file = scratch("clouds").join("clouds.yaml");
    assert!(fs::write(&file, data).is_ok());
    let said = match openstack::fuzzing::clouds_yaml(&file) {
        Ok(cloud) => format!("{cloud:?}"),
        Err(error) => crate::agent::operations::adapters::chain(&error),
    };
    // Copied to a name of something else by a mutation, the word is no password there.
    let text = String::from_utf8_lossy(data);
    let mut before = text.rsplit(PASSWORD).skip(1);
    let is_password = before.all(|text| text.ends_with("password: ") || text.ends_with("secret: "));
    assert!(!is_password || !said.contains(PASSWORD), "{said}");
}
