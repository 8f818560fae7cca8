//! RBD by QEMU's own client on a Ceph cluster of one monitor and one OSD on this machine itself. `ceph-service` stands in for the
//! volume service, and tells what Cinder does; `backend_rbd` has the bundled one.

use std::time::Duration;

use crate::common::{HostRig, Machine, Services, Site};

const SOON: Duration = Duration::from_secs(60);
const VOLUME: &str = "7c0d4b1e-52a6-4e0b-9a51-6f3d2c8e9b04";
const CLOUD: &str = "clouds:\n  bowline:\n    auth_type: admin_token\n    auth:\n      endpoint: http://127.0.0.1:8786/v3\n      token: any\n    \
                     block_storage_endpoint_override: http://127.0.0.1:8786/v3";

/// What the cluster itself has of the image's first object, `length` bytes from `offset`.
fn bytes(host: &HostRig, offset: usize, length: usize) -> String {
    host.ok(&format!(
        "id=$(rbd info --format json volumes/volume-{VOLUME} | jq -r .id)
         rados -p volumes get rbd_data.$id.0000000000000000 /run/object && tail -c +{} /run/object | head -c {length}",
        offset + 1
    ))
}

#[test]
fn an_image_of_a_cluster_on_this_machine_comes_and_goes() {
    let host = HostRig::start("rbd");
    host.exec_for("KEYS=/run/target ceph-up", Duration::from_secs(120)).ok();
    let image = format!("volumes/volume-{VOLUME}");
    host.ok(&format!(
        "printf made-on-the-side >/run/text && rbd import --no-progress /run/text {image} && rbd resize --no-progress --size 1G {image}
         cp /run/target/cinder.keyring /etc/ceph/elsewhere
         sed 's/^\\[global\\]/&\\nrbd_cache = false/' /etc/ceph/ceph.conf >/etc/ceph/bowline.conf
         setsid ceph-service 8786 >/run/service.log 2>&1 </dev/null & wait-for-line /run/service.log listening
         curl -sS --fail -o /dev/null -d '{{\"volume\": {{\"id\": \"{VOLUME}\", \"name\": \"data\", \"size\": 1}}}}' http://127.0.0.1:8786/v3/volumes"
    ));
    host.write("/run/clouds.yaml", CLOUD);
    host.ok("mkdir -p /etc/bowline/bowlined.d");
    host.write(
        "/etc/bowline/bowlined.d/10-test.toml",
        "[cloud]\nfile = \"/run/clouds.yaml\"\n[iscsi]\ninitiator = \"qemu\"\n\
         [rbd]\nconf_file = \"/etc/ceph/bowline.conf\"\nkeyring_file = \"/etc/ceph/elsewhere\"",
    );
    let site = Site::at(&host, Services::Processes);
    site.start_agent("");
    let guest = host.persistent_guest("g1");

    let attached = site.json(&format!("attach {VOLUME} g1"));
    assert_eq!(attached["operation"]["state"], "succeeded", "{attached}");
    assert_eq!(attached["attachment"]["serial"], host.ok(&format!("rbd info --format json {image} | jq -r .id")));
    let (disk, head) = guest.expect_disk(&VOLUME[..20], SOON);
    assert_eq!(head, "made-on-the-side");
    host.ok("virsh dumpxml g1 | grep -q \"config file='/etc/ceph/bowline.conf'\"");
    guest.write(&disk, 5000, "written by the guest");
    assert_eq!(bytes(&host, 5000, 20), "written by the guest");
    site.bowline(&format!("detach {VOLUME} g1")).ok();
    guest.expect_gone(&disk, SOON);

    let left = host.ok(&format!(
        "curl -sS http://127.0.0.1:8786/v3/attachments | jq -r '.attachments[] | \"attachment: \\(.id)\"'
         for side in '' --inactive; do virsh -q domblklist g1 $side | sed 's/^/disk of the guest: /'; done
         virsh -q secret-list | sed 's/^/secret: /'
         rbd status --format json {image} | jq -r '.watchers[] | \"watcher: \\(.address)\"'
         pgrep -ax rbd | sed 's/^/process: /'
         ls /run/bowline/volumes 2>/dev/null || :"
    ));
    assert_eq!(left, "", "after a detach");
    assert_eq!(site.status(VOLUME), "available");
    site.stop_agent();
}
