//! Extending under a running guest: the bodies of tests that run on the host rig with QEMU's initiator and in the node with the
//! kernel's.

use std::time::Duration;

use super::{Guest, Machine, Site};

const SOON: Duration = Duration::from_secs(60);
/// 512-byte sectors of a GiB, as the guest tells sizes.
const SECTORS: u64 = 2 << 20;

/// Makes a volume that begins with its name, attaches it, and gives its id and the guest's name for the disk.
#[track_caller]
fn attached<M: Machine>(site: &Site<'_, M>, guest: &Guest<'_>, name: &str, bus: &str) -> (String, String) {
    let volume = site.volume(name, name);
    site.bowline(&format!("attach {volume} {} --bus {bus}", guest.name())).ok();
    let serial = if bus == "virtio" { &volume[..20] } else { volume.as_str() };
    let (disk, _) = guest.expect_disk(serial, SOON);
    (volume, disk)
}

/// The service, the journal, libvirt and the guest agree.
#[track_caller]
fn assert_size<M: Machine>(site: &Site<'_, M>, guest: &Guest<'_>, volume: &str, disk: &str, size_gib: u64, context: &str) {
    assert_eq!(site.json(&format!("volume show {volume}"))["volume"]["size_gib"], size_gib, "{context}: the service");
    let attachment = site.json("list")["attachments"][0].clone();
    assert_eq!(attachment["size_bytes"], size_gib << 30, "{context}: the journal");
    let target = attachment["target"].as_str().unwrap();
    let info = site.machine.ok(&format!("virsh domblkinfo {} {target}", guest.name()));
    assert!(info.contains(&(size_gib << 30).to_string()), "{context}: libvirt says {info}");
    let seen = guest.say("ls");
    assert!(seen.contains(&format!("+ {disk} {} ", size_gib * SECTORS)), "{context}: the guest says {seen}");
}

/// The last operation is an extend of the volume, and comes to its end.
#[track_caller]
fn wait_for_last<M: Machine>(site: &Site<'_, M>, volume: &str, context: &str) {
    let operations = site.json("operations --all");
    let last = operations["operations"].as_array().and_then(|all| all.last()).cloned().unwrap_or_default();
    assert_eq!((last["kind"].as_str(), last["volume"].as_str()), (Some("extend"), Some(volume)), "{context}: {operations}");
    let ended = site.machine.exec_for(
        &format!("until bowline show {} | grep -q '^state *succeeded'; do sleep 0.2; done", last["id"].as_str().unwrap()),
        SOON,
    );
    assert_eq!(ended.status, 0, "{context}: {}", site.json("operations --all"));
}

/// Every layer grows, nothing that was written is lost, and the new part can be written.
#[track_caller]
pub fn a_volume_grows_under_its_guest<M: Machine>(site: &Site<'_, M>, guest: &Guest<'_>, bus: &str) {
    let (volume, disk) = attached(site, guest, &format!("grows-{bus}"), bus);
    guest.write(&disk, 5000, "before");
    let plan = site.json(&format!("extend {volume} 3 --dry-run"));
    assert_eq!(plan["plan"]["steps"].as_array().map(Vec::len), Some(3), "{plan}");
    assert_size(site, guest, &volume, &disk, 1, "after a dry run");

    let done = site.json(&format!("extend {volume} 3"));
    assert_eq!(done["operation"]["state"], "succeeded", "{done}");
    guest.expect_line(&format!("= {disk} {}", 3 * SECTORS), SOON);
    assert_size(site, guest, &volume, &disk, 3, "after the extend");
    assert_eq!(guest.read(&disk, 5000, 6), "before");
    let far = (3 << 30) - 8192;
    guest.write(&disk, far, "in the new part");
    assert_eq!(guest.read(&disk, far, 15), "in.the.new.part");
    assert_eq!(site.status(&volume), "in-use");

    for (size_gib, exit_code, word) in [(2, 2, "never shrunk"), (3, 4, "3 GiB already")] {
        let refused = site.bowline(&format!("extend {volume} {size_gib}"));
        assert!(refused.status == exit_code && refused.stderr.contains(word), "{refused:?}");
    }
    site.bowline(&format!("detach {volume}")).ok();
    guest.expect_gone(&disk, SOON);
    site.assert_nothing_left(guest.name(), &volume, "after an extend and a detach");

    // Without a guest it is the service's alone; the next attach proves the size it has then.
    site.bowline(&format!("extend {volume} 4")).ok();
    site.bowline(&format!("attach {volume} {} --bus {bus}", guest.name())).ok();
    let serial = if bus == "virtio" { &volume[..20] } else { volume.as_str() };
    let (disk, _) = guest.expect_disk(serial, SOON);
    assert_size(site, guest, &volume, &disk, 4, "attached again");
    site.bowline(&format!("detach {volume}")).ok();
    site.assert_nothing_left(guest.name(), &volume, "after the second detach");
}

