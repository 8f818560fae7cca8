//! Volumes of the bundled service on a real Ceph cluster (`ceph-up`), opened by QEMU's own client: their whole life, with a key for
//! each attachment, until nothing is left in the pool.

use std::time::Duration;

use crate::common::boots;
use crate::common::cuts::{self, Storage};
use crate::common::service::{STATE, call, delete, until};
use crate::common::{HostRig, Machine, Services, Site};

const SOON: Duration = Duration::from_secs(60);
const CONFIG: &str = "[backends.ceph]\ndriver = \"rbd\"\nmax_over_subscription_ratio = 100.0\n[backends.ceph.rbd]\nkeyring_file = \"/run/target/cinder.keyring\"\n\
                      attachment_keys = true\nmax_clone_depth = 2\n[images]\ncached = 1";

/// Makes a volume from something; its id.
#[track_caller]
fn made_from(host: &HostRig, source: &str) -> String {
    let made = call(host, "POST", "/v3/volumes", &format!("{{\"volume\": {{\"size\": 2, {source}}}}}"));
    let id = made["volume"]["id"].as_str().unwrap().to_owned();
    until(host, &format!("/v3/volumes/{id}"), "available");
    id
}

/// What a volume has in the cluster, `length` bytes from `offset`.
fn bytes(host: &HostRig, volume: &str, offset: u64, length: u64) -> String {
    host.ok(&format!(
        "rbd export --no-progress volumes/volume-{volume} /run/flat && tail -c +{} /run/flat | head -c {length}; rm -f /run/flat",
        offset + 1
    ))
}

fn ancestors_of(host: &HostRig, volume: &str) -> String {
    host.ok(&format!("rbd info --format json volumes/volume-{volume} | jq -r '.parent.image // \"none\"'"))
}

