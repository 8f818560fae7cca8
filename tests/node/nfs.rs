//! Volumes that are files of a kernel NFS server, under the agent's installed unit: what systemd mounts for it, QEMU sees.
//!
//! `nfs-service` stands in for the volume service, since it can also tell what is not so; `backend_nfs` has the bundled one.

use std::time::{Duration, Instant};

use crate::common::{Guest, Machine, Node, Services, Site};

pub(super) const SOON: Duration = Duration::from_secs(90);
/// How long an export may take; the tests of dead servers wait for it.
pub(super) const MOUNT_TIMEOUT_S: u64 = 5;

pub(super) fn in_node(name: &str, test: impl FnOnce(&Site<'_, Node>, &Guest<'_>)) {
    let node = Node::with_bowline(name);
    node.ok("nfs-up");
    start_service(&node, "127.0.0.1:/");
    node.ok("mkdir -p /etc/bowline/bowlined.d");
    node.write("/etc/bowline/bowlined.d/10-cloud.toml", "[cloud]\nfile = \"/var/lib/bowline-backend/clouds.yaml\"");
    node.write("/etc/bowline/bowlined.d/20-test.toml", &format!("[nfs]\nmount_timeout_s = {MOUNT_TIMEOUT_S}"));
    let site = Site::at(&node, Services::Systemd);
    site.start_agent("");
    let guest = node.persistent_guest("g1");
    test(&site, &guest);
}

/// Starts the stand-in, which says of its volumes that they are files of this export.
pub(super) fn start_service(node: &Node, export: &str) {
    node.ok(&format!(
        "[ ! -e /run/nfs-service.pid ] || {{ p=$(cat /run/nfs-service.pid); kill $p; timeout 20 tail --pid=$p -f /dev/null; }}
         rm -f /run/nfs-service.log; setsid nfs-service {export} /srv/nfs >/run/nfs-service.log 2>&1 </dev/null & echo $! >/run/nfs-service.pid
         wait-for-line /run/nfs-service.log ready:"
    ));
}

/// Makes a volume of a format whose guest reads `text` at its start; returns its id.
pub(super) fn volume(site: &Site<'_, Node>, name: &str, format: &str, text: &str) -> String {
    let made = site.json(&format!("volume create {name} --size 1 --type {format}"));
    let id = made["volume"]["id"].as_str().unwrap_or_else(|| panic!("no id in {made}")).to_owned();
    site.machine.ok(&format!(
        "printf %-512s '{text}' >/run/text && qemu-io -f {format} -c 'write -q -s /run/text 0 512' /srv/nfs/volume-{id}"
    ));
    id
}

/// What the guest reads at an offset of a volume's file, asked of the file itself.
pub(super) fn in_file(node: &Node, id: &str, format: &str, offset: u64, length: usize) -> String {
    node.ok(&format!(
        "qemu-img convert -U -f {format} -O raw /srv/nfs/volume-{id} /run/flat && tail -c +{} /run/flat | head -c {length}; rm /run/flat",
        offset + 1
    ))
}

pub(super) fn mounts(node: &Node) -> String {
    node.ok("awk '$3 ~ /^nfs4?$/ { print $1, $2 }' /proc/mounts")
}

#[track_caller]
pub(super) fn assert_nothing_left(site: &Site<'_, Node>, volume: &str, context: &str) {
    site.assert_nothing_attached("g1", volume, context);
    assert_eq!(mounts(site.machine), "", "{context}: mounts");
    let left = site.machine.ok("find /run/bowline/mnt /run/bowline/mnt-users -mindepth 1 2>/dev/null || :");
    assert_eq!(left, "", "{context}: folders");
    let units = site.machine.ok("systemctl list-units --all --plain --no-legend 'run-bowline-mnt*'");
    assert_eq!(units, "", "{context}: units");
}

/// A larger file becomes a larger disk of the running guest.
fn grows(site: &Site<'_, Node>, guest: &Guest<'_>, id: &str, disk: &str) {
    site.bowline(&format!("extend {id} 2")).ok();
    guest.expect_line(&format!("= {disk} {}", 2 << 21), SOON);
    assert_eq!(site.machine.ok(&format!("stat -c %s /srv/nfs/volume-{id}")), (2_u64 << 30).to_string());
    guest.write(disk, (2 << 30) - 8192, "in the new part");
    assert_eq!(in_file(site.machine, id, "raw", (2 << 30) - 8192, 15), "in the new part");
}

