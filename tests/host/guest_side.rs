//! What a guest gets beside its data: limits, block sizes, threads, controllers, decryption. The bundled service knows neither QoS
//! nor encryption, so `lying-service` completes what it says of its real volumes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{Guest, HostRig, Machine, Services, Site};

const SOON: Duration = Duration::from_secs(30);
const FRAGMENT: &str = "[iscsi]\ninitiator = \"qemu\"\n[libvirt]\ndetach_timeout_s = 60\n";
const TOLD: &str = "/run/told.json";

/// A site whose agent is told what [`tell`] says.
fn site<'rig>(host: &'rig HostRig, fragment: &str) -> Site<'rig, HostRig> {
    let site = Site::start(host, Services::Processes, &format!("{FRAGMENT}{fragment}"));
    tell(host, &json!({}));
    site.lie(&format!("tell:{TOLD}"));
    site
}

fn tell(host: &HostRig, told: &Value) {
    host.write(TOLD, &told.to_string());
}

fn seen(volume: &str, bus: &str) -> String {
    if bus == "virtio" { volume[..20].to_owned() } else { volume.to_owned() }
}

/// How long the guest takes for eight reads.
fn time_of_reads(guest: &Guest<'_>, disk: &str) -> Duration {
    let begun = Instant::now();
    for block in 0..8 {
        guest.read(disk, block * 4096, 16);
    }
    begun.elapsed()
}

#[test]
fn limits_of_the_volume_type_hold_the_guest_back() {
    let host = HostRig::start("limits");
    let site = site(&host, "");
    let guest = host.persistent_guest("g1");
    let volume = site.volume("limited", "limited-by-type!");
    let attach = || {
        site.bowline(&format!("attach {volume} g1")).ok();
        guest.expect_disk(&seen(&volume, "virtio"), SOON).0
    };
    let unlimited = time_of_reads(&guest, &attach());
    site.bowline(&format!("detach {volume}")).ok();

    let qos = json!({"read_iops_sec": "2", "write_bytes_sec_per_gb": 1048576, "write_bytes_sec_per_gb_min": "5242880"});
    tell(&host, &json!({"connection_info": {"qos_specs": qos}}));
    let disk = attach();
    for side in ["--live", "--config"] {
        let shown = host.ok(&format!("virsh -q blkdeviotune g1 vdb {side}"));
        for (key, value) in [("read_iops_sec ", "2"), ("write_bytes_sec", "5242880"), ("total_iops_sec ", "0")] {
            let line = shown.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{key}: {shown}"));
            assert!(line.ends_with(&format!(": {value}")), "{side}: {line}");
        }
    }
    let limited = time_of_reads(&guest, &disk);
    assert!(limited > unlimited + Duration::from_millis(1500), "unlimited {unlimited:?}, at 2 reads a second {limited:?}");
    site.bowline(&format!("detach {volume}")).ok();

    tell(&host, &json!({"connection_info": {"qos_specs": {"total_iops_sec": "9", "read_iops_sec": "9"}}}));
    let refused = site.bowline(&format!("attach {volume} g1"));
    assert_eq!(refused.status, 2, "{refused:?}");
    assert!(refused.stderr.contains("total_iops_sec") && refused.stderr.contains("read_iops_sec"), "{refused:?}");
    site.assert_nothing_left("g1", &volume, "after limits that contradict each other");
}

#[test]
fn threads_queues_and_block_sizes_are_as_asked_for() {
    let host = HostRig::start("tuning");
    let site = site(&host, "[guest]\niothreads = \"add\"\niothread_count = 2\nqueues = 3\ncache = \"writeback\"\n");
    let guest = host.persistent_guest("g1");
    tell(&host, &json!({"connection_info": {"logical_block_size": 4096, "physical_block_size": "8192"}}));
    let mut threads = vec![];
    for name in ["one", "two", "three", "four"] {
        let volume = site.volume(name, "four-k-sectors..");
        let attached = site.json(&format!("attach {volume} g1 --tag {name}-disk"));
        assert_eq!(attached["attachment"]["tag"], format!("{name}-disk"), "{attached}");
        let (disk, _) = guest.expect_disk(&seen(&volume, "virtio"), SOON);
        let shown = guest.say(&format!("q {disk}"));
        assert!(shown.starts_with(&format!("q {disk} 4096 8192 0 ")), "{shown}");
        for side in ["", "--inactive"] {
            let path = format!("//disk[serial=\"{volume}\"]/driver");
            let driver = host.ok(&format!("virsh dumpxml {side} g1 --xpath '{path}'"));
            assert!(driver.contains("queues=\"3\"") && driver.contains("cache=\"writeback\""), "{driver}");
            if side.is_empty() {
                threads.push(driver.split("iothread=\"").nth(1).unwrap_or_else(|| panic!("{driver}"))[..1].to_owned());
            }
        }
    }
    assert_eq!(threads, ["1", "2", "1", "2"], "the disks are not spread over the threads");
    // A disk that guests share is not cached, and one that may only be read is not written.
    tell(&host, &json!({"volume": {"multiattach": true}}));
    let volume = site.volume("shared", "shared");
    site.bowline(&format!("attach {volume} g1 --read-only")).ok();
    let (disk, _) = guest.expect_disk(&seen(&volume, "virtio"), SOON);
    assert!(guest.say(&format!("q {disk}")).starts_with(&format!("q {disk} 512 512 1 ")), "{disk} is not read-only");
    assert!(guest.say(&format!("w {disk} 0 x")).contains("error"), "the guest wrote to it");
    let xml = host.ok(&format!("virsh dumpxml g1 --xpath '//disk[serial=\"{volume}\"]'"));
    assert!(xml.contains("<shareable/>") && xml.contains("<readonly/>") && xml.contains("cache=\"none\""), "{xml}");
    // libvirt would refuse it in the middle of the attach; here it is said what to do.
    let ordered = site.volume("ordered", "x");
    let refused = site.bowline(&format!("attach {ordered} g1 --boot-order 1"));
    assert!(refused.status == 4 && refused.stderr.contains("<os><boot>"), "{refused:?}");
}

