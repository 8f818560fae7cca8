//! What must hold on every machine: the bodies of tests that run on the host rig with QEMU's initiator and in the node with
//! the kernel's.

use std::time::Duration;

use super::{Guest, Machine, Services, Site};

const SOON: Duration = Duration::from_secs(90);

/// The serial that a guest shows of a volume: virtio-blk passes on its first 20 characters, virtio-scsi all of it.
fn shown_serial<'v>(volume: &'v str, bus: &str) -> &'v str {
    if bus == "virtio" { &volume[..20] } else { volume }
}

#[track_caller]
fn kind_of_refusal<M: Machine>(site: &Site<'_, M>, arguments: &str, exit_code: i32, words: &[&str]) {
    let output = site.bowline(arguments);
    assert_eq!(output.status, exit_code, "bowline {arguments}: {output:?}");
    for word in words {
        assert!(output.stderr.contains(word), "bowline {arguments} does not say {word:?}: {}", output.stderr);
    }
}

/// Attach, the guest reads what is there and writes, detach, attach again: the writes are there. Nothing is left at the end.
#[track_caller]
pub fn a_volume_comes_and_goes_and_keeps_what_was_written<M: Machine>(site: &Site<'_, M>, guest: &Guest<'_>, bus: &str) {
    let volume = site.volume(&format!("data-{bus}"), "written-by-host!");
    let attached = site.json(&format!("attach {volume} {} --bus {bus}", guest.name()));
    assert_eq!(attached["operation"]["state"], "succeeded", "{attached}");
    assert_eq!(attached["attachment"]["serial"], volume.replace('-', ""), "the identity that was proved: {attached}");
    let (disk, head) = guest.expect_disk(shown_serial(&volume, bus), SOON);
    assert_eq!(head, "written-by-host!");
    guest.write(&disk, 5000, "written by the guest");
    assert_eq!(site.status(&volume), "in-use");
    assert_eq!(site.json("list")["attachments"][0]["volume"], volume.as_str());

    site.bowline(&format!("detach {volume} {}", guest.name())).ok();
    guest.expect_gone(&disk, SOON);
    site.assert_nothing_left(guest.name(), &volume, "after a detach");

    site.bowline(&format!("attach data-{bus} {} --bus {bus}", guest.name())).ok();
    let (disk, _) = guest.expect_disk(shown_serial(&volume, bus), SOON);
    assert_eq!(guest.read(&disk, 5000, 20), "written.by.the.guest");
    // At once, before the guest may have looked at it for long: a request it loses is made again.
    site.bowline(&format!("detach {volume}")).ok();
    site.assert_nothing_left(guest.name(), &volume, "after the second detach");
    site.bowline(&format!("volume delete data-{bus}")).ok();
}

/// Detached right after the attach, when the guest has hardly seen the disk.
#[track_caller]
pub fn a_detach_right_after_the_attach_succeeds<M: Machine>(site: &Site<'_, M>, guest: &Guest<'_>) {
    let volume = site.volume("hasty", "x");
    site.machine.ok(&format!("bowline attach {volume} {0} && bowline detach {volume} {0}", guest.name()));
    site.assert_nothing_left(guest.name(), &volume, "after a hasty detach");
}

/// A guest that is off gets the disk in its definition, and sees it when it is started.
#[track_caller]
pub fn a_guest_that_is_off_is_served_too<M: Machine>(site: &Site<'_, M>, guest: &Guest<'_>) {
    let name = guest.name();
    let volume = site.volume("cold", "cold-data-is-here");
    site.machine.ok(&format!("virsh -q destroy {name}"));
    site.bowline(&format!("attach {volume} {name}")).ok();
    assert!(site.machine.ok(&format!("virsh -q domblklist {name} --inactive")).contains("vdb"), "not in the definition");
    site.machine.ok(&format!("virsh -q start {name}"));
    let (disk, head) = guest.expect_disk(shown_serial(&volume, "virtio"), Duration::from_secs(120));
    assert_eq!(head, "cold-data-is-her");
    site.bowline(&format!("detach {volume}")).ok();
    guest.expect_gone(&disk, SOON);
    site.assert_nothing_left(name, &volume, "after the guest was started and let go");
    site.machine.ok(&format!("virsh -q destroy {name}"));
    site.bowline(&format!("attach {volume} {name}")).ok();
    site.bowline(&format!("detach {volume} {name}")).ok();
    site.assert_nothing_left(name, &volume, "after a detach from a guest that is off");
    site.machine.ok(&format!("virsh -q start {name}"));
    guest.expect_line("READY", Duration::from_secs(120));
}

