//! Sessions: shared by many LUNs, lost and come back, ended by somebody's hand.

use std::time::Duration;

use super::{KERNEL, SOON, behind, in_node, lun, sessions, told, volume, with_settings};
use crate::common::{Guest, Machine, Node, Site};

#[test]
fn ten_volumes_share_a_session_and_the_last_one_ends_it() {
    in_node("ten-luns", KERNEL, |site, guest| {
        let node = site.machine;
        let luns: Vec<String> = (1..=10).map(|number| lun(number, &format!("2a{number:02}"))).collect();
        node.ok(&format!("lio-up many {}", luns.join(" ")));
        let ids: Vec<String> =
            (1..=10).map(|number| volume(site, &format!("v{number}"), &told("many", "127.0.0.1:3260", number))).collect();
        let all = |verb: &str, ids: &[String]| {
            format!(
                "set -e; pids=; for v in {}; do bowline {verb} $v g1 & pids=\"$pids $!\"; done; for p in $pids; do wait $p; done",
                ids.join(" ")
            )
        };
        node.exec_for(&all("attach", &ids), Duration::from_secs(180)).ok();
        assert_eq!((sessions(node), node.ok("ls /sys/class/scsi_disk | wc -l").as_str()), (1, "10"));
        // Some go while others come back, at once.
        let (first, second) = ids.split_at(5);
        node.exec_for(&all("detach", first), Duration::from_secs(180)).ok();
        assert_eq!((sessions(node), node.ok("ls /sys/class/scsi_disk | wc -l").as_str()), (1, "5"));
        let mixed = format!("({}) & a=$!; ({}) & b=$!; wait $a && wait $b", all("attach", first), all("detach", second));
        node.exec_for(&mixed, Duration::from_secs(180)).ok();
        assert_eq!((sessions(node), node.ok("ls /sys/class/scsi_disk | wc -l").as_str()), (1, "5"));
        node.exec_for(&all("detach", first), Duration::from_secs(180)).ok();
        assert_eq!(guest.say("ls"), "");
        for id in &ids {
            site.assert_nothing_attached("g1", id, "after ten volumes");
        }
        a_lun_that_never_appears_holds_up_nobody(site, guest, &ids[0]);
    });
}

