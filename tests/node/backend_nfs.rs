//! Volumes of the bundled service as files of a kernel NFS server, which the service mounts itself, by its unit with the rights that this
//! takes.

use std::time::{Duration, Instant};

use crate::common::boots;
use crate::common::cuts::{self, Storage};
use crate::common::service::{call, delete, until};
use crate::common::{Machine, Node, Services, Site};

const SOON: Duration = Duration::from_secs(90);
const CONFIG: &str = "[backends.flat]\ndriver = \"nfs\"\nnfs.share = \"127.0.0.1:/\"\n[backends.layered]\ndriver = \"nfs\"\n\
                      nfs.share = \"127.0.0.1:/\"\nnfs.format = \"qcow2\"\n[images]\ncached = 0";
const RIGHTS: &str = "[Service]\nExecStart=\nExecStart=/usr/bin/bowline-backend serve --config /etc/bowline/backend.toml\n\
                      CapabilityBoundingSet=CAP_SYS_ADMIN\nPrivateUsers=no\nSystemCallFilter=@mount";

/// What the guest reads at an offset of a volume's file, asked of the file itself.
fn in_file(node: &Node, id: &str, format: &str, offset: u64, length: usize) -> String {
    node.ok(&format!(
        "qemu-img convert -U -f {format} -O raw /srv/nfs/volume-{id} /run/flat && tail -c +{} /run/flat | head -c {length}; rm -f /run/flat",
        offset + 1
    ))
}

#[test]
fn volumes_on_nfs_live_their_whole_life_and_nothing_is_left() {
    let node = Node::with_bowline("backend-nfs");
    node.ok("nfs-up; mkdir -p /etc/bowline /etc/systemd/system/bowline-backend.service.d");
    node.write("/etc/bowline/backend.toml", CONFIG);
    node.write("/etc/systemd/system/bowline-backend.service.d/nfs.conf", RIGHTS);
    node.ok("systemctl daemon-reload");
    let site = Site::start(&node, Services::Systemd, "[nfs]\nmount_timeout_s = 5");
    let guest = node.persistent_guest("g1");
    for name in ["flat", "layered"] {
        let specs =
            format!("{{\"volume_type\": {{\"name\": \"{name}\", \"extra_specs\": {{\"volume_backend_name\": \"{name}\"}}}}}}");
        call(&node, "POST", "/v3/types", &specs);
    }
    let create = |kind: &str| {
        let made = site.json(&format!("volume create {kind} --size 1 --type {kind}"));
        made["volume"]["id"].as_str().unwrap().to_owned()
    };

    let flat = create("flat");
    let layered = create("layered");
    for (id, format) in [(&flat, "raw"), (&layered, "qcow2")] {
        let attached = site.json(&format!("attach {id} g1"));
        assert_eq!(attached["operation"]["state"], "succeeded", "{attached}");
        let (disk, _) = guest.expect_disk(&id[..20], SOON);
        guest.write(&disk, 70_000, "written by the guest");
        // This server's file system clones no files, so there is no moment to keep.
        let body = format!("{{\"snapshot\": {{\"volume_id\": \"{id}\", \"force\": true}}}}");
        let refused = call(&node, "POST", "/v3/snapshots", &body)["snapshot"]["id"].as_str().unwrap().to_owned();
        until(&node, &format!("/v3/snapshots/{refused}"), "error");
        delete(&node, "snapshots", &refused);
        if format == "raw" {
            site.bowline(&format!("extend {id} 2")).ok();
            guest.expect_line(&format!("= {disk} {}", 2 << 21), SOON);
        } else {
            // The file is QEMU's alone: nothing here changes it.
            assert_ne!(site.bowline(&format!("extend {id} 2")).status, 0);
            call(&node, "POST", &format!("/v3/volumes/{id}/action"), "{\"os-reset_status\": {\"status\": \"in-use\"}}");
        }
        site.bowline(&format!("detach {id} g1")).ok();
        guest.expect_gone(&disk, SOON);
        assert_eq!(in_file(&node, id, format, 70_000, 20), "written by the guest");
    }

    // At rest both have snapshots, and volumes of them.
    for (id, format) in [(&flat, "raw"), (&layered, "qcow2")] {
        let body = format!("{{\"snapshot\": {{\"volume_id\": \"{id}\"}}}}");
        let snapshot = call(&node, "POST", "/v3/snapshots", &body)["snapshot"]["id"].as_str().unwrap().to_owned();
        until(&node, &format!("/v3/snapshots/{snapshot}"), "available");
        let body = format!("{{\"volume\": {{\"size\": 3, \"snapshot_id\": \"{snapshot}\"}}}}");
        let copy = call(&node, "POST", "/v3/volumes", &body)["volume"]["id"].as_str().unwrap().to_owned();
        until(&node, &format!("/v3/volumes/{copy}"), "available");
        assert_eq!(in_file(&node, &copy, format, 70_000, 20), "written by the guest");
        let size =
            node.ok(&format!("qemu-img info -f {format} --output json /srv/nfs/volume-{copy} | jq '.[\"virtual-size\"]'"));
        assert_eq!(size, (3_u64 << 30).to_string());
        delete(&node, "volumes", &copy);
        delete(&node, "snapshots", &snapshot);
    }

    boots::every_source_boots_from_volumes(&site, "flat");

    // No host needs an initiator for this, and no target runs for it.
    let body = format!("{{\"attachment\": {{\"volume_uuid\": \"{flat}\", \"connector\": {{\"host\": \"without\"}}}}}}");
    let attachment = call(&node, "POST", "/v3/attachments", &body)["attachment"].clone();
    assert_eq!(attachment["connection_info"]["export"], "127.0.0.1:/", "{attachment}");
    call(&node, "DELETE", &format!("/v3/attachments/{}", attachment["id"].as_str().unwrap()), "");
    assert_ne!(node.exec("pgrep -x tgtd").status, 0, "nothing needs it");

    let read = |id: &str| {
        let format = node.ok(&format!("head -c 3 /srv/nfs/volume-{id} | grep -q QFI && echo qcow2 || echo raw"));
        format!("qemu-img convert -U -f {format} -O raw /srv/nfs/volume-{id} /run/flat && cat /run/flat; rm -f /run/flat")
    };
    cuts::every_long_action_survives_a_kill(&site, &Storage { backends: ["layered", "flat"], read: &read });

    // A server that is gone holds up nobody, and what was asked for meanwhile has an end.
    node.ok("nfs-down");
    let begun = Instant::now();
    assert_ne!(site.bowline("volume create nowhere --size 1 --type flat").status, 0);
    assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
    assert_eq!(site.status(&flat), "available");
    node.ok("nfs-up");
    for id in [&flat, &layered] {
        delete(&node, "volumes", id);
    }
    assert_eq!(node.ok("ls -A /srv/nfs"), "", "files that are left");
    site.stop_agent();
    site.stop_service();
}
