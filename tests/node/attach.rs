//! Bowline in a compute node, as `make install` lays it, under systemd: the kernel is the initiator.

use std::time::Duration;

use crate::common::{Guest, Machine, Node, Services, Site, cases, in_any_node};

/// Deadlines that a test can wait for. `kernel`, not `auto`: a node that fell back to QEMU must not pass.
const FRAGMENT: &str =
    "[iscsi]\ninitiator = \"kernel\"\ndevice_timeout_s = 5\nlogin_timeout_s = 10\n[libvirt]\ndetach_timeout_s = 90";

fn in_node(name: &str, test: impl FnOnce(&Site<'_, Node>, &Guest<'_>)) {
    in_any_node(name, |node, guest| test(&Site::start(node, Services::Systemd, FRAGMENT), guest));
}

#[test]
fn a_volume_comes_and_goes_and_keeps_what_was_written() {
    in_node("comes-and-goes", |site, guest| {
        cases::a_volume_comes_and_goes_and_keeps_what_was_written(site, guest, "virtio");
        cases::a_volume_comes_and_goes_and_keeps_what_was_written(site, guest, "scsi");
        cases::secrets_stay_secret(site, guest, Services::Systemd);
    });
}

#[test]
fn a_guest_that_is_off_is_served_too() {
    in_node("cold", |site, guest| cases::a_guest_that_is_off_is_served_too(site, guest));
}

#[test]
fn killed_at_every_boundary_it_ends_attached_or_undone() {
    in_node("killed", |site, guest| cases::killed_at_every_boundary_it_ends_attached_or_undone(site, guest));
}

#[test]
fn what_is_not_so_never_reaches_the_guest() {
    in_node("lies", |site, guest| cases::what_is_not_so_never_reaches_the_guest(site, guest));
}

#[test]
fn services_that_are_away_are_told() {
    in_node("away", |site, guest| {
        cases::a_service_that_is_away_is_told(site, guest);
        cases::a_libvirtd_that_is_away_is_told(
            site,
            guest,
            "systemctl -q stop libvirtd.service libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket",
            "systemctl start libvirtd.socket",
        );
    });
}

/// A power cut with a volume attached: after the boot the same volume is connected again under its own name, and the guest, which is
/// marked to start with the host, runs by itself and finds its writes. libvirtd has tried before, and could not.
#[test]
fn a_power_cut_brings_the_same_volume_back() {
    let mut node = Node::with_bowline("reboot");
    let volume = {
        let site = Site::start(&node, Services::Systemd, FRAGMENT);
        node.ok("systemctl -q enable bowlined bowline-backend iscsid libvirtd");
        let guest = node.persistent_guest("g1");
        node.ok("virsh -q autostart g1");
        let volume = site.volume("kept", "kept");
        site.bowline(&format!("attach {volume} g1")).ok();
        let (disk, _) = guest.expect_disk(&volume[..20], Duration::from_secs(90));
        guest.write(&disk, 5000, "before the power cut");
        node.ok("sync");
        volume
    };
    node.kill();
    node.up_again();
    let site = Site::at(&node, Services::Systemd);
    node.ok("systemctl start bowline-backend bowlined");
    let name = format!("/run/bowline/volumes/{volume}");
    assert_eq!(node.exec(&format!("test -b {name}")).status, 0, "{name} is not there once the agent is ready");
    assert_eq!(site.json("list")["attachments"][0]["volume"], volume.as_str());
    let guest = node.booted_guest("g1");
    let (disk, _) = guest.expect_disk(&volume[..20], Duration::from_secs(60));
    assert_eq!(guest.read(&disk, 5000, 20), "before.the.power.cut");
    assert!(
        node.ok("journalctl --sync; journalctl -b -o cat -u libvirtd").contains(&name),
        "libvirtd was to try before the volume is there"
    );
    assert!(site.bowline("operations --all").ok().contains("start"), "Bowline was to start it");
    site.bowline(&format!("detach {volume}")).ok();
    site.assert_nothing_left("g1", &volume, "after a power cut, a boot and a detach");
}

/// polkit decides by who asks: the group may, others may only look.
#[test]
fn who_may_not_can_not() {
    in_node("polkit", |site, _guest| {
        let node = site.machine;
        node.ok("useradd -M stranger; useradd -M -G bowline member; systemctl start polkit");
        let volume = site.volume("guarded", "x");
        let as_user = |user: &str, arguments: &str| {
            node.exec(&format!("setpriv --reuid {user} --regid {user} --init-groups bowline {arguments}"))
        };
        let denied = as_user("stranger", &format!("attach {volume} g1"));
        assert_eq!(denied.status, 5, "{denied:?}");
        assert!(denied.stderr.contains("org.bowline.agent1.attach"), "{denied:?}");
        assert_eq!(as_user("stranger", "volume delete guarded").status, 5);
        as_user("stranger", "list").ok();
        as_user("member", &format!("attach {volume} g1")).ok();
        assert_eq!(as_user("stranger", &format!("detach {volume} g1")).status, 5);
        as_user("member", &format!("detach {volume} g1")).ok();
        site.assert_nothing_left("g1", &volume, "after a member of the group");
        // Nobody but root may take the agent's name.
        let taken = node.exec("systemctl stop bowlined; setpriv --reuid stranger --regid stranger --init-groups busctl call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus RequestName su org.bowline.Agent1 0");
        assert_ne!(taken.status, 0, "{taken:?}");
    });
}

/// Two volumes behind one target cannot be had from the bundled service; two volumes side by side can, and neither waits for the
/// other's login for longer than it takes.
#[test]
fn volumes_come_side_by_side_and_go_in_any_order() {
    in_node("side-by-side", |site, guest| {
        let volumes: Vec<String> = (0..4).map(|number| site.volume(&format!("many-{number}"), "x")).collect();
        let list = volumes.join(" ");
        let all = |verb: &str| {
            format!(
                "set -e; pids=; for v in {list}; do bowline {verb} $v {} & pids=\"$pids $!\"; done; for p in $pids; do wait $p; done",
                guest.name()
            )
        };
        site.machine.exec_for(&all("attach"), Duration::from_secs(120)).ok();
        assert_eq!(site.json("list")["attachments"].as_array().map(Vec::len), Some(4));
        assert_eq!(site.machine.ok("ls /sys/class/iscsi_session | wc -l"), "4");
        site.bowline(&format!("detach {}", volumes[2])).ok();
        assert_eq!(site.machine.ok("ls /sys/class/iscsi_session | wc -l"), "3");
        assert_eq!(site.json("list")["attachments"].as_array().map(Vec::len), Some(3));
        for at in [0, 3, 1] {
            site.bowline(&format!("detach {}", volumes[at])).ok();
        }
        for volume in &volumes {
            site.assert_nothing_left(guest.name(), volume, "after four volumes");
        }
    });
}
