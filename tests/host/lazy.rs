//! Guests that start before their image is here: streamed while they run, filled, verified, and what strikes them meanwhile.

use std::time::Duration;

use serde_json::Value;

use super::boot::{assert_gone, booted, on_host, upload};
use crate::common::{Guest, HostRig, Machine, Site};

/// Reads of what does not come fail soon enough for a test.
const IMPATIENT: &str = "[images]\nstall_timeout_s = 2\n";
/// They never fail, however slow the machine is.
const PATIENT: &str = "[images]\nstall_timeout_s = 300\n";
/// Bytes of the image, the guest's own disk at its beginning: at the test's rate it takes more than a minute to come.
const SIZE_MIB: u64 = 96;
const RATE: &str = "rate 1500000";
/// Texts in the image, far from each other and from what the guest needs to boot.
const LATE: [(u64, &str); 3] = [(60, "text-at-the-end"), (54, "text-in-the-middle"), (46, "text-before-that")];

/// Makes the image, uploads it, and puts the slow service between it and the agent.
fn prepare(site: &Site<'_, HostRig>, format: &str) -> String {
    site.machine.ok(&format!(
        "cp $BOWLINE_GUEST/disk.img /run/big.raw; size=$(stat -c %s /run/big.raw)
         truncate -s {SIZE_MIB}M /run/big.raw
         head -c $(({SIZE_MIB} << 20)) /dev/urandom | tail -c +$((size + 1)) | dd of=/run/big.raw bs=1M oflag=seek_bytes seek=$size conv=notrunc status=none"
    ));
    for (at_mib, text) in LATE {
        site.machine.ok(&format!("printf '{text}' | dd of=/run/big.raw bs=1M seek={at_mib} conv=notrunc status=none"));
    }
    site.machine.ok(&format!("qemu-img convert -f raw -O {format} /run/big.raw /run/big.{format}.image"));
    let id = upload(site, "big", format, &format!("/run/big.{format}.image"));
    slow(site, RATE);
    site.machine.ok(
        "setsid slow-images 8778 /run/slow-mode >/run/slow.log 2>&1 </dev/null & wait-for-line /run/slow.log listening
         sed 's|:8776/image|:8778/image|' /var/lib/bowline-backend/clouds.yaml >/run/slow-clouds.yaml; grep -q :8778 /run/slow-clouds.yaml",
    );
    site.machine.write("/etc/bowline/bowlined.d/30-slow.toml", "[cloud]\nfile = \"/run/slow-clouds.yaml\"");
    site.stop_agent();
    site.start_agent("");
    id
}

fn slow(site: &Site<'_, HostRig>, mode: &str) {
    site.machine.ok(&format!("echo '{mode}' >/run/slow-mode.new; mv /run/slow-mode.new /run/slow-mode"));
}

/// The newest fill.
fn fill(site: &Site<'_, HostRig>) -> Value {
    let all = site.json("operations --all");
    all["operations"].as_array().unwrap().iter().rfind(|operation| operation["kind"] == "fill").unwrap().clone()
}

