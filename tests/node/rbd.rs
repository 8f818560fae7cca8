//! RBD images in a compute node with a Ceph cluster of its own (`ceph-up`). `ceph-service` stands in for the
//! volume service: it answers as Cinder does, over real images of the cluster, and can also tell what is not so.

use std::time::Duration;

use serde_json::Value;

use crate::common::{Guest, Machine, Node, Services, Site};

pub(super) const SOON: Duration = Duration::from_secs(60);
const KEYRING: &str = "/etc/ceph/ceph.client.cinder.keyring";
/// What the second image of the same name, in another pool, begins with.
const NAMESAKE: &str = "somebody else's!";

/// A node with a cluster, the stand-in, the agent and a guest. The agent starts with the first [`Ceph::told`].
pub(super) struct Ceph<'node> {
    pub(super) site: Site<'node, Node>,
    pub(super) guest: Guest<'node>,
}

impl<'node> Ceph<'node> {
    pub(super) fn start(node: &'node Node, address: &str) -> Self {
        node.exec_for(&format!("ADDRESS={address} ceph-up"), Duration::from_secs(120)).ok();
        node.write(
            "/run/clouds.yaml",
            "clouds:\n  bowline:\n    auth_type: admin_token\n    auth:\n      endpoint: http://127.0.0.1:8786/v3\n      token: any\n    \
             block_storage_endpoint_override: http://127.0.0.1:8786/v3",
        );
        node.ok("mkdir -p /etc/bowline/bowlined.d");
        node.write("/etc/bowline/bowlined.d/10-cloud.toml", "[cloud]\nfile = \"/run/clouds.yaml\"");
        Self { site: Site::at(node, Services::Systemd), guest: node.persistent_guest("g1") }
    }

    pub(super) fn node(&self) -> &Node {
        self.site.machine
    }

    /// The service begins anew and tells this of its volumes; it has one of `size_gib`, image or not.
    pub(super) fn told(&self, overrides: &str, volume: &str, size_gib: u64) {
        self.node().ok(&format!(
            "[ ! -e /run/service.pid ] || {{ p=$(cat /run/service.pid); kill $p; timeout 20 tail --pid=$p -f /dev/null; }}
             rm -f /run/service.log
             setsid ceph-service 8786 {overrides} >/run/service.log 2>&1 </dev/null & echo $! >/run/service.pid
             wait-for-line /run/service.log listening
             curl -sS --fail -o /dev/null -d '{{\"volume\": {{\"id\": \"{volume}\", \"name\": \"data\", \"size\": {size_gib}}}}}' http://127.0.0.1:8786/v3/volumes"
        ));
        if !self.site.agent_runs() {
            self.site.start_agent("");
        }
    }

    /// Makes an image of 1 GiB that begins with this text.
    pub(super) fn image(&self, image: &str, text: &str) {
        self.node().ok(&format!(
            "printf '%s' \"{text}\" >/run/text && rbd import --no-progress /run/text {image} && rbd resize --no-progress --size 1G {image}"
        ));
    }

    pub(super) fn id(&self, image: &str) -> String {
        self.node().ok(&format!("rbd info --format json {image} | jq -r .id"))
    }

    /// What is in the image, past RBD: the bytes of its first object.
    pub(super) fn bytes(&self, image: &str, offset: usize, length: usize) -> String {
        let (pool, id) = (image.split('/').next().unwrap(), self.id(image));
        self.node().ok(&format!(
            "rados -p {pool} get rbd_data.{id}.0000000000000000 /run/object && tail -c +{} /run/object | head -c {length}",
            offset + 1
        ))
    }

    pub(super) fn assert_nothing_left(&self, volume: &str, image: &str, context: &str) {
        assert_eq!(self.site.json("list")["attachments"], Value::Array(vec![]), "{context}: attachments of the agent");
        assert_eq!(self.site.status(volume), "available", "{context}");
        let left = self.node().ok(&format!(
            "curl -sS http://127.0.0.1:8786/v3/attachments | jq -r '.attachments[] | \"attachment: \\(.id)\"'
             for side in '' --inactive; do virsh -q domblklist g1 $side | sed 's/^/disk of the guest: /'; done
             virsh -q secret-list | sed 's/^/secret: /'
             rbd status --format json {image} | jq -r '.watchers[] | \"watcher: \\(.address)\"'
             rbd lock ls --format json {image} | jq -r '.[] | \"lock: \\(.)\"'
             pgrep -ax rbd | sed 's/^/process: /'
             ls /run/bowline/claims 2>/dev/null | sed 's/^/claim: /'
             ls /run/bowline/volumes 2>/dev/null || :"
        ));
        assert_eq!(left, "", "{context}");
    }

    pub(super) fn attach(&self, volume: &str) -> (Value, String, String) {
        let attached = self.site.json(&format!("attach {volume} g1"));
        assert_eq!(attached["operation"]["state"], "succeeded", "{attached}");
        let (disk, head) = self.guest.expect_disk(&volume[..20], SOON);
        (attached, disk, head)
    }

