//! What is attached is looked after: what the bus tells when storage goes and comes back, and nothing waits a fixed time for it.

use std::time::Duration;

use crate::common::{Machine, Node, Services, Site};

const SOON: Duration = Duration::from_secs(30);

/// Looks are so far apart that what comes sooner came by an event.
const SLOW: &str = "[iscsi]\ninitiator = \"kernel\"\n[health]\ninterval_s = 600";

/// From now on, every signal of the agent is kept.
fn listen(node: &Node) {
    node.ok("rm -f /run/told; dbus-monitor --system \"type='signal',path_namespace='/org/bowline'\" >/run/told 2>&1 &
        wait-for-line /run/told 'NameLost|NameAcquired'");
}

/// Waits until a signal has told this word for an attachment's health.
#[track_caller]
fn told(node: &Node, state: &str, limit_s: u64) {
    node.exec_for(&format!("wait-for-line /run/told 'string \"{state}\"' {limit_s}"), Duration::from_secs(limit_s + 10)).ok();
}

fn health(site: &Site<'_, Node>, volume: &str) -> serde_json::Value {
    let listed = site.json("list");
    let all = listed["attachments"].as_array().unwrap();
    all.iter().find(|attachment| attachment["volume"] == volume).unwrap()["health"].clone()
}

#[test]
fn a_target_that_falls_silent_or_dies_is_told_and_its_return_too() {
    let node = Node::with_bowline("health-iscsi");
    let site = Site::start(&node, Services::Systemd, SLOW);
    let guest = node.persistent_guest("g1");
    let volume = site.volume("watched", "x");
    listen(&node);
    site.bowline(&format!("attach {volume} g1")).ok();
    told(&node, "healthy", 30);
    assert_eq!(health(&site, &volume)["faults"].as_array().map(Vec::len), Some(0));

    // Silent, as behind a cut cable: the initiator's own pings find out.
    listen(&node);
    node.ok("kill -STOP $(pgrep -x tgtd)");
    told(&node, "lost", 60);
    let lost = health(&site, &volume);
    assert_eq!(lost["state"], "lost");
    assert!(lost["faults"][0]["part"].as_str().unwrap().contains("127.0.0.1:3260"), "{lost}");
    assert!(lost["since"].as_str().is_some_and(|since| since.starts_with("20")), "{lost}");
    let list = site.bowline("list").ok();
    assert!(list.contains("lost"), "{list}");
    assert!(node.ok("journalctl -q -u bowlined").contains("its storage is lost"));
    listen(&node);
    node.ok("kill -CONT $(pgrep -x tgtd)");
    told(&node, "healthy", 60);

    // Dead: the connection is reset, which the kernel tells at once.
    listen(&node);
    let begun = std::time::Instant::now();
    node.ok("kill -9 $(pgrep -x tgtd)");
    told(&node, "lost", 20);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    listen(&node);
    site.stop_service();
    site.start_service();
    told(&node, "healthy", 90);
    let (disk, _) = guest.expect_disk(&volume[..20], SOON);
    guest.write(&disk, 5000, "still here");
    site.bowline(&format!("detach {volume}")).ok();
    site.assert_nothing_left("g1", &volume, "after its target came back");
}
