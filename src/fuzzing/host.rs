//! Bytes of this host, which others write into as well: a name in the mount table is whatever somebody mounted.

use super::scratch;
use crate::{
    agent::journal,
    connectors::fuzzing::{iscsi, nfs},
    libvirt,
    model::{IscsiPath, Portal},
};
use std::{
    cell::OnceCell,
    fs,
    os::unix::fs::symlink,
    path::{Component, Path},
};

/// The mount table; what is found is what a line says.
pub(super) fn mountinfo(data: &[u8]) {
    for place in ["/run/bowline/mnt/a", "/", "/srv/with space"] {
        if let Some((kind, _)) = nfs::mounted(data, Path::new(place)) {
            // Escapes decode to one byte each, of which three make a character at most.
            assert!(kind.chars().count() <= data.len(), "{kind:?} is more than was there");
        }
    }
}

/// An iSCSI session in sysfs, a line of the input for each attribute: target, address, port, number, state.
pub(super) fn sessions(data: &[u8]) {
    let sysfs = scratch("sysfs");
    let place = sysfs.join("devices/platform/host3/session7/iscsi_session/session7");
    let (class, connection) = (sysfs.join("class/iscsi_session"), sysfs.join("class/iscsi_connection/connection7:0"));
    if !place.exists() {
        for folder in [&place, &class, &connection] {
            assert!(fs::create_dir_all(folder).is_ok());
        }
        assert!(symlink(&place, class.join("session7")).is_ok());
    }
    let mut lines = data.split(|byte| *byte == b'\n');
    for file in [
        place.join("targetname"),
        connection.join("persistent_address"),
        connection.join("persistent_port"),
        place.join("target_id"),
        place.join("state"),
    ] {
        assert!(fs::write(file, lines.next().unwrap_or_default()).is_ok());
    }
    let portal = Portal { host: "127.0.0.1".to_owned(), port: 3260 };
    let path = IscsiPath { portal, iqn: "iqn.a".to_owned(), lun: 1 };
    let found = iscsi::lun_folder(&sysfs, &path);
    assert!(found.is_ok(), "{found:?}");
    if let Ok(Some(folder)) = found {
        assert!(folder.starts_with(fs::canonicalize(&sysfs).unwrap_or(sysfs)), "{folder:?}");
        assert!(folder.components().all(|part| part != Component::ParentDir), "{folder:?}");
    }
}

/// A domain's definition, which has whatever an operator or another tool wrote.
pub(super) fn domain_xml(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = libvirt::fuzzing::disks(&text);
    if let Ok(is_marked) = libvirt::fuzzing::hand_over("g", &text) {
        assert!(is_marked, "a guest would be defined that could not be told from others: {text}");
    }
}

/// The journal's file, damaged by a disk: an error, never a panic at every start.
///
/// The input is what was done to the bytes of a good one: a place (3 bytes), a length, and so many bytes for there; length 0
/// cuts the file there.
pub(super) fn journal(data: &[u8]) {
    thread_local!(static GOOD: OnceCell<Vec<u8>> = const { OnceCell::new() });
    let folder = scratch("journal");
    let file = folder.join("journal.redb");
    let make = || {
        let made = journal::fuzzing::make(&folder, &file);
        assert!(made.is_ok(), "{made:?}");
        fs::read(&file).unwrap_or_default()
    };
    let mut bytes = GOOD.with(|good| good.get_or_init(make).clone());
    let mut rest = data;
    while let [high, middle, low, length, after @ ..] = rest {
        let at = ((usize::from(*high) << 16) | (usize::from(*middle) << 8) | usize::from(*low)) % bytes.len().max(1);
        let (new, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        if *length == 0 {
            bytes.truncate(at);
        }
        bytes.iter_mut().skip(at).zip(new).for_each(|(old, new)| *old = *new);
    }
    assert!(fs::write(&file, &bytes).is_ok());
    let read = journal::fuzzing::read(&folder, &file);
    assert!(!data.is_empty() || read.is_ok_and(|contents| contents.operations.len() == 1), "a good journal is not read");
}