#[test]
fn scsi_disks_share_a_controller_that_is_made_for_them_and_fill_its_holes() {
    const DISKS: usize = 24;
    let host = HostRig::start("scsi-units");
    let site = site(&host, "[guest]\ndisk_bus = \"scsi\"\nqueues = 2\n");
    host.persistent_guest("g1");
    host.ok("virsh -q destroy g1; virsh dumpxml --inactive g1 | sed \"/<controller type='scsi'/,/<.controller>/d\" >/run/g1.xml; virsh -q define /run/g1.xml");
    assert_eq!(host.ok("virsh dumpxml --inactive g1 | grep -c virtio-scsi || :"), "0", "the guest has a controller already");
    let guest = host.started_guest("g1");
    let volumes: Vec<String> = (0..DISKS).map(|n| site.volume(&format!("d{n}"), &format!("disk-number-{n:04}"))).collect();
    let attach = |n: usize| {
        site.bowline(&format!("attach {} g1", volumes[n])).ok();
        let (_, head) = guest.expect_disk(&volumes[n], SOON);
        assert_eq!(head, format!("disk-number-{n:04}"));
    };
    (0..DISKS).for_each(attach);
    let unit = |n: usize| {
        let address = host.ok(&format!("virsh dumpxml g1 --xpath '//disk[serial=\"{}\"]/address'", volumes[n]));
        address
            .split("unit=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .unwrap_or_else(|| panic!("{address}"))
            .to_owned()
    };
    assert_eq!((0..DISKS).map(unit).collect::<Vec<_>>(), (0..DISKS).map(|n| n.to_string()).collect::<Vec<_>>());
    for side in ["", "--inactive"] {
        let controllers = host.ok(&format!("virsh dumpxml {side} g1 --xpath '//controller[@type=\"scsi\"]'"));
        assert_eq!(controllers.matches("<controller").count(), 1, "{controllers}");
        assert!(controllers.contains("model=\"virtio-scsi\"") && controllers.contains("queues=\"2\""), "{controllers}");
    }
    for n in [3, 11] {
        site.bowline(&format!("detach {}", volumes[n])).ok();
    }
    attach(11);
    assert_eq!(unit(11), "3", "the first hole is taken first");
    attach(3);
    assert_eq!(unit(3), "11");
}

/// Keystone and Barbican of Debian, and a key in it.
struct Keys<'rig> {
    host: &'rig HostRig,
}

impl<'rig> Keys<'rig> {
    fn start(host: &'rig HostRig) -> Self {
        let entry = host.exec_for("key-manager-up", Duration::from_secs(180)).ok();
        host.write("/run/keys.yaml", &entry);
        host.write("/etc/bowline/bowlined.d/40-keys.toml", "[key_manager]\ncloud = \"keys\"");
        host.ok("cat /run/keys.yaml >>/run/lying-clouds.yaml");
        Self { host }
    }

    /// Stores a key as Cinder does; returns its id, and the passphrase that it makes.
    fn store(&self, bytes: &[u8; 32]) -> (String, String) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let id = self.host.ok(&format!(
            ". /run/key-manager.env
             payload=$(printf {hex} | xxd -r -p | base64 -w0)
             curl -sS --fail -H \"X-Auth-Token: $TOKEN\" -H 'Content-Type: application/json' -d '{{\"secret_type\": \"symmetric\", \"algorithm\": \"aes\",
               \"bit_length\": 256, \"payload_content_type\": \"application/octet-stream\", \"payload_content_encoding\": \"base64\", \"payload\": \"'$payload'\"}}' \
               $KEYS/v1/secrets | jq -r '.secret_ref | split(\"/\") | last'"
        ));
        (id, hex)
    }
}

