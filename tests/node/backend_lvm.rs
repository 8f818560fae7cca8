//! The volume service on an LVM thin pool, shown by the kernel's own targets and by tgtd; the kernel is the initiator.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::cuts::{self, Storage};
use crate::common::{Guest, Machine, Node, Site, growth};
use crate::ephemeral_lvm::guests_boot_from_logical_volumes;

const SOON: Duration = Duration::from_secs(60);

const FRAGMENT: &str = "[iscsi]\ninitiator = \"kernel\"\ndevice_timeout_s = 5\nlogin_timeout_s = 5\n[libvirt]\n\
                        detach_timeout_s = 90\n[health]\ninterval_s = 5";

/// The group's disk is there after a power cut, but not its device.
const DISK: &str = "modprobe loop && losetup --find --show /srv/group.img";

/// A node whose service keeps its volumes in the thin pool `fast/pool` of 448 MiB, beside which there is room for more, by the drop-in that is installed for it.
fn node_with_pool(name: &str, target: &str) -> Node {
    let node = Node::with_bowline(name);
    node.ok(&format!(
        "truncate -s 3G /srv/group.img && disk=$({DISK}) && vgcreate --quiet --setautoactivation n fast $disk &&
         lvcreate --quiet --type thin-pool --size 448M --name pool fast 2>&1
         mkdir -p /etc/systemd/system/bowline-backend.service.d
         cp /usr/share/bowline/bowline-backend-kernel-storage.conf /etc/systemd/system/bowline-backend.service.d/
         systemctl daemon-reload"
    ));
    settings(&node, target, "pool");
    node
}

fn settings(node: &Node, target: &str, pool: &str) {
    let text = format!(
        "[targets]\nkind = \"{target}\"\n[backends.fast]\ndriver = \"lvm\"\n[backends.fast.lvm]\nvolume_group = \"fast\"\n\
         thin_pool = \"{pool}\""
    );
    node.write("/etc/bowline/backend.toml", &text);
}

/// Asks the service, past the agent.
fn ask(node: &Node, method: &str, path: &str, body: Value) -> Value {
    let said = node.ok(&format!(
        "curl -sS --fail-with-body -X {method} -H \"X-Auth-Token: $(cat /var/lib/bowline-backend/token)\" \
         -H 'Content-Type: application/json' -H 'OpenStack-API-Version: volume 3.59' -d '{body}' http://127.0.0.1:8776/v3{path}"
    ));
    serde_json::from_str(&said).unwrap_or(Value::Null)
}

/// Makes something, waits until it is what it should be, and gives its id.
fn make(node: &Node, path: &str, kind: &str, body: Value) -> String {
    let id = ask(node, "POST", path, json!({ kind: body }))[kind]["id"].as_str().expect("an id").to_owned();
    wait_for(node, &format!("{path}/{id}"), kind, "available");
    id
}

fn wait_for(node: &Node, path: &str, kind: &str, status: &str) {
    for _ in 0..600 {
        let said = ask(node, "GET", path, json!({}));
        match said[kind]["status"].as_str() {
            Some(found) if found == status => return,
            Some(found) if found.starts_with("error") => panic!("{path} is {found}"),
            _ => std::thread::sleep(Duration::from_millis(200)),
        }
    }
    panic!("{path} is not {status}: {}", ask(node, "GET", path, json!({})));
}

fn attach(site: &Site<'_, Node>, guest: &Guest<'_>, volume: &str) -> String {
    let attached = site.json(&format!("attach {volume} {}", guest.name()));
    assert_eq!(attached["attachment"]["serial"], volume.replace('-', ""), "the identity that was proved: {attached}");
    guest.expect_disk(&volume[..20], SOON).0
}

fn detach(site: &Site<'_, Node>, guest: &Guest<'_>, volume: &str, disk: &str) {
    site.bowline(&format!("detach {volume}")).ok();
    guest.expect_gone(disk, SOON);
}

/// A guest reads this of a volume.
fn holds(site: &Site<'_, Node>, guest: &Guest<'_>, volume: &str, text: &str) {
    let disk = attach(site, guest, volume);
    assert_eq!(guest.read(&disk, 5000, text.len()), text);
    detach(site, guest, volume, &disk);
}

