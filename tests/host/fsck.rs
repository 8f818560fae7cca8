//! What somebody changes behind the agent's back on a real host, and what `bowline fsck` says of it.

use std::time::Duration;

use serde_json::Value;

use crate::common::{HostRig, Machine, Services, Site};

const FRAGMENT: &str = "[iscsi]\ninitiator = \"qemu\"\n[libvirt]\ndetach_timeout_s = 60";

/// The differences, as area and mending, with all their words.
#[track_caller]
fn differences(site: &Site<'_, HostRig>, arguments: &str) -> (Vec<(String, String)>, String) {
    let output = site.bowline(&format!("--json fsck {arguments}"));
    let document: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let all = document["differences"].as_array().unwrap();
    let word = |found: &Value, key: &str| found[key].as_str().unwrap().to_owned();
    let settled = all.iter().all(|found| ["done", "foreign"].contains(&word(found, "mending").as_str()));
    assert_eq!(output.status, i32::from(!settled), "{output:?}");
    (all.iter().map(|found| (word(found, "area"), word(found, "mending"))).collect(), document.to_string())
}

fn told(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(area, mending)| ((*area).to_owned(), (*mending).to_owned())).collect()
}

#[test]
fn what_was_changed_behind_the_agents_back_is_found_and_what_is_safe_is_mended() {
    let host = HostRig::start("fsck");
    let site = Site::start(&host, Services::Processes, FRAGMENT);
    let guest = host.persistent_guest("g1");
    let volume = site.volume("data", "data-is-here");
    site.bowline(&format!("attach {volume} g1")).ok();
    let (disk, _) = guest.expect_disk(&volume[..20], Duration::from_secs(30));
    assert_eq!(site.bowline("fsck").ok(), "nothing differs");

    // What an agent of before may have left, and what somebody else has plugged in.
    let nobodys = "0d1f2e3c-4b5a-4678-9abc-def012345678";
    host.ok(&format!(
        "mkdir -p /run/bowline/volumes && ln -s /dev/gone-for-good /run/bowline/volumes/{nobodys}
         printf \"<secret ephemeral='yes' private='yes'><usage type='iscsi'><target>bowline volume x</target></usage></secret>\" >/run/s.xml
         virsh -q secret-define /run/s.xml
         truncate -s 1M /run/theirs.img && chmod 666 /run/theirs.img
         virsh -q attach-disk g1 /run/theirs.img vdy --live --serial {nobodys}"
    ));
    let (found, words) = differences(&site, "");
    assert_eq!(found, told(&[("host", "possible"), ("guest", "foreign"), ("libvirt", "possible")]), "{words}");
    assert!(words.contains(nobodys) && words.contains("vdy"), "{words}");
    let (found, words) = differences(&site, "--repair");
    assert_eq!(found, told(&[("host", "done"), ("guest", "foreign"), ("libvirt", "done")]), "{words}");
    assert_eq!(differences(&site, "").0, told(&[("guest", "foreign")]));
    host.ok(&format!("test ! -L /run/bowline/volumes/{nobodys} && virsh -q detach-disk g1 vdy --live"));

    // The disk is taken from the guest by another hand: nothing is taken away unasked, and a detach clears it.
    host.ok("virsh -q detach-disk g1 vdb --live --config");
    guest.expect_gone(&disk, Duration::from_secs(30));
    let (found, words) = differences(&site, "--repair");
    assert_eq!(found, told(&[("guest", "by-hand")]), "{words}");
    assert_eq!(site.status(&volume), "in-use");
    site.bowline(&format!("detach {volume}")).ok();
    assert_eq!(site.bowline("fsck").ok(), "nothing differs");
    site.assert_nothing_left("g1", &volume, "after a check");
    site.stop_agent();
    site.stop_service();
}
