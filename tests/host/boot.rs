//! Guests that boot from disks which Bowline makes or takes for them: every pair of source and destination that the bundled service
//! offers, and what becomes of the disks.

use std::time::Duration;

use serde_json::json;

pub use crate::common::boots::{IMAGES, booted, curl, upload, volumes};
use crate::common::boots::{MARKER, PLACE};
use crate::common::{HostRig, Machine, Services, Site};

/// QEMU is the initiator. The images' folder is in memory, as all of the rig's state.
const FRAGMENT: &str = "[iscsi]\ninitiator = \"qemu\"\n";
pub fn on_host(name: &str, fragment: &str, test: impl FnOnce(&Site<'_, HostRig>)) {
    let host = HostRig::start(name);
    let site = Site::start(&host, Services::Processes, &format!("{FRAGMENT}{fragment}"));
    test(&site);
    site.stop_agent();
    site.stop_service();
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

/// What of its quota the project uses: volumes, and GiB.
fn used(site: &Site<'_, HostRig>) -> (u64, u64) {
    let limits = &site.ask_service("/limits")["limits"]["absolute"];
    let number = |name: &str| limits[name].as_u64().unwrap_or_else(|| panic!("no {name}: {limits}"));
    (number("totalVolumesUsed"), number("totalGigabytesUsed"))
}

#[test]
fn an_image_boots_on_an_ephemeral_disk_which_goes_with_the_guest() {
    on_host("boot-ephemeral", "", |site| {
        site.machine.ok("qemu-img convert -f raw -O qcow2 $BOWLINE_GUEST/disk.img /run/tiny.qcow2");
        let image = upload(site, "tiny", "qcow2", "/run/tiny.qcow2");
        site.machine.diskless_guest("g1");
        let boot = "boot g1 --image tiny --size 1 \
                    --block-device source_type=blank,destination_type=local,volume_size=1024,guest_format=swap \
                    --block-device source_type=blank,destination_type=volume,volume_size=1,delete_on_termination=true";
        let plan = site.bowline(&format!("{boot} --dry-run")).ok();
        assert!(plan.contains(&image) && plan.contains("vdb swap") && plan.contains("StartGuest"), "{plan}");
        assert_gone(site, "g1");

        site.bowline(boot).ok();
        let guest = booted(site, "g1");
        assert_eq!(guest.read("vdb", 4086, 10), "SWAPSPACE2");
        let disks = site.machine.ok("guest-say g1 ls");
        assert_eq!(disks.matches(" 2097152 ").count(), 3, "three disks of 1 GiB: {disks}");
        guest.write("vda", PLACE, "written-by-the-guest");
        guest.write("vdc", 0, "on-a-new-volume");
        assert_eq!(volumes(site).len(), 1);
        let again = site.bowline(boot);
        assert!(again.status == 4 && again.stderr.contains("was booted already"), "{again:?}");

        // A second guest of the same image shares its bytes and not the first one's writes.
        site.machine.diskless_guest("g2");
        let scsi = "--block-device source_type=blank,destination_type=local,volume_size=1,disk_bus=scsi";
        site.bowline(&format!("boot g2 --image tiny --size 1 {scsi}")).ok();
        assert_ne!(booted(site, "g2").read("vda", PLACE, 20), "written-by-the-guest");
        site.machine.ok("cd /var/lib/bowline-images; [ $(ls cache | wc -l) = 1 ]; [ $(stat -c %h cache/*) = 3 ]");

        // Its root disk is made anew, of an image as VMware exports them, and nothing else of it.
        site.machine
            .ok("qemu-img convert -f raw -O vmdk -o subformat=streamOptimized $BOWLINE_GUEST/disk.img /run/exported.vmdk");
        upload(site, "exported", "vmdk", "/run/exported.vmdk");
        let refused = site.bowline("rebuild g1 --image exported --size 1");
        assert!(refused.status == 4 && refused.stderr.contains("bowline stop g1"), "{refused:?}");
        site.bowline("stop g1").ok();
        site.bowline("rebuild g1 --image exported --size 1").ok();
        site.machine.ok("cd /var/lib/bowline-images/cache; [ $(ls *.qcow2 | wc -l) = $(ls | wc -l) ]; [ $(ls | wc -l) = 2 ]");
        site.machine.ok(": >/run/guest-g1.log; [ $(ls /var/lib/bowline-images/disks/$(virsh domuuid g1) | wc -l) = 3 ]");
        site.bowline("start g1").ok();
        let guest = booted(site, "g1");
        assert_ne!(guest.read("vda", PLACE, 20), "written-by-the-guest");
        assert_eq!(guest.read("vdb", 4086, 10), "SWAPSPACE2");
        assert_eq!(guest.read("vdc", 0, 15), "on-a-new-volume");

        // A root disk that is made anew is still what the guest boots from, beside a disk on another bus.
        site.bowline("stop g2").ok();
        site.bowline("rebuild g2 --image tiny --size 1").ok();
        site.machine.ok(": >/run/guest-g2.log");
        site.bowline("start g2").ok();
        booted(site, "g2");
        assert_eq!(site.machine.ok("virsh -q domblklist g2 --inactive | awk '{printf $1 \" \"}'"), "vda sda");

        left_overs_are_told_and_taken_away(site);

        // A guest that somebody undefines keeps its disks until they are deleted by request.
        site.machine.ok("virsh -q destroy g2; virsh -q undefine g2");
        let told = site.bowline("fsck");
        assert!(told.status == 1 && told.stdout.contains("ephemeral disks vda"), "{told:?}");
        site.machine.diskless_guest("g2");
        let lazy = site.bowline("boot g2 --image exported --lazy");
        assert!(lazy.stderr.contains("comes as vmdk") && lazy.stderr.contains("--lazy"), "{lazy:?}");
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

/// What no guest of the journal has is told, and taken away unless a guest has it all the same; and so is a disk that is gone.
fn left_overs_are_told_and_taken_away(site: &Site<'_, HostRig>) {
    let (machine, images) = (site.machine, "/var/lib/bowline-images");
    let nobody = "0d1f2e3c-4b5a-4678-9abc-def012345678";
    assert_eq!(site.bowline("fsck").ok(), "nothing differs", "beside what guests have");
    machine.ok(&format!(
        "cd {images}; mkdir -p disks/{nobody} snapshots
         for file in disks/{nobody}/vda disks/{nobody}/vda.base disks/{nobody}/vdb disks/{nobody}/vdc.new snapshots/{nobody}; do
           truncate -s 1M $file; chmod 600 $file
         done
         virsh -q attach-disk g2 {images}/disks/{nobody}/vdb vdy --config
         echo mine >disks/notes; mv disks/$(virsh domuuid g1)/vdb /run/taken-away"
    ));
    let told = site.bowline("fsck");
    for word in [
        "/vdb is gone",
        "vda is an ephemeral disk of guest 0d1f2e3c",
        "guest g2 first",
        "never finished",
        "nothing uploads it",
        "notes",
    ] {
        assert!(told.status == 1 && told.stdout.contains(word), "{word}: {told:?}");
    }
    let kept = || machine.ok(&format!("cd {images}; ls disks/{nobody} snapshots disks/notes 2>&1"));
    assert_eq!(kept(), format!("disks/notes\n\ndisks/{nobody}:\nvda\nvda.base\nvdb\nvdc.new\n\nsnapshots:\n{nobody}"));
    let repaired = site.bowline("fsck --repair");
    assert!(repaired.status == 1 && repaired.stdout.contains("mended"), "{repaired:?}");
    assert_eq!(kept(), format!("disks/notes\n\ndisks/{nobody}:\nvdb\n\nsnapshots:"), "{repaired:?}");
    machine.ok(&format!(
        "virsh -q detach-disk g2 vdy --config; rm {images}/disks/notes; mv /run/taken-away {images}/disks/$(virsh domuuid g1)/vdb"
    ));
    site.bowline("fsck --repair").ok();
    machine.ok(&format!("test ! -e {images}/disks/{nobody}"));
    assert_eq!(site.bowline("fsck").ok(), "nothing differs");
}

/// What a guest writes onto a raw disk is bytes, though they be the header of a disk over a file of the host's (CVE-2026-24708).
fn assert_raw_is_never_probed(site: &Site<'_, HostRig>) {
    site.machine.diskless_guest("g3");
    site.bowline("boot g3 --image tiny --size 1 --block-device source=blank,size=1").ok();
    booted(site, "g3");
    site.bowline("stop g3").ok();
    site.machine.ok("printf %-4096s the-hosts-own-secret >/run/secret
                     qemu-img create -q -f qcow2 -b /run/secret -F raw /run/evil.qcow2 1G");
    let lay = |disk: &str| {
        let path = format!("/var/lib/bowline-images/disks/$(virsh domuuid g3)/{disk}");
        site.machine.ok(&format!("dd if=/run/evil.qcow2 of={path} conv=notrunc status=none"));
    };
    lay("vdb");
    site.machine.ok(": >/run/guest-g3.log");
    site.bowline("start g3").ok();
    assert_eq!(booted(site, "g3").read("vdb", 0, 3), "QFI");
    site.bowline("stop g3").ok();
    lay("vda");
    let made = site.bowline("snapshot g3 caught --json").ok();
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let image = made["operation"]["image"].as_str().unwrap();
    let told: serde_json::Value = serde_json::from_str(&curl(site, &format!("{IMAGES}/{image}"))).unwrap();
    let format = told["disk_format"].as_str().unwrap();
    curl(site, &format!("{IMAGES}/{image}/file -o /run/caught"));
    site.machine.ok(&format!("qemu-img convert -f {format} -O raw /run/caught /run/caught.raw"));
    assert_eq!(site.machine.ok("head -c 3 /run/caught.raw"), "QFI");
    assert_eq!(
        site.machine.ok("grep -c the-hosts-own-secret /run/caught /run/caught.raw || :"),
        "/run/caught:0\n/run/caught.raw:0"
    );
    site.bowline("delete g3").ok();
}

#[test]
fn a_volume_boots_made_of_an_image_or_a_snapshot_or_as_it_is_and_stays() {
    on_host("boot-volume", "[images]\ndisk_format = \"raw\"\n", |site| {
        site.machine.ok("cp $BOWLINE_GUEST/disk.img /run/tiny.raw");
        upload(site, "tiny", "raw", "/run/tiny.raw");
        site.machine.diskless_guest("g1");
        assert_eq!(used(site), (0, 0));
        // Of a raw image it is known how large it is, and a blank disk without a word on it has a file system.
        site.bowline("boot g1 --image tiny --to volume --block-device source=blank,size=1").ok();
        let guest = booted(site, "g1");
        let magic = "od -An -tx1 -j1080 -N2 /var/lib/bowline-images/disks/*/vdb";
        assert_eq!(site.machine.ok(magic).trim(), "53 ef", "ext4");
        assert_eq!(used(site), (1, 1), "the volume, and nothing for the ephemeral disk");
        guest.write("vda", PLACE, "written-by-the-guest");
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
        assert_eq!(guest.read("vda", PLACE, 20), "written-by-the-guest");
        guest.write("vda", PLACE, "written-a-second-ti.");

        site.machine.diskless_guest("g2");
        site.bowline("boot g2 --snapshot before --delete-on-termination").ok();
        assert_eq!(booted(site, "g2").read("vda", PLACE, 20), "written-by-the-guest");
        assert_eq!(used(site).0, 2);
        site.bowline("delete g2").ok();
        assert_eq!(used(site).0, 1, "what went with its guest is used no more");
        is_written_over(site, &kept[0]);
        site.bowline("delete g1").ok();
        assert_gone(site, "g1");
        assert_eq!(volumes(site), kept, "what the snapshot made went with its guest, and the volume stayed");
        assert_raw_is_never_probed(site);
    });
}

/// What a guest's root disk is made anew of, by the volume service, is what it boots from then: the same volume, to the same name.
fn is_written_over(site: &Site<'_, HostRig>, volume: &str) {
    let (machine, other) = (site.machine, MARKER.to_uppercase());
    machine.ok(&format!(
        "cp $BOWLINE_GUEST/disk.img /run/other.raw; printf {other} | dd of=/run/other.raw bs=1K seek=512 conv=notrunc status=none"
    ));
    upload(site, "other", "raw", "/run/other.raw");
    let refused = site.bowline("rebuild g1 --image other");
    assert!(refused.status == 4 && refused.stderr.contains("bowline stop g1"), "{refused:?}");
    site.bowline("stop g1").ok();
    let plan = site.bowline("rebuild g1 --image other --dry-run").ok();
    assert!(plan.contains("RequestReimage") && plan.contains("never be taken back"), "{plan}");
    let sized = site.bowline("rebuild g1 --image other --size 2");
    assert!(sized.status == 2 && sized.stderr.contains("bowline extend"), "{sized:?}");
    let before = site.json("list")["attachments"][0].clone();
    site.bowline("rebuild g1 --image other").ok();
    let after = site.json("list")["attachments"][0].clone();
    for same in ["volume", "guest", "target"] {
        assert!(before[same] == after[same] && !after[same].is_null(), "{same}: {before} and then {after}");
    }
    let shown = site.json(&format!("volume show {volume}"))["volume"].clone();
    assert_eq!((shown["status"].as_str(), shown["attachments"].as_array().map(Vec::len)), (Some("in-use"), Some(1)), "{shown}");
    machine.ok(": >/run/guest-g1.log");
    site.bowline("start g1").ok();
    let guest = machine.booted_guest("g1");
    assert_eq!(guest.read("vda", 512 << 10, other.len()), other);
    assert_ne!(guest.read("vda", PLACE, 20), "written-a-second-ti.");
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

/// The machine of the rig's other guests, under TCG the quickest to boot.
const TEMPLATE: &str = "--memory 96 --virt-type qemu --machine pc-i440fx-7.2";

#[test]
fn a_guest_is_defined_by_its_boot_and_goes_with_it() {
    on_host("boot-define", "", |site| {
        let machine = site.machine;
        machine.ok("cp $BOWLINE_GUEST/disk.img /run/tiny.raw");
        upload(site, "tiny", "raw", "/run/tiny.raw");
        let defined = || machine.ok("virsh -q list --all --name | tr '\\n' ' '");

        // By the template; what cannot be defined, or booted, leaves no guest.
        let plan = site.bowline(&format!("boot t1 {TEMPLATE} --vcpus 2 --network inside --image tiny --dry-run")).ok();
        assert!(plan.contains("DefineGuest") && plan.contains("96 MiB") && plan.contains("networks: inside"), "{plan}");
        let refused = site.bowline("boot t1 --memory 96 --machine toaster --image tiny");
        assert!(refused.status != 0 && refused.stderr.contains("toaster"), "{refused:?}");
        let no_network = site.bowline(&format!("boot t1 {TEMPLATE} --network nowhere --image tiny"));
        assert!(no_network.status != 0 && no_network.stderr.contains("nowhere"), "{no_network:?}");
        for point in ["DefineGuest:succeeded", "StartGuest:started"] {
            site.stop_agent();
            site.start_agent(point);
            site.bowline(&format!("boot t1 {TEMPLATE} --image tiny"));
            site.assert_agent_dies(point);
            site.start_agent("");
            assert_eq!(defined(), "", "{point}");
            assert_eq!(machine.ok("ls /var/lib/bowline-images/disks"), "", "{point}");
        }
        site.bowline(&format!("boot t1 {TEMPLATE} --vcpus 2 --image tiny --size 1")).ok();
        // Its console is a terminal: it says that it is up, and reads the marker from its disk.
        let talk = "exec 3<>$(virsh -q ttyconsole t1); (timeout 150 cat <&3 >/run/t1.log) >/dev/null 2>&1 &
                    wait-for-line /run/t1.log READY 90 && printf 'r vda 524288 23\\n' >&3";
        machine.exec_for(talk, Duration::from_secs(150)).ok();
        machine.ok(&format!("wait-for-line /run/t1.log {MARKER}"));
        assert_eq!(machine.ok("virsh -q vcpucount t1 --live --current"), "2");
        let again = site.bowline(&format!("boot t1 {TEMPLATE} --image tiny"));
        assert!(again.status == 4 && again.stderr.contains("defined already"), "{again:?}");
        site.bowline("delete t1").ok();
        assert_eq!(defined(), "");

        // By an XML, from a file and from standard input.
        machine.ok("guest-up x1 --diskless >/dev/null; virsh -q undefine x1");
        for (spoil, word) in [
            ("s/<devices>/<devices><nonsense\\/>/", "schema"),
            ("s/<name>x1/<name>other/", "\"other\""),
            ("s/<\\/domain>//", "ends early"),
            ("1i <!DOCTYPE d [<!ENTITY e SYSTEM \"file:///etc/passwd\">]>", "document type"),
            ("s/<devices>/<devices><graphics type='vnc' passwd='secret'\\/>/", "password"),
        ] {
            machine.write("/run/spoil.sed", spoil);
            let refused = site.bowline("boot x1 --image tiny --xml <(sed -f /run/spoil.sed /run/guest-x1.xml)");
            assert!(refused.status == 2 && refused.stderr.contains(word), "{spoil}: {refused:?}");
            assert_eq!(defined(), "", "{spoil}");
        }
        site.bowline("boot x1 --image tiny --xml - </run/guest-x1.xml").ok();
        booted(site, "x1");
        site.bowline("delete x1").ok();
        assert_eq!(defined(), "");
        assert_eq!(machine.ok("ls /var/lib/bowline-images/disks"), "");

        // What somebody defines anew by hand is theirs, and stays.
        site.bowline("boot x1 --image tiny --xml /run/guest-x1.xml").ok();
        machine.ok("virsh -q dumpxml x1 --inactive | grep -v bowline:guest >/run/own.xml; virsh -q destroy x1; virsh -q define /run/own.xml");
        site.bowline("delete x1").ok();
        assert_eq!(defined().trim(), "x1");
        assert_gone(site, "x1");
    });
}

#[test]
fn a_guest_is_rescued_with_its_own_disks_behind_it() {
    on_host("rescue", "", |site| {
        let machine = site.machine;
        machine.ok("cp $BOWLINE_GUEST/disk.img /run/tiny.raw");
        upload(site, "tiny", "raw", "/run/tiny.raw");
        machine.ok("printf marker-of-the-rescue-dis | dd of=/run/tiny.raw bs=1K seek=512 conv=notrunc status=none");
        upload(site, "doctor", "raw", "/run/tiny.raw");
        machine.diskless_guest("g1");
        site.bowline("boot g1 --image tiny --size 1 --block-device source=blank,dest=volume,size=1,delete_on_termination=true")
            .ok();
        let guest = booted(site, "g1");
        guest.write("vda", PLACE, "of-the-root-disk");
        guest.write("vdb", 0, "of-the-volume");
        let definition = || machine.ok("virsh -q dumpxml g1 --inactive | sha256sum");
        let (before, clear) = (definition(), ": >/run/guest-g1.log");

        let ended = site.bowline("unrescue g1");
        assert!(ended.status == 4 && ended.stderr.contains("not rescued"), "{ended:?}");
        for point in ["StopGuest:succeeded", "StartRescue:started"] {
            site.stop_agent();
            site.start_agent(point);
            machine.ok(clear);
            site.bowline("rescue g1 --image doctor --force");
            site.assert_agent_dies(point);
            site.start_agent("");
            assert_eq!(
                machine.ok("virsh -q domstate g1; ls /var/lib/bowline-images/disks/*"),
                "running\nvda\nvda.base",
                "{point}"
            );
            assert_eq!(definition(), before, "{point}");
        }

        machine.ok(clear);
        site.bowline("rescue g1 --image doctor --force").ok();
        // The guest names disks by their places: the one that it runs from, its boot loader's first, is behind the others.
        let rescued = machine.booted_guest("g1");
        assert_eq!(rescued.read("vda", 512 << 10, MARKER.len()), MARKER);
        assert_eq!(rescued.read("vda", PLACE, 16), "of-the-root-disk");
        assert_eq!(rescued.read("vdb", 0, 13), "of-the-volume");
        assert_eq!(rescued.read("vdc", 512 << 10, 24), "marker-of-the-rescue-dis");
        rescued.write("vda", PLACE, "mended-by-rescue");
        assert_eq!(definition(), before, "what it is defined as is not touched");
        let again = site.bowline("rescue g1 --image doctor");
        assert!(again.status == 4 && again.stderr.contains("bowline unrescue g1"), "{again:?}");

        machine.ok(clear);
        site.bowline("unrescue g1 --force").ok();
        assert_eq!(booted(site, "g1").read("vda", PLACE, 16), "mended-by-rescue");
        assert_eq!(machine.ok("ls /var/lib/bowline-images/disks/*; virsh -q domblklist g1 | wc -l"), "vda\nvda.base\n2");
        assert_eq!(definition(), before);

        // One whose root disk boots no more.
        machine.booted_guest("g1").write("vda", 0, "no-boot-loader-any-more");
        machine.ok(clear);
        site.bowline("rescue g1 --image doctor --force").ok();
        assert_eq!(machine.booted_guest("g1").read("vda", 0, 23), "no-boot-loader-any-more");
        site.bowline("delete g1").ok();
        assert_gone(site, "g1");
        assert_eq!(volumes(site), [""; 0]);
    });
}