/// Waits until the newest fill is so.
fn fill_is(site: &Site<'_, HostRig>, state: &str) -> Value {
    let query = format!(r#"[.operations[] | select(.kind == "fill")][-1].state == "{state}""#);
    let waited = site.machine.exec_for(
        &format!("until bowline --json operations --all | jq -e '{query}' >/dev/null; do sleep 0.2; done"),
        Duration::from_secs(150),
    );
    assert_eq!(waited.status, 0, "{}", fill(site));
    fill(site)
}

/// The state of a guest, and why.
fn waits_for_state(site: &Site<'_, HostRig>, guest: &str, state: &str) {
    let seen = site.machine.exec_for(
        &format!("until virsh -q domstate {guest} --reason | grep -q '^{state}'; do sleep 0.2; done"),
        Duration::from_secs(90),
    );
    assert_eq!(seen.status, 0, "{}", site.machine.ok(&format!("virsh -q domstate {guest} --reason")));
}

/// Nothing is read from the agent any more, and the image is in the cache, whole.
fn assert_filled(site: &Site<'_, HostRig>, guest: &str, format: &str) {
    site.machine.ok(&format!(
        "! virsh dumpxml {guest} | grep nbd; ! virsh dumpxml {guest} --inactive | grep nbd
         [ -z \"$(ls /run/bowline/lazy)\" ]
         cd /var/lib/bowline-images/cache; [ $(ls | wc -l) = 1 ]; cmp * /run/big.{format}.image"
    ));
}

/// A disk's file without room for what is written to it; to be made before the guest's QEMU has mounts of its own.
fn make_full_disk(site: &Site<'_, HostRig>) {
    site.machine.ok(
        "mkdir /run/full; mount -t tmpfs -o size=64k,mode=777 tmpfs /run/full; truncate -s 8M /run/full/disk; chmod 666 /run/full/disk
         ! dd if=/dev/zero of=/run/full/rest bs=4k status=none 2>/dev/null",
    );
}

/// The fill resumes neither what somebody has paused nor what waits for another disk, though the image comes. That holds of a guest
/// whose reads of the image have never failed.
fn stays_paused_for_others(site: &Site<'_, HostRig>, guest: &Guest<'_>) {
    let stays = |why: &str| {
        waits_for_state(site, "g1", why);
        // Longer than the fill takes to resume what it does.
        site.machine.ok("sleep 2");
        let state = site.machine.ok("virsh -q domstate g1 --reason");
        assert!(state.starts_with(why), "{state}");
        assert_eq!(fill(site)["state"], "running", "nothing was there to resume it");
    };
    slow(site, "rate 100000");
    site.machine.ok("virsh -q suspend g1");
    stays("paused (user)");
    site.machine.ok("virsh -q resume g1");
    site.machine.write(
        "/run/full.xml",
        "<disk type='file'><driver name='qemu' type='raw' error_policy='enospace'/><source file='/run/full/disk'/>\
         <target dev='vdz' bus='virtio'/><serial>full</serial></disk>",
    );
    site.machine.ok("virsh -q attach-device g1 /run/full.xml");
    let (disk, _) = guest.expect_disk("full", Duration::from_secs(60));
    site.machine.ok(&format!("setsid guest-say g1 'w {disk} 4194304 no-room' 120 >/run/full.log 2>&1 </dev/null &"));
    stays("paused (I/O error)");
    site.machine
        .ok("rm /run/full/rest; virsh -q resume g1; timeout 60 sh -c 'until grep -q ok /run/full.log; do sleep 0.2; done'");
    slow(site, RATE);
}

#[test]
fn a_guest_runs_before_its_image_is_here_and_through_whatever_strikes_meanwhile() {
    on_host("lazy", PATIENT, |site| {
        prepare(site, "raw");
        site.machine.diskless_guest("g1");
        let refused = site.bowline("boot g1 --image big --lazy --to volume --size 1");
        assert!(refused.status == 2 && refused.stderr.contains("ephemeral"), "{refused:?}");
        site.machine.ok("setsid dbus-monitor --system \"interface='org.bowline.Manager1',member='GuestChanged'\" >/run/told.log 2>/run/monitor.log </dev/null &
            until grep -q NameAcquired /run/told.log; do sleep 0.1; done");

        make_full_disk(site);
        site.bowline("boot g1 --image big --lazy").ok();
        let guest = booted(site, "g1");
        assert_eq!(guest.read("vda", LATE[0].0 << 20, LATE[0].1.len()), LATE[0].1);
        guest.write("vda", 600 << 10, "written-by-the-guest");
        let under_way = fill(site);
        assert_eq!(under_way["state"], "running", "all of it has come before the guest ran: {under_way}");
        site.machine.ok("cd /var/lib/bowline-images/cache; [ $(ls | wc -l) = 1 ]; ls | grep '[.]lazy$'");
        for (request, why) in [("snapshot g1 early", "being filled"), ("rebuild g1 --image big", "bowline stop g1")] {
            let refused = site.bowline(request);
            assert!(refused.status == 4 && refused.stderr.contains(why), "{refused:?}");
        }
        stays_paused_for_others(site, &guest);

        site.kill_agent();
        site.machine.write("/etc/bowline/bowlined.d/40-impatient.toml", IMPATIENT);
        site.start_agent("");
        assert_eq!(guest.read("vda", LATE[1].0 << 20, LATE[1].1.len()), LATE[1].1);
        assert_eq!(fill(site)["state"], "running");

        // Without its image service the guest is told of no error, but stands still.
        slow(site, "off");
        let read = format!("r vda {} {}", LATE[2].0 << 20, LATE[2].1.len());
        site.machine.ok(&format!("setsid guest-say g1 '{read}' 300 >/run/late.log 2>&1 </dev/null &"));
        waits_for_state(site, "g1", "paused (I/O error)");
        let stuck = fill_is(site, "stuck");
        let told = stuck["error"]["message"].as_str().unwrap();
        assert!(told.contains("does not come from the image service") && told.contains("g1"), "{stuck}");
        slow(site, "rate 50000000");
        site.machine.ok(&format!("timeout 55 sh -c 'until grep -q \"{}\" /run/late.log; do sleep 0.2; done'", LATE[2].1));

        fill_is(site, "succeeded");
        assert_filled(site, "g1", "raw");
        let told = site.machine.ok("cat /run/told.log");
        assert!(told.contains("\"paused\"") && told.contains("\"resumed\""), "{told}");
        assert_eq!(guest.read("vda", 600 << 10, 20), "written-by-the-guest");
        site.bowline("stop g1 --force").ok();
        site.machine.ok(
            "printf written-by-the-guest | dd of=/run/big.raw bs=1K seek=600 conv=notrunc status=none
             qemu-img compare -f raw -F qcow2 /run/big.raw /var/lib/bowline-images/disks/$(virsh domuuid g1)/vda; : >/run/guest-g1.log",
        );
        site.bowline("start g1").ok();
        assert_eq!(booted(site, "g1").read("vda", 600 << 10, 20), "written-by-the-guest");
        site.bowline("delete g1").ok();
        assert_gone(site, "g1");
    });
}

#[test]
fn a_guest_may_go_while_its_image_comes_and_one_whose_image_is_damaged_is_paused() {
    on_host("lazy-damaged", IMPATIENT, |site| {
        prepare(site, "qcow2");
        site.machine.diskless_guest("g1");
        // One that is deleted while it comes leaves nothing.
        site.bowline("boot g1 --image big --lazy").ok();
        site.bowline("delete g1").ok();
        assert_gone(site, "g1");
        assert_eq!(fill_is(site, "cancelled")["error"]["kind"], "cancelled");
        assert_eq!(site.machine.ok("ls /run/bowline/lazy"), "");

        // One that is off when all is here is put over the image in the cache.
        site.bowline("boot g1 --image big --lazy").ok();
        booted(site, "g1");
        // Not while its memory is saved, which knows the disk as it was.
        site.machine.ok("virsh -q managedsave g1");
        let refused = site.bowline("rebuild g1 --image big");
        assert!(refused.status == 4 && refused.stderr.contains("virsh managedsave"), "{refused:?}");
        slow(site, "rate 50000000");
        let waits = site.machine.exec_for(
            "until bowline --json operations | jq -e '.operations[] | select(.kind == \"fill\").error.message | contains(\"managedsave\")' >/dev/null
             do sleep 0.2; done; virsh -q managedsave-remove g1",
            Duration::from_secs(90),
        );
        assert_eq!(waits.status, 0, "{}", fill(site));
        fill_is(site, "succeeded");
        assert_filled(site, "g1", "qcow2");
        site.machine.ok(": >/run/guest-g1.log; [ $(stat -c %h /var/lib/bowline-images/cache/*) = 2 ]");
        site.bowline("start g1").ok();
        assert_eq!(booted(site, "g1").read("vda", LATE[0].0 << 20, LATE[0].1.len()), LATE[0].1);
        site.bowline("delete g1").ok();

        // One bit, behind all that the guest reads: it runs, until it is known.
        site.machine.ok("rm -rf /var/lib/bowline-images/cache");
        slow(site, &format!("flip {}", 30 << 20));
        site.bowline("boot g1 --image big --lazy").ok();
        let failed = fill_is(site, "failed");
        let told = failed["error"]["message"].as_str().unwrap();
        assert!(told.contains("sha512") && told.contains("g1 is paused"), "{failed}");
        waits_for_state(site, "g1", "paused");
        site.kill_agent();
        site.start_agent("");
        let refused = site.bowline("start g1");
        assert!(refused.status == 9 && refused.stderr.contains("bowline delete g1"), "{refused:?}");
        assert_eq!(fill(site)["state"], "failed", "nobody goes on with it");
        waits_for_state(site, "g1", "paused");
        assert_eq!(site.machine.ok("ls /var/lib/bowline-images/cache"), "", "it is not called an image");
        site.bowline("delete g1").ok();
        assert_gone(site, "g1");
    });
}
