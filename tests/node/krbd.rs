//! RBD images that the node's kernel maps: the right one, and nothing of it left.

use std::time::Duration;

use super::rbd::{Ceph, SOON, VOLUME};
use crate::common::{Machine, Node, Site};

const FRAGMENT: &str = "/etc/bowline/bowlined.d/20-test.toml";

/// What is mapped, one `POOL/NAMESPACE/IMAGE` a line.
fn mapped(node: &Node) -> String {
    node.ok(
        "for d in /sys/bus/rbd/devices/*; do [ ! -e $d ] || echo $(cat $d/pool)/$(cat $d/pool_ns)/$(cat $d/name); done | sort",
    )
}

fn restarted_at(site: &Site<'_, Node>, crash_at: &str) {
    site.stop_agent();
    site.start_agent(crash_at);
}

#[test]
fn the_kernel_maps_the_very_image_and_unmaps_it_and_no_namesake() {
    let node = Node::with_bowline("krbd");
    let ceph = Ceph::start(&node, "127.0.0.1");
    node.write(
        FRAGMENT,
        "[rbd]\nclient = \"kernel\"\nmap_timeout_s = 10\nmap_options = \"queue_depth=64\"\n[health]\ninterval_s = 5",
    );
    let site = &ceph.site;
    let (image, name) = (format!("volumes/volume-{VOLUME}"), format!("volume-{VOLUME}"));
    node.ok("rbd namespace create volumes/ns");
    for (place, text) in [(&image, "made-on-the-side"), (&format!("others/{name}"), "namesake in pool")] {
        ceph.image(place, text);
    }
    ceph.image(&format!("volumes/ns/{name}"), "in-the-namespace");

    // The operator has mapped both namesakes, before Bowline maps its own and for as long.
    node.ok(&format!("modprobe rbd && rbd map others/{name} && rbd map volumes/ns/{name}"));
    let theirs = mapped(&node);
    assert_eq!(theirs, format!("others//{name}\nvolumes/ns/{name}"));
    ceph.told("\"keyring=$(cat /root/cinder.key)\"", VOLUME, 1);
    let (attached, disk, head) = ceph.attach(VOLUME);
    assert_eq!(head, "made-on-the-side");
    assert_eq!(attached["attachment"]["serial"], ceph.id(&image), "the identity that was proved: {attached}");
    let source = node.ok("virsh -q domblklist g1 | awk '{print $2}'");
    assert_eq!(source, format!("/run/bowline/volumes/{VOLUME}"));
    ceph.guest.write(&disk, 5000, "written by the guest");
    assert_eq!(ceph.bytes(&image, 5000, 20), "written by the guest");
    ceph.expect_health("healthy");
    node.ok("p=$(pgrep -x ceph-mon); kill $p; timeout 30 tail --pid=$p -f /dev/null");
    ceph.expect_health("lost");
    node.ok("ceph-mon -i a");
    ceph.expect_health("healthy");
    for place in ["cat /sys/bus/rbd/devices/*/config_info", "journalctl -b --no-pager -a -o json", "cat /var/lib/bowline/*"] {
        assert_eq!(node.exec(&format!("{place} | grep -caFf /root/cinder.key")).stdout, "0", "the key stands in: {place}");
    }
    ceph.detach(VOLUME, &disk);
    ceph.assert_nothing_left(VOLUME, &image, "after a detach");
    assert_eq!(mapped(&node), theirs);

    // Somebody else's mapping of the image itself is neither taken nor unmapped.
    node.ok(&format!("rbd map {image}"));
    let output = site.bowline(&format!("attach {VOLUME} g1"));
    assert!(output.status == 4 && output.stderr.contains("mapped as /dev/rbd"), "{output:?}");
    assert_eq!(mapped(&node).lines().count(), 3);
    node.ok(&format!("rbd unmap {image}"));
    ceph.assert_nothing_left(VOLUME, &image, "after a refusal");

    // Killed at each boundary, and between the mapping and its name.
    for at in ["ConnectVolume:started", "ConnectVolume:succeeded", "VerifyDevice:succeeded", "AttachDisk:started"] {
        restarted_at(site, at);
        site.bowline(&format!("attach {VOLUME} g1 --no-wait"));
        site.assert_agent_dies("killed in the middle");
        site.start_agent("");
        ceph.assert_nothing_left(VOLUME, &image, at);
        assert_eq!(mapped(&node), theirs, "{at}");
    }
    restarted_at(site, "");
    node.ok("mv /usr/bin/rbd /usr/bin/rbd.real");
    node.write("/usr/bin/rbd", "#!/bin/bash\nrbd.real \"$@\"\nstatus=$?\ncase \" $* \" in *' map '*) kill -9 $(pgrep -x bowlined);; esac\nexit $status");
    node.ok("chmod +x /usr/bin/rbd");
    site.bowline(&format!("attach {VOLUME} g1 --no-wait"));
    site.assert_agent_dies("killed in the middle");
    assert_eq!(mapped(&node).lines().count(), 3, "mapped by an agent that is gone");
    node.ok("mv /usr/bin/rbd.real /usr/bin/rbd");
    site.start_agent("");
    ceph.assert_nothing_left(VOLUME, &image, "killed once it was mapped");
    assert_eq!(mapped(&node), theirs, "killed once it was mapped");

    // Held open by somebody: the guest has let go, the mapping stays until it can go.
    let (_, disk, _) = ceph.attach(VOLUME);
    node.ok(&format!("setsid sleep 300 </run/bowline/volumes/{VOLUME} >/dev/null 2>&1 & echo $! >/run/holder"));
    site.bowline(&format!("detach {VOLUME} g1 --no-wait")).ok();
    ceph.guest.expect_gone(&disk, SOON);
    node.ok("timeout 60 bash -c 'until bowline --json operations | grep -q \"in use\"; do sleep 0.3; done'");
    assert_eq!(mapped(&node).lines().count(), 3, "unmapped under somebody");
    node.ok("kill $(cat /run/holder)");
    // It is tried again by itself, ever more seldom, and at once by an agent that starts.
    restarted_at(site, "");
    let listed = "timeout 60 bash -c 'until bowline --json list | jq -e \".attachments == []\"; do sleep 0.5; done'";
    node.exec_for(listed, Duration::from_secs(70)).ok();
    ceph.assert_nothing_left(VOLUME, &image, "after somebody held it");
    assert_eq!(mapped(&node), theirs);

    // In a namespace, which libvirt could not name.
    node.ok(&format!("rbd unmap volumes/ns/{name}"));
    ceph.told("\"keyring=$(cat /root/cinder.key)\" name=volumes/ns/{}", VOLUME, 1);
    let (_, disk, head) = ceph.attach(VOLUME);
    assert_eq!(head, "in-the-namespace");
    ceph.extend(VOLUME, &format!("volumes/ns/{name}"), &disk, 2);
    ceph.detach(VOLUME, &disk);
    ceph.assert_nothing_left(VOLUME, &format!("volumes/ns/{name}"), "after a namespace");
    assert_eq!(mapped(&node), format!("others//{name}"));
}