/// Beside a LUN that the target has not got, another of the same session comes and goes, and leaves the session to it.
fn a_lun_that_never_appears_holds_up_nobody(site: &Site<'_, Node>, guest: &Guest<'_>, id: &str) {
    let node = site.machine;
    with_settings(site, &KERNEL.replace("device_timeout_s = 5", "device_timeout_s = 60"));
    let missing = volume(site, "missing", &told("many", "127.0.0.1:3260", 99));
    node.ok(&format!(
        "setsid sh -c 'bowline attach {missing} g1 >/run/missing.log 2>&1; echo ended $? >>/run/missing.log' </dev/null >/dev/null 2>&1 &
         until ls /run/bowline/claims/* >/dev/null 2>&1; do sleep 0.1; done"
    ));
    site.bowline(&format!("attach {id} g1")).ok();
    let (disk, _) = guest.expect_disk(&id[..20], SOON);
    site.bowline(&format!("detach {id}")).ok();
    guest.expect_gone(&disk, SOON);
    assert!(!node.ok("cat /run/missing.log").contains("ended"), "it did not wait for its LUN, or the other one waited for it");
    assert_eq!(sessions(node), 1, "logged out under a volume that waits for its LUN");
    node.exec_for("wait-for-line /run/missing.log 'ended 8' 110", Duration::from_secs(120)).ok();
    for volume in [id, &missing] {
        site.assert_nothing_attached("g1", volume, "after a LUN that never appeared");
    }
}

#[test]
fn a_guest_goes_on_after_its_target_was_away() {
    in_node("target-away", KERNEL, |site, guest| {
        let node = site.machine;
        node.ok(&format!("lio-up away {}", lun(1, "2b01")));
        let id = volume(site, "away", &told("away", "127.0.0.1:3260", 1));
        site.bowline(&format!("attach {id} g1")).ok();
        let (disk, _) = guest.expect_disk(&id[..20], SOON);
        guest.write(&disk, 5000, "before");
        // The target cuts every session, and iscsid is started anew: open-iscsi logs in again by itself.
        node.ok("systemctl restart iscsid; lio-down away --sessions");
        guest.write(&disk, 6000, "after it came back");
        assert_eq!(behind(node, "away", 1, 6000, 18), "after it came back");
        site.bowline(&format!("detach {id}")).ok();
        guest.expect_gone(&disk, SOON);
        site.assert_nothing_attached("g1", &id, "after the target was away");
    });
}

#[test]
fn a_session_that_somebody_ended_is_made_again_and_its_volume_found_by_identity() {
    in_node("ended-by-hand", KERNEL, |site, guest| {
        let node = site.machine;
        node.ok(&format!("lio-up ended {} {}", lun(1, "2c01"), lun(2, "2c02")));
        let id = volume(site, "ended", &told("ended", "127.0.0.1:3260", 1));
        site.bowline(&format!("attach {id} g1")).ok();
        let (disk, _) = guest.expect_disk(&id[..20], SOON);
        guest.write(&disk, 5000, "before");
        node.ok("iscsiadm -m session -u");
        assert_eq!(sessions(node), 0);
        site.stop_agent();
        site.start_agent("");
        assert_eq!(sessions(node), 1, "not logged in again");
        node.ok("iscsiadm -m session -u");
        let found = site.bowline("fsck");
        assert!(found.status == 1 && found.stdout.contains("has not the device any more"), "{found:?}");
        assert_eq!(sessions(node), 0, "a check that was to change nothing logged in");
        let mended = site.bowline("fsck --repair");
        assert!(mended.status == 0 && mended.stdout.contains("mended"), "{mended:?}");
        assert_eq!((sessions(node), site.bowline("fsck").ok().as_str()), (1, "nothing differs"));
        let name = format!("/run/bowline/volumes/{id}");
        assert_eq!(node.ok(&format!("dd if={name} bs=1 skip=5000 count=6 status=none")), "before");
        // The running guest still holds the device that is gone, of no size by now: QEMU reads nothing from it but zeros, and stops the
        // guest at a write as if the disk were full. It never reaches the device that took its place; a new disk heals that.
        let seen = guest.say(&format!("r {disk} 5000 6"));
        assert!(!seen.contains("before"), "it reads the new device through the old one: {seen}");
        site.bowline(&format!("detach {id}")).ok();
        guest.expect_gone(&disk, SOON);
        site.bowline(&format!("attach {id} g1")).ok();
        let (disk, _) = guest.expect_disk(&id[..20], SOON);
        assert_eq!(guest.read(&disk, 5000, 6), "before");
        site.bowline(&format!("detach {id}")).ok();
        site.assert_nothing_attached("g1", &id, "after a session that was ended by hand");
    });
}

#[test]
fn a_portal_that_is_down_is_passed_over() {
    in_node("portal-down", KERNEL, |site, guest| {
        let node = site.machine;
        node.ok(&format!("lio-up two-ways --portal 127.0.0.1:3261 {}", lun(1, "2d01")));
        let mut info = told("two-ways", "127.0.0.1:3260", 1);
        let iqn = info["target_iqn"].clone();
        let id = volume(site, "two-ways", &info);
        super::refused(site, guest, &id, 7, &["127.0.0.1:3260"], "the only portal is down");
        info["target_portals"] = serde_json::json!(["127.0.0.1:3260", "127.0.0.1:3261"]);
        info["target_iqns"] = serde_json::json!([iqn, iqn]);
        super::tell(node, "two-ways", &info);
        super::comes_and_goes(site, guest, &id, ("two-ways", 1), "the other portal");
    });
}