/// The agent dies, by a kill, at each boundary of each step of an attach and of a detach; after its restart each attempt has
/// ended attached or fully undone.
#[track_caller]
pub fn killed_at_every_boundary_it_ends_attached_or_undone<M: Machine>(site: &Site<'_, M>, guest: &Guest<'_>) {
    let name = guest.name();
    let volume = site.volume("survivor", "survivor");
    let attach = ["CreateAttachment", "UpdateAttachment", "ConnectVolume", "VerifyDevice", "AttachDisk", "CompleteAttachment"];
    let detach = ["DetachDisk", "DisconnectVolume", "DeleteAttachment"];
    let attach = attach.iter().map(|step| ("attach", *step));
    let detach = detach.iter().map(|step| ("detach", *step));
    let mut outcomes = vec![];
    for (verb, step) in attach.chain(detach) {
        for when in ["started", "succeeded"] {
            let at = format!("{step}:{when}");
            if verb == "detach" {
                site.bowline(&format!("attach {volume} {name}")).ok();
            }
            site.stop_agent();
            site.start_agent(&at);
            let output = site.bowline(&format!("--json {verb} {volume} {name} --no-wait"));
            site.assert_agent_dies(&format!("{at}: {output:?}"));
            site.start_agent("");
            let operations = site.json("operations --all");
            let last = operations["operations"].as_array().and_then(|all| all.last()).cloned().unwrap_or_default();
            let state = last["state"].as_str().unwrap_or("?").to_owned();
            outcomes.push(format!("{verb} killed at {at}: {state}"));
            let attached = site.json("list")["attachments"].as_array().is_some_and(|list| !list.is_empty());
            assert_eq!(attached, verb == "attach" && state == "succeeded", "{at}: {operations}");
            if attached {
                assert_eq!(site.status(&volume), "in-use", "{at}");
                site.bowline(&format!("detach {volume} {name}")).ok();
            } else {
                let expected = if verb == "attach" { "failed" } else { "succeeded" };
                assert_eq!(state, expected, "{at}: {operations}");
            }
            site.assert_nothing_left(name, &volume, &at);
        }
    }
    println!("{}", outcomes.join("\n"));
    let finished = outcomes.iter().filter(|outcome| outcome.starts_with("attach") && outcome.ends_with("succeeded")).count();
    assert!(finished >= 2, "an attach whose guest has the disk is finished, not undone:\n{}", outcomes.join("\n"));
}

/// Requests that cannot be met: each says what was wrong, and leaves nothing.
#[track_caller]
pub fn bad_requests_are_refused_with_clear_words<M: Machine>(site: &Site<'_, M>, guest: &Guest<'_>) {
    let name = guest.name();
    let volume = site.volume("plain", "plain");
    let other = "00000000-0000-4000-8000-000000000000";
    kind_of_refusal(site, &format!("attach {other} {name}"), 3, &[other]);
    kind_of_refusal(site, &format!("attach no-such-volume {name}"), 3, &["no-such-volume"]);
    kind_of_refusal(site, &format!("attach {volume} nobody"), 3, &["nobody"]);
    kind_of_refusal(site, &format!("attach {volume} {name} --target xyz"), 2, &["xyz"]);
    kind_of_refusal(site, &format!("detach {volume} {name}"), 3, &[&volume]);
    kind_of_refusal(site, "cancel not-an-id", 3, &["not-an-id"]);
    kind_of_refusal(site, "volume create zero --size 0", 2, &["size"]);

    // In use elsewhere: somebody else has reserved it in the service.
    let token = "$(cat /var/lib/bowline-backend/token)";
    let reserve = format!("{{\"attachment\": {{\"volume_uuid\": \"{volume}\", \"instance_uuid\": \"{other}\"}}}}");
    let reserved = site.machine.ok(&format!(
        "curl -sS --fail-with-body -H \"X-Auth-Token: {token}\" -H 'OpenStack-API-Version: volume 3.54' -H 'Content-Type: application/json' \
         -d '{reserve}' http://127.0.0.1:8776/v3/attachments"
    ));
    kind_of_refusal(site, &format!("attach {volume} {name}"), 4, &["reserved", &volume]);
    let reserved: serde_json::Value = serde_json::from_str(&reserved).unwrap();
    let id = reserved["attachment"]["id"].as_str().unwrap();
    site.machine.ok(&format!("curl -sS --fail-with-body -X DELETE -H \"X-Auth-Token: {token}\" -H 'OpenStack-API-Version: volume 3.54' http://127.0.0.1:8776/v3/attachments/{id}"));
    site.assert_nothing_left(name, &volume, "after requests that were refused");

    site.bowline(&format!("attach {volume} {name}")).ok();
    kind_of_refusal(site, &format!("attach {volume} {name}"), 4, &["already attached"]);
    kind_of_refusal(site, "volume delete plain", 4, &["must be available"]);
    site.bowline(&format!("detach {volume} {name}")).ok();
    site.assert_nothing_left(name, &volume, "after requests that were refused");
}

