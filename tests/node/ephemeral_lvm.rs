//! Ephemeral disks on logical volumes: guests boot from them, and their whole life leaves nothing but the group as it was.

use crate::common::boots::{MARKER, PLACE, booted, upload};
use crate::common::{Machine, Node, Site};

const SETTINGS: &str = "/etc/bowline/bowlined.d/30-ephemeral.toml";
/// Where a former owner of the group's free extents wrote, MiB: past the image's end.
const FORMERLY_AT: [u64; 2] = [500, 900];

/// The agent makes disks so from here on.
fn disks_on(site: &Site<'_, Node>, settings: &str) {
    site.stop_agent();
    site.machine.write(SETTINGS, &format!("[images]\ndisks_on = \"lvm\"\n{settings}"));
    site.start_agent("");
}

/// The group has its pool and the volume service's volumes, and nothing else; no file of a disk is left, nor a disk in the guest's definition.
#[track_caller]
fn assert_only_the_pool(site: &Site<'_, Node>, context: &str) {
    let left = site.machine.ok(
        "lvs --noheadings -o lv_name fast | tr -d ' ' | grep -v ^volume-; ls /var/lib/bowline-images/disks 2>/dev/null || :; virsh -q domblklist e1 --inactive",
    );
    assert_eq!(left, "pool", "{context}");
}