    /// Makes an attached volume larger; the cluster, the record and the guest have the new size.
    pub(super) fn extend(&self, volume: &str, image: &str, disk: &str, size_gib: u64) {
        self.site.bowline(&format!("extend {volume} {size_gib}")).ok();
        self.guest.expect_line(&format!("= {disk} {}", size_gib << 21), SOON);
        assert_eq!(self.node().ok(&format!("rbd info --format json {image} | jq .size")), (size_gib << 30).to_string());
        assert_eq!(self.site.json("list")["attachments"][0]["size_bytes"], size_gib << 30);
        let far = (size_gib << 30) - 8192;
        self.guest.write(disk, far, "in the new part");
        assert_eq!(self.guest.read(disk, far, 15), "in.the.new.part");
    }

    /// Waits until the agent tells this of the only attachment's health.
    pub(super) fn expect_health(&self, state: &str) {
        let told = format!("bowline --json list | jq -e \".attachments[0].health.state == \\\"{state}\\\"\"");
        self.node().ok(&format!("timeout 60 bash -c 'until {told}; do sleep 0.5; done' >/dev/null"));
        assert!(self.site.bowline("list").ok().contains(state), "the list says {state}");
    }

    pub(super) fn detach(&self, volume: &str, disk: &str) {
        self.site.bowline(&format!("detach {volume} g1")).ok();
        self.guest.expect_gone(disk, SOON);
    }
}

pub(super) const VOLUME: &str = "7c0d4b1e-52a6-4e0b-9a51-6f3d2c8e9b04";

