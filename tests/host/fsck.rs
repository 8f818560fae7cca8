//! What somebody changes behind the agent's back on a real host, and what `bowline fsck` says of it.

use std::time::Duration;

use serde_json::Value;

use crate::common::{Guest, HostRig, Machine, Services, Site, service};

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

/// Takes a disk from the guest past the agent. virsh waits some seconds for a guest to let go, and no longer.
fn unplug(host: &HostRig, target: &str, sides: &str) {
    host.ok(&format!(
        "virsh -q detach-disk g1 {target} {sides}
         timeout 50 bash -c 'while virsh -q domblklist g1 | grep -qw {target}; do sleep 0.2; done'"
    ));
}

fn told(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(area, mending)| ((*area).to_owned(), (*mending).to_owned())).collect()
}

/// Attached by a person, by the service's own words: first refused, as long as it cannot be proved; then taken over, and detached as
/// if Bowline had attached it.
fn what_a_hand_attached_is_taken_over(site: &Site<'_, HostRig>, guest: &Guest<'_>) {
    let host = site.machine;
    let (volume, other) = (site.volume("by-hand", "by-a-hand"), site.volume("other", "other"));
    let uuid = host.ok("virsh domuuid g1");
    let secret = host.ok(
        "printf \"<secret ephemeral='yes' private='yes'><usage type='iscsi'><target>by-hand</target></usage></secret>\" >/run/h.xml
         virsh -q secret-define /run/h.xml >/dev/null; virsh -q secret-list | awk '/by-hand/ {print $1}'",
    );
    // As somebody's tool does it: reserve, tell who connects, plug in, complete.
    let plug = |volume: &str, serial: &str, target: &str| {
        let made = service::call(
            host,
            "POST",
            "/v3/attachments",
            &format!("{{\"attachment\":{{\"volume_uuid\":\"{volume}\",\"instance_uuid\":\"{uuid}\"}}}}"),
        );
        let id = made["attachment"]["id"].as_str().unwrap().to_owned();
        let connector = r#"{"attachment":{"connector":{"host":"h","ip":"127.0.0.1","initiator":"iqn.2026-01.org.bowline.test:host","platform":"x86_64","os_type":"linux","multipath":false}}}"#;
        let told = service::call(host, "PUT", &format!("/v3/attachments/{id}"), connector);
        let info = &told["attachment"]["connection_info"];
        let word = |key: &str| info[key].as_str().unwrap().to_owned();
        let (address, port) = word("target_portal").rsplit_once(':').map(|(a, p)| (a.to_owned(), p.to_owned())).unwrap();
        host.ok(&format!(
            "printf '%s' '{}' >/run/h.password && virsh -q secret-set-value {secret} --file /run/h.password --plain",
            word("auth_password")
        ));
        host.write(
            "/run/h-disk.xml",
            &format!(
                "<disk type='network' device='disk'><driver name='qemu' type='raw' cache='none'/>
                 <auth username='{}'><secret type='iscsi' uuid='{secret}'/></auth>
                 <source protocol='iscsi' name='{}/{}'><host name='{address}' port='{port}'/>
                 <initiator><iqn name='iqn.2026-01.org.bowline.test:host'/></initiator></source>
                 <target dev='{target}' bus='virtio'/><serial>{serial}</serial></disk>",
                word("auth_username"),
                word("target_iqn"),
                info["target_lun"]
            ),
        );
        host.ok("virsh -q attach-device g1 /run/h-disk.xml --live --config");
        service::call(host, "POST", &format!("/v3/attachments/{id}/action"), r#"{"os-complete":{}}"#);
        id
    };
    // A disk that says by its serial to be one volume, and leads to another.
    let id = plug(&other, &volume, "vdh");
    let (disk, _) = guest.expect_disk(&volume[..20], Duration::from_secs(90));
    let refused = site.bowline(&format!("adopt {volume} g1"));
    assert!(refused.status == 3 && refused.stderr.contains("no attachment"), "{refused:?}");
    unplug(host, "vdh", "--live --config");
    guest.expect_gone(&disk, Duration::from_secs(90));
    service::call(host, "DELETE", &format!("/v3/attachments/{id}"), "");

    plug(&volume, &volume, "vdi");
    let (disk, head) = guest.expect_disk(&volume[..20], Duration::from_secs(90));
    assert_eq!(head, "by-a-hand_______");
    assert_eq!(differences(site, "").0, told(&[("guest", "foreign")]), "before it is taken over");
    site.bowline(&format!("adopt {volume} g1")).ok();
    assert_eq!(site.bowline("fsck").ok(), "nothing differs");
    let listed = site.json("list");
    assert_eq!(
        (&listed["attachments"][0]["target"], &listed["attachments"][0]["volume"]),
        (&"vdi".into(), &volume.as_str().into())
    );
    assert_eq!(site.bowline(&format!("adopt {volume} g1")).status, 4, "it is Bowline's by now");
    guest.write(&disk, 5000, "after it was taken over");
    site.bowline(&format!("detach {volume}")).ok();
    guest.expect_gone(&disk, Duration::from_secs(90));
    host.ok(&format!("virsh -q secret-undefine {secret}"));
    site.assert_nothing_left("g1", &volume, "after a detach of what a hand attached");
}

#[test]
fn what_was_changed_behind_the_agents_back_is_found_and_what_is_safe_is_mended() {
    let host = HostRig::start("fsck");
    let site = Site::start(&host, Services::Processes, FRAGMENT);
    let guest = host.persistent_guest("g1");
    let volume = site.volume("data", "data-is-here");
    site.bowline(&format!("attach {volume} g1")).ok();
    let (disk, _) = guest.expect_disk(&volume[..20], Duration::from_secs(90));
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
    host.ok(&format!("test ! -L /run/bowline/volumes/{nobodys}"));
    unplug(&host, "vdy", "--live");

    // The disk is taken from the guest by another hand: nothing is taken away unasked, and a detach clears it.
    unplug(&host, "vdb", "--live --config");
    guest.expect_gone(&disk, Duration::from_secs(90));
    let (found, words) = differences(&site, "--repair");
    assert_eq!(found, told(&[("guest", "by-hand")]), "{words}");
    assert_eq!(site.status(&volume), "in-use");
    site.bowline(&format!("detach {volume}")).ok();
    assert_eq!(site.bowline("fsck").ok(), "nothing differs");
    site.assert_nothing_left("g1", &volume, "after a check");

    what_a_hand_attached_is_taken_over(&site, &guest);
    site.stop_agent();
    site.stop_service();
}