/// The service tells something that is not so, or nothing that makes sense: the attach is refused, unwound and explained, and the
/// guest never sees a disk.
#[track_caller]
pub fn what_is_not_so_never_reaches_the_guest<M: Machine>(site: &Site<'_, M>, guest: &Guest<'_>) {
    let name = guest.name();
    let volume = site.volume("wanted", "wanted");
    let lies = [
        ("auth_password=wrong-password-12", 6, "CHAP"),
        ("target_portal=127.0.0.1:9", 7, "127.0.0.1:9"),
        ("target_lun=9", 3, "9"),
        ("scsi_serial=not-this-one", 9, "not-this-one"),
        ("size=2", 9, "GiB"),
        ("target_iqn=../../etc/passwd", 70, "target_iqn"),
        ("status=500", 7, "500"),
        ("garbage", 70, "JSON"),
        ("mute:/attachments", 7, "attachment"),
    ];
    for (lie, exit_code, word) in lies {
        site.lie(lie);
        let output = site.bowline(&format!("attach {volume} {name}"));
        let told = &output.stderr;
        let fitting = output.status == exit_code || (lie == "target_lun=9" && matches!(output.status, 7 | 8));
        assert!(fitting && told.contains(word), "{lie}: {output:?}");
        site.stop_lying();
        site.assert_nothing_left(name, &volume, lie);
        assert_eq!(guest.say("ls"), "", "{lie}: the guest has a disk");
    }
}

/// The service is away: said at once, nothing left, and it works again when the service is back.
#[track_caller]
pub fn a_service_that_is_away_is_told<M: Machine>(site: &Site<'_, M>, guest: &Guest<'_>) {
    let volume = site.volume("away", "away");
    site.stop_service();
    kind_of_refusal(site, &format!("attach {volume} {}", guest.name()), 7, &["8776"]);
    site.start_service();
    site.bowline(&format!("attach {volume} {}", guest.name())).ok();
    // Its exports outlive a restart: the guest goes on reading and writing.
    let (disk, _) = guest.expect_disk(shown_serial(&volume, "virtio"), SOON);
    site.stop_service();
    site.start_service();
    guest.write(&disk, 4096, "after the restart");
    site.bowline(&format!("detach {volume}")).ok();
    site.assert_nothing_left(guest.name(), &volume, "after the service was away");
}

/// libvirtd is away: said at once, nothing left; the agent finds it again when it is back.
#[track_caller]
pub fn a_libvirtd_that_is_away_is_told<M: Machine>(site: &Site<'_, M>, guest: &Guest<'_>, stop: &str, start: &str) {
    let volume = site.volume("no-libvirt", "x");
    site.bowline(&format!("attach {volume} {}", guest.name())).ok();
    site.bowline(&format!("detach {volume} {}", guest.name())).ok();
    site.machine.ok(stop);
    kind_of_refusal(site, &format!("attach {volume} {}", guest.name()), 7, &["libvirt"]);
    site.machine.ok(start);
    site.bowline(&format!("attach {volume} {}", guest.name())).ok();
    site.bowline(&format!("detach {volume} {}", guest.name())).ok();
    site.assert_nothing_left(guest.name(), &volume, "after libvirtd was away");
}

/// No CHAP secret stands on an argument list, in a log, in a guest's definition or in the journal. Each place is first shown to be
/// one where it would be seen.
#[track_caller]
pub fn secrets_stay_secret<M: Machine>(site: &Site<'_, M>, guest: &Guest<'_>, services: Services) {
    let machine = site.machine;
    let volume = site.volume("private", "x");
    if services == Services::Systemd {
        // The agent's only command; the node's root is the node's own.
        machine.ok("mv /usr/sbin/iscsiadm /usr/sbin/iscsiadm.real");
        machine.write(
            "/usr/sbin/iscsiadm",
            "#!/bin/sh\necho \"$@\" >>/run/lock/iscsi/arguments\nexec /usr/sbin/iscsiadm.real \"$@\"",
        );
        machine.ok("chmod 755 /usr/sbin/iscsiadm");
    }
    let attached = site.json(&format!("attach {volume} {}", guest.name()));
    let id = attached["attachment"]["id"].as_str().unwrap();
    let shown = site.ask_service(&format!("/attachments/{id}"));
    let secret = shown["attachment"]["connection_info"]["auth_password"].as_str().unwrap().to_owned();
    assert!(secret.len() >= 12, "{secret:?} is no CHAP secret");
    let definition = format!("virsh dumpxml --security-info {}", guest.name());
    let mut places = vec![
        ("the journal", "cat /var/lib/bowline/journal.redb", volume.as_str()),
        ("the guest's definition", definition.as_str(), volume.as_str()),
    ];
    match services {
        Services::Processes => {
            places.push(("the agent's log", "cat /run/bowlined.log", "ready:"));
            places.push(("the service's log", "cat /run/bowline-backend.log", volume.as_str()));
        }
        Services::Systemd => {
            places.push(("the system's log", "journalctl -b --no-pager -a -o json", volume.as_str()));
            places.push(("an argument list", "cat /run/lock/iscsi/arguments", "--login"));
        }
    }
    for (place, read, known) in places {
        let count = |word: &str| machine.ok(&format!("{read} >/run/place && {{ grep -caF -e '{word}' /run/place || :; }}"));
        assert_ne!(count(known), "0", "{place} does not even hold {known:?}");
        assert_eq!(count(&secret), "0", "the secret stands in {place}");
    }
    site.bowline(&format!("detach {volume}")).ok();
    if services == Services::Systemd {
        machine.ok("mv /usr/sbin/iscsiadm.real /usr/sbin/iscsiadm");
    }
    site.assert_nothing_left(guest.name(), &volume, "after looking for secrets");
}
