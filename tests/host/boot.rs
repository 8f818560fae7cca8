//! Guests that boot from disks which Bowline makes or takes for them: every pair of source and destination that the bundled service
//! offers, and what becomes of the disks.

use serde_json::{Value, json};

use crate::common::{Guest, HostRig, Machine, Services, Site};

/// QEMU is the initiator. The images' folder is in memory, as all of the rig's state.
const FRAGMENT: &str = "[iscsi]\ninitiator = \"qemu\"\n";
/// What `tests/guest/build` writes at 512 KiB of its disk.
const MARKER: &str = "marker-of-the-root-disk";
pub const IMAGES: &str = "http://127.0.0.1:8776/image/v2/images";

pub fn on_host(name: &str, fragment: &str, test: impl FnOnce(&Site<'_, HostRig>)) {
    let host = HostRig::start(name);
    let site = Site::start(&host, Services::Processes, &format!("{FRAGMENT}{fragment}"));
    test(&site);
    site.stop_agent();
    site.stop_service();
}

pub fn curl(site: &Site<'_, HostRig>, arguments: &str) -> String {
    let token = "X-Auth-Token: $(cat /var/lib/bowline-backend/token)";
    site.machine.ok(&format!("curl -sS --fail-with-body -H \"{token}\" {arguments}"))
}

/// Uploads an image; returns its id.
pub fn upload(site: &Site<'_, HostRig>, name: &str, format: &str, file: &str) -> String {
    let record = json!({"name": name, "disk_format": format, "container_format": "bare"});
    let made = curl(site, &format!("-H 'Content-Type: application/json' -d '{record}' {IMAGES}"));
    let id = serde_json::from_str::<Value>(&made).unwrap()["id"].as_str().unwrap().to_owned();
    curl(site, &format!("-X PUT -H 'Content-Type: application/octet-stream' --data-binary @{file} {IMAGES}/{id}/file"));
    id
}

/// The guest that booted, and what its root disk has at the marker's place.
pub fn booted<'a>(site: &Site<'a, HostRig>, name: &str) -> Guest<'a> {
    let guest = site.machine.booted_guest(name);
    assert_eq!(guest.read("vda", 512 << 10, MARKER.len()), MARKER);
    guest
}

pub fn volumes(site: &Site<'_, HostRig>) -> Vec<String> {
    let listed = site.json("volume list");
    listed["volumes"].as_array().unwrap().iter().map(|volume| volume["name"].as_str().unwrap().to_owned()).collect()
}

/// Nothing of a boot is left here: no disk in the definition, no file, no attachment.
pub fn assert_gone(site: &Site<'_, HostRig>, guest: &str) {
    let left = site.machine.ok(&format!(
        "virsh -q domblklist {guest} --inactive | sed 's/^/in the definition: /'
         virsh -q list --name | sed -n 's/^{guest}$/still running/p'
         ls /var/lib/bowline-images/disks 2>/dev/null | sed 's/^/disks of: /' || :
         virsh -q secret-list | sed 's/^/secret: /'"
    ));
    assert_eq!(left, "");
    assert_eq!(site.json("list")["attachments"], json!([]));
    assert_eq!(site.ask_service("/attachments")["attachments"], json!([]));
}

#[test]
fn an_image_boots_on_an_ephemeral_disk_which_goes_with_the_guest() {
    on_host("boot-ephemeral", "", |site| {
        site.machine.ok("qemu-img convert -f raw -O qcow2 $BOWLINE_GUEST/disk.img /run/tiny.qcow2");
        let image = upload(site, "tiny", "qcow2", "/run/tiny.qcow2");
        site.machine.diskless_guest("g1");
        let boot = "boot g1 --image tiny --size 1 \
                    --block-device source_type=blank,destination_type=local,volume_size=1,guest_format=swap \
                    --block-device source_type=blank,destination_type=volume,volume_size=1,delete_on_termination=true";
        let plan = site.bowline(&format!("{boot} --dry-run")).ok();
        assert!(plan.contains(&image) && plan.contains("vdb swap") && plan.contains("StartGuest"), "{plan}");
        assert_gone(site, "g1");

        site.bowline(boot).ok();
        let guest = booted(site, "g1");
        assert_eq!(guest.read("vdb", 4086, 10), "SWAPSPACE2");
        let disks = site.machine.ok("guest-say g1 ls");
        assert_eq!(disks.matches(" 2097152 ").count(), 3, "three disks of 1 GiB: {disks}");
        guest.write("vda", 600 << 10, "written-by-the-guest");
        guest.write("vdc", 0, "on-a-new-volume");
        assert_eq!(volumes(site).len(), 1);
        let again = site.bowline(boot);
        assert!(again.status == 4 && again.stderr.contains("was booted already"), "{again:?}");

        // A second guest of the same image shares its bytes and not the first one's writes.
        site.machine.diskless_guest("g2");
        site.bowline("boot g2 --image tiny --size 1").ok();
        assert_ne!(booted(site, "g2").read("vda", 600 << 10, 20), "written-by-the-guest");
        site.machine.ok("cd /var/lib/bowline-images; [ $(ls cache | wc -l) = 1 ]; [ $(stat -c %h cache/*) = 3 ]");

        // Its root disk is made anew, and nothing else of it.
        let refused = site.bowline("rebuild g1 --image tiny --size 1");
        assert!(refused.status == 4 && refused.stderr.contains("bowline stop g1"), "{refused:?}");
        site.bowline("stop g1").ok();
        site.bowline("rebuild g1 --image tiny --size 1").ok();
        site.machine.ok(": >/run/guest-g1.log; [ $(ls /var/lib/bowline-images/disks/$(virsh domuuid g1) | wc -l) = 3 ]");
        site.bowline("start g1").ok();
        let guest = booted(site, "g1");
        assert_ne!(guest.read("vda", 600 << 10, 20), "written-by-the-guest");
        assert_eq!(guest.read("vdb", 4086, 10), "SWAPSPACE2");
        assert_eq!(guest.read("vdc", 0, 15), "on-a-new-volume");

        // A guest that somebody undefines keeps its disks until they are deleted by request.
        site.machine.ok("virsh -q destroy g2; virsh -q undefine g2");
        let told = site.bowline("fsck");
        assert!(told.status == 1 && told.stdout.contains("ephemeral disks vda"), "{told:?}");
        site.machine.diskless_guest("g2");
        let unlike = site.bowline("delete g2");
        assert!(unlike.status == 3 && unlike.stderr.contains("a former guest of this name"), "{unlike:?}");
        site.machine.ok("virsh -q undefine g2");
        site.bowline("delete g2").ok();
        site.bowline("delete g1").ok();
        assert_gone(site, "g1");
        assert_eq!(volumes(site), [""; 0], "the volume was to go with the guest");
        let again = site.bowline("delete g1");
        assert!(again.status == 3 && again.stderr.contains("not booted"), "{again:?}");
    });
}

