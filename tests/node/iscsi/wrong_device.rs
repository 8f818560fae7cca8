//! Devices that are not the volume, on real kernels: each is refused, the guest and the other volume are untouched, nothing is left.

use std::time::Duration;

use serde_json::json;

use super::{
    KERNEL, SOON, agent_log, behind, comes_and_goes, expect_no_session, in_node, iqn, lun, mark, refused, sessions, tell, told,
    volume,
};
use crate::common::{Machine, Node};

const PORTAL: &str = "127.0.0.1:3260";

/// The target gives the LUN's number to another disk, and the first one's file is kept as `FILE.first`.
fn swap(node: &Node, target: &str, serial: &str) {
    node.ok(&format!(
        "lio-down {target} --lun 1 && mv /run/lio/{target}-1.img /run/lio/{target}-1.img.first && lio-up {target} {}",
        lun(1, serial)
    ));
    mark(node, target, 1, "another volume!!");
}

/// The first disk is back at its number.
fn swap_back(node: &Node, target: &str, serial: &str) {
    node.ok(&format!(
        "lio-down {target} --lun 1 && mv /run/lio/{target}-1.img.first /run/lio/{target}-1.img && lio-up {target} {}",
        lun(1, serial)
    ));
}

#[test]
fn a_lun_number_that_was_given_to_another_volume_is_noticed_behind_its_stale_device() {
    in_node("stale-device", KERNEL, |site, guest| {
        let node = site.machine;
        node.ok(&format!("lio-up array {}", lun(1, "1a01")));
        let id = volume(site, "first", &told("array", PORTAL, 1));
        site.bowline(&format!("attach {id} g1")).ok();
        let (disk, _) = guest.expect_disk(&id[..20], SOON);
        guest.write(&disk, 5000, "of the first volume");
        swap(node, "array", "1a02");
        // The kernel goes on saying what it read long ago.
        assert!(node.ok("cat /sys/class/scsi_disk/*/device/vpd_pg80").contains("1a01"));

        // Neither a new agent nor a detach takes the other volume for this one, and nobody touches it.
        site.stop_agent();
        site.start_agent("");
        let log = agent_log(node);
        assert!(log.contains("another device is in the place"), "{log}");
        node.ok(&format!(
            "setsid journalctl -b -u bowlined -f -n 0 -a -o json >/run/agent.log 2>&1 </dev/null & echo $! >/run/follower
             setsid bowline detach {id} >/run/detach.log 2>&1 </dev/null &"
        ));
        guest.expect_gone(&disk, SOON);
        node.ok("wait-for-line /run/agent.log 1a02; kill $(cat /run/follower)");
        assert_eq!(site.status(&id), "in-use", "the attachment is kept while the host holds the device");
        assert_eq!(behind(node, "array", 1, 0, 16), "another volume!!");
        assert_eq!(behind(node, "array", 1, 5000, 4), "____");
        assert_eq!(node.ok("ls /sys/class/scsi_disk | wc -l"), "1", "it is left for the operator to judge");

        // With the right volume back at its place the detach ends by itself. The command may be gone by then: it ends when it is stuck.
        node.ok("setsid timeout 120 busctl monitor --match \"type='signal',member='InterfacesRemoved'\" >/run/bus.log 2>&1 </dev/null &
            wait-for-line /run/bus.log Monitoring");
        swap_back(node, "array", "1a01");
        node.exec_for("wait-for-line /run/bus.log Member=InterfacesRemoved 90", Duration::from_secs(100)).ok();
        assert_eq!(behind(node, "array", 1, 5000, 19), "of the first volume");
        site.assert_nothing_attached("g1", &id, "after the right volume came back");
    });
}

#[test]
fn a_device_that_was_there_before_is_not_taken() {
    in_node("device-before", KERNEL, |site, guest| {
        let node = site.machine;
        node.ok(&format!("lio-up array {} {}", lun(1, "1b01"), lun(2, "1b02")));
        // Somebody else has logged in, and every LUN of the target is on this host.
        node.ok(&format!(
            "iscsiadm -m discovery -t st -p {PORTAL} && iscsiadm -m node -T {} --login && udevadm settle",
            iqn("array")
        ));
        let id = volume(site, "first", &told("array", PORTAL, 1));
        let output = site.bowline(&format!("attach {id} g1"));
        assert_eq!(output.status, 4, "{output:?}");
        assert!(output.stderr.contains("is there already"), "{output:?}");
        assert_eq!((sessions(node), node.ok("ls /sys/class/scsi_disk | wc -l").as_str()), (1, "2"), "theirs is left as it was");
        assert_eq!(guest.say("ls"), "");
        assert_eq!(site.status(&id), "available");
        assert_eq!(node.ok("ls /run/bowline/volumes /run/bowline/claims 2>/dev/null | grep -v : || :"), "");

        // On the same session, with the device gone, it is attached, and detached without ending what is somebody else's.
        node.ok("for d in /sys/class/scsi_disk/*:1/device/delete; do echo 1 >$d; done");
        site.bowline(&format!("attach {id} g1")).ok();
        let (disk, _) = guest.expect_disk(&id[..20], SOON);
        site.bowline(&format!("detach {id}")).ok();
        guest.expect_gone(&disk, SOON);
        assert_eq!((sessions(node), node.ok("ls /sys/class/scsi_disk | wc -l").as_str()), (1, "1"));
        node.ok(&format!(
            "iscsiadm -m node -T {} --logout && iscsiadm -m node -T {0} -o delete; rm -rf /etc/iscsi/send_targets/*",
            iqn("array")
        ));
        site.assert_nothing_attached("g1", &id, "after a shared session");
    });
}

#[test]
fn an_identity_that_changed_over_a_new_login_is_not_given_back() {
    in_node("changed-identity", KERNEL, |site, guest| {
        let node = site.machine;
        node.ok(&format!("lio-up array {}", lun(1, "1c01")));
        let id = volume(site, "first", &told("array", PORTAL, 1));
        site.bowline(&format!("attach {id} g1")).ok();
        let (disk, _) = guest.expect_disk(&id[..20], SOON);
        guest.write(&disk, 5000, "of the first volume");
        site.stop_agent();
        // The session ends by somebody's hand, and meanwhile the number goes to another volume.
        node.ok("iscsiadm -m session -u");
        swap(node, "array", "1c02");
        site.start_agent("");
        let log = agent_log(node);
        assert!(log.contains("1c02") && log.contains("1c01"), "{log}");
        expect_no_session(node);
        assert_eq!(node.exec(&format!("test -e /run/bowline/volumes/{id}")).status, 1, "given back");
        assert_eq!(behind(node, "array", 1, 0, 16), "another volume!!");
        // With the right one back it is.
        swap_back(node, "array", "1c01");
        site.stop_agent();
        site.start_agent("");
        assert_eq!(node.exec(&format!("test -b /run/bowline/volumes/{id}")).status, 0, "not given back");
        site.bowline(&format!("detach {id}")).ok();
        guest.expect_gone(&disk, SOON);
        assert_eq!(behind(node, "array", 1, 5000, 19), "of the first volume");
        site.assert_nothing_attached("g1", &id, "after a changed identity");
    });
}

/// Two arrays with the same LUN number, and what they and the service can get wrong about it.
#[test]
fn neither_a_number_nor_a_serial_nor_a_size_makes_a_device_the_volume() {
    in_node("two-arrays", KERNEL, |site, guest| {
        let node = site.machine;
        node.ok(&format!("lio-up east {}", lun(1, "1d01")));
        node.ok(&format!("lio-up west --portal 127.0.0.1:3261 {}", lun(1, "1d02")));
        let vouched = |target: &str, portal: &str, serial: &str| {
            let mut info = told(target, portal, 1);
            info["scsi_serial"] = json!(serial);
            info
        };
        let id = volume(site, "east", &vouched("east", PORTAL, "1d01"));
        comes_and_goes(site, guest, &id, ("east", 1), "of the east");
        // The same number on the other array.
        tell(node, "east", &vouched("west", "127.0.0.1:3261", "1d01"));
        refused(site, guest, &id, 9, &["1d01", "1d02"], "the other array's LUN 1");
        tell(node, "east", &vouched("east", PORTAL, "1d01"));

        // The other array lies about the serial: it is what another volume here has.
        node.ok(&format!("lio-down west && lio-up west --portal 127.0.0.1:3261 {}", lun(1, "1d01")));
        let twin = volume(site, "west", &told("west", "127.0.0.1:3261", 1));
        site.bowline(&format!("attach {id} g1")).ok();
        let (disk, _) = guest.expect_disk(&id[..20], SOON);
        let output = site.bowline(&format!("attach {twin} g1"));
        assert_eq!(output.status, 9, "{output:?}");
        assert!(output.stderr.contains(&id), "{output:?}");
        assert_eq!((sessions(node), guest.say("ls").lines().count()), (1, 1), "the first volume alone is there");
        site.bowline(&format!("detach {id}")).ok();
        guest.expect_gone(&disk, SOON);
        site.assert_nothing_attached("g1", &id, "after a serial that lied");

        // Sizes that are not the volume's.
        for (mib, context) in [(512, "too small"), (2048, "too large")] {
            node.ok("lio-down west");
            node.ok(&format!("lio-up west --portal 127.0.0.1:3261 --lun 1,mib={mib},serial=1d03"));
            refused(site, guest, &twin, 9, &["GiB"], context);
        }
        assert_eq!(node.ok("tr -d '\\0' </run/lio/west-1.img | wc -c"), "0", "the wrong device was written to");
    });
}

/// The kernel found the device; before a second look, the LUN behind it is another.
#[test]
fn a_lun_that_changes_between_connect_and_proof_is_refused() {
    in_node("changes-at-once", KERNEL, |site, guest| {
        let node = site.machine;
        node.ok(&format!("lio-up array {}", lun(1, "1e01")));
        let mut info = told("array", PORTAL, 1);
        info["scsi_serial"] = json!("1e01");
        let id = volume(site, "first", &info);
        // The agent dies when it has connected, and the number changes hands before it is back: its own device is stale.
        site.stop_agent();
        site.start_agent("ConnectVolume:succeeded");
        let _ = site.bowline(&format!("attach {id} g1 --no-wait"));
        site.assert_agent_dies("connected");
        assert_eq!(node.ok("ls /sys/class/scsi_disk | wc -l"), "1", "it was not connected");
        swap(node, "array", "1e02");
        site.start_agent("");
        assert_eq!(guest.say("ls"), "");
        assert_eq!(behind(node, "array", 1, 0, 16), "another volume!!");
        site.assert_nothing_attached("g1", &id, "after a crash and a swap");
    });
}
