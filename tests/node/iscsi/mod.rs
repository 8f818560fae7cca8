//! iSCSI volumes on targets of the kernel's own (LIO) and of tgt, in all the ways connection info can tell of them.
//!
//! The bundled volume service exports one LUN on one target without any of this, so `iscsi-service` stands in for one and tells what the
//! test wants it to.

mod access;
mod sessions;
mod wrong_device;

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{Guest, Machine, Node, Services, Site, in_any_node};

pub(super) const SOON: Duration = Duration::from_secs(90);

/// Deadlines that a test can wait for.
pub(super) const KERNEL: &str =
    "[iscsi]\ninitiator = \"kernel\"\ndevice_timeout_s = 5\nlogin_timeout_s = 10\n[libvirt]\ndetach_timeout_s = 90";
pub(super) const QEMU: &str = "[iscsi]\ninitiator = \"qemu\"\nlogin_timeout_s = 10\n[libvirt]\ndetach_timeout_s = 90";

/// A LUN of 1 GiB, in lio-up's words, whose serial is that of nobody else.
pub(super) fn lun(number: u32, serial: &str) -> String {
    format!("--lun {number},mib=1024,serial={serial}")
}

pub(super) fn iqn(target: &str) -> String {
    format!("iqn.2026-01.org.bowline.lio:{target}")
}

/// What the service tells of a LUN on one portal.
pub(super) fn told(target: &str, portal: &str, lun: u64) -> Value {
    json!({"target_portal": portal, "target_iqn": iqn(target), "target_lun": lun})
}

/// A node with the stand-in, the agent with `fragment`, and a guest.
pub(super) fn in_node(name: &str, fragment: &str, test: impl FnOnce(&Site<'_, Node>, &Guest<'_>)) {
    in_any_node(name, |node, guest| {
        node.ok("mkdir -p /srv/iscsi /etc/bowline/bowlined.d
            setsid iscsi-service /srv/iscsi >/run/iscsi-service.log 2>&1 </dev/null &
            wait-for-line /run/iscsi-service.log ready:");
        node.write("/etc/bowline/bowlined.d/10-cloud.toml", "[cloud]\nfile = \"/var/lib/bowline-backend/clouds.yaml\"");
        node.write("/etc/bowline/bowlined.d/20-test.toml", fragment);
        let site = Site::at(node, Services::Systemd);
        site.start_agent("");
        test(&site, guest);
    });
}

/// The agent begins anew with these settings.
#[track_caller]
pub(super) fn with_settings(site: &Site<'_, Node>, fragment: &str) {
    site.stop_agent();
    site.machine.write("/etc/bowline/bowlined.d/20-test.toml", fragment);
    site.start_agent("");
}

/// The service tells this of the volume from now on.
#[track_caller]
pub(super) fn tell(node: &Node, name: &str, info: &Value) {
    node.write(&format!("/srv/iscsi/{name}.json"), &info.to_string());
}

/// Makes a volume of 1 GiB of which the service tells this; returns its id.
#[track_caller]
pub(super) fn volume(site: &Site<'_, Node>, name: &str, info: &Value) -> String {
    tell(site.machine, name, info);
    let made = site.json(&format!("volume create {name} --size 1"));
    made["volume"]["id"].as_str().unwrap_or_else(|| panic!("no id in {made}")).to_owned()
}

/// Writes text at the start of the file behind a LUN.
#[track_caller]
pub(super) fn mark(node: &Node, target: &str, lun: u32, text: &str) {
    node.ok(&format!("printf '%s' '{text}' | dd of=/run/lio/{target}-{lun}.img conv=notrunc status=none"));
}

/// What is at an offset of the file behind a LUN.
#[track_caller]
pub(super) fn behind(node: &Node, target: &str, lun: u32, offset: u64, length: usize) -> String {
    node.ok(&format!("tail -c +{} /run/lio/{target}-{lun}.img | head -c {length} | tr '\\0' _", offset + 1))
}

/// Attaches, has the guest read `text` and write, and finds the writing behind the LUN; detaches, and nothing is left.
#[track_caller]
pub(super) fn comes_and_goes(site: &Site<'_, Node>, guest: &Guest<'_>, id: &str, behind_it: (&str, u32), text: &str) {
    let (target, lun) = behind_it;
    mark(site.machine, target, lun, text);
    let attached = site.json(&format!("attach {id} g1"));
    assert_eq!(attached["operation"]["state"], "succeeded", "{attached}");
    let (disk, head) = guest.expect_disk(&id[..20], SOON);
    assert!(head.starts_with(&text.replace(' ', ".")[..text.len().min(16)]), "{head:?} is not {text:?}");
    guest.write(&disk, 9000, "by the guest");
    assert_eq!(behind(site.machine, target, lun, 9000, 12), "by the guest");
    site.bowline(&format!("detach {id}")).ok();
    guest.expect_gone(&disk, SOON);
    site.assert_nothing_attached("g1", id, text);
}

/// An attach that must be refused: with this exit code and these words, without a trace, and the guest has no disk.
#[track_caller]
pub(super) fn refused(site: &Site<'_, Node>, guest: &Guest<'_>, id: &str, exit_code: i32, words: &[&str], context: &str) {
    let output = site.bowline(&format!("attach {id} g1"));
    assert_eq!(output.status, exit_code, "{context}: {output:?}");
    for word in words {
        assert!(output.stderr.contains(word), "{context}: no {word:?} in {output:?}");
    }
    site.assert_nothing_attached("g1", id, context);
    assert_eq!(guest.say("ls"), "", "{context}: the guest has a disk");
}

/// Sessions of this host's kernel.
#[track_caller]
pub(super) fn sessions(node: &Node) -> usize {
    node.ok("ls /sys/class/iscsi_session 2>/dev/null | wc -l").parse().unwrap()
}

/// Waits until this host's kernel has no session: an attempt to bring a volume back has one, for as long as it takes.
#[track_caller]
pub(super) fn expect_no_session(node: &Node) {
    node.ok("exec 3< <(exec udevadm monitor --kernel --subsystem-match=iscsi_session)
        trap 'kill $!' EXIT
        read -r -t 30 -u 3 # it listens
        while ls /sys/class/iscsi_session/* >/dev/null 2>&1; do read -r -t 30 -u 3 || exit 1; done");
}

/// What the agent has logged since the boot, an entry a line, with all of its fields: what an entry is about is in those.
#[track_caller]
pub(super) fn agent_log(node: &Node) -> String {
    // The journal may not have taken in yet what the agent has sent it.
    node.ok("journalctl --sync; journalctl -b -u bowlined --no-pager -a -o json")
}
