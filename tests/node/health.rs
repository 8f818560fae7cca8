//! What is attached is looked after: what the bus tells when storage goes and comes back, and nothing waits a fixed time for it.

use std::time::Duration;

use crate::common::{Machine, Node, Services, Site};

const SOON: Duration = Duration::from_secs(90);

/// Looks are so far apart that what comes sooner came by an event.
const SLOW: &str = "[iscsi]\ninitiator = \"kernel\"\n[health]\ninterval_s = 600";

/// From now on, every signal of the agent is kept.
fn listen(node: &Node) {
    node.ok("rm -f /run/told; dbus-monitor --system \"type='signal',path_namespace='/org/bowline'\" >/run/told 2>&1 &
        wait-for-line /run/told 'NameLost|NameAcquired'");
}

/// Waits until a signal has told this word for an attachment's health.
#[track_caller]
fn told(node: &Node, state: &str, limit_s: u64) {
    node.exec_for(&format!("wait-for-line /run/told 'string \"{state}\"' {limit_s}"), Duration::from_secs(limit_s + 10)).ok();
}

fn health(site: &Site<'_, Node>, volume: &str) -> serde_json::Value {
    let listed = site.json("list");
    let all = listed["attachments"].as_array().unwrap();
    all.iter().find(|attachment| attachment["volume"] == volume).unwrap()["health"].clone()
}

#[test]
fn a_target_that_falls_silent_or_dies_is_told_and_its_return_too() {
    let node = Node::with_bowline("health-iscsi");
    let site = Site::start(&node, Services::Systemd, SLOW);
    let guest = node.persistent_guest("g1");
    let volume = site.volume("watched", "x");
    listen(&node);
    site.bowline(&format!("attach {volume} g1")).ok();
    told(&node, "healthy", 60);
    assert_eq!(health(&site, &volume)["faults"].as_array().map(Vec::len), Some(0));

    // Silent, as behind a cut cable: the initiator's own pings find out.
    listen(&node);
    node.ok("kill -STOP $(pgrep -x tgtd)");
    told(&node, "lost", 90);
    let lost = health(&site, &volume);
    assert_eq!(lost["state"], "lost");
    assert!(lost["faults"][0]["part"].as_str().unwrap().contains("127.0.0.1:3260"), "{lost}");
    assert!(lost["since"].as_str().is_some_and(|since| since.starts_with("20")), "{lost}");
    let list = site.bowline("list").ok();
    assert!(list.contains("lost"), "{list}");
    assert!(node.ok("journalctl --sync; journalctl -q -u bowlined").contains("its storage is lost"));
    listen(&node);
    node.ok("kill -CONT $(pgrep -x tgtd)");
    told(&node, "healthy", 60);

    // Dead: the connection is reset, which the kernel tells at once.
    listen(&node);
    node.ok("kill -9 $(pgrep -x tgtd)");
    told(&node, "lost", 60);
    listen(&node);
    site.stop_service();
    site.start_service();
    told(&node, "healthy", 90);
    let (disk, _) = guest.expect_disk(&volume[..20], SOON);
    guest.write(&disk, 5000, "still here");
    services_restart_in_any_order(&site, &volume);
    assert_eq!(guest.read(&disk, 5000, 10), "still.here");
    site.bowline(&format!("detach {volume}")).ok();
    site.assert_nothing_left("g1", &volume, "after its target came back");
}

/// Each restarts while the one before it is still on its way, and the bus is away at last: in the end all say the same of the volume.
#[track_caller]
fn services_restart_in_any_order(site: &Site<'_, Node>, volume: &str) {
    for order in [
        "libvirtd bowlined bowline-backend iscsid",
        "iscsid bowline-backend bowlined libvirtd",
        "bowlined iscsid libvirtd bowline-backend",
        "bowline-backend dbus libvirtd iscsid",
    ] {
        site.machine.ok(&format!(
            "for service in {order}; do systemctl restart --no-block $service; done
             # Without a bus the agent ends, and only the tests' unit leaves it so.
             case '{order}' in *dbus*) p=$(pgrep -x bowlined) && timeout 60 tail -s 0.1 --pid=$p -f /dev/null;; esac
             systemctl reset-failed bowlined 2>/dev/null || :
             systemctl start libvirtd iscsid bowline-backend bowlined"
        ));
        // What comes back tells nobody that it is all there by now.
        let agree =
            "timeout 120 sh -c 'until bowline fsck; do sleep 1; done' >/run/said 2>&1 || { tail -n 20 /run/said >&2; exit 1; }";
        site.machine.exec_for(agree, Duration::from_secs(150)).ok();
        let listed = site.json("list");
        assert_eq!(listed["attachments"].as_array().map(Vec::len), Some(1), "{order}: {listed}");
        assert_eq!(listed["attachments"][0]["volume"], volume, "{order}");
    }
}