#[test]
fn files_of_both_formats_come_and_go_and_their_export_with_the_last() {
    in_node("nfs-files", |site, guest| {
        let node = site.machine;
        let raw = volume(site, "raw", "raw", "a raw file");
        let qcow2 = volume(site, "layered", "qcow2", "a qcow2 file");
        for (id, format, head) in [(&raw, "raw", "a.raw.file......"), (&qcow2, "qcow2", "a.qcow2.file....")] {
            let attached = site.json(&format!("attach {id} g1"));
            assert_eq!(attached["operation"]["state"], "succeeded", "{attached}");
            let (disk, seen) = guest.expect_disk(&id[..20], SOON);
            assert_eq!(seen, head);
            guest.write(&disk, 70_000, &format!("guest to {format}"));
            if format == "raw" {
                grows(site, guest, id, &disk);
            }
        }
        let mounted = mounts(node);
        assert_eq!(mounted.lines().count(), 1, "one mount for both: {mounted}");
        let place = mounted.split(' ').nth(1).unwrap();
        let options = node.ok(&format!("findmnt -no OPTIONS {place}"));
        for option in ["nosuid", "nodev", "noexec", "hard", "vers=4.2"] {
            assert!(options.split(',').any(|found| found == option), "{option} in {options}");
        }
        assert_eq!(node.ok("systemctl is-active bowlined"), "active");

        site.bowline(&format!("detach {raw}")).ok();
        assert_eq!(mounts(node), mounted, "the other volume still needs it");
        // A new agent knows the users of a mount from before.
        site.stop_agent();
        site.start_agent("");
        site.bowline(&format!("detach {qcow2}")).ok();
        assert_eq!(in_file(node, &raw, "raw", 70_000, 12), "guest to raw");
        assert_eq!(in_file(node, &qcow2, "qcow2", 70_000, 14), "guest to qcow2");
        for id in [&raw, &qcow2] {
            assert_nothing_left(site, id, "after the last detach");
        }
    });
}

#[test]
fn what_is_no_file_of_the_volume_never_reaches_the_guest() {
    in_node("nfs-lies", |site, guest| {
        let node = site.machine;
        let id = volume(site, "lie", "raw", "x");
        let file = format!("/srv/nfs/volume-{id}");
        let refused = |how: &str, status: i32, words: &str| {
            node.ok(&format!("rm -f {file}; {how}"));
            let output = site.bowline(&format!("attach {id} g1"));
            assert_eq!(output.status, status, "{how}: {output:?}");
            assert!(output.stderr.contains(words), "{how}: {output:?}");
            assert_nothing_left(site, &id, how);
        };
        refused("true", 3, "has no file");
        refused(&format!("truncate -s 1G /root/secret; ln -s /root/secret {file}"), 9, "symbolic link");
        refused(&format!("mkfifo {file}"), 9, "pipe");
        refused(&format!("truncate -s 2G {file}"), 9, "2147483648 bytes");
        for (options, status, words) in [("suid", 2, "\"suid\""), ("-o hard,exec", 2, "\"exec\""), ("bg", 2, "\"bg\"")] {
            refused(&format!("truncate -s 1G {file}; echo '{options}' >/srv/nfs-options"), status, words);
        }
        // What the service asks for is what is mounted.
        node.ok("echo '-o vers=4.1,soft' >/srv/nfs-options");
        site.bowline(&format!("attach {id} g1")).ok();
        let options = node.ok("findmnt -nt nfs4 -o OPTIONS");
        assert!(options.contains("vers=4.1") && options.contains("soft"), "{options}");
        guest.expect_disk(&id[..20], SOON);
        site.bowline(&format!("detach {id}")).ok();
        node.ok("rm /srv/nfs-options");

        // A guest can write any header into its raw disk: it stays bytes.
        node.ok(&format!("rm -f {file}; qemu-img create -q -f qcow2 {file} 1G && truncate -s 1G {file}"));
        site.bowline(&format!("attach {id} g1")).ok();
        let (_, head) = guest.expect_disk(&id[..20], SOON);
        assert!(head.starts_with("QFI"), "the guest sees the header itself: {head}");
        site.bowline(&format!("detach {id}")).ok();

        let layered = volume(site, "layered", "qcow2", "x");
        let file = format!("/srv/nfs/volume-{layered}");
        for (make, words) in [
            (format!("qemu-img create -q -f qcow2 -F raw -b /root/secret {file} 1G"), "backing file"),
            (format!("qemu-img create -q -f qcow2 -o data_file=/srv/nfs/elsewhere {file} 1G"), "another file"),
            (format!("truncate -s 1G {file}"), "does not begin as one"),
        ] {
            node.ok(&format!("rm -f {file}; {make}"));
            let output = site.bowline(&format!("attach {layered} g1"));
            assert_ne!(output.status, 0, "{make}");
            assert!(output.stderr.contains(words), "{make}: {output:?}");
            assert_nothing_left(site, &layered, &make);
        }
    });
}

