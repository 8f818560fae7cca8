//! Extending and sharing on this machine's own libvirtd and QEMU: QEMU is the initiator, one session for each guest.

use crate::common::{Guest, HostRig, Machine, Services, Site, growth, sharing};

/// A look at the service every second, as no production site would have it.
const FRAGMENT: &str = "[iscsi]\ninitiator = \"qemu\"\ndevice_timeout_s = 5\nlogin_timeout_s = 5\n[libvirt]\n\
                        detach_timeout_s = 60\n[volumes]\nwatch_interval_s = 1";

fn on_host(name: &str, test: impl FnOnce(&Site<'_, HostRig>, &Guest<'_>)) {
    let host = HostRig::start(name);
    let site = Site::start(&host, Services::Processes, FRAGMENT);
    let guest = host.persistent_guest("g1");
    test(&site, &guest);
}

#[test]
fn a_volume_grows_under_its_guest() {
    on_host("grows", |site, guest| {
        growth::a_volume_grows_under_its_guest(site, guest, "virtio");
        growth::a_volume_grows_under_its_guest(site, guest, "scsi");
        growth::writes_during_an_extend_are_kept(site, guest);
    });
}

#[test]
fn an_extension_by_somebody_else_is_noticed() {
    on_host("noticed", |site, guest| growth::an_extension_by_somebody_else_is_noticed(site, guest));
}

#[test]
fn killed_at_every_boundary_an_extend_is_finished() {
    on_host("extend-killed", |site, guest| growth::killed_at_every_boundary_an_extend_is_finished(site, guest));
}

#[test]
fn two_guests_share_a_volume() {
    on_host("shared", |site, guest| {
        let second = site.machine.persistent_guest("g2");
        sharing::two_guests_share_a_volume(site, guest, &second);
        sharing::comings_and_goings_side_by_side(site, guest, &second);
    });
}

#[test]
fn killed_between_two_guests_it_ends_with_each_attached_or_not() {
    on_host("shared-killed", |site, guest| {
        let second = site.machine.persistent_guest("g2");
        sharing::killed_between_two_guests_it_ends_with_each_attached_or_not(site, guest, &second);
    });
}
