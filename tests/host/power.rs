//! A guest that is stopped and started, by Bowline and behind its back, on a real libvirtd and QEMU.

use std::time::Duration;

use crate::common::{Guest, HostRig, Machine, Services, Site};

const FRAGMENT: &str = "[iscsi]\ninitiator = \"qemu\"\n";
const SOON: Duration = Duration::from_secs(90);
const BOOT: Duration = Duration::from_secs(120);

/// Waits for the signal with which the agent tells of guest g1.
#[track_caller]
fn expect_told(site: &Site<'_, HostRig>, change: &str) {
    site.machine.ok(&format!("wait-for-line /run/told.log 'string \"{change}\"' && : >/run/told.log"));
}

#[track_caller]
fn is_on(site: &Site<'_, HostRig>) -> bool {
    site.machine.ok("virsh -q domstate g1") != "shut off"
}

/// The guest reads from its volume, which it has had all the time.
#[track_caller]
fn expect_volume(site: &Site<'_, HostRig>, guest: &Guest<'_>, volume: &str) {
    let (disk, _) = guest.expect_disk(&volume[..20], BOOT);
    assert_eq!(guest.read(&disk, 5000, 10), "kept-by-it");
    assert_eq!(site.status(volume), "in-use");
}

#[test]
fn a_guest_stops_and_starts_with_its_volume_and_what_others_do_to_it_is_told() {
    let host = HostRig::start("power");
    let site = Site::start(&host, Services::Processes, FRAGMENT);
    host.ok("setsid dbus-monitor --system \"interface='org.bowline.Manager1',member='GuestChanged'\" >/run/told.log 2>/run/monitor.log </dev/null &
             wait-for-line /run/told.log 'member=NameAcquired|member=NameLost'; : >/run/told.log");
    let guest = host.persistent_guest("g1");
    let volume = site.volume("data", "data-is-here");
    site.bowline(&format!("attach {volume} g1")).ok();
    let (disk, _) = guest.expect_disk(&volume[..20], SOON);
    guest.write(&disk, 5000, "kept-by-it");

    // It minds its power button.
    let plan = site.bowline("stop g1 --dry-run").ok();
    assert!(plan.contains("ShutDownGuest") && is_on(&site), "{plan}");
    site.bowline("stop g1").ok();
    assert!(!is_on(&site));
    expect_told(&site, "stopped");
    assert_eq!(site.status(&volume), "in-use");
    site.bowline("stop g1").ok();

    // As after a boot of the host: what QEMU logs in with is gone.
    host.ok("for s in $(virsh -q secret-list | awk '{ print $1 }'); do virsh -q secret-undefine $s; done");
    assert_ne!(host.exec("virsh -q start g1").status, 0, "without its password the volume cannot be had");
    site.bowline("start g1").ok();
    expect_told(&site, "started");
    expect_volume(&site, &guest, &volume);
    site.bowline("start g1").ok();

    // One that does not react is asked until somebody cuts its power, which waits for nothing.
    host.ok("virsh -q suspend g1");
    site.bowline("stop g1 --no-wait").ok();
    let cut = site.json("stop g1 --force");
    assert_eq!(cut["operation"]["steps"][0]["name"], "StopGuest", "{cut}");
    assert!(!is_on(&site));
    let ended =
        host.ok("for i in $(seq 200); do bowline operations | grep -q stop || exit 0; sleep 0.1; done; bowline operations");
    assert_eq!(ended, "", "the first stop has what it asked for");
    expect_told(&site, "stopped");
    site.bowline("start g1").ok();
    expect_volume(&site, &guest, &volume);
    expect_told(&site, "started");

    // It is asked in vain, and left running.
    host.ok("virsh -q suspend g1");
    host.write("/etc/bowline/bowlined.d/30-soon.toml", "[libvirt]\nshutdown_timeout_s = 1");
    site.stop_agent();
    site.start_agent("");
    let refused = site.bowline("stop g1");
    assert!(refused.status == 11 && refused.stderr.contains("--force"), "{refused:?}");
    assert!(is_on(&site));
    host.ok("virsh -q resume g1");

    // Behind the agent's back.
    host.ok("kill -9 $(cat /run/libvirt/qemu/g1.pid)");
    expect_told(&site, "crashed");
    host.ok("virsh -q start g1");
    expect_told(&site, "started");
    expect_volume(&site, &guest, &volume);
    host.ok("virsh -q undefine g1; virsh -q destroy g1");
    expect_told(&site, "undefined");
    assert_eq!(site.status(&volume), "in-use", "nobody has said that the volume is not to be used again");
    let told = site.bowline("fsck");
    assert!(told.status == 1 && told.stdout.contains("not defined any more"), "{told:?}");
    assert_eq!(site.bowline("start g1").status, 3);
    site.bowline(&format!("detach {volume}")).ok();
    assert_eq!((site.status(&volume).as_str(), site.bowline("fsck").ok().as_str()), ("available", "nothing differs"));
    site.stop_agent();
    site.stop_service();
}