/// Every write that the guest was told is done while the volume grows is there.
#[track_caller]
pub fn writes_during_an_extend_are_kept<M: Machine>(site: &Site<'_, M>, guest: &Guest<'_>) {
    let (volume, disk) = attached(site, guest, "busy", "virtio");
    let name = guest.name();
    let written = site.machine.exec_for(
        &format!(
            "bowline extend {volume} 2 >/run/extended 2>&1 & extend=$!
             n=0; while kill -0 $extend 2>/dev/null || [ $n -lt 5 ]; do
               said=$(guest-say {name} \"w {disk} $((n * 4096 + 8192)) number-$n-end\" 60); [ \"$said\" = 'w {disk} ok' ] || echo \"$n: $said\"
               n=$((n + 1)); done
             wait $extend || cat /run/extended; echo count $n"
        ),
        Duration::from_secs(150),
    );
    let said = written.ok();
    let count = said.strip_prefix("count ").unwrap_or_else(|| panic!("a write failed, or the extend: {said}"));
    for number in 0..count.parse::<u64>().unwrap() {
        let text = format!("number-{number}-end");
        assert_eq!(guest.read(&disk, number * 4096 + 8192, text.len()), text, "of {count}");
    }
    assert_size(site, guest, &volume, &disk, 2, "after writes");
    site.bowline(&format!("detach {volume}")).ok();
    site.assert_nothing_left(name, &volume, "after writes");
}

/// `openstack volume set --size`, and the guest sees it without anybody asking the agent.
#[track_caller]
pub fn an_extension_by_somebody_else_is_noticed<M: Machine>(site: &Site<'_, M>, guest: &Guest<'_>) {
    let (volume, disk) = attached(site, guest, "elsewhere", "virtio");
    let extend = format!(
        "curl -sS --fail-with-body -H \"X-Auth-Token: $(cat /var/lib/bowline-backend/token)\" -H 'Content-Type: application/json' \
         -d '{{\"os-extend\": {{\"new_size\": 2}}}}' http://127.0.0.1:8776/v3/volumes/{volume}/action"
    );
    // A client of before 3.42 does not know that it could.
    assert!(site.machine.exec(&extend).stdout.contains("status must be 'available' to extend"));
    site.machine.ok(&extend.replace("-d ", "-H 'OpenStack-API-Version: volume 3.42' -d "));
    guest.expect_line(&format!("= {disk} {}", 2 * SECTORS), SOON);
    wait_for_last(site, &volume, "noticed");
    assert_size(site, guest, &volume, &disk, 2, "noticed");
    site.bowline(&format!("detach {volume}")).ok();
    site.assert_nothing_left(guest.name(), &volume, "noticed");
}

/// The agent dies at each boundary of an extend; after its restart every layer has the new size.
#[track_caller]
pub fn killed_at_every_boundary_an_extend_is_finished<M: Machine>(site: &Site<'_, M>, guest: &Guest<'_>) {
    let (volume, disk) = attached(site, guest, "extended", "virtio");
    let mut size_gib = 1;
    for step in ["ExtendVolume", "GrowDevice", "ResizeDisk"] {
        for when in ["started", "succeeded"] {
            let at = format!("{step}:{when}");
            size_gib += 1;
            site.stop_agent();
            site.start_agent(&at);
            let output = site.bowline(&format!("--json extend {volume} {size_gib} --no-wait"));
            site.assert_agent_dies(&format!("{at}: {output:?}"));
            site.start_agent("");
            // A service that lets the initiators in anew to show them the size leaves a moment without a session: then the start does
            // not wait, and the operation is tried again.
            wait_for_last(site, &volume, &at);
            guest.expect_line(&format!("= {disk} {}", size_gib * SECTORS), SOON);
            assert_size(site, guest, &volume, &disk, size_gib, &at);
        }
    }
    site.bowline(&format!("detach {volume}")).ok();
    site.assert_nothing_left(guest.name(), &volume, "after extends that were cut");
}
