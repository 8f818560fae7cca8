//! What others hold of an image: another host that has it open, one that died with it, a lock taken by hand, and this host itself on
//! the cluster's blocklist. The other host is a network namespace of the node.

use std::time::Duration;

use super::rbd::{Ceph, VOLUME};
use crate::common::{Machine, Node};

/// Runs a command of Ceph's as the other host.
const THERE: &str = "ip netns exec other";

#[test]
fn what_others_hold_of_an_image_is_found_and_explained() {
    let node = Node::with_bowline("rbd-holders");
    node.ok("ip netns add other && ip link add here type veth peer name there && ip link set there netns other
        ip addr add 10.9.0.1/24 dev here && ip link set here up
        ip netns exec other ip addr add 10.9.0.2/24 dev there && ip netns exec other ip link set there up");
    let ceph = Ceph::start(&node, "10.9.0.1");
    let image = format!("volumes/volume-{VOLUME}");
    ceph.image(&image, "made-on-the-side");
    ceph.told("'hosts=[\"10.9.0.1\"]' \"keyring=$(cat /root/cinder.key)\"", VOLUME, 1);
    let refused = |status: i32, words: &[&str]| {
        let output = ceph.site.bowline(&format!("attach {VOLUME} g1"));
        assert_eq!(output.status, status, "{output:?}");
        for word in words {
            assert!(output.stderr.contains(word), "{word}: {output:?}");
        }
        assert_eq!(ceph.guest.say("ls"), "", "{words:?}: the guest has a disk");
    };

    // A lock that somebody took by hand.
    node.ok(&format!("rbd lock add {image} fence"));
    refused(4, &["rbd lock rm", "\"fence\"", "client."]);
    node.ok(&format!("rbd lock rm {image} fence $(rbd lock ls --format json {image} | jq -r '.[0].locker')"));
    ceph.assert_nothing_left(VOLUME, &image, "after a lock by hand");

    // Open, and written to, on another host.
    node.ok(&format!(
        "setsid {THERE} rbd bench --io-type write --io-total 100G --io-size 4096 --io-threads 1 {image} >/run/bench.log 2>&1 </dev/null & echo $! >/run/bench.pid
         timeout 60 bash -c 'until rbd lock ls --format json {image} | grep -q auto; do sleep 0.5; done'"
    ));
    refused(4, &["open on another host", "10.9.0.2"]);
    // That host dies: its watch ends by itself, and its lock stays.
    node.ok("kill -9 $(cat /run/bench.pid); ip netns exec other ip link set there down");
    refused(4, &["10.9.0.2"]);
    let forgotten = format!("while rbd status --format json {image} | grep -q address; do sleep 1; done");
    node.exec_for(&forgotten, Duration::from_secs(120)).ok();
    node.ok(&format!("rbd lock ls --format json {image} | grep -q auto"));
    let (_, disk, _) = ceph.attach(VOLUME);
    ceph.guest.write(&disk, 5000, "the lock was handed on");
    assert_eq!(ceph.bytes(&image, 5000, 22), "the lock was handed on");
    let log = node.ok("journalctl --sync; journalctl -b -u bowlined --no-pager -o cat");
    assert!(log.contains("lock is left") && log.contains("10.9.0.2"), "{log}");
    ceph.detach(VOLUME, &disk);
    ceph.assert_nothing_left(VOLUME, &image, "after a host that died");

    // Fenced itself.
    node.ok("ceph osd blocklist add 10.9.0.1");
    refused(5, &["blocklist", "10.9.0.1"]);
    node.ok("ceph osd blocklist rm 10.9.0.1");
    ceph.assert_nothing_left(VOLUME, &image, "after a fencing");
}
