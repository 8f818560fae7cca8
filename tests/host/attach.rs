//! Bowline on this machine's own libvirtd and QEMU. The host's kernel may have no iSCSI: QEMU is the initiator.

use std::time::Duration;

use crate::common::{Guest, HostRig, Machine, Services, Site, cases};

/// A deadline that a test can wait for.
const FRAGMENT: &str =
    "[iscsi]\ninitiator = \"qemu\"\ndevice_timeout_s = 5\nlogin_timeout_s = 5\n[libvirt]\ndetach_timeout_s = 60";

fn on_host(name: &str, test: impl FnOnce(&Site<'_, HostRig>, &Guest<'_>)) {
    let host = HostRig::start(name);
    let site = Site::start(&host, Services::Processes, FRAGMENT);
    let guest = host.persistent_guest("g1");
    test(&site, &guest);
    site.stop_agent();
    site.stop_service();
    assert_eq!(host.exec("pgrep -a 'tgtd|bowline'").stdout, "", "processes that outlived the service");
}

#[test]
fn a_volume_comes_and_goes_and_keeps_what_was_written() {
    on_host("comes-and-goes", |site, guest| {
        cases::a_volume_comes_and_goes_and_keeps_what_was_written(site, guest, "virtio");
        cases::a_volume_comes_and_goes_and_keeps_what_was_written(site, guest, "scsi");
        cases::a_detach_right_after_the_attach_succeeds(site, guest);
    });
}

#[test]
fn a_guest_that_is_off_is_served_too() {
    on_host("cold", |site, guest| cases::a_guest_that_is_off_is_served_too(site, guest));
}

#[test]
fn killed_at_every_boundary_it_ends_attached_or_undone() {
    on_host("killed", |site, guest| cases::killed_at_every_boundary_it_ends_attached_or_undone(site, guest));
}

#[test]
fn bad_requests_are_refused_with_clear_words() {
    on_host("refused", |site, guest| cases::bad_requests_are_refused_with_clear_words(site, guest));
}

#[test]
fn what_is_not_so_never_reaches_the_guest() {
    on_host("lies", |site, guest| cases::what_is_not_so_never_reaches_the_guest(site, guest));
}

#[test]
fn services_that_are_away_are_told() {
    on_host("away", |site, guest| {
        cases::a_service_that_is_away_is_told(site, guest);
        cases::a_libvirtd_that_is_away_is_told(
            site,
            guest,
            "p=$(cat /run/rig/libvirtd.pid); kill $p; timeout 20 tail -s 0.1 --pid=$p -f /dev/null",
            "libvirtd --daemon --pid-file /run/rig/libvirtd.pid",
        );
    });
}

/// A guest that stands still answers nothing, and all that it was asked when it goes on.
#[test]
fn a_guest_that_lets_go_late_ends_its_detach_by_itself() {
    const LATE: Duration = Duration::from_secs(120);
    let host = HostRig::start("late");
    let site = Site::start(&host, Services::Processes, "[iscsi]\ninitiator = \"qemu\"\n[libvirt]\ndetach_timeout_s = 5");
    let guest = host.persistent_guest("g1");
    let volume = site.volume("late", "late");
    for while_away in [false, true] {
        site.bowline(&format!("attach {volume} g1")).ok();
        let (disk, _) = guest.expect_disk(&volume[..20], LATE);
        host.ok("virsh -q suspend g1");
        let failed = site.bowline(&format!("detach {volume}"));
        assert_eq!(failed.status, 11, "{failed:?}");
        assert!(failed.stderr.contains("goes on by itself"), "{failed:?}");
        assert_eq!(site.status(&volume), "in-use", "the guest has the disk");
        if while_away {
            site.stop_agent();
        }
        host.ok("virsh -q resume g1");
        guest.expect_gone(&disk, LATE);
        if while_away {
            site.start_agent("");
        }
        // The command has no way to wait for what was not asked of it.
        host.ok(
            "timeout 120 sh -c 'until [ \"$(bowline --json list | jq \".attachments | length\")\" = 0 ]; do sleep 0.2; done'",
        );
        site.assert_nothing_left("g1", &volume, "after a late answer");
    }
}

#[test]
fn secrets_stay_secret() {
    on_host("secrets", |site, guest| cases::secrets_stay_secret(site, guest, Services::Processes));
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused_with_file_and_line() {
    let host = HostRig::start("configuration");
    host.ok("mkdir -p /etc/bowline/bowlined.d");
    host.write("/etc/bowline/bowlined.d/10.toml", "[iscsi]\ninitiator = \"fibre\"");
    let output = host.exec("bowlined");
    assert_eq!(output.status, 1);
    assert!(output.stderr.contains("/etc/bowline/bowlined.d/10.toml, line 2"), "{}", output.stderr);
    host.write("/etc/bowline/bowlined.d/10.toml", "[cloud]\nfile = \"/nonexistent/clouds.yaml\"");
    let output = host.exec("bowlined");
    assert!(output.stderr.contains("/nonexistent/clouds.yaml"), "{}", output.stderr);
    let output = host.exec("bowline list");
    assert_eq!(output.status, 7, "without an agent: {output:?}");
}