/// On a group `fast` with the thin pool `pool` and more than 2 GiB beside it.
pub fn guests_boot_from_logical_volumes(site: &Site<'_, Node>) {
    let node = site.machine;
    node.ok("cp /usr/share/bowline/bowlined-lvm.conf /run/systemd/system/bowlined.service.d/ && systemctl daemon-reload
             systemd-analyze security --threshold=30 bowlined.service >/run/exposure || { cat /run/exposure; false; }
             cp /srv/guest/disk.img /run/tiny.raw");
    upload(site, "tiny", "raw", "/run/tiny.raw");
    node.ok("printf marker-of-the-rescue-dis | dd of=/run/tiny.raw bs=1K seek=512 conv=notrunc status=none");
    upload(site, "doctor", "raw", "/run/tiny.raw");
    node.ok("rm /run/tiny.raw");
    let uuid = node.diskless_guest("e1");

    disks_on(site, "volume_group = \"nowhere\"");
    let refused = site.bowline("boot e1 --image tiny");
    assert!(refused.status != 0 && refused.stderr.contains("vgcreate nowhere"), "{refused:?}");
    let doctor = site.bowline("doctor").stdout;
    assert!(doctor.contains("vgcreate nowhere"), "{doctor}");
    disks_on(site, "volume_group = \"fast\"\nthin_pool = \"nowhere\"");
    let refused = site.bowline("boot e1 --image tiny");
    assert!(refused.status != 0 && refused.stderr.contains("--name nowhere fast"), "{refused:?}");
    assert_only_the_pool(site, "after refusals");

    a_linear_disk_shows_nothing_of_its_extents_former_owner(site, &uuid);
    a_thin_disk_lives_its_whole_life(site, &uuid);

    site.stop_agent();
    node.ok(&format!("rm {SETTINGS}; virsh -q undefine e1"));
    site.start_agent("");
}

fn a_linear_disk_shows_nothing_of_its_extents_former_owner(site: &Site<'_, Node>, uuid: &str) {
    let node = site.machine;
    let at = FORMERLY_AT.map(|mib| mib.to_string()).join(" ");
    let look = "lvcreate --quiet -Zn -Wn -L 1G -n look fast >/dev/null 2>&1";
    node.ok(&format!(
        "{look}; for at in {at}; do printf former-owner | dd of=/dev/fast/look bs=1M seek=$at conv=notrunc,fsync status=none; done
         lvremove --quiet --yes fast/look
         {look}; dd if=/dev/fast/look bs=1M skip=500 count=1 status=none | grep -q former-owner
         lvremove --quiet --yes fast/look"
    ));
    disks_on(site, "volume_group = \"fast\"");
    let lazy = site.bowline("boot e1 --image tiny --lazy");
    assert!(lazy.status != 0 && lazy.stderr.contains("leave --lazy out"), "{lazy:?}");
    site.bowline(
        "boot e1 --image tiny --size 1 --block-device source_type=blank,destination_type=local,volume_size=1024,guest_format=swap",
    )
    .ok();
    // The guest was started from them; what they hold is seen faster from here.
    let held = |disk: &str, at: u64, length: usize| {
        let device = format!("/dev/fast/bowline-{uuid}-{disk}");
        node.ok(&format!("dd if={device} iflag=skip_bytes,count_bytes skip={at} count={length} status=none | tr '\\0' 0"))
    };
    assert_eq!(held("vda", 512 << 10, MARKER.len()), MARKER);
    for mib in FORMERLY_AT {
        assert_eq!(held("vda", mib << 20, 12), "0".repeat(12), "at {mib} MiB");
    }
    assert_eq!(held("vdb", 4086, 10), "SWAPSPACE2");
    for disk in ["vda", "vdb"] {
        assert_eq!(node.ok(&format!("blockdev --getsize64 /dev/fast/bowline-{uuid}-{disk}")), (1 << 30).to_string());
    }
    site.bowline("delete e1").ok();
    assert_only_the_pool(site, "after a delete");
}

fn a_thin_disk_lives_its_whole_life(site: &Site<'_, Node>, uuid: &str) {
    let (node, clear) = (site.machine, ": >/run/guest-e1.log");
    disks_on(site, "volume_group = \"fast\"\nthin_pool = \"pool\"");
    // Somebody else's volume has the name: it is not touched.
    let theirs = format!("fast/bowline-{uuid}-vda");
    node.ok(&format!("lvcreate --quiet --type thin -V 4M --thinpool pool -n bowline-{uuid}-vda fast"));
    let refused = site.bowline("boot e1 --image tiny");
    assert!(refused.status != 0 && refused.stderr.contains("not Bowline's"), "{refused:?}");
    node.ok(&format!("lvremove --quiet --yes {theirs}"));
    assert_only_the_pool(site, "beside somebody else's volume");

    site.stop_agent();
    site.start_agent("StartGuest:started");
    site.bowline("boot e1 --image tiny --no-wait");
    node.ok("p=$(pgrep -x bowlined) || exit 0; timeout 60 tail --pid=$p -f /dev/null");
    assert!(!site.agent_runs());
    site.start_agent("");
    assert_only_the_pool(site, "after a kill");

    node.ok(clear);
    site.bowline("boot e1 --image tiny").ok();
    let guest = booted(site, "e1");
    guest.write("vda", PLACE, "written-by-the-guest");
    let tags = node.ok(&format!("lvs --noheadings -o lv_tags,pool_lv {theirs}"));
    assert_eq!(tags.split_whitespace().collect::<Vec<_>>(), ["bowline.ephemeral", "pool"]);
    let doctor = site.bowline("doctor").stdout;
    assert!(doctor.contains("thin pool fast/pool zeroes"), "{doctor}");
    left_volumes_are_told_and_taken_away(site, &theirs);
    site.bowline("snapshot e1 caught").ok();
    assert_eq!(node.ok("ls /var/lib/bowline-images/snapshots"), "");

    guest.write("vda", PLACE, "after-the-snapshot!!");
    site.bowline("stop e1").ok();
    site.bowline("rebuild e1 --image caught").ok();
    assert_eq!(node.ok("lvs --noheadings -o lv_name fast | grep -c bowline-"), "1", "the former root disk is gone");
    node.ok(clear);
    site.bowline("rescue e1 --image doctor").ok();
    let rescued = node.booted_guest("e1");
    assert_eq!(rescued.read("vda", PLACE, 20), "written-by-the-guest", "as it was caught");
    assert_eq!(rescued.read("vdb", 512 << 10, MARKER.len() + 1), "marker-of-the-rescue-dis");
    site.bowline("delete e1").ok();
    assert_only_the_pool(site, "at the end");
}

/// Volumes that no guest of the journal has: Bowline's own goes, active or not; one without its tag stays.
fn left_volumes_are_told_and_taken_away(site: &Site<'_, Node>, of_the_guest: &str) {
    let node = site.machine;
    let [ours, idle, plain] = ["vda", "vdb", "vdc"].map(|disk| format!("bowline-0d1f2e3c-4b5a-4678-9abc-def012345678-{disk}"));
    let make = "lvcreate --quiet --yes --type thin -V 4M --thinpool pool";
    node.ok(&format!(
        "for disk in {ours} {idle}; do {make} --addtag bowline.ephemeral -n $disk fast; done; lvchange --quiet -an fast/{idle}
         {make} -n {plain} fast"
    ));
    let told = site.bowline("fsck --repair");
    assert!(told.stdout.contains("has not their tag"), "{told:?}");
    let names = node.ok("lvs --noheadings -o lv_full_name fast | tr -d ' ' | grep bowline- | sort");
    let mut stay = [of_the_guest.to_owned(), format!("fast/{plain}")];
    stay.sort();
    assert_eq!(names.lines().collect::<Vec<_>>(), stay, "{told:?}");
    node.ok(&format!("lvremove --quiet --yes fast/{plain}"));
    let told = site.bowline("fsck").stdout;
    assert!(!told.contains("/dev/fast"), "{told}");
}
