//! The rig itself: what every other host test stands on.

use std::time::Duration;

use crate::common::{HostRig, Machine};

const TARGET: &str = "iqn.2026-01.org.bowline.test";

fn network_disk(volume: &str, secret: &str) -> String {
    format!(
        "<disk type='network' device='disk'>
           <driver name='qemu' type='raw' cache='none'/>
           <auth username='chapuser'><secret type='iscsi' uuid='{secret}'/></auth>
           <source protocol='iscsi' name='{TARGET}:{volume}/1'>
             <host name='127.0.0.1' port='3260'/><initiator><iqn name='{TARGET}:host'/></initiator>
           </source>
           <target dev='vdb' bus='virtio'/><serial>{volume}</serial>
         </disk>"
    )
}

#[test]
fn a_guest_reads_and_writes_a_network_disk() {
    let host = HostRig::start("network-disk");
    let guest = host.guest("g1");
    let file = host.ok("target-up vol1");
    host.ok(&format!("printf 'written-by-host!' | dd of={file} conv=notrunc status=none"));
    host.write(
        "/run/secret.xml",
        "<secret ephemeral='yes' private='yes'><usage type='iscsi'><target>t</target></usage></secret>",
    );
    host.ok("virsh -q secret-define /run/secret.xml");
    let secret = host.ok("virsh -q secret-list | awk '{print $1}'");
    host.ok(&format!("printf chappassword12 >/run/password && virsh secret-set-value {secret} --file /run/password --plain"));

    host.write("/run/disk.xml", &network_disk("vol1", &secret));
    host.ok("virsh attach-device g1 /run/disk.xml");
    let (disk, head) = guest.expect_disk("vol1", Duration::from_secs(60));
    assert_eq!(head, "written-by-host!");
    guest.write(&disk, 5000, "written by the guest");
    assert_eq!(host.ok(&format!("tail -c +5001 {file} | head -c 20")), "written by the guest");

    host.ok("virsh detach-device g1 /run/disk.xml");
    guest.expect_gone(&disk, Duration::from_secs(60));
    assert!(guest.say("ls").is_empty(), "the guest still has a disk");
}

#[test]
fn nothing_of_a_rig_outlives_it() {
    let host = HostRig::start("leftovers");
    host.guest("g1");
    // A process of the rig is seen from here by the mount namespace that it shares with no other.
    let namespace = host.ok("readlink /proc/1/ns/mnt");
    let in_namespace = || {
        std::fs::read_dir("/proc").unwrap().flatten().filter(|process| {
            std::fs::read_link(process.path().join("ns/mnt")).is_ok_and(|link| link.to_string_lossy() == namespace)
        })
    };
    assert!(in_namespace().count() > 3, "the rig's libvirtd, bus and QEMU should be seen from outside");
    // As long as this is open, no rig of another test gets the namespace's number.
    let _held = in_namespace().find_map(|process| std::fs::File::open(process.path().join("ns/mnt")).ok()).unwrap();
    drop(host);
    assert_eq!(in_namespace().count(), 0);
}

#[test]
fn a_command_that_does_not_end_is_killed() {
    let host = HostRig::start("limit");
    let output = host.exec_for("echo begun; sleep 1000 & wait", Duration::from_secs(5));
    assert_eq!((output.status, output.stdout.as_str()), (124, "begun"));
}
