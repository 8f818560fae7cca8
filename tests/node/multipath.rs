//! Several paths to one volume: two portals of one target, put together by the node's multipathd.
//!
//! A portal is taken away by taking its address from the loopback device; a route to that device makes packets to it vanish
//! without a word, as behind a broken switch.

use std::time::{Duration, Instant};

use crate::common::{Guest, Machine, Node, Services, Site, cases, in_any_node};

const FRAGMENT: &str = "[iscsi]\ninitiator = \"kernel\"\nmultipath = \"preferred\"\ndevice_timeout_s = 10\nlogin_timeout_s = 20\n\
     [libvirt]\ndetach_timeout_s = 90";

const SOON: Duration = Duration::from_secs(90);
const PORTALS: [&str; 2] = ["10.99.0.1", "10.99.0.2"];

/// A node whose volume service has two portals. `multipath_conf`: the administrator's settings, if any.
fn in_node(name: &str, multipath_conf: &str, test: impl FnOnce(&Site<'_, Node>, &Guest<'_>)) {
    in_any_node(name, |node, guest| {
        // The initiator notices a dead portal within two seconds instead of ten.
        node.ok("ip address add 10.99.0.1/32 dev lo; ip address add 10.99.0.2/32 dev lo
             cp -a /etc/iscsi/iscsid.conf /run/iscsid.conf
             printf 'node.conn[0].timeo.noop_out_interval = 1\\nnode.conn[0].timeo.noop_out_timeout = 1\\n' >>/etc/iscsi/iscsid.conf
             systemctl -q unmask multipathd.service multipathd.socket
             mkdir -p /run/systemd/system/bowline-backend.service.d
             printf '[Service]\\nExecStart=\\nExecStart=/usr/bin/bowline-backend serve --config /etc/bowline/backend.toml\\n' \
               >/run/systemd/system/bowline-backend.service.d/test.conf
             systemctl daemon-reload; modprobe dm-multipath; mkdir -p /etc/bowline");
        node.write(
            "/etc/bowline/backend.toml",
            "[targets.tgt]\nportal = \"10.99.0.1:3260\"\nextra_portals = [\"10.99.0.2:3260\"]",
        );
        if !multipath_conf.is_empty() {
            node.write("/etc/multipath.conf", multipath_conf);
        }
        node.ok("systemctl start multipathd");
        test(&Site::start(node, Services::Systemd, FRAGMENT), guest);
        node.ok("systemctl stop multipathd.service multipathd.socket; systemctl -q mask multipathd.service multipathd.socket
             ip address del 10.99.0.1/32 dev lo; ip address del 10.99.0.2/32 dev lo
             rm -f /etc/multipath.conf; cp -a /run/iscsid.conf /etc/iscsi/");
    });
}

fn cut(node: &Node, portal: &str) {
    node.ok(&format!("ip address del {portal}/32 dev lo && ip route add {portal}/32 dev lo"));
}

fn mend(node: &Node, portal: &str) {
    node.ok(&format!("ip route del {portal}/32 dev lo && ip address add {portal}/32 dev lo"));
}

/// Waits until multipathd has said this, at the `count`th time or later.
#[track_caller]
fn expect_said(node: &Node, words: &str, count: usize) {
    node.exec_for(
        &format!("grep -m {count} -E '{words}' <(journalctl -b -f --no-tail -u multipathd -o cat --no-pager) | tail -n 1"),
        Duration::from_secs(60),
    )
    .ok();
}

/// The WWID that multipathd gives the volume: its id in a designator whose first digit says of what kind it is.
fn wwid_of(volume: &str) -> String {
    format!("36{}", &volume.replace('-', "")[1..])
}

/// What the volume's own name leads to, and the disks in it.
fn map_of(node: &Node, volume: &str) -> (String, usize) {
    let map = node.ok(&format!("basename $(readlink /run/bowline/volumes/{volume})"));
    let uuid = node.ok(&format!("cat /sys/block/{map}/dm/uuid 2>/dev/null || echo no map"));
    let disks = node.ok(&format!("ls /sys/block/{map}/slaves 2>/dev/null | wc -l"));
    (uuid, disks.parse().unwrap())
}

#[track_caller]
fn assert_nothing_left(site: &Site<'_, Node>, volume: &str, context: &str) {
    site.assert_nothing_left("g1", volume, context);
    let left = site.machine.ok("ls -d /sys/block/dm-* /sys/block/sd* /run/bowline/claims/* 2>/dev/null || :");
    assert_eq!(left, "", "{context}");
}

/// Every layer has the new size after an extend: both disks, their map, the guest's disk.
#[track_caller]
fn grows(site: &Site<'_, Node>, guest: &Guest<'_>, volume: &str, disk: &str) {
    const SECTORS: u64 = 3 << 21;
    let done = site.json(&format!("extend {volume} 3"));
    assert_eq!(done["operation"]["state"], "succeeded", "{done}");
    let sizes = site
        .machine
        .ok(&format!("cd /sys/block/$(basename $(readlink /run/bowline/volumes/{volume})) && cat size slaves/*/size"));
    assert_eq!(sizes, [SECTORS; 3].map(|sectors| sectors.to_string()).join("\n"), "the map and its disks");
    guest.expect_line(&format!("= {disk} {SECTORS}"), SOON);
    let far = (3 << 30) - 8192;
    guest.write(disk, far, "in the new part");
    assert_eq!(guest.read(disk, far, 15), "in.the.new.part");
}

/// A guest goes on reading and writing while one path after the other is lost and comes back.
#[test]
fn a_guest_keeps_its_volume_while_paths_come_and_go() {
    in_node("paths-come-and-go", "", |site, guest| {
        let node = site.machine;
        let volume = site.volume("two-ways", "by-either-way---");
        let begun = Instant::now();
        site.bowline(&format!("attach {volume} g1")).ok();
        let usual = begun.elapsed();
        let (uuid, disks) = map_of(node, &volume);
        assert_eq!((uuid, disks), (format!("mpath-{}", wwid_of(&volume)), 2));
        let (disk, head) = guest.expect_disk(&volume[..20], SOON);
        assert_eq!(head, "by-either-way---");
        grows(site, guest, &volume, &disk);

        cut(node, PORTALS[0]);
        guest.write(&disk, 5000, "over the second");
        assert_eq!(guest.read(&disk, 5000, 15), "over.the.second");
        expect_said(node, "remaining active paths: 1", 1);
        mend(node, PORTALS[0]);
        expect_said(node, "remaining active paths: 2", 1);
        // Only now has the other one to carry what the first did.
        cut(node, PORTALS[1]);
        guest.write(&disk, 9000, "over the first");
        assert_eq!(guest.read(&disk, 9000, 14), "over.the.first");
        expect_said(node, "remaining active paths: 1", 2);

        // Detached with one path dead.
        let begun = Instant::now();
        site.bowline(&format!("detach {volume}")).ok();
        assert!(begun.elapsed() < Duration::from_secs(60), "a dead path held up the detach: {:?}", begun.elapsed());
        guest.expect_gone(&disk, SOON);
        assert_nothing_left(site, &volume, "detached with a path dead");

        // Attached with one portal down, which answers nothing at all: the guest has its disk after the grace, not after the login's deadline.
        let begun = Instant::now();
        site.bowline(&format!("attach {volume} g1")).ok();
        let longer = begun.elapsed().saturating_sub(usual);
        assert!(longer < Duration::from_secs(15), "a dead portal held up the attach: by {longer:?}, beside {usual:?}");
        assert_eq!(map_of(node, &volume).1, 1);
        let (disk, _) = guest.expect_disk(&volume[..20], SOON);
        assert_eq!(guest.read(&disk, 9000, 14), "over.the.first");
        mend(node, PORTALS[1]);
        site.bowline(&format!("detach {volume}")).ok();
        assert_nothing_left(site, &volume, "attached over one of two paths");
    });
}

#[test]
fn no_path_at_all_is_told_and_undone() {
    in_node("no-path", "", |site, _guest| {
        let volume = site.volume("unreachable", "x");
        for portal in PORTALS {
            site.machine.ok(&format!("ip address del {portal}/32 dev lo"));
        }
        let output = site.bowline(&format!("attach {volume} g1"));
        assert_eq!(output.status, 7, "{output:?}");
        assert!(output.stderr.contains("10.99.0."), "{output:?}");
        assert_nothing_left(site, &volume, "both portals down");
    });
}

/// What the settings ask for and the host has not is told; what they allow is done without.
#[test]
fn without_multipathd_one_path_is_used_or_it_is_refused() {
    in_node("no-multipathd", "", |site, guest| {
        let node = site.machine;
        node.ok("systemctl -q stop multipathd.socket multipathd.service");
        let volume = site.volume("single", "x");
        site.bowline(&format!("attach {volume} g1")).ok();
        assert_eq!(node.ok("ls /sys/class/iscsi_session | wc -l"), "1");
        guest.expect_disk(&volume[..20], SOON);
        // Connected over one path, it is disconnected as that, whatever runs and is set by then.
        node.ok("systemctl start multipathd");
        node.ok("sed -i s/preferred/required/ /etc/bowline/bowlined.d/20-test.toml");
        site.stop_agent();
        site.start_agent("");
        site.bowline(&format!("detach {volume}")).ok();
        assert_nothing_left(site, &volume, "over one path");

        node.ok("systemctl -q stop multipathd.socket multipathd.service");
        let output = site.bowline(&format!("attach {volume} g1"));
        assert_eq!(output.status, 7, "{output:?}");
        assert!(output.stderr.contains("multipathd") && output.stderr.contains("systemctl"), "{output:?}");
        assert_nothing_left(site, &volume, "required, without multipathd");

        // The other way: connected through a map, the setting is off at the detach, and multipathd is gone.
        node.ok("systemctl start multipathd");
        site.bowline(&format!("attach {volume} g1")).ok();
        assert_eq!(map_of(node, &volume).1, 2);
        node.ok("sed -i s/required/off/ /etc/bowline/bowlined.d/20-test.toml; systemctl -q stop multipathd.socket multipathd.service");
        site.stop_agent();
        site.start_agent("");
        site.bowline(&format!("detach {volume}")).ok();
        assert_nothing_left(site, &volume, "off, without multipathd");
    });
}

/// The agent dies at each boundary; names of maps are friendly ones, and maps are made of every disk there is.
#[test]
fn killed_at_every_boundary_no_map_is_left() {
    in_node("mpath-killed", "defaults {\n user_friendly_names yes\n find_multipaths greedy\n}\n", |site, guest| {
        cases::killed_at_every_boundary_it_ends_attached_or_undone(site, guest);
        let left = site.machine.ok("ls -d /sys/block/dm-* /run/bowline/claims/* 2>/dev/null || :");
        assert_eq!(left, "");
    });
}

/// A map that queues for ever, and no path: the detach ends with an error in time, and is done once a path is back.
#[test]
fn a_map_that_queues_without_a_path_hangs_nobody() {
    in_node("queues", "defaults {\n no_path_retry queue\n}\n", |site, guest| {
        let node = site.machine;
        let volume = site.volume("queued", "x");
        site.bowline(&format!("attach {volume} g1")).ok();
        guest.expect_disk(&volume[..20], SOON);
        site.stop_agent();
        // The guest lets go, and then the paths are lost.
        site.start_agent("DisconnectVolume:started");
        site.bowline(&format!("--json detach {volume} g1 --no-wait"));
        site.assert_agent_dies("the guest lets go");
        for portal in PORTALS {
            cut(node, portal);
        }
        expect_said(node, "remaining active paths: 0", 1);
        let begun = Instant::now();
        site.start_agent("");
        assert!(begun.elapsed() < Duration::from_secs(60), "recovery hung on a map without a path: {:?}", begun.elapsed());
        assert_eq!(site.json("list")["attachments"].as_array().map(Vec::len), Some(1), "it cannot be detached yet");
        node.ok(
            "journalctl --sync; journalctl -u bowlined -o json --no-pager >/run/said; grep -q 'is lost, so that' /run/said",
        );
        for portal in PORTALS {
            mend(node, portal);
        }
        let gone = "until bowline --json list | tr -d ' \n' | grep -qF '\"attachments\":[]'; do sleep 1; done";
        node.exec_for(gone, Duration::from_secs(110)).ok();
        assert_nothing_left(site, &volume, "after the paths came back");
    });
}

/// A map that somebody left, with the volume's own WWID: whoever has it open would get the volume.
#[test]
fn a_stale_map_is_refused_and_left_alone() {
    in_node("stale-map", "", |site, guest| {
        let node = site.machine;
        let volume = site.volume("haunted", "x");
        let wwid = wwid_of(&volume);
        // multipathd removes by itself what nobody has open.
        node.ok(&format!(
            "systemctl -q stop multipathd.socket multipathd.service
             truncate -s 1G /run/old.img; loop=$(losetup -f --show /run/old.img); number=$(cat /sys/block/${{loop#/dev/}}/dev)
             echo \"0 2097152 multipath 0 0 1 1 service-time 0 1 1 $number 1\" | dmsetup create old --uuid mpath-{wwid}
             setsid sleep 1000 </dev/mapper/old >/dev/null 2>&1 & echo $! >/run/holder.pid
             until [ \"$(dmsetup info -c --noheadings -o open old)\" -gt 0 ]; do sleep 0.1; done
             systemctl start multipathd"
        ));
        let output = site.bowline(&format!("attach {volume} g1"));
        // multipathd has put the new disks into the map that it found: while somebody has that open, they cannot be taken back.
        assert_eq!(output.status, 13, "{output:?}");
        assert!(output.stderr.contains(&wwid) && output.stderr.contains("multipath -f"), "{output:?}");
        assert_eq!(guest.say("ls"), "");
        node.ok("kill $(cat /run/holder.pid); timeout 50 tail --pid=$(cat /run/holder.pid) -f /dev/null");
        // Once nobody has it, the attach is undone without being asked.
        let undone = format!("until bowline volume show {volume} | grep -q available; do sleep 1; done");
        node.exec_for(&undone, Duration::from_secs(90)).ok();
        assert_nothing_left(site, &volume, "a stale map in the way");
        site.bowline(&format!("attach {volume} g1")).ok();
        site.bowline(&format!("detach {volume} g1")).ok();
        assert_nothing_left(site, &volume, "after the stale map was removed");
    });
}
