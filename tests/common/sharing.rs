//! One volume for two guests of a host: the bodies of tests that run on the host rig with QEMU's initiator and in the node with the
//! kernel's.

use std::time::Duration;

use super::{Guest, Machine, Site};

const SOON: Duration = Duration::from_secs(60);

#[track_caller]
fn shared_volume<M: Machine>(site: &Site<'_, M>, name: &str) -> String {
    let made = site.json(&format!("volume create {name} --size 1 --multiattach"));
    assert_eq!(made["volume"]["multiattach"], true, "{made}");
    made["volume"]["id"].as_str().unwrap().to_owned()
}

/// Runs commands side by side; all must succeed.
#[track_caller]
fn side_by_side<M: Machine>(site: &Site<'_, M>, commands: &[String]) {
    let started: String = commands.iter().map(|command| format!("{command} & pids=\"$pids $!\"; ")).collect();
    let all = format!("pids=; {started} failed=0; for p in $pids; do wait $p || failed=1; done; exit $failed");
    site.machine.exec_for(&all, Duration::from_secs(150)).ok();
}

#[track_caller]
fn assert_nothing_left<M: Machine>(site: &Site<'_, M>, guests: [&Guest<'_>; 2], volume: &str, context: &str) {
    for guest in guests {
        site.assert_nothing_left(guest.name(), volume, context);
    }
}

/// Both have it, one may only read; what one writes the other reads; whoever leaves first, the other keeps its disk; the last one's
/// leaving leaves nothing.
#[track_caller]
pub fn two_guests_share_a_volume<M: Machine>(site: &Site<'_, M>, one: &Guest<'_>, two: &Guest<'_>) {
    let volume = shared_volume(site, "shared");
    for (first, last) in [(one, two), (two, one)] {
        let context = format!("{} leaves first", first.name());
        let attach = |guest: &Guest<'_>, more: &str| format!("bowline attach {volume} {} {more}", guest.name());
        side_by_side(site, &[attach(first, ""), attach(last, "--read-only")]);
        let (disk, _) = first.expect_disk(&volume[..20], SOON);
        let (read_only, _) = last.expect_disk(&volume[..20], SOON);
        let text = format!("by-{}", first.name());
        first.write(&disk, 4096, &text);
        assert_eq!(last.read(&read_only, 4096, text.len()), text, "{context}");
        assert!(last.say(&format!("w {read_only} 8192 no")).contains("error"), "{context}: it may only read");
        let refused = site.bowline(&format!("detach {volume}"));
        assert!(refused.status == 2 && refused.stderr.contains("name the one"), "{context}: {refused:?}");

        site.bowline(&format!("detach {volume} {}", first.name())).ok();
        first.expect_gone(&disk, SOON);
        assert_eq!(last.read(&read_only, 4096, text.len()), text, "{context}: the other's disk");
        assert_eq!(site.status(&volume), "in-use", "{context}");
        // It comes back, with the kernel's initiator over the connection that is there.
        site.bowline(&attach(first, "").replace("bowline ", "")).ok();
        let (disk, _) = first.expect_disk(&volume[..20], SOON);
        let extended = site.json(&format!("volume show {volume}"))["volume"]["size_gib"].as_u64().unwrap() + 1;
        site.bowline(&format!("extend {volume} {extended}")).ok();
        // libvirt tells no guest of a size that may only read.
        first.expect_line(&format!("= {disk} {}", extended * (2 << 20)), SOON);
        site.bowline(&format!("detach {volume} {}", first.name())).ok();
        assert_eq!(last.read(&read_only, 4096, text.len()), text, "{context}: the other's disk, again");
        site.bowline(&format!("detach {volume}")).ok();
        first.expect_gone(&disk, SOON);
        last.expect_gone(&read_only, SOON);
        assert_nothing_left(site, [one, two], &volume, &context);
    }
}

/// Attaches and detaches side by side, in every mixture: at the end there is what the last ones say.
#[track_caller]
pub fn comings_and_goings_side_by_side<M: Machine>(site: &Site<'_, M>, one: &Guest<'_>, two: &Guest<'_>) {
    let volume = shared_volume(site, "busy-shared");
    let attach = |guest: &Guest<'_>| format!("bowline attach {volume} {}", guest.name());
    let detach = |guest: &Guest<'_>| format!("bowline detach {volume} {}", guest.name());
    side_by_side(site, &[attach(one), attach(two)]);
    side_by_side(site, &[detach(two), detach(one)]);
    assert_nothing_left(site, [one, two], &volume, "both left side by side");
    for (staying, going) in [(one, two), (two, one)] {
        site.machine.ok(&attach(going));
        // One comes while the only other one leaves.
        side_by_side(site, &[detach(going), attach(staying)]);
        assert_eq!(site.json("list")["attachments"].as_array().map(Vec::len), Some(1));
        assert_eq!(site.machine.ok(&format!("virsh -q domblklist {} | wc -l", staying.name())), "1");
        assert_eq!(site.status(&volume), "in-use");
        site.machine.ok(&detach(staying));
        assert_nothing_left(site, [one, two], &volume, "one came while the other left");
    }
}

/// The agent dies while two attaches, then two detaches are under way, at each boundary that matters for what they share.
#[track_caller]
pub fn killed_between_two_guests_it_ends_with_each_attached_or_not<M: Machine>(
    site: &Site<'_, M>,
    one: &Guest<'_>,
    two: &Guest<'_>,
) {
    let volume = shared_volume(site, "killed-shared");
    let points =
        [("attach", "ConnectVolume"), ("attach", "AttachDisk"), ("detach", "DetachDisk"), ("detach", "DisconnectVolume")];
    for (verb, step) in points {
        for when in ["started", "succeeded"] {
            let at = format!("{verb} of both, killed at {step}:{when}");
            if verb == "detach" {
                for guest in [one, two] {
                    site.bowline(&format!("attach {volume} {}", guest.name())).ok();
                }
            }
            site.stop_agent();
            site.start_agent(&format!("{step}:{when}"));
            site.machine.exec(&format!(
                "bowline {verb} {volume} {} --no-wait & bowline {verb} {volume} {} --no-wait & wait",
                one.name(),
                two.name()
            ));
            site.assert_agent_dies(&at);
            site.start_agent("");
            // One that waits for the other's attach is gone on with beside the service.
            let rest = "until bowline --json operations | jq -e '.operations == []' >/dev/null; do sleep 0.2; done";
            assert_eq!(site.machine.exec_for(rest, SOON).status, 0, "{at}: {}", site.json("operations"));
            let attachments = site.json("list")["attachments"].as_array().cloned().unwrap_or_default();
            let in_service = site.ask_service("/attachments");
            assert_eq!(in_service["attachments"].as_array().map(Vec::len), Some(attachments.len()), "{at}: {in_service}");
            for guest in [one, two] {
                let has = attachments.iter().any(|attachment| attachment["guest_name"] == guest.name());
                let disks = site.machine.ok(&format!("virsh -q domblklist {} | wc -l", guest.name()));
                assert_eq!(disks, if has { "1" } else { "0" }, "{at}: {}", guest.name());
                if has {
                    site.bowline(&format!("detach {volume} {}", guest.name())).ok();
                }
            }
            assert_nothing_left(site, [one, two], &volume, &at);
        }
    }
}
