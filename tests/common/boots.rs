//! Guests that boot from disks which Bowline makes or takes for them, on any machine and storage.

use serde_json::{Value, json};

use super::service::{self, call, delete, until};
use super::{Guest, Machine, Site};

/// What `tests/guest/build` writes at 512 KiB of its disk.
pub const MARKER: &str = "marker-of-the-root-disk";
/// Where guests write, beside it.
pub const PLACE: u64 = 600 << 10;
/// The bundled service's images.
pub const IMAGES: &str = "http://127.0.0.1:8776/image/v2/images";

/// Asks the bundled service by curl.
#[track_caller]
pub fn curl<M: Machine>(site: &Site<'_, M>, arguments: &str) -> String {
    let token = format!("X-Auth-Token: $(cat {}/token)", service::STATE);
    site.machine.ok(&format!("curl -sS --fail-with-body -H \"{token}\" {arguments}"))
}

/// Uploads a file, or nothing, as the image of this record; returns its id.
#[track_caller]
pub fn upload_as<M: Machine>(site: &Site<'_, M>, record: &Value, file: &str) -> String {
    let made = curl(site, &format!("-H 'Content-Type: application/json' -d '{record}' {IMAGES}"));
    let id = serde_json::from_str::<Value>(&made).unwrap()["id"].as_str().unwrap().to_owned();
    curl(site, &format!("-X PUT -H 'Content-Type: application/octet-stream' --data-binary @{file} {IMAGES}/{id}/file"));
    id
}

/// Uploads an image; returns its id.
#[track_caller]
pub fn upload<M: Machine>(site: &Site<'_, M>, name: &str, format: &str, file: &str) -> String {
    upload_as(site, &json!({"name": name, "disk_format": format, "container_format": "bare"}), file)
}

/// The guest that booted, and what its root disk has at the marker's place.
#[track_caller]
pub fn booted<'a, M: Machine>(site: &Site<'a, M>, name: &str) -> Guest<'a> {
    let guest = site.machine.booted_guest(name);
    assert_eq!(guest.read("vda", 512 << 10, MARKER.len()), MARKER);
    guest
}

/// The names of all volumes.
#[track_caller]
pub fn volumes<M: Machine>(site: &Site<'_, M>) -> Vec<String> {
    let listed = site.json("volume list");
    listed["volumes"].as_array().unwrap().iter().map(|volume| volume["name"].as_str().unwrap().to_owned()).collect()
}

/// Every boot source that ends on a volume boots a real guest: an image with a blank volume beside it, a volume's snapshot, an image that
/// names one, and the volume as it is. `kind` is the volume type, or empty.
pub fn every_source_boots_from_volumes<M: Machine>(site: &Site<'_, M>, kind: &str) {
    let machine = site.machine;
    machine.ok("ln -sf ${BOWLINE_GUEST:-/srv/guest}/disk.img /run/tiny.raw");
    let tiny = upload(site, "tiny", "raw", "/run/tiny.raw");
    machine.diskless_guest("b1");
    let of_type = if kind.is_empty() { String::new() } else { format!(",volume_type={kind}") };
    let of_type = format!("destination_type=volume,volume_size=1{of_type}");
    site.bowline(&format!(
        "boot b1 --block-device source_type=image,uuid={tiny},boot_index=0,{of_type} \
         --block-device source_type=blank,{of_type},delete_on_termination=true"
    ))
    .ok();
    let guest = booted(site, "b1");
    guest.write("vda", PLACE, "written-by-the-guest");
    guest.write("vdb", 0, "on-a-blank-volume");
    site.bowline("delete b1").ok();
    let kept = volumes(site).into_iter().find(|name| name.starts_with("b1-vda-")).unwrap();
    let volume = site.json(&format!("volume show {kept}"))["volume"]["id"].as_str().unwrap().to_owned();

    let body = json!({"snapshot": {"volume_id": volume, "name": "of-root"}}).to_string();
    let snapshot = call(machine, "POST", "/v3/snapshots", &body)["snapshot"]["id"].as_str().unwrap().to_owned();
    until(machine, &format!("/v3/snapshots/{snapshot}"), "available");
    let mapping = json!([{
        "source_type": "snapshot", "destination_type": "volume", "snapshot_id": snapshot, "boot_index": 0, "volume_size": 1,
        "device_name": "/dev/vda", "delete_on_termination": true
    }]);
    let record = json!({
        "name": "of-instance", "disk_format": "raw", "container_format": "bare", "bdm_v2": "True", "root_device_name": "/dev/vda",
        "block_device_mapping": mapping.to_string()
    });
    let instance = upload_as(site, &record, "/dev/null");
    let sources = [
        ("b2", "--snapshot of-root --delete-on-termination".to_owned()),
        ("b3", "--image of-instance".to_owned()),
        ("b4", format!("--volume {volume}")),
    ];
    for (name, source) in &sources {
        machine.diskless_guest(name);
        site.bowline(&format!("boot {name} {source}")).ok();
    }
    for (name, source) in &sources {
        assert_eq!(booted(site, name).read("vda", PLACE, 20), "written-by-the-guest", "{source}");
        site.bowline(&format!("delete {name}")).ok();
    }
    assert!(volumes(site).iter().filter(|name| name.starts_with('b')).eq([&kept]), "what was made for a guest went with it");
    delete(machine, "snapshots", &snapshot);
    delete(machine, "volumes", &volume);
    for image in [tiny, instance] {
        curl(site, &format!("-X DELETE {IMAGES}/{image}"));
    }
    machine.ok("for guest in b1 b2 b3 b4; do virsh -q undefine $guest; done");
}
