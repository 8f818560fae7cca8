//! What QEMU opens itself shows nowhere in the kernel: libvirt tells of its I/O errors, and a knock at the portal of the rest.

use std::time::Duration;

use crate::common::{HostRig, Machine, Services, Site};

#[test]
fn failed_io_of_a_guest_and_a_dead_target_are_told() {
    let host = HostRig::start("health");
    let fragment = "[iscsi]\ninitiator = \"qemu\"\nlogin_timeout_s = 5\n[health]\ninterval_s = 10";
    let site = Site::start(&host, Services::Processes, fragment);
    let guest = host.persistent_guest("g1");
    let volume = site.volume("watched", "x");
    let listen = || {
        host.ok("rm -f /run/told; dbus-monitor --system \"type='signal',path_namespace='/org/bowline'\" >/run/told 2>&1 &
            wait-for-line /run/told 'NameLost|NameAcquired'");
    };
    let told = |state: &str| {
        host.exec_for(&format!("wait-for-line /run/told 'string \"{state}\"' 60"), Duration::from_secs(70)).ok();
    };
    listen();
    site.bowline(&format!("attach {volume} g1")).ok();
    told("healthy");
    let (disk, _) = guest.expect_disk(&volume[..20], Duration::from_secs(90));

    // The target answers, but has nothing to read from: the guest's read fails, and that is the only sign.
    listen();
    let file = format!("/var/lib/bowline-backend/volumes/volume-{volume}");
    host.ok(&format!("truncate -s 0 {file}"));
    let answer = guest.say(&format!("r {disk} 500000000 16"));
    assert!(!answer.contains(" ok "), "the guest read from nothing: {answer}");
    told("degraded");
    let shown = site.bowline("list").ok();
    assert!(shown.contains("degraded"), "{shown}");
    let found = site.json("list")["attachments"][0]["health"].clone();
    assert_eq!(found["faults"][0]["part"], "the guest's I/O", "{found}");
    listen();
    host.ok(&format!("truncate -s 1G {file}"));
    told("healthy");

    listen();
    site.stop_service();
    told("lost");
    let found = site.json("list")["attachments"][0]["health"].clone();
    assert!(found["faults"][0]["problem"].as_str().unwrap().contains("refused"), "{found}");
    listen();
    site.start_service();
    told("healthy");
    site.bowline(&format!("detach {volume}")).ok();
    site.assert_nothing_left("g1", &volume, "after its target came back");
}