/// Everything that the service could have left behind.
fn left(host: &HostRig) -> String {
    host.ok("rbd ls volumes | sed 's/^/image: /'; rbd trash ls volumes | sed 's/^/trash: /'
         ceph auth ls 2>/dev/null | grep '^client.bowline' | sed 's/^/user: /' || :
         pgrep -ax rbd | sed 's/^/process: /' || :")
}

#[test]
fn volumes_on_ceph_live_their_whole_life_and_nothing_is_left() {
    let host = HostRig::start("backend-rbd");
    host.exec_for("KEYS=/run/target MANAGER=yes ceph-up", Duration::from_secs(150)).ok();
    host.ok("mkdir -p /etc/bowline");
    host.write("/etc/bowline/backend.toml", CONFIG);
    let site = Site::start(&host, Services::Processes, "[iscsi]\ninitiator = \"qemu\"");

    // The user may not make keys yet: the log says what mends it, and that does.
    host.ok("wait-for-line /run/bowline-backend.log 'ceph auth caps'");
    host.ok(
        "grep -o '`ceph auth caps[^`]*`' /run/bowline-backend.log | head -n 1 | tr -d '`' >/run/remedy && bash -e /run/remedy",
    );
    site.stop_service();
    site.start_service();

    let guest = host.persistent_guest("g1");
    let made = site.json("volume create data --size 1");
    let volume = made["volume"]["id"].as_str().unwrap().to_owned();
    let other = site.json("volume create other --size 1")["volume"]["id"].as_str().unwrap().to_owned();

    // No key of the cluster is on this host but that of the service.
    assert_eq!(host.exec("ls /etc/ceph/ceph.client.cinder.keyring").status, 2);
    let attached = site.json(&format!("attach {volume} g1"));
    assert_eq!(attached["operation"]["state"], "succeeded", "{attached}");
    let (disk, _) = guest.expect_disk(&volume[..20], SOON);
    guest.write(&disk, 5000, "before");
    an_attachments_key_opens_its_image_alone(&host, &volume, &other);

    // Both while the guest has it: the size, and a snapshot.
    site.bowline(&format!("extend {volume} 2")).ok();
    guest.expect_line(&format!("= {disk} {}", 2 << 21), SOON);
    let body = format!("{{\"snapshot\": {{\"volume_id\": \"{volume}\", \"force\": true}}}}");
    let snapshot = call(&host, "POST", "/v3/snapshots", &body)["snapshot"]["id"].as_str().unwrap().to_owned();
    until(&host, &format!("/v3/snapshots/{snapshot}"), "available");
    guest.write(&disk, 5000, "after!");

    // After a restart the attachment is what it was: nobody gets another key.
    let keys = |host: &HostRig| host.ok("ceph auth ls 2>/dev/null | grep -A1 '^client.bowline'");
    let before = keys(&host);
    site.stop_service();
    site.start_service();
    assert_eq!(keys(&host), before);

    site.bowline(&format!("detach {volume} g1")).ok();
    guest.expect_gone(&disk, SOON);
    let mut both = [&volume, &other].map(|id| format!("image: volume-{id}"));
    both.sort();
    assert_eq!(left(&host), both.join("\n"), "no key is left");
    assert_eq!(bytes(&host, &volume, 5000, 6), "after!");

    // Clones share bytes; a chain that would get too long is cut.
    let child = made_from(&host, &format!("\"snapshot_id\": \"{snapshot}\""));
    assert_eq!(bytes(&host, &child, 5000, 6), "before");
    assert_eq!(ancestors_of(&host, &child), format!("volume-{volume}"));
    let grandchild = made_from(&host, &format!("\"source_volid\": \"{child}\""));
    assert_eq!(ancestors_of(&host, &grandchild), format!("volume-{child}"));
    let alone = made_from(&host, &format!("\"source_volid\": \"{grandchild}\""));
    assert_eq!((ancestors_of(&host, &alone).as_str(), bytes(&host, &alone, 5000, 6).as_str()), ("none", "before"));

    // One that others were cloned from opens with the key of its attachment, its ancestors being read by it.
    site.bowline(&format!("attach {grandchild} g1")).ok();
    let (disk, _) = guest.expect_disk(&grandchild[..20], SOON);
    assert_eq!(guest.read(&disk, 5000, 6), "before");
    site.bowline(&format!("detach {grandchild} g1")).ok();

    call(
        &host,
        "POST",
        &format!("/v3/volumes/{volume}/action"),
        &format!("{{\"revert\": {{\"snapshot_id\": \"{snapshot}\"}}}}"),
    );
    until(&host, &format!("/v3/volumes/{volume}"), "available");
    assert_eq!(bytes(&host, &volume, 5000, 6), "before");

    host.ok(&format!(
        "printf %-512s 'of the image' >/run/text && qemu-io -f raw -c 'write -q -s /run/text 5120 512' rbd:volumes/volume-{other}"
    ));
    let image = an_image_of_a_volume_makes_volumes_that_share_its_bytes(&host, &other);

    // What others were cloned from can go at any time; its bytes go with the last of them.
    delete(&host, "snapshots", &snapshot);
    delete(&host, "volumes", &volume);
    delete(&host, "volumes", &child);
    assert_eq!(bytes(&host, &grandchild, 5000, 6), "before");
    assert_eq!(host.ok("rbd trash ls volumes | wc -l"), "2", "parents that wait for their clone");
    for id in [&grandchild, &alone, &other] {
        delete(&host, "volumes", id);
    }
    assert_eq!(left(&host), format!("image: volume-{image}"), "what is kept of the image is all that is left");

    boots::every_source_boots_from_volumes(&site, "");

    let shown = call(&host, "GET", "/v3/scheduler-stats/get_pools?detail=true", "");
    assert_eq!(shown["pools"][0]["capabilities"]["storage_protocol"], "ceph", "{shown}");
    let config = CONFIG.replace("[images]", "[backends.aside]\ndriver = \"files\"\n[images]");
    host.write("/etc/bowline/backend.toml", &config);
    site.stop_service();
    site.start_service();
    let read = |id: &str| {
        format!(
            "if [ -e {STATE}/volumes/volume-{id} ]; then cat {STATE}/volumes/volume-{id}; else rbd export --no-progress \
             volumes/volume-{id} /run/flat && cat /run/flat; rm -f /run/flat; fi"
        )
    };
    // So soon is an `rbd` forgotten that died with the service: after 30 s, else.
    host.ok("ceph config set osd osd_client_watch_timeout 5");
    cuts::every_long_action_survives_a_kill(&site, &Storage { backends: ["ceph", "aside"], read: &read });
    site.stop_agent();
    site.stop_service();
}

/// The key that the service told opens the image that is attached, and no other.
fn an_attachments_key_opens_its_image_alone(host: &HostRig, volume: &str, other: &str) {
    let attachments = call(host, "GET", "/v3/attachments", "");
    let id = attachments["attachments"][0]["id"].as_str().unwrap().to_owned();
    let told = call(host, "GET", &format!("/v3/attachments/{id}"), "");
    let info = &told["attachment"]["connection_info"];
    assert_eq!(info["auth_username"], format!("bowline.{id}"), "{info}");
    assert_eq!((info["driver_volume_type"].as_str(), info["ports"][0].as_str()), (Some("rbd"), Some("6789")), "{info}");
    host.write("/run/told.keyring", info["keyring"].as_str().unwrap());
    let rbd = format!("rbd --id bowline.{id} --keyring /run/told.keyring");
    host.ok(&format!("{rbd} info volumes/volume-{volume}"));
    let refused = host.exec(&format!("{rbd} info volumes/volume-{other}"));
    assert!(refused.status != 0 && refused.stderr.contains("not permitted"), "{refused:?}");
    // Nor is it in what the service logs or keeps on a command line.
    let key = host.ok("sed -n 's/.*key = //p' /run/told.keyring");
    assert_eq!(host.exec(&format!("grep -F '{key}' /run/bowline-backend.log")).status, 1);
}

/// Bytes go out as a stream and come in as one; the second volume from an image is a clone. Gives what is kept of the image.
fn an_image_of_a_volume_makes_volumes_that_share_its_bytes(host: &HostRig, volume: &str) -> String {
    let body =
        "{\"os-volume_upload_image\": {\"image_name\": \"i\", \"disk_format\": \"raw\", \"container_format\": \"bare\"}}";
    let asked = call(host, "POST", &format!("/v3/volumes/{volume}/action"), body);
    let image = asked["os-volume_upload_image"]["image_id"].as_str().unwrap().to_owned();
    until(host, &format!("/v3/volumes/{volume}"), "available");
    let stored = host.ok(&format!("du -k {STATE}/images/{image} | cut -f 1")).parse::<u64>().unwrap();
    assert!(stored < 64 << 10, "holes are left out: {stored} KiB");
    let [first, second] = [(), ()].map(|()| made_from(host, &format!("\"imageRef\": \"{image}\"")));
    let kept = ancestors_of(host, &first);
    assert!(kept.starts_with("volume-") && ancestors_of(host, &second) == kept, "{kept}");
    assert_eq!(bytes(host, &second, 5120, 12), "of the image");
    for id in [&first, &second] {
        delete(host, "volumes", id);
    }
    kept.trim_start_matches("volume-").to_owned()
}