/// Finds the finding of a check in `bowline --json doctor`.
fn finding(site: &Site<'_, Node>, area: &str, check: &str) -> serde_json::Value {
    let said = site.machine.exec("bowline --json doctor 2>/dev/null").stdout;
    let report: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    let all = report["findings"].as_array().unwrap();
    let found = all.iter().find(|finding| finding["area"] == area && finding["check"] == check);
    found.unwrap_or_else(|| panic!("no {area}/{check} in {report}")).clone()
}

#[track_caller]
fn is(finding: &serde_json::Value, verdict: &str, remedy: &str) {
    assert_eq!((finding["verdict"].as_str(), finding["remedy"].as_str()), (Some(verdict), Some(remedy)), "{finding}");
}

#[test]
fn the_doctor_names_what_is_missing_and_what_mends_it() {
    let node = Node::with_bowline("doctor");
    node.ok("systemctl start iscsid.socket");
    let site = Site::start(&node, Services::Systemd, SLOW);

    let report = site.bowline("doctor");
    assert_eq!(report.status, 0, "{report:?}");
    for line in [
        "ok       open-iscsi: iscsiadm is installed",
        "ok       iscsid: its socket is there",
        "ok       kernel module iscsi_tcp",
        "ok       nfs-common",
        "ok       kernel module nfs",
        "ok       ceph-common",
        "ok       QEMU's RBD driver: installed",
        "ok       QEMU's iSCSI driver: installed",
        "ok       bus policy: installed",
        "ok       polkit actions: installed",
        "ok       journal: /var/lib/bowline can be written to",
        "ok       connection: libvirt 9.",
        "ok       volume service: it answers",
        "ok       clock: agrees",
        "ok       forgotten secrets: none",
    ] {
        assert!(report.stdout.contains(line), "no {line:?} in\n{}", report.stdout);
    }
    assert!(!report.stdout.contains("FAILURE"), "{}", report.stdout);

    node.ok("systemctl stop iscsid.socket iscsid.service");
    is(&finding(&site, "iscsi", "iscsid"), "failure", "systemctl enable --now iscsid.socket");
    let failed = site.bowline("doctor");
    assert_eq!(failed.status, 1, "{failed:?}");
    node.ok("systemctl start iscsid.socket");

    node.ok("mv /sbin/mount.nfs /sbin/hidden; mv /usr/bin/rbd /usr/bin/hidden");
    is(&finding(&site, "nfs", "nfs-common"), "warning", "apt-get install nfs-common");
    is(&finding(&site, "rbd", "ceph-common"), "warning", "apt-get install ceph-common");
    node.ok("mv /sbin/hidden /sbin/mount.nfs; mv /usr/bin/hidden /usr/bin/rbd");

    node.ok("f=$(find /usr/lib -path '*qemu/block-rbd.so'); mv $f $f.hidden");
    is(&finding(&site, "rbd", "QEMU's RBD driver"), "warning", "apt-get install qemu-block-extra");
    node.ok("touch -d '2 months ago' /etc/iscsi/initiatorname.iscsi; touch /etc/machine-id");
    assert!(finding(&site, "iscsi", "initiator name")["message"].as_str().unwrap().contains("looks like a copy"));

    node.ok("systemctl -q unmask multipathd.service multipathd.socket && modprobe dm_multipath && systemctl start multipathd");
    assert_eq!(finding(&site, "multipath", "multipathd")["verdict"], "ok");
    // Debian's default.
    let strict = finding(&site, "multipath", "find_multipaths");
    assert_eq!(strict["verdict"], "ok", "{strict}");
    assert!(strict["message"].as_str().unwrap().starts_with("strict"), "{strict}");
    node.write("/etc/multipath.conf", "defaults {\n find_multipaths on\n}");
    node.ok("systemctl restart multipathd");
    assert_eq!(finding(&site, "multipath", "find_multipaths")["verdict"], "ok");
    node.ok("systemctl stop multipathd.socket multipathd");
    is(&finding(&site, "multipath", "multipathd"), "warning", "systemctl enable --now multipathd");

    let secret =
        "<secret ephemeral='yes' private='yes'><usage type='iscsi'><target>bowline forgotten</target></usage></secret>";
    node.write("/run/secret.xml", secret);
    node.ok("virsh -q secret-define /run/secret.xml");
    assert_eq!(finding(&site, "libvirt", "forgotten secrets")["verdict"], "warning");

    site.stop_service();
    assert_eq!(finding(&site, "cloud", "volume service")["verdict"], "failure");
    site.start_service();

    // Without the agent the host is looked at all the same, and that the agent is away is said.
    site.stop_agent();
    assert_eq!(site.bowline("doctor").status, 1);
    let away = finding(&site, "agent", "bowlined");
    assert_eq!(away["verdict"], "failure");
    assert!(away["remedy"].as_str().unwrap().contains("systemctl start bowlined"), "{away}");
    assert_eq!(finding(&site, "iscsi", "open-iscsi")["verdict"], "ok");
}