#[test]
fn a_thin_volume_and_its_snapshots_live_behind_the_kernels_target() {
    let node = node_with_pool("lvm-lio", "lio");
    let site = Site::start_with_volumes_in(&node, "/dev/fast", true, FRAGMENT);
    let guest = node.persistent_guest("g1");

    let volume = make(&node, "/volumes", "volume", json!({"size": 1, "name": "data"}));
    let disk = attach(&site, &guest, &volume);
    guest.write(&disk, 5000, "before");
    let snapshot = make(&node, "/snapshots", "snapshot", json!({"volume_id": volume, "force": true}));

    // The service dies; what the kernel shows goes on being there, and the service takes it up again.
    node.ok("systemctl kill --signal=KILL --kill-who=main bowline-backend");
    guest.write(&disk, 5000, "after-");
    node.ok("until curl -sS http://127.0.0.1:8776/ >/dev/null 2>&1; do sleep 0.2; done");
    assert_eq!(guest.read(&disk, 5000, 6), "after-");
    let copy = make(&node, "/volumes", "volume", json!({"size": 1, "source_volid": volume}));
    let larger = make(&node, "/volumes", "volume", json!({"size": 2, "snapshot_id": snapshot}));
    detach(&site, &guest, &volume, &disk);
    site.assert_nothing_left("g1", &volume, "after a detach");

    holds(&site, &guest, &copy, "after-");
    holds(&site, &guest, &larger, "before");
    ask(&node, "POST", &format!("/volumes/{volume}/action"), json!({"revert": {"snapshot_id": snapshot}}));
    wait_for(&node, &format!("/volumes/{volume}"), "volume", "available");
    holds(&site, &guest, &volume, "before");
    growth::a_volume_grows_under_its_guest(&site, &guest, "virtio");

    // Somebody else's volume has the name of one of ours: it stays.
    node.ok(&format!("lvchange --quiet --deltag bowline.volume fast/volume-{copy}"));
    ask(&node, "DELETE", &format!("/volumes/{copy}"), json!({}));
    node.ok(&format!("until bowline volume show {copy} | grep -q error_deleting; do sleep 0.2; done; lvs fast/volume-{copy}"));
    node.ok(&format!("lvchange --quiet --addtag bowline.volume fast/volume-{copy}"));

    ask(&node, "DELETE", &format!("/snapshots/{snapshot}"), json!({}));
    node.ok("while lvs --noheadings -o lv_name fast | grep -q _snapshot; do sleep 0.2; done");
    for volume in ask(&node, "GET", "/volumes", json!({}))["volumes"].as_array().unwrap() {
        ask(&node, "POST", &format!("/volumes/{}/action", volume["id"].as_str().unwrap()), json!({"os-force_delete": {}}));
    }
    node.ok("until [ \"$(lvs --noheadings -o lv_name fast | tr -d ' \\n')\" = pool ]; do sleep 0.2; done");
    site.assert_nothing_left_at_the_target("at the end");

    node.ok("printf '[backends.aside]\\ndriver = \"files\"\\n' >>/etc/bowline/backend.toml; systemctl restart bowline-backend");
    let read = |id: &str| format!("cat $(ls /dev/fast/volume-{id} /var/lib/bowline-backend/volumes/volume-{id} 2>/dev/null)");
    cuts::every_long_action_survives_a_kill(&site, &Storage { backends: ["fast", "aside"], read: &read });
}