fn encrypted_by(provider: &str, key: &str) -> Value {
    json!({
        "volume": {"encrypted": true}, "connection_info": {"encrypted": true},
        "encryption": {"provider": provider, "control_location": "front-end", "cipher": "aes-xts-plain64", "key_size": 256, "encryption_key_id": key},
    })
}

#[test]
fn an_encrypted_volume_is_decrypted_and_nothing_is_ever_formatted() {
    let host = HostRig::start("luks");
    let site = site(&host, "");
    let guest = host.persistent_guest("g1");
    site.stop_agent();
    let keys = Keys::start(&host);
    site.start_agent("");
    let (key, passphrase) = keys.store(b"\x00\xff secret of this volume, 32 b!!");
    let (other, _) = keys.store(b"another key that opens nothing!!");
    let volume = site.volume("private", "");
    let file = format!("/var/lib/bowline-backend/volumes/volume-{volume}");
    let sum = || host.ok(&format!("sha256sum <{file}"));

    // Blank: refused, and blank it stays.
    tell(&host, &encrypted_by("luks", &key));
    let blank = sum();
    let refused = site.bowline(&format!("attach {volume} g1"));
    assert!(refused.status == 4 && refused.stderr.contains("LUKS"), "{refused:?}");
    assert_eq!(sum(), blank, "a blank device was written to");
    site.assert_nothing_left("g1", &volume, "after a device without a header");

    // Cinder's way to make one: the key's bytes in hexadecimal are the passphrase.
    host.ok(&format!(
        "printf %s {passphrase} >/run/passphrase; printf 'plain-inside-it!' >/run/plain; truncate -s 4M /run/plain
         qemu-img convert -f raw -O luks --object secret,id=k,file=/run/passphrase -o key-secret=k,iter-time=10 /run/plain /run/luks
         dd if=/run/luks of={file} conv=notrunc status=none; rm /run/passphrase /run/plain /run/luks"
    ));
    let before = sum();
    for (told, status, word) in [
        (encrypted_by("luks", &other), 6, "does not open"),
        (encrypted_by("luks", "00000000-0000-4000-8000-000000000000"), 3, "key manager"),
        (encrypted_by("luks2", &key), 10, "LUKS1"),
        (encrypted_by("plain", &key), 10, "plain"),
    ] {
        tell(&host, &told);
        let refused = site.bowline(&format!("attach {volume} g1"));
        assert!(refused.status == status && refused.stderr.contains(word), "{told}: {refused:?}");
        assert_eq!(guest.say("ls"), "", "{told}: the guest has a disk");
        assert_eq!(sum(), before, "{told}: the device was written to");
        site.assert_nothing_left("g1", &volume, &told.to_string());
    }

    tell(&host, &encrypted_by("luks", &key));
    let attached = site.json(&format!("attach {volume} g1"));
    assert_eq!(attached["attachment"]["encryption"], "luks", "{attached}");
    let (disk, head) = guest.expect_disk(&seen(&volume, "virtio"), SOON);
    assert_eq!(head, "plain-inside-it!");
    guest.write(&disk, 8192, "written-by-the-guest");
    assert_eq!(
        host.ok(&format!("grep -c -aF -e written-by-the-guest -e plain-inside-it {file} || :")),
        "0",
        "plain text on the storage"
    );
    assert_eq!(host.ok("virsh -q secret-list | awk '$2 == \"volume\"' | wc -l"), "1");
    for (place, known) in [
        ("/var/lib/bowline/journal.redb", volume.as_str()),
        ("/run/bowlined.log", "ready:"),
        ("/var/log/libvirt/qemu/g1.log", "qemu"),
    ] {
        let count = |word: &str| host.ok(&format!("grep -caF -e '{word}' {place} || :"));
        assert_ne!(count(known), "0", "{place} does not even hold {known:?}");
        assert_eq!(count(&passphrase), "0", "the passphrase stands in {place}");
    }

    // libvirtd forgets what is ephemeral when it restarts; the guest's next start needs it.
    host.ok("p=$(cat /run/rig/libvirtd.pid); kill $p; timeout 20 tail -s 0.1 --pid=$p -f /dev/null; libvirtd --daemon --pid-file /run/rig/libvirtd.pid");
    site.stop_agent();
    site.start_agent("");
    host.ok("virsh -q destroy g1; virsh -q start g1");
    let (disk, head) = guest.expect_disk(&seen(&volume, "virtio"), Duration::from_secs(120));
    assert_eq!((head.as_str(), guest.read(&disk, 8192, 20)), ("plain-inside-it!", "written-by-the-guest".to_owned()));
    site.bowline(&format!("detach {volume}")).ok();
    guest.expect_gone(&disk, SOON);
    site.assert_nothing_left("g1", &volume, "after the last detach");
}
