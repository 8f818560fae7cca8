//! Extending and sharing in a compute node: the kernel is the initiator, with one session for all guests.

use crate::common::{Guest, Machine, Node, Services, Site, growth, in_any_node, sharing};

/// A look at the service every second, as no production site would have it.
const FRAGMENT: &str = "[iscsi]\ninitiator = \"kernel\"\ndevice_timeout_s = 5\nlogin_timeout_s = 5\n[libvirt]\n\
                        detach_timeout_s = 90\n[volumes]\nwatch_interval_s = 1";

fn in_node(name: &str, test: impl FnOnce(&Site<'_, Node>, &Guest<'_>)) {
    in_any_node(name, |node, guest| test(&Site::start(node, Services::Systemd, FRAGMENT), guest));
}

#[test]
fn a_volume_grows_under_its_guest() {
    in_node("grows", |site, guest| {
        growth::a_volume_grows_under_its_guest(site, guest, "virtio");
        growth::a_volume_grows_under_its_guest(site, guest, "scsi");
        growth::writes_during_an_extend_are_kept(site, guest);
    });
}

#[test]
fn an_extension_by_somebody_else_is_noticed() {
    in_node("noticed", |site, guest| growth::an_extension_by_somebody_else_is_noticed(site, guest));
}

#[test]
fn killed_at_every_boundary_an_extend_is_finished() {
    in_node("extend-killed", |site, guest| growth::killed_at_every_boundary_an_extend_is_finished(site, guest));
}

#[test]
fn two_guests_share_a_volume() {
    in_node("shared", |site, guest| {
        let second = site.machine.persistent_guest("g2");
        sharing::two_guests_share_a_volume(site, guest, &second);
        sharing::comings_and_goings_side_by_side(site, guest, &second);
    });
}

#[test]
fn killed_between_two_guests_it_ends_with_each_attached_or_not() {
    in_node("shared-killed", |site, guest| {
        let second = site.machine.persistent_guest("g2");
        sharing::killed_between_two_guests_it_ends_with_each_attached_or_not(site, guest, &second);
    });
}