#[test]
fn a_volume_boots_made_of_an_image_or_a_snapshot_or_as_it_is_and_stays() {
    on_host("boot-volume", "[images]\ndisk_format = \"raw\"\n", |site| {
        site.machine.ok("cp $BOWLINE_GUEST/disk.img /run/tiny.raw");
        upload(site, "tiny", "raw", "/run/tiny.raw");
        site.machine.diskless_guest("g1");
        let refused = site.bowline("boot g1 --image tiny --to volume");
        assert!(refused.status == 2 && refused.stderr.contains("volume_size"), "{refused:?}");

        site.bowline("boot g1 --image tiny --to volume --size 1 --block-device source=blank,size=1,format=ext4").ok();
        let guest = booted(site, "g1");
        guest.write("vda", 600 << 10, "written-by-the-guest");
        site.bowline("delete g1").ok();
        assert_gone(site, "g1");
        let kept = volumes(site);
        assert!(kept.len() == 1 && kept[0].starts_with("g1-vda-"), "{kept:?}");

        let id = site.json(&format!("volume show {}", kept[0]))["volume"]["id"].as_str().unwrap().to_owned();
        let record = json!({"snapshot": {"volume_id": id, "name": "before"}});
        curl(site, &format!("-H 'Content-Type: application/json' -d '{record}' http://127.0.0.1:8776/v3/snapshots"));
        // Another guest takes it over, under the same name.
        site.machine.ok("virsh -q undefine g1");
        site.machine.diskless_guest("g1");
        site.bowline(&format!("boot g1 --volume {}", kept[0])).ok();
        let guest = booted(site, "g1");
        assert_eq!(guest.read("vda", 600 << 10, 20), "written-by-the-guest");
        guest.write("vda", 600 << 10, "written-a-second-ti.");

        site.machine.diskless_guest("g2");
        site.bowline("boot g2 --snapshot before --delete-on-termination").ok();
        assert_eq!(booted(site, "g2").read("vda", 600 << 10, 20), "written-by-the-guest");
        site.bowline("delete g2").ok();
        site.bowline("delete g1").ok();
        assert_gone(site, "g1");
        assert_eq!(volumes(site), kept, "what the snapshot made went with its guest, and the volume stayed");
    });
}

#[test]
fn a_boot_that_fails_leaves_nothing_it_made() {
    on_host("boot-cut", "", |site| {
        site.machine.ok("cp $BOWLINE_GUEST/disk.img /run/tiny.raw");
        let image = upload(site, "tiny", "raw", "/run/tiny.raw");
        site.machine.diskless_guest("g1");
        let boot = "boot g1 --image tiny --size 1 --block-device source=blank,dest=volume,size=1";
        // No room for the second: the first is taken back.
        let failed = site.bowline(&format!("{boot} --block-device source=blank,dest=volume,size=100000"));
        assert_ne!(failed.status, 0, "{failed:?}");
        assert_gone(site, "g1");
        assert_eq!(volumes(site), [""; 0]);

        // Bytes that are not those the service has a digest of.
        site.machine.ok(&format!(
            "rm -rf /var/lib/bowline-images/cache
             file=$(find /var/lib/bowline-backend -name '*{image}*' -type f); [ -n \"$file\" ]
             chmod u+w $file; printf changed | dd of=$file bs=1K seek=700 conv=notrunc status=none"
        ));
        let refused = site.bowline(boot);
        assert!(refused.status == 9 && refused.stderr.contains("sha512"), "{refused:?}");
        assert_gone(site, "g1");
        assert_eq!(site.machine.ok("ls /var/lib/bowline-images/cache"), "");
    });
}
