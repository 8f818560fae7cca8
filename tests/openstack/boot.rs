//! Guests that boot from a real Glance and a real Cinder: an image on an ephemeral disk and on a volume, a volume as it is, a volume's
//! snapshot; and images made of such guests, which boot again.

use serde_json::json;

use crate::cloud::Cloud;
use crate::common::{Guest, HostRig, Machine, Site};

/// What `tests/guest/build` writes at 512 KiB of its disk.
const MARKER: &str = "marker-of-the-root-disk";
/// Where the guests write, beside it.
const PLACE: u64 = 600 << 10;

/// The guest that booted, from a disk that has the marker.
fn booted<'a>(site: &Site<'a, HostRig>, name: &str, how: &str) -> Guest<'a> {
    site.machine.diskless_guest(name);
    site.bowline(&format!("boot {name} {how}")).ok();
    let guest = site.machine.booted_guest(name);
    assert_eq!(guest.read("vda", 512 << 10, MARKER.len()), MARKER, "{how}");
    guest
}

pub fn guests_boot_from_it_and_images_are_made_of_them(cloud: &Cloud) {
    let site = cloud.agent_as("tenant");
    site.machine.ok("cp $BOWLINE_GUEST/disk.img /run/tiny.raw");
    let tiny = cloud.upload("tiny", "/run/tiny.raw");

    let guest = booted(&site, "e1", "--image tiny --size 1");
    guest.write("vda", PLACE, "on-an-ephemeral-disk");
    let made = site.json("snapshot e1 of-ephemeral");
    let image = cloud.image(made["operation"]["image"].as_str().unwrap());
    assert_eq!((&image["status"], &image["base_image_ref"]), (&json!("active"), &json!(tiny)), "{image}");
    site.bowline("delete e1").ok();
    assert_eq!(booted(&site, "e2", "--image of-ephemeral").read("vda", PLACE, 20), "on-an-ephemeral-disk");
    site.bowline("delete e2").ok();

    let guest = booted(&site, "v1", "--image tiny --to volume --size 1");
    guest.write("vda", PLACE, "on-a-volume");
    let made = site.json("snapshot v1 of-volume");
    let image = cloud.image(made["operation"]["image"].as_str().unwrap());
    assert_eq!((&image["status"], &image["size"], &image["bdm_v2"]), (&json!("active"), &json!(0), &json!("True")), "{image}");
    guest.write("vda", PLACE, "some-later.");
    site.bowline("delete v1").ok();
    assert_eq!(booted(&site, "v2", "--image of-volume").read("vda", PLACE, 11), "on-a-volume");
    site.bowline("delete v2").ok();

    // The first one's volume as it is, and its snapshot by itself.
    let found = cloud.cinder("/volumes/detail?all_tenants=1");
    let kept =
        found["volumes"].as_array().unwrap().iter().find(|volume| volume["name"].as_str().unwrap().starts_with("v1-vda"));
    let kept = kept.unwrap()["id"].as_str().unwrap();
    assert_eq!(booted(&site, "v3", &format!("--volume {kept}")).read("vda", PLACE, 11), "some-later.");
    site.bowline("delete v3").ok();
    let snapshots = cloud.cinder("/snapshots?all_tenants=1");
    let snapshot = snapshots["snapshots"][0]["id"].as_str().unwrap();
    let how = format!("--snapshot {snapshot} --delete-on-termination");
    assert_eq!(booted(&site, "v4", &how).read("vda", PLACE, 11), "on-a-volume");
    site.bowline("delete v4").ok();
    assert_eq!(cloud.attachments(), Vec::<String>::new());
}
