//! Images made of guests: what each holds is what the guest had written when it was taken, the guest stands still no longer than that
//! takes, and each boots again.

use std::time::Duration;

use serde_json::{Value, json};

use crate::boot::{IMAGES, assert_gone, booted, curl, on_host, upload, volumes};
use crate::common::{Guest, HostRig, Machine, Services, Site};

const SOON: Duration = Duration::from_secs(90);
/// Where the guests of these tests write, beside the marker.
const PLACE: u64 = 600 << 10;

/// The only image with that name.
fn image(site: &Site<'_, HostRig>, name: &str) -> Value {
    let listed: Value = serde_json::from_str(&curl(site, &format!("'{IMAGES}?name={name}'"))).unwrap();
    assert_eq!(listed["images"].as_array().unwrap().len(), 1, "{listed}");
    listed["images"][0].clone()
}

/// The states of all snapshots that were asked for.
fn last_snapshot(site: &Site<'_, HostRig>) -> Value {
    let ended = site.json("operations --all");
    ended["operations"].as_array().unwrap().iter().rfind(|operation| operation["kind"] == "snapshot").unwrap().clone()
}

/// Nothing of a snapshot that was not finished is left, and the guest is as it was: thawed, at no job, on the same file.
fn assert_as_before(site: &Site<'_, HostRig>, images: usize, disks: &str, context: &str) {
    let status = r#"{"execute":"guest-fsfreeze-status"}"#;
    assert_eq!(site.machine.ok(&format!("virsh qemu-agent-command g1 '{status}'")), r#"{"return":"thawed"}"#, "{context}");
    let job = site.machine.ok("virsh domjobinfo g1");
    assert!(job.contains("None"), "{context}: {job}");
    assert_eq!(site.machine.ok("virsh -q domblklist g1"), disks, "{context}");
    assert_eq!(site.machine.ok("ls /var/lib/bowline-images/snapshots 2>/dev/null || :"), "", "{context}");
    let listed: Value = serde_json::from_str(&curl(site, IMAGES)).unwrap();
    assert_eq!(listed["images"].as_array().unwrap().len(), images, "{context}: {listed}");
    assert_eq!(site.ask_service("/snapshots")["snapshots"], json!([]), "{context}");
}

/// The agent dies at each of these points while it takes a snapshot of g1, and the next one leaves nothing of that.
fn killed_midway_nothing_is_left(site: &Site<'_, HostRig>, guest: &Guest<'_>, points: &[&str]) {
    let disks = site.machine.ok("virsh -q domblklist g1");
    for point in points {
        site.stop_agent();
        site.start_agent(point);
        site.bowline("snapshot g1 cut");
        site.assert_agent_dies(point);
        if point.ends_with("frozen") {
            guest.expect_line("FROZEN", SOON);
        }
        site.start_agent("");
        let last = last_snapshot(site);
        assert_eq!(last["state"], "failed", "{point}: {last}");
        assert_as_before(site, 1, &disks, point);
    }
}

#[test]
fn an_image_of_an_ephemeral_disk_holds_what_was_written_and_boots_again() {
    on_host("snapshot-ephemeral", "", |site| {
        site.machine.ok("qemu-img convert -f raw -O qcow2 $BOWLINE_GUEST/disk.img /run/tiny.qcow2");
        let base = upload(site, "tiny", "qcow2", "/run/tiny.qcow2");
        let guest_uuid = site.machine.ok("guest-up g1 --diskless");
        site.bowline("boot g1 --image tiny --size 1").ok();
        let guest = booted(site, "g1");
        guest.write("vda", PLACE, "written-before");
        killed_midway_nothing_is_left(site, &guest, &["CaptureDisk:frozen", "UploadImage:started"]);

        let plan = site.bowline("snapshot g1 good --dry-run").ok();
        assert!(plan.contains("CaptureDisk") && plan.contains("frozen") && plan.contains("good"), "{plan}");
        let disks = site.machine.ok("virsh -q domblklist g1");
        let made = site.json("snapshot g1 good");
        guest.expect_line("FROZEN", SOON);
        guest.expect_line("THAWED", SOON);
        assert_as_before(site, 2, &disks, "after the snapshot");
        let good = image(site, "good");
        assert_eq!(good["id"], made["operation"]["image"], "{made}");
        for (property, value) in [
            ("status", json!("active")),
            ("disk_format", json!("qcow2")),
            ("min_disk", json!(1)),
            ("visibility", json!("private")),
            ("image_type", json!("snapshot")),
            ("instance_uuid", json!(guest_uuid)),
            ("base_image_ref", json!(base)),
            ("root_device_name", json!("/dev/vda")),
            ("bowline_guest", json!("frozen")),
        ] {
            assert_eq!(good[property], value, "{property} of {good}");
        }

        guest.write("vda", PLACE, "written-later.");
        site.machine.ok("virsh -q destroy g1");
        site.bowline("snapshot g1 off").ok();
        assert_eq!(image(site, "off")["bowline_guest"], "off");
        site.bowline("delete g1").ok();
        assert_gone(site, "g1");
        let refused = site.bowline("snapshot g1 none");
        assert!(refused.status == 3 && refused.stderr.contains("not booted"), "{refused:?}");

        site.machine.diskless_guest("g2");
        site.bowline("boot g2 --image good").ok();
        assert_eq!(booted(site, "g2").read("vda", PLACE, 14), "written-before");
        site.bowline("delete g2").ok();
        site.machine.diskless_guest("g3");
        site.bowline("boot g3 --image off --to volume --size 1 --delete-on-termination").ok();
        assert_eq!(booted(site, "g3").read("vda", PLACE, 14), "written-later.");
        site.bowline("delete g3").ok();
    });
}

/// Volumes whose snapshots are taken in use: images of a real Ceph cluster, opened by QEMU's own client.
const CEPH: &str = "[backends.ceph]\ndriver = \"rbd\"\nmax_over_subscription_ratio = 100.0\n\
                    [backends.ceph.rbd]\nkeyring_file = \"/run/target/cinder.keyring\"\n";

#[test]
fn an_image_of_volumes_names_snapshots_of_all_and_boots_all_again() {
    let host = HostRig::start("snapshot-volumes");
    host.exec_for("KEYS=/run/target MANAGER=yes ceph-up", Duration::from_secs(150)).ok();
    host.ok("mkdir -p /etc/bowline");
    host.write("/etc/bowline/backend.toml", CEPH);
    let fragment = "[guest]\nfreeze_timeout_s = 5\n[rbd]\nkeyring_file = \"/run/target/cinder.keyring\"\n";
    let site = &Site::start(&host, Services::Processes, fragment);
    site.machine.ok("cp $BOWLINE_GUEST/disk.img /run/tiny.raw");
    upload(site, "tiny", "raw", "/run/tiny.raw");
    site.machine.diskless_guest("g1");
    let boot = "boot g1 --image tiny --to volume --size 1 --delete-on-termination \
                --block-device source=blank,dest=local,size=32,format=swap --block-device source=blank,dest=volume,size=1";
    site.bowline(boot).ok();
    let guest = booted(site, "g1");
    guest.write("vda", PLACE, "written-before");
    guest.write("vdc", 0, "on-the-second");
    killed_midway_nothing_is_left(
        site,
        &guest,
        &["SnapshotVolumes:frozen", "SnapshotVolumes:succeeded", "RegisterImage:succeeded"],
    );

    // A service that does not answer holds no guest up for longer than is set.
    let disks = site.machine.ok("virsh -q domblklist g1");
    let thawed = site.machine.ok("grep -c THAWED /run/guest-g1.log");
    site.machine.ok("kill -STOP $(pgrep -x bowline-backend)");
    site.bowline("snapshot g1 late --no-wait").ok();
    site.machine
        .ok(&format!("timeout 50 bash -c 'until [ $(grep -c THAWED /run/guest-g1.log) -gt {thawed} ]; do sleep 0.2; done'"));
    site.machine.ok("kill -CONT $(pgrep -x bowline-backend)");
    site.machine.ok(
        "timeout 60 bash -c 'until bowline --json operations --all | jq -e \"[.operations[] | select(.kind == \\\"snapshot\\\")] \
         | last.state == \\\"failed\\\"\" >/dev/null; do sleep 0.2; done'",
    );
    let late = last_snapshot(site);
    assert_eq!(late["error"]["kind"], "timeout", "{late}");
    assert_as_before(site, 1, &disks, "after a service that was silent");

    let made = site.json("snapshot g1 good");
    let good = image(site, "good");
    assert_eq!(good["id"], made["operation"]["image"], "{made}");
    assert_eq!((&good["status"], &good["size"]), (&json!("active"), &json!(0)), "{good}");
    assert_eq!((&good["bdm_v2"], &good["bowline_guest"]), (&json!("True"), &json!("frozen")), "{good}");
    let mapping: Value = serde_json::from_str(good["block_device_mapping"].as_str().unwrap()).unwrap();
    let sources: Vec<_> = mapping.as_array().unwrap().iter().map(|entry| entry["source_type"].as_str().unwrap()).collect();
    assert_eq!(sources, ["snapshot", "blank", "snapshot"], "{mapping}");
    guest.write("vda", PLACE, "written-later.");
    // The root volume was to go, but what it has snapshots of stays, and is told.
    site.bowline("delete g1").ok();
    assert_gone(site, "g1");
    assert_eq!(volumes(site).len(), 2);

    // Onto a volume it is all of its disks, too, and the root disk may be larger.
    site.machine.diskless_guest("g2");
    let plan = site.bowline("boot g2 --image good --dry-run").ok();
    assert!(plan.contains("vdb swap, 32 MiB") && plan.matches("1 GiB, from snapshot").count() == 2, "{plan}");
    site.bowline("boot g2 --image good --to volume --size 2 --delete-on-termination").ok();
    let sizes = site.json("volume list");
    assert!(sizes["volumes"].as_array().unwrap().iter().any(|volume| volume["size_gib"] == 2), "{sizes}");
    let guest = booted(site, "g2");
    assert_eq!(guest.read("vda", PLACE, 14), "written-before");
    assert_eq!(guest.read("vdb", 4086, 10), "SWAPSPACE2");
    assert_eq!(guest.read("vdc", 0, 13), "on-the-second");
    site.bowline("delete g2").ok();
    assert_eq!(volumes(site).len(), 3, "the new root volume went with its guest, as the mapping says");
    site.stop_agent();
    site.stop_service();
}

/// Files that cannot be cloned are copied while the guest's initiator is held off: it waits, and loses nothing.
#[test]
fn an_image_of_volumes_on_iscsi_that_the_guest_writes_to_boots_again() {
    on_host("snapshot-iscsi", "", |site| {
        site.machine.ok("cp $BOWLINE_GUEST/disk.img /run/tiny.raw");
        upload(site, "tiny", "raw", "/run/tiny.raw");
        site.machine.diskless_guest("g1");
        site.bowline("boot g1 --image tiny --to volume --size 1 --block-device source=blank,dest=volume,size=1").ok();
        let guest = booted(site, "g1");
        guest.write("vda", PLACE, "written-before");
        guest.write("vdb", 0, "on-the-second");
        site.bowline("snapshot g1 good").ok();
        // The same sessions' disks go on.
        guest.write("vda", PLACE, "written-later.");
        assert_eq!(guest.read("vda", PLACE, 14), "written-later.");
        site.bowline("delete g1").ok();
        site.machine.diskless_guest("g2");
        site.bowline("boot g2 --image good").ok();
        let guest = booted(site, "g2");
        assert_eq!(guest.read("vda", PLACE, 14), "written-before");
        assert_eq!(guest.read("vdb", 0, 13), "on-the-second");
        site.bowline("delete g2").ok();

        // What would hold a guest up for too long is refused, and why is told.
        site.stop_service();
        site.machine.ok("printf '[targets.tgt]\\ncopy_held_max_mib = 0\\n' >>/etc/bowline/backend.toml");
        site.start_service();
        site.machine.diskless_guest("g3");
        site.bowline("boot g3 --image tiny --to volume --size 1").ok();
        booted(site, "g3");
        let refused = site.bowline("snapshot g3 never");
        assert!(refused.status != 0 && refused.stderr.contains("copy_held_max_mib"), "{refused:?}");
        site.bowline("delete g3").ok();
    });
}
