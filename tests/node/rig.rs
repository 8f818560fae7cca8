//! The node itself: what every other node test stands on.

use std::time::Duration;

use crate::common::{Machine, Node};

const LOGIN: &str = "
    set -e
    target-up vol1
    modprobe iscsi_tcp
    systemctl start iscsid
    node='iscsiadm -m node -T iqn.2026-01.org.bowline.test:vol1 -p 127.0.0.1:3260'
    $node -o new
    $node -o update -n node.session.auth.authmethod -v CHAP
    $node -o update -n node.session.auth.username -v chapuser
    $node -o update -n node.session.auth.password -v chappassword12
    $node --login
    udevadm settle";

fn block_disk(bus: &str, target: &str, serial: &str) -> String {
    format!(
        "<disk type='block' device='disk'>
           <driver name='qemu' type='raw' cache='none' io='native'/>
           <source dev='/dev/disk/by-path/ip-127.0.0.1:3260-iscsi-iqn.2026-01.org.bowline.test:vol1-lun-1'/>
           <target dev='{target}' bus='{bus}'/><serial>{serial}</serial>
         </disk>"
    )
}

#[test]
fn a_guest_reads_and_writes_a_disk_of_the_kernels_initiator() {
    let node = Node::up("kernel-disk");
    assert_eq!(node.ok("systemctl --failed --plain --no-legend"), "", "units that failed at boot");
    let guest = node.guest("g1");
    node.ok(LOGIN);
    for (bus, target, offset) in [("virtio", "vdb", 5000), ("scsi", "sdb", 9000)] {
        node.write("/run/disk.xml", &block_disk(bus, target, &format!("on-{bus}")));
        node.ok("virsh attach-device g1 /run/disk.xml");
        let (disk, _) = guest.expect_disk(&format!("on-{bus}"), Duration::from_secs(60));
        let text = format!("by way of {bus}");
        guest.write(&disk, offset, &text);
        assert_eq!(guest.read(&disk, offset, text.len()), text.replace(' ', "."));
        node.ok("virsh detach-device g1 /run/disk.xml");
        guest.expect_gone(&disk, Duration::from_secs(60));
    }
    assert_eq!(node.ok("tail -c +5001 /run/target/vol1.img | head -c 16"), "by way of virtio");
    assert_eq!(node.ok("tail -c +9001 /run/target/vol1.img | head -c 14"), "by way of scsi");
}

#[test]
fn a_power_cut_takes_what_was_not_synced() {
    let mut node = Node::up("power-cut");
    node.ok("echo kept >/root/kept && sync && echo lost >/root/lost");
    node.kill();
    node.up_again();
    assert_eq!(node.ok("cat /root/kept"), "kept");
    assert_ne!(node.exec("test -s /root/lost").status, 0, "written without sync, and there after a power cut");
}

#[test]
fn a_command_that_does_not_end_is_killed() {
    let node = Node::up("limit");
    let output = node.exec_for("echo begun; sleep 1000", Duration::from_secs(5));
    assert_eq!((output.status, output.stdout.as_str()), (124, "begun"));
    assert_eq!(node.exec("pgrep -x sleep").status, 1, "what it had started still runs");
}
