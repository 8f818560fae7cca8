//! Images that are out for harm, one for each trick that is known (`hostile-images`): each is refused by Bowline's own look at its bytes,
//! before qemu-img or QEMU has opened one.

use crate::boot::on_host;
use crate::common::{Machine, Site};

/// Tells of each run of qemu-img, and does what was asked.
const RECORDER: &str = "#!/bin/sh\necho \"$@\" >>/run/qemu-img.log\nexec /run/qemu-img \"$@\"\n";

#[test]
fn a_hostile_image_is_refused_before_any_program_opens_it() {
    on_host("hostile", "", |site| {
        let machine = site.machine;
        let images = machine.ok("hostile-images /run/images");
        machine.ok("cp $BOWLINE_GUEST/disk.img /run/images/harmless.raw");
        // Whoever runs qemu-img in this rig runs the recorder.
        machine.write("/run/recorder", RECORDER);
        machine.ok("chmod +x /run/recorder; cp /usr/bin/qemu-img /run/qemu-img; mount --bind /run/recorder /usr/bin/qemu-img");
        from_another_image_service(site);
        machine.diskless_guest("g1");

        let seen = images.lines().count();
        assert!(seen > 30, "{images}");
        for line in images.lines() {
            let (name, word) = line.split_once('\t').unwrap();
            let refused = site.bowline(&format!("boot g1 --image {name}"));
            assert!(refused.status == 2 && refused.stderr.contains(word), "{name}: {word}: {refused:?}");
        }
        let opened = "cat /run/qemu-img.log 2>/dev/null; cat /var/log/libvirt/qemu/g1.log 2>/dev/null
                      ls /var/lib/bowline-images/disks /var/lib/bowline-images/cache | grep -v : || :";
        assert_eq!(machine.ok(opened), "", "what ran, what QEMU was started with, and what is left of them");

        // The recorder sees what is done of an image that is what it says.
        site.bowline("boot g1 --image harmless").ok();
        assert!(machine.ok(opened).contains("create -q -u -f qcow2"), "{}", machine.ok(opened));
        site.bowline("delete g1").ok();
    });
}

/// The agent asks an image service that takes everything; volumes stay the bundled service's.
fn from_another_image_service<M: Machine>(site: &Site<'_, M>) {
    site.machine.ok("setsid image-service 8778 /run/images >/run/image-service.log 2>&1 </dev/null &
                     wait-for-line /run/image-service.log listening
                     sed 's|image_endpoint_override: .*|image_endpoint_override: http://127.0.0.1:8778/image|' \
                         /var/lib/bowline-backend/clouds.yaml >/run/clouds.yaml");
    site.machine.write("/etc/bowline/bowlined.d/30-images.toml", "[cloud]\nfile = \"/run/clouds.yaml\"");
    site.stop_agent();
    site.start_agent("");
}