#[test]
fn what_is_shown_follows_the_database_through_a_power_cut() {
    let mut node = node_with_pool("lvm-power", "lio");
    let acls = "find /sys/kernel/config/target/iscsi/*/tpgt_1/acls -mindepth 1 -maxdepth 1 -printf '%f\\n' | sort";
    let (volume, other) = {
        let site = Site::start_with_volumes_in(&node, "/dev/fast", true, FRAGMENT);
        let guest = node.guest("g1");
        let volume = make(&node, "/volumes", "volume", json!({"size": 1, "multiattach": true}));
        let disk = attach(&site, &guest, &volume);
        guest.write(&disk, 5000, "kept");

        // Two other hosts are let in; one logs in, and is still there when its attachment is deleted.
        let let_in = |host: &str| {
            let connector = json!({"initiator": format!("iqn.2026-01.org.{host}"), "host": host});
            let body = json!({"attachment": {"volume_uuid": volume, "connector": connector}});
            ask(&node, "POST", "/attachments", body)["attachment"].clone()
        };
        let (stays, goes) = (let_in("stays"), let_in("goes"));
        let told = |key: &str| goes["connection_info"][key].as_str().unwrap().to_owned();
        node.ok(&format!(
            "iscsiadm -m iface -I goes -o new && iscsiadm -m iface -I goes -o update -n iface.initiatorname -v iqn.2026-01.org.goes
             node='iscsiadm -m node -I goes -T {} -p {}'; $node -o new
             for pair in authmethod=CHAP username={} password={}; do
               $node -o update -n node.session.auth.${{pair%%=*}} -v ${{pair#*=}}; done
             $node --login && udevadm settle",
            told("target_iqn"),
            told("target_portal"),
            told("auth_username"),
            told("auth_password"),
        ));
        assert_eq!(node.ok("iscsiadm -m session | wc -l"), "2");
        ask(&node, "DELETE", &format!("/attachments/{}", goes["id"].as_str().unwrap()), json!({}));
        node.ok("while iscsiadm -m session -P 1 | grep -A 12 'Iface Name: goes' | grep -q 'Connection State: LOGGED IN'; do sleep 0.2; done");
        assert_eq!(node.ok(acls), "iqn.1993-08.org.debian:01:node1\niqn.2026-01.org.stays");
        // The agent would take the other session of its target for its own.
        node.ok("iscsiadm -m node -I goes -u && iscsiadm -m node -I goes -o delete && iscsiadm -m iface -I goes -o delete");
        guest.write(&disk, 6000, "still-in");
        node.ok("sync -f /srv/group.img; sync");
        (volume, stays["id"].as_str().unwrap().to_owned())
    };

    node.kill();
    node.up_again();
    node.ok(&format!("{DISK} && systemctl start bowline-backend"));
    assert_eq!(node.ok(acls), "iqn.1993-08.org.debian:01:node1\niqn.2026-01.org.stays", "restored after a power cut");
    node.ok("systemctl start bowlined");
    assert_eq!(node.ok(&format!("dd if=/run/bowline/volumes/{volume} bs=1 skip=5000 count=4 status=none")), "kept");
    ask(&node, "DELETE", &format!("/attachments/{other}"), json!({}));
    assert_eq!(node.ok(acls), "iqn.1993-08.org.debian:01:node1");

    // What nobody asked for any more goes at the next start.
    node.ok("systemctl stop bowline-backend
         acl=$(echo /sys/kernel/config/target/iscsi/*/tpgt_1/acls) && mkdir $acl/iqn.2026-01.org.forgotten
         systemctl start bowline-backend");
    assert_eq!(node.ok(acls), "iqn.1993-08.org.debian:01:node1");
}

#[test]
fn a_thin_volume_behind_tgtd_and_a_pool_that_is_full_or_not_there() {
    let node = node_with_pool("lvm-tgt", "tgt");
    settings(&node, "tgt", "nowhere");
    node.ok("bowline-backend serve --config /etc/bowline/backend.toml 2>/run/told & pid=$!
         timeout 60 sh -c 'until grep -q \"INFO ready\" /run/told; do sleep 0.2; done'; found=$?
         kill $pid; wait $pid; exit $found");
    let told = node.ok("cat /run/told");
    assert!(told.contains("lvcreate --type thin-pool --extents 90%FREE --name nowhere fast"), "{told}");

    settings(&node, "tgt", "pool");
    let site = Site::start_with_volumes_in(&node, "/dev/fast", false, FRAGMENT);
    let guest = node.persistent_guest("g1");
    growth::a_volume_grows_under_its_guest(&site, &guest, "virtio");
    guests_boot_from_logical_volumes(&site);

    // With tgtd the service's end takes its target along. Its next start must not wait for a read from that very disk.
    let volume = make(&node, "/volumes", "volume", json!({"size": 1}));
    let disk = attach(&site, &guest, &volume);
    node.ok("systemctl kill --signal=KILL --kill-who=main bowline-backend
         until curl -sS http://127.0.0.1:8776/ >/dev/null 2>&1; do sleep 0.2; done");
    guest.write(&disk, 5000, "after a restart");
    detach(&site, &guest, &volume, &disk);

    node.ok(&format!("dd if=/dev/zero of=/dev/fast/volume-{volume} bs=1M count=430 oflag=direct status=none"));
    let id = ask(&node, "POST", "/volumes", json!({"volume": {"size": 1}}))["volume"]["id"].as_str().unwrap().to_owned();
    node.ok(&format!("until bowline volume show {id} | grep -q 'error'; do sleep 0.2; done"));
    node.ok(
        "journalctl --sync; journalctl -u bowline-backend | grep -E 'thin pool fast/pool is full: 9|GiB are free in truth'",
    );
    assert_ne!(node.exec(&format!("lvs fast/volume-{id}")).status, 0, "it was made in a full pool");
}