#[test]
fn an_image_comes_and_goes_and_a_namesake_is_left_alone() {
    let node = Node::with_bowline("rbd");
    let ceph = Ceph::start(&node, "127.0.0.1");
    let (image, namesake) = (format!("volumes/volume-{VOLUME}"), format!("others/volume-{VOLUME}"));
    ceph.image(&image, "made-on-the-side");
    ceph.image(&namesake, NAMESAKE);

    // The key is this host's.
    node.ok(&format!("cp /root/cinder.keyring {KEYRING}"));
    ceph.told("", VOLUME, 1);
    node.ok("rm -f /run/arguments; setsid bash -c 'while :; do cat /proc/[0-9]*/cmdline 2>/dev/null | tr \"\\0\" \" \"; echo; done >/run/arguments' >/dev/null 2>&1 </dev/null & echo $! >/run/watcher.pid");
    let (attached, disk, head) = ceph.attach(VOLUME);
    node.ok("kill $(cat /run/watcher.pid)");
    assert_eq!(head, "made-on-the-side");
    assert_eq!(attached["attachment"]["serial"], ceph.id(&image), "the identity that was proved: {attached}");
    ceph.guest.write(&disk, 5000, "written by the guest");
    assert_eq!(ceph.bytes(&image, 5000, 20), "written by the guest");
    node.ok("grep -q 'rbd --cluster' /run/arguments");
    for place in [
        "cat /run/arguments",
        "journalctl -b --no-pager -a -o json",
        "cat /var/lib/bowline/*",
        "virsh dumpxml --security-info g1",
        "find /run/bowline -type f -exec cat {} +",
    ] {
        assert_eq!(node.exec(&format!("{place} | grep -caFf /root/cinder.key")).stdout, "0", "the key stands in: {place}");
    }
    ceph.detach(VOLUME, &disk);
    ceph.assert_nothing_left(VOLUME, &image, "after a detach");
    assert_eq!(ceph.bytes(&namesake, 0, NAMESAKE.len()), NAMESAKE);
    assert_eq!(
        node.exec(&format!(
            "rados -p others get rbd_data.{}.0000000000000000 /run/object && wc -c </run/object",
            ceph.id(&namesake)
        ))
        .stdout,
        NAMESAKE.len().to_string(),
        "the namesake was written to"
    );

    // Killed when the guest has the disk and nobody knows: finished after the restart.
    ceph.site.stop_agent();
    ceph.site.start_agent("AttachDisk:succeeded");
    ceph.site.bowline(&format!("attach {VOLUME} g1 --no-wait"));
    ceph.site.assert_agent_dies("the guest has the disk");
    ceph.site.start_agent("");
    let (disk, _) = ceph.guest.expect_disk(&VOLUME[..20], SOON);
    assert_eq!(ceph.guest.read(&disk, 5000, 20), "written.by.the.guest");
    assert_eq!(ceph.site.status(VOLUME), "in-use");

    // libvirtd forgets its ephemeral secrets when it restarts; the guest is started with the disk all the same.
    node.ok("systemctl restart libvirtd.service");
    assert_eq!(ceph.guest.read(&disk, 5000, 20), "written.by.the.guest");
    node.ok("bowline list >/dev/null; virsh -q destroy g1");
    let guest = node.started_guest("g1");
    let (disk, _) = guest.expect_disk(&VOLUME[..20], SOON);
    assert_eq!(guest.read(&disk, 5000, 20), "written.by.the.guest");
    ceph.site.bowline(&format!("detach {VOLUME} g1")).ok();
    guest.expect_gone(&disk, SOON);
    ceph.assert_nothing_left(VOLUME, &image, "after a kill, a restart of libvirtd and a detach");
    let ceph = Ceph { guest, ..ceph };

    // The key is the service's, and this host has none.
    node.ok(&format!("rm {KEYRING}"));
    ceph.told("\"keyring=$(cat /root/cinder.key)\" secret_uuid=null", VOLUME, 1);
    let (_, disk, _) = ceph.attach(VOLUME);
    ceph.detach(VOLUME, &disk);
    ceph.assert_nothing_left(VOLUME, &image, "after the service's own key");

    // The key is in a libvirt secret of the operator's, and where ceph.conf says.
    node.write("/run/secret.xml", "<secret private='yes' ephemeral='no'><uuid>b1afd4dc-3a08-4d2e-9169-36a3989cdb98</uuid><usage type='ceph'><name>theirs</name></usage></secret>");
    node.ok("virsh -q secret-define /run/secret.xml && virsh -q secret-set-value b1afd4dc-3a08-4d2e-9169-36a3989cdb98 --file /root/cinder.key
        cp /root/cinder.keyring /etc/ceph/elsewhere && printf '[client.cinder]\\nkeyring = /etc/ceph/elsewhere\\n' >>/etc/ceph/ceph.conf");
    ceph.told("", VOLUME, 1);
    let (_, disk, _) = ceph.attach(VOLUME);
    ceph.extend(VOLUME, &image, &disk, 2);
    ceph.detach(VOLUME, &disk);
    node.ok("virsh -q secret-undefine b1afd4dc-3a08-4d2e-9169-36a3989cdb98");
    ceph.assert_nothing_left(VOLUME, &image, "after the operator's own secret");
}

#[test]
fn an_image_that_cannot_be_proved_never_reaches_the_guest() {
    let node = Node::with_bowline("rbd-refused");
    let ceph = Ceph::start(&node, "::1");
    let image = format!("volumes/volume-{VOLUME}");
    ceph.image(&image, "made-on-the-side");
    let ipv6 = "'hosts=[\"[::1]\"]'";
    let refusals = [
        ("keyring=AQAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAAAAAAA==", 1, 6, "refused client.cinder"),
        ("secret_uuid=null", 1, 6, KEYRING),
        ("\"keyring=$(cat /root/cinder.key)\" auth_username=nobody", 1, 6, "client.nobody"),
        ("\"keyring=$(cat /root/cinder.key)\" name=volumes/no-such-image", 1, 3, "volumes/no-such-image"),
        ("\"keyring=$(cat /root/cinder.key)\" name=no-such-pool/x", 1, 3, "no-such-pool/x"),
        ("\"keyring=$(cat /root/cinder.key)\" name=volumes/no-such-namespace/{}", 1, 3, "no-such-namespace"),
        ("\"keyring=$(cat /root/cinder.key)\"", 2, 9, "2 GiB"),
    ];
    for (overrides, size_gib, exit_code, word) in refusals {
        ceph.told(&format!("{ipv6} {overrides}"), VOLUME, size_gib);
        let output = ceph.site.bowline(&format!("attach {VOLUME} g1"));
        assert!(output.status == exit_code && output.stderr.contains(word), "{overrides}: {output:?}");
        ceph.assert_nothing_left(VOLUME, &image, overrides);
        assert_eq!(ceph.guest.say("ls"), "", "{overrides}: the guest has a disk");
    }

    // The same image, told rightly, by the monitor's IPv6 address.
    ceph.told(&format!("{ipv6} \"keyring=$(cat /root/cinder.key)\""), VOLUME, 1);
    let (_, disk, head) = ceph.attach(VOLUME);
    assert_eq!(head, "made-on-the-side");
    ceph.detach(VOLUME, &disk);
    ceph.assert_nothing_left(VOLUME, &image, "after an IPv6 monitor");

    // In a namespace it is there, but this libvirt cannot open it.
    node.ok("rbd namespace create volumes/ns");
    ceph.image(&format!("volumes/ns/volume-{VOLUME}"), "x");
    ceph.told(&format!("{ipv6} \"keyring=$(cat /root/cinder.key)\" name=volumes/ns/{{}}"), VOLUME, 1);
    let output = ceph.site.bowline(&format!("attach {VOLUME} g1"));
    assert!(output.status == 10 && output.stderr.contains("namespaces"), "{output:?}");
    ceph.assert_nothing_left(VOLUME, &format!("volumes/ns/volume-{VOLUME}"), "after a namespace");

    // Without the command nothing can be proved.
    node.ok("mv /usr/bin/rbd /usr/bin/not-rbd");
    let output = ceph.site.bowline(&format!("attach {VOLUME} g1"));
    node.ok("mv /usr/bin/not-rbd /usr/bin/rbd");
    assert!(output.status == 10 && output.stderr.contains("ceph-common"), "{output:?}");
    ceph.assert_nothing_left(VOLUME, &image, "after a host without Ceph's command");
}