/// A look at a file of a dead server hangs; it is given up in its time, and holds up nobody.
#[test]
fn a_dead_nfs_server_is_told_and_its_return_too() {
    let node = Node::with_bowline("health-nfs");
    node.ok("nfs-up; mkdir -p /etc/bowline/bowlined.d
        setsid nfs-service 127.0.0.1:/ /srv/nfs >/run/nfs-service.log 2>&1 </dev/null &
        wait-for-line /run/nfs-service.log ready:");
    node.write("/etc/bowline/bowlined.d/10-cloud.toml", "[cloud]\nfile = \"/var/lib/bowline-backend/clouds.yaml\"");
    let fragment = "[health]\ninterval_s = 5\n[metrics]\nlisten = \"unix:/run/bowline/metrics.sock\"";
    node.write("/etc/bowline/bowlined.d/20-test.toml", fragment);
    let site = Site::at(&node, Services::Systemd);
    site.start_agent("");
    let guest = node.persistent_guest("g1");
    let made = site.json("volume create watched --size 1 --type raw");
    let volume = made["volume"]["id"].as_str().unwrap().to_owned();
    listen(&node);
    site.bowline(&format!("attach {volume} g1")).ok();
    told(&node, "healthy", 60);
    guest.expect_disk(&volume[..20], SOON);

    listen(&node);
    node.ok("nfs-down");
    told(&node, "lost", 60);
    let lost = health(&site, &volume);
    assert_eq!(lost["faults"][0]["part"], "NFS export 127.0.0.1:/", "{lost}");
    assert!(lost["faults"][0]["problem"].as_str().unwrap().contains("did not answer"), "{lost}");
    let page = node.ok("curl -sS --max-time 5 --unix-socket /run/bowline/metrics.sock http://agent/metrics");
    for line in [
        "bowline_attachments{protocol=\"nfs\",initiator=\"kernel\",health=\"lost\"} 1",
        "bowline_operations_total{kind=\"attach\",outcome=\"succeeded\",error_kind=\"\"} 1",
        "bowline_commands_total{program=\"stat\"}",
    ] {
        assert!(page.contains(line), "no {line} in\n{page}");
    }
    assert!(!page.contains(&volume) && !page.contains("g1"), "{page}");

    listen(&node);
    node.ok("nfs-up");
    told(&node, "healthy", 60);
    site.bowline(&format!("detach {volume}")).ok();
    site.assert_nothing_attached("g1", &volume, "after its server came back");
}