/// A server that is silent, refuses, or dies with volumes attached: the attach fails in its time, and the agent answers meanwhile.
#[test]
fn a_dead_server_holds_up_nobody() {
    in_node("nfs-dead", |site, guest| {
        let node = site.machine;
        let first = volume(site, "first", "raw", "first");
        let second = volume(site, "second", "raw", "second");

        node.ok("nfs-down");
        let output = site.bowline(&format!("attach {first} g1"));
        assert!(output.stderr.contains("127.0.0.1:/") && output.stderr.contains("refused"), "{output:?}");
        assert_nothing_left(site, &first, "after a server that refuses connections");

        node.write("/run/silent.py", "import socket\ns = socket.create_server((\"127.0.0.1\", 2049))\nprint(\"ready\", flush=True)\nwhile True: keep = s.accept()[0], globals().get(\"keep\")");
        node.ok("python3 /run/silent.py >/run/silent.log 2>&1 & echo $! >/run/silent.pid; wait-for-line /run/silent.log ready");
        fails_in_time(site, &first, "silent server");
        node.ok("p=$(cat /run/silent.pid); kill $p; timeout 50 tail --pid=$p -f /dev/null");
        assert_nothing_left(site, &first, "after a silent server");

        node.ok("nfs-up");
        site.bowline(&format!("attach {first} g1")).ok();
        let (disk, _) = guest.expect_disk(&first[..20], SOON);
        node.ok("nfs-down");
        fails_in_time(site, &second, "server that died");
        node.ok("nfs-up");
        site.bowline(&format!("attach {second} g1")).ok();
        guest.expect_disk(&second[..20], SOON);
        guest.write(&disk, 5000, "after the server came back");
        for id in [&first, &second] {
            site.bowline(&format!("detach {id}")).ok();
        }
        assert_nothing_left(site, &first, "after the server came back");
        assert_nothing_left(site, &second, "after the server came back");
    });
}

#[track_caller]
fn fails_in_time(site: &Site<'_, Node>, volume: &str, context: &str) {
    let begun = Instant::now();
    site.bowline(&format!("attach {volume} g1 --no-wait")).ok();
    let asked = Instant::now();
    site.bowline("list").ok();
    assert!(asked.elapsed() < Duration::from_secs(3), "{context}: the agent took {:?} to answer", asked.elapsed());
    // The same request again is the same operation.
    let output = site.bowline(&format!("attach {volume} g1"));
    let took = begun.elapsed();
    assert_ne!(output.status, 0, "{context}: {output:?}");
    assert!(output.stderr.contains("did not answer") || output.stderr.contains("does not answer"), "{context}: {output:?}");
    assert!(took < Duration::from_secs(6 * MOUNT_TIMEOUT_S), "{context}: it took {took:?}");
}

/// Killed while its volume is mounted; and after a power cut the same file is there before the guest is.
#[test]
fn a_killed_agent_leaves_no_mount_and_a_power_cut_brings_it_back() {
    let mut id = String::new();
    let mut node = Node::with_bowline("nfs-crash");
    node.ok("nfs-up");
    start_service(&node, "127.0.0.1:/");
    node.ok("mkdir -p /etc/bowline/bowlined.d");
    node.write("/etc/bowline/bowlined.d/10-cloud.toml", "[cloud]\nfile = \"/var/lib/bowline-backend/clouds.yaml\"");
    {
        let site = Site::at(&node, Services::Systemd);
        let guest = node.persistent_guest("g1");
        site.start_agent("");
        id.push_str(&volume(&site, "kept", "qcow2", "kept"));
        for at in ["ConnectVolume:started", "ConnectVolume:succeeded", "AttachDisk:started"] {
            site.stop_agent();
            site.start_agent(at);
            site.bowline(&format!("attach {id} g1 --no-wait"));
            site.assert_agent_dies(at);
            assert_eq!(mounts(&node).is_empty(), at.ends_with("Volume:started"), "{at}");
            site.start_agent("");
            assert_nothing_left(&site, &id, at);
        }
        site.bowline(&format!("attach {id} g1")).ok();
        let (disk, _) = guest.expect_disk(&id[..20], SOON);
        guest.write(&disk, 5000, "before the power cut");
        node.ok("sync");
    }
    node.kill();
    node.up_again();
    node.ok("nfs-up");
    start_service(&node, "127.0.0.1:/");
    let site = Site::at(&node, Services::Systemd);
    site.start_agent("");
    assert_eq!(mounts(&node).lines().count(), 1, "mounted again once the agent is ready");
    let guest = node.started_guest("g1");
    let (disk, _) = guest.expect_disk(&id[..20], Duration::from_secs(60));
    assert_eq!(guest.read(&disk, 5000, 20), "before.the.power.cut");
    site.bowline(&format!("detach {id}")).ok();
    assert_nothing_left(&site, &id, "after a power cut, a boot and a detach");
}