/// An image that was made anew under its name while its guest was off is another one.
#[test]
fn an_image_made_anew_is_not_given_to_the_guest_that_had_the_old_one() {
    let node = Node::with_bowline("krbd-anew");
    let ceph = Ceph::start(&node, "::1");
    node.write(FRAGMENT, "[rbd]\nclient = \"kernel\"");
    let image = format!("volumes/volume-{VOLUME}");
    ceph.image(&image, "made-on-the-side");
    ceph.told("'hosts=[\"[::1]\"]' \"keyring=$(cat /root/cinder.key)\"", VOLUME, 1);
    ceph.attach(VOLUME);
    ceph.site.stop_agent();
    // Unmapped by somebody, who maps another image in its place.
    ceph.image("others/theirs", "theirs");
    node.ok(&format!("virsh -q destroy g1 && rbd unmap {image} && rbd map others/theirs"));
    ceph.site.start_agent("");
    assert!(mapped(&node).contains(VOLUME), "the same image is mapped again");
    assert!(mapped(&node).contains("others//theirs") && ceph.bytes("others/theirs", 0, 6) == "theirs");
    let name = node.ok(&format!("cat /sys/block/$(basename $(readlink /run/bowline/volumes/{VOLUME}))/device/name"));
    assert_eq!(name, format!("volume-{VOLUME}"), "its name leads to the other");
    ceph.site.stop_agent();
    // As after a reboot: nothing is mapped and no own name is there.
    node.ok(&format!("rbd unmap others/theirs && rbd unmap {image} && rm -r /run/bowline/volumes /run/bowline/claims && rbd rm --no-progress {image}"));
    ceph.image(&image, "somebody else's!");
    ceph.site.start_agent("");
    assert_eq!(mapped(&node), "", "another image was kept mapped");
    let output = node.exec("virsh start g1");
    assert!(output.status != 0 && output.stderr.contains(VOLUME), "the guest starts with another image: {output:?}");
    assert!(
        node.ok("journalctl --sync; journalctl -b -u bowlined --no-pager -o verbose").contains("was recorded as"),
        "it is told"
    );

    // QEMU's own client would find the image by its name: the guest gets no key for another one.
    ceph.site.bowline(&format!("detach {VOLUME} g1")).ok();
    ceph.assert_nothing_left(VOLUME, &image, "after another image");
    ceph.site.stop_agent();
    node.ok(&format!("rm {FRAGMENT}"));
    ceph.site.start_agent("");
    ceph.site.bowline(&format!("attach {VOLUME} g1")).ok();
    ceph.site.stop_agent();
    node.ok(&format!("rbd rm --no-progress {image}"));
    ceph.image(&image, "made-on-the-side");
    ceph.site.start_agent("");
    let output = node.exec("virsh start g1");
    assert!(output.status != 0 && output.stderr.contains("ecret"), "the guest starts with another image: {output:?}");
}
