//! NFS servers of every kind that the node's kernel can be, and what happens to a mount behind the agent's back.

use std::time::{Duration, Instant};

use super::nfs::{MOUNT_TIMEOUT_S, SOON, assert_nothing_left, in_file, in_node, mounts, start_service, volume};
use crate::common::{Guest, Machine, Node, Services, Site};

/// Attaches, writes what the file then has, and detaches. Returns the options of the mount.
fn round(site: &Site<'_, Node>, guest: &Guest<'_>, id: &str, context: &str) -> String {
    let node = site.machine;
    site.bowline(&format!("attach {id} g1")).ok();
    let (disk, _) = guest.expect_disk(&id[..20], SOON);
    guest.write(&disk, 5000, context);
    let options = node.ok("findmnt -nt nfs,nfs4 -o SOURCE,OPTIONS");
    site.bowline(&format!("detach {id}")).ok();
    assert_eq!(in_file(node, id, "raw", 5000, context.len()), context);
    assert_nothing_left(site, id, context);
    options
}

#[test]
fn the_highest_version_that_the_server_speaks_is_taken() {
    in_node("nfs-versions", |site, guest| {
        let node = site.machine;
        let id = volume(site, "any", "raw", "x");
        start_service(node, "[::1]:/");
        let options = round(site, guest, &id, "by IPv6");
        assert!(options.starts_with("[::1]:/ ") && options.contains("vers=4.2"), "{options}");

        node.ok("nfs-down; VERSIONS=4.1 nfs-up");
        start_service(node, "127.0.0.1:/");
        let options = round(site, guest, &id, "without 4.2");
        assert!(options.contains("vers=4.1"), "{options}");
        // One that was asked for by number is not replaced by another.
        node.ok("echo vers=4.2 >/srv/nfs-options");
        let output = site.bowline(&format!("attach {id} g1"));
        assert!(output.status == 10 && output.stderr.contains("not supported"), "{output:?}");
        assert_nothing_left(site, &id, "after a version that the server has not");
        node.ok("rm /srv/nfs-options");

        node.ok("nfs-down; VERSIONS=3 nfs-up");
        start_service(node, "127.0.0.1:/srv/nfs");
        let options = round(site, guest, &id, "with 3 alone");
        for option in ["vers=3", "nosuid", "nodev", "noexec"] {
            assert!(options.contains(option), "{option} in {options}");
        }
        assert!(!options.contains("nolock") && options.contains("local_lock=none"), "locks are the server's: {options}");
    });
}

#[test]
fn a_detach_from_a_dead_server_ends_in_its_time() {
    in_node("nfs-dead-detach", |site, guest| {
        let node = site.machine;
        let id = volume(site, "left", "raw", "x");
        site.bowline(&format!("attach {id} g1")).ok();
        guest.expect_disk(&id[..20], SOON);
        node.ok("virsh -q destroy g1");
        // What a look of the agent's own does once the server is gone: it holds the mount in the agent's namespace.
        let hold =
            "setsid nsenter --mount --target $(pidof bowlined) sh -c 'cd /run/bowline/mnt/* && echo held && exec sleep 600'";
        node.ok(&format!("{hold} >/run/hold.log </dev/null 2>&1 & wait-for-line /run/hold.log held"));
        node.ok("nfs-down");
        let begun = Instant::now();
        site.bowline(&format!("detach {id}")).ok();
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(8 * MOUNT_TIMEOUT_S), "it took {took:?}");
        assert_nothing_left(site, &id, "after a server that died");
    });
}

/// Nothing but the very file is given back to a guest.
#[test]
fn what_took_the_place_of_a_mount_or_a_file_is_refused_and_left_alone() {
    in_node("nfs-replaced", |site, guest| {
        let node = site.machine;
        let id = volume(site, "mine", "raw", "x");
        site.bowline(&format!("attach {id} g1")).ok();
        guest.expect_disk(&id[..20], SOON);
        let place = mounts(node).split(' ').nth(1).unwrap().to_owned();
        node.ok("virsh -q destroy g1");
        let told = |words: &str| {
            let log = node.ok("journalctl --sync; journalctl -b -u bowlined --no-pager -o verbose");
            assert!(log.contains(words), "{words} is not told");
        };

        // Another export is mounted at the place, with a file of the same name.
        site.stop_agent();
        node.ok(&format!("umount {place} && mkdir -p /srv/nfs/other && truncate -s 1G /srv/nfs/other/volume-{id} && mount -t nfs 127.0.0.1:/other {place}"));
        let theirs = mounts(node);
        site.start_agent("");
        told("where 127.0.0.1:/ should be");
        assert_eq!(mounts(node), theirs, "somebody else's mount was touched");
        node.ok(&format!("umount {place}"));
        // So is another file system.
        site.stop_agent();
        node.ok(&format!("mkdir -p {place} && mount -t tmpfs cover {place}"));
        site.start_agent("");
        told("tmpfs cover is mounted");
        site.stop_agent();
        node.ok(&format!("umount {place}"));
        site.start_agent("");
        assert_eq!(mounts(node), format!("127.0.0.1:/ {place}"), "mounted again once its place is free");

        // Another file under the same name, found after what a reboot leaves.
        site.stop_agent();
        node.ok(&format!("umount {place} && cd /srv/nfs && cp --sparse=always volume-{id} anew && mv anew volume-{id}"));
        site.start_agent("");
        told("was recorded as");
        assert_eq!(mounts(node), "", "the export stays mounted for another file");
        let output = node.exec("virsh start g1");
        assert!(output.status != 0 && output.stderr.contains(&id), "the guest starts with another file: {output:?}");
        site.bowline(&format!("detach {id}")).ok();
        assert_nothing_left(site, &id, "after another file");
    });
}

