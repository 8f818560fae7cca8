//! Ephemeral disks on RBD, on a Ceph cluster of this machine itself: guests boot from them by QEMU's own client, and their whole life leaves
//! the pool and libvirt's secrets as they were.

use std::time::Duration;

use crate::common::boots::{PLACE, booted, upload};
use crate::common::{HostRig, Machine, Services, Site};

const SETTINGS: &str = "/etc/bowline/bowlined.d/30-ephemeral.toml";

/// The agent makes disks so from here on.
fn disks_on(site: &Site<'_, HostRig>, images: &str, keyring: &str) {
    site.stop_agent();
    let rbd = format!("[rbd]\nuser = \"cinder\"\nkeyring_file = \"{keyring}\"");
    site.machine.write(SETTINGS, &format!("[images]\ndisks_on = \"rbd\"\n{images}\n{rbd}"));
    site.start_agent("");
}

/// What is left in the pool, of libvirt's secrets, of files of disks, and in the guest's definition.
fn left(host: &HostRig) -> String {
    host.ok("rbd ls others | sed 's/^/image: /'
         virsh -q secret-list | sed 's/^/secret: /'
         ls /var/lib/bowline-images/disks /var/lib/bowline-images/snapshots 2>/dev/null | grep -v :$ | sed '/^$/d; s/^/file: /' || :
         virsh -q domblklist e1 --inactive | sed 's/^/disk: /'")
}

#[test]
fn guests_boot_from_ephemeral_disks_on_rbd_and_nothing_is_left() {
    let host = HostRig::start("ephemeral-rbd");
    host.exec_for("KEYS=/run/target ceph-up", Duration::from_secs(120)).ok();
    host.ok("cp ${BOWLINE_GUEST:-/srv/guest}/disk.img /run/tiny.raw && sed 's/client.cinder/client.nova/' /run/target/cinder.keyring >/run/target/other.keyring");
    let site = Site::start(&host, Services::Processes, "[iscsi]\ninitiator = \"qemu\"");
    upload(&site, "tiny", "raw", "/run/tiny.raw");
    let uuid = host.diskless_guest("e1");

    what_cannot_be_used_is_told(&site, &uuid);
    disks_on(&site, "rbd_pool = \"others\"", "/run/target/cinder.keyring");
    let examined = site.bowline("doctor");
    assert!(examined.stdout.contains("an image can be made there"), "{examined:?}");
    assert_eq!(left(&host), "", "after an examination");
    a_boot_that_is_killed_is_undone(&site);
    a_disk_lives_its_whole_life(&site, &uuid);
    site.stop_agent();
}

fn what_cannot_be_used_is_told(site: &Site<'_, HostRig>, uuid: &str) {
    let keyring = "/run/target/cinder.keyring";
    let theirs = format!("others/bowline-{uuid}-vda");
    let refused = |command: &str, words: &str| {
        let refused = site.bowline(command);
        assert!(refused.status != 0 && refused.stderr.contains(words), "{words}: {refused:?}");
    };
    disks_on(site, "rbd_pool = \"nowhere\"", keyring);
    refused("boot e1 --image tiny", "ceph osd pool create nowhere");
    disks_on(site, "rbd_pool = \"others/ns\"", keyring);
    refused("boot e1 --image tiny", "rbd namespace create others/ns");
    site.machine.ok("rbd namespace create others/ns");
    refused("boot e1 --image tiny", "a pool without namespaces");
    site.machine.ok("[ -z \"$(rbd ls others/ns)\" ] && rbd namespace remove others/ns");
    disks_on(site, "rbd_pool = \"others\"", "/run/target/other.keyring");
    refused("boot e1 --image tiny", "holds no key for client.cinder");
    disks_on(site, "rbd_pool = \"others\"", keyring);
    refused("boot e1 --image tiny --lazy", "leave --lazy out");
    site.machine.ok(&format!("rbd create --size 4M {theirs}"));
    refused("boot e1 --image tiny", "not Bowline's");
    site.machine.ok(&format!("rbd rm --no-progress {theirs}"));
    assert_eq!(left(site.machine), "", "after refusals");
}

/// Killed when the disks are made, and nothing has been journalled of them.
fn a_boot_that_is_killed_is_undone(site: &Site<'_, HostRig>) {
    site.stop_agent();
    site.start_agent("MakeDisks:succeeded");
    site.bowline("boot e1 --image tiny --no-wait");
    site.assert_agent_dies("a boot");
    assert!(left(site.machine).starts_with("image: "), "nothing was made before the kill");
    site.start_agent("");
    let over = "until bowline operations --json | jq -e '.operations == []' >/dev/null; do sleep 0.3; done";
    site.machine.exec_for(over, Duration::from_secs(120)).ok();
    assert_eq!(left(site.machine), "", "after a kill");
}

fn a_disk_lives_its_whole_life(site: &Site<'_, HostRig>, uuid: &str) {
    let (host, clear) = (site.machine, ": >/run/guest-e1.log");
    host.ok(clear);
    let blank = |size, format| {
        format!("--block-device source_type=blank,destination_type=local,volume_size={size},guest_format={format}")
    };
    site.bowline(&format!("boot e1 --image tiny --size 1 {} {}", blank(1024, "swap"), blank(1, "ext4"))).ok();
    let guest = booted(site, "e1");
    assert_eq!(guest.read("vdb", 4086, 10), "SWAPSPACE2");
    let images = format!("for disk in vda vdb vdc; do rbd info --format json others/bowline-{uuid}-$disk | jq .size; done");
    assert_eq!(host.ok(&images), [(1_u64 << 30).to_string(), (1_u64 << 30).to_string(), (1_u64 << 30).to_string()].join("\n"));
    host.ok(&format!("rbd export --no-progress others/bowline-{uuid}-vdc /run/flat"));
    assert_eq!(host.ok("blkid -o value -s TYPE /run/flat; rm /run/flat"), "ext4");
    guest.write("vda", PLACE, "written-by-the-guest");
    site.bowline("snapshot e1 caught").ok();

    // What libvirt had in its memory alone is gone, as after a reboot of the host.
    guest.write("vda", PLACE, "after-the-snapshot!!");
    site.bowline("stop e1 --force").ok();
    site.bowline("snapshot e1 caught-off").ok();
    host.ok(&format!(
        "for secret in $(virsh -q secret-list | cut -d ' ' -f 2); do virsh -q secret-undefine $secret; done; {clear}"
    ));
    site.bowline("start e1").ok();
    assert_eq!(booted(site, "e1").read("vda", PLACE, 20), "after-the-snapshot!!");
    no_key_is_to_be_seen(host);

    site.bowline("stop e1 --force").ok();
    site.bowline("rebuild e1 --image caught-off").ok();
    assert_eq!(host.ok("rbd ls others | grep -c vd"), "3", "the former root disk is gone");
    host.ok(clear);
    site.bowline("rescue e1 --image caught").ok();
    let rescued = host.booted_guest("e1");
    assert_eq!(rescued.read("vda", PLACE, 20), "after-the-snapshot!!", "as it was caught when the guest was off");
    assert_eq!(rescued.read("vdd", PLACE, 20), "written-by-the-guest", "as it was caught when the guest ran");
    site.bowline("delete e1").ok();
    assert_eq!(left(host), "", "at the end");
}

/// Each place is one where it would be seen.
fn no_key_is_to_be_seen(host: &HostRig) {
    let places = [
        ("cat /run/bowlined.log", "ready:"),
        ("cat /var/lib/bowline/journal.redb", "bowline-"),
        ("virsh dumpxml --security-info e1", "cinder"),
        ("cat /proc/[0-9]*/cmdline", "qemu"),
    ];
    for (read, known) in places {
        let count = |word: &str| {
            host.ok(&format!("{read} >/run/place 2>/dev/null; grep -caF -e \"{word}\" /run/place || :")).parse::<u32>().unwrap()
        };
        assert_ne!(count(known), 0, "{read} does not even hold {known}");
        assert_eq!(count("$(cat /run/target/cinder.key)"), 0, "the key stands in {read}");
    }
}