/// QEMU is no root there, and root is nobody on the server.
#[test]
fn a_server_that_squashes_root_serves_what_qemus_user_may_open() {
    in_node("nfs-squash", |site, _| {
        let node = site.machine;
        node.ok("virsh -q destroy g1; SQUASH=root_squash nfs-up
            sed -i 's/^user = \"root\"/user = \"libvirt-qemu\"/; s/^group = \"root\"/group = \"kvm\"/' /etc/libvirt/qemu.conf
            sed -i /seclabel/d /srv/guest/domain.xml.in
            systemctl restart libvirtd.service");
        let guest = node.persistent_guest("g2");
        let id = volume(site, "theirs", "raw", "x");
        let file = format!("/srv/nfs/volume-{id}");
        node.ok(&format!("chown libvirt-qemu {file}; chmod 600 {file}"));
        site.bowline(&format!("attach {id} g2")).ok();
        let (disk, _) = guest.expect_disk(&id[..20], SOON);
        guest.write(&disk, 5000, "as its owner");
        site.bowline(&format!("detach {id}")).ok();
        assert_eq!(in_file(node, &id, "raw", 5000, 12), "as its owner");
        assert_eq!(node.ok(&format!("stat -c '%U %a' {file}")), "libvirt-qemu 600", "owner and mode are as they were");

        node.ok(&format!("chown root {file}"));
        let output = site.bowline(&format!("attach {id} g2"));
        assert!(output.status != 0 && output.stderr.contains("Permission denied"), "{output:?}");
        assert_nothing_left(site, &id, "after a file of root's");

        let layered = volume(site, "layered", "qcow2", "x");
        node.ok(&format!("chown libvirt-qemu /srv/nfs/volume-{layered}; chmod 600 /srv/nfs/volume-{layered}"));
        let output = site.bowline(&format!("attach {layered} g2"));
        assert!(output.status == 5 && output.stderr.contains("squashes root"), "{output:?}");
        assert_nothing_left(site, &layered, "after a qcow2 file that root may not read");
        node.ok(&format!("chmod 644 /srv/nfs/volume-{layered}"));
        site.bowline(&format!("attach {layered} g2")).ok();
        guest.expect_disk(&layered[..20], SOON);
        site.bowline(&format!("detach {layered}")).ok();
    });
}

/// Where systemd is not the first process, the agent mounts by itself.
#[test]
fn without_systemd_it_is_mounted_directly() {
    in_node("nfs-direct", |site, guest| {
        let node = site.machine;
        let id = volume(site, "direct", "raw", "x");
        site.stop_agent();
        // What tells that it is (sd_booted(3)).
        node.ok("mv /run/systemd/system /run/systemd/away");
        let direct = Site::at(node, Services::Processes);
        // Its output is no journal's.
        node.ok(
            "env -u JOURNAL_STREAM setsid bowlined >/run/bowlined.log 2>&1 </dev/null & wait-for-line /run/bowlined.log ready:",
        );
        direct.bowline(&format!("attach {id} g1")).ok();
        let (disk, _) = guest.expect_disk(&id[..20], SOON);
        guest.write(&disk, 5000, "mounted directly");
        let options = node.ok("findmnt -nt nfs4 -o OPTIONS");
        direct.bowline(&format!("detach {id}")).ok();
        for option in ["nosuid", "nodev", "noexec", "vers=4.2"] {
            assert!(options.contains(option), "{option} in {options}");
        }
        node.ok("mv /run/systemd/away /run/systemd/system");
        assert_nothing_left(&direct, &id, "mounted directly");
        assert_eq!(in_file(node, &id, "raw", 5000, 16), "mounted directly");
        direct.stop_agent();
    });
}
