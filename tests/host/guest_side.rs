//! What a guest gets beside its data: limits, block sizes, threads, controllers, decryption. Where what the service says is to be odd,
//! `lying-service` completes what it says of its real volumes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::service::delete;
use crate::common::{Guest, HostRig, Machine, Services, Site};

const SOON: Duration = Duration::from_secs(90);
const FRAGMENT: &str = "[iscsi]\ninitiator = \"qemu\"\n[libvirt]\ndetach_timeout_s = 60\n";
const TOLD: &str = "/run/told.json";
/// Where the volume service answers.
const SERVICE: &str = "http://127.0.0.1:8776";
/// What an encrypted volume begins with, for its guest.
const INSIDE: &str = "plain-inside-it!";
/// The service's configuration where a Keystone knows its users, and a Barbican its keys.
const KEYS_ELSEWHERE: &str =
    "[keystone]\nauth_url = \"http://127.0.0.1:5000/v3\"\nusername = \"admin\"\nproject_name = \"admin\"
password_file = \"/run/keystone-password\"\n[key_manager]\nkind = \"barbican\"";

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

const READS: u32 = 8;

/// How long the guest takes for each of some reads.
fn times_of_reads(guest: &Guest<'_>, disk: &str) -> Vec<Duration> {
    let read = |block| {
        let begun = Instant::now();
        guest.read(disk, u64::from(block) * 4096, 16);
        begun.elapsed()
    };
    (0..READS).map(read).collect()
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
    // As fast as the fastest: a machine that is busy in between is no limit.
    let unlimited = times_of_reads(&guest, &attach()).into_iter().min().unwrap() * READS;
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
    let limited: Duration = times_of_reads(&guest, &disk).iter().sum();
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

/// Asks the volume service, with an operator's or a Keystone's token; the answer.
fn ask_service(host: &HostRig, token: &str, arguments: &str) -> Value {
    let said = host.ok(&format!(
        "curl -sS --fail-with-body -H \"X-Auth-Token: {token}\" -H 'OpenStack-API-Version: volume 3.71' {arguments}"
    ));
    serde_json::from_str(&said).unwrap_or(Value::String(said))
}

/// Makes an encrypted volume from an image that begins with [`INSIDE`]; its id, its key's id.
fn encrypted_volume(host: &HostRig, token: &str, name: &str) -> (String, String) {
    let post = |path: &str, body: Value| {
        ask_service(host, token, &format!("-H 'Content-Type: application/json' -d '{body}' {SERVICE}{path}"))
    };
    let id = |made: &Value| made["id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
    let made = id(&post("/v3/types", json!({"volume_type": {"name": name}}))["volume_type"]);
    let how = json!({"provider": "luks", "control_location": "front-end", "cipher": "aes-xts-plain64", "key_size": 256});
    post(&format!("/v3/types/{made}/encryption"), json!({"encryption": how}));
    let image = id(&post("/image/v2/images", json!({"name": name, "disk_format": "raw", "container_format": "bare"})));
    host.ok(&format!("printf '{INSIDE}' >/run/plain; truncate -s 4M /run/plain"));
    let data = "-X PUT -H 'Content-Type: application/octet-stream' --data-binary @/run/plain";
    ask_service(host, token, &format!("{data} {SERVICE}/image/v2/images/{image}/file"));
    let volume = id(&post("/v3/volumes", json!({"volume": {"size": 1, "volume_type": name, "imageRef": image}}))["volume"]);
    // The API has nothing to wait on but asking again.
    host.ok(&format!(
        "for _ in $(seq 200); do
           status=$(curl -sS -H \"X-Auth-Token: {token}\" {SERVICE}/v3/volumes/{volume} | jq -r .volume.status)
           [ $status != available ] || exit 0; sleep 0.2
         done; echo $status; tail /run/bowline-backend.log; exit 1"
    ));
    let told = ask_service(host, token, &format!("{SERVICE}/v3/volumes/{volume}/encryption"));
    let key = told["encryption_key_id"].as_str().unwrap_or_else(|| panic!("{told}")).to_owned();
    (volume, key)
}

/// A volume's file has the header of LUKS1, and none of these words.
fn assert_ciphertext(host: &HostRig, file: &str, words: &[&str]) {
    assert_eq!(host.ok(&format!("head -c 8 {file} | xxd -p")), "4c554b53babe0001");
    let words: String = words.iter().map(|word| format!(" -e {word}")).collect();
    assert_eq!(host.ok(&format!("grep -c -aF{words} {file} || :")), "0", "plain text on the storage");
}

fn encrypted_by(provider: &str, key: &str) -> Value {
    json!({
        "volume": {"encrypted": true}, "connection_info": {"encrypted": true},
        "encryption": {"provider": provider, "control_location": "front-end", "cipher": "aes-xts-plain64", "key_size": 256, "encryption_key_id": key},
    })
}

#[test]
fn an_encrypted_volume_is_decrypted_for_its_guest_alone() {
    let host = HostRig::start("luks");
    let site = Site::start(&host, Services::Processes, FRAGMENT);
    let guest = host.persistent_guest("g1");
    let operator = "$(cat /var/lib/bowline-backend/token)";
    let file = |volume: &str| format!("/var/lib/bowline-backend/volumes/volume-{volume}");

    // The service has the key itself; nothing was set up for it.
    let (volume, key) = encrypted_volume(&host, operator, "secret");
    let attached = site.json(&format!("attach {volume} g1"));
    assert_eq!(attached["attachment"]["encryption"], "luks", "{attached}");
    let (disk, head) = guest.expect_disk(&seen(&volume, "virtio"), SOON);
    assert_eq!(head, INSIDE);
    guest.write(&disk, 8192, "written-by-the-guest");
    assert_ciphertext(&host, &file(&volume), &["written-by-the-guest", INSIDE]);
    assert_eq!(host.ok("virsh -q secret-list | awk '$2 == \"volume\"' | wc -l"), "1");
    let payload = format!("{SERVICE}/key-manager/v1/secrets/{key}/payload");
    let passphrase = host.ok(&format!("curl -sS --fail -H \"X-Auth-Token: {operator}\" {payload} | xxd -p -c 64"));
    assert_eq!(passphrase.len(), 64, "{passphrase}");
    for (place, known) in [
        ("/var/lib/bowline/journal.redb", volume.as_str()),
        ("/run/bowlined.log", "ready:"),
        ("/run/bowline-backend.log", "ready:"),
        ("/var/lib/bowline-backend/volumes.db", volume.as_str()),
        ("/var/log/libvirt/qemu/g1.log", "qemu"),
    ] {
        let count = |word: &str| host.ok(&format!("cat {place}* | grep -caF -e '{word}' || :"));
        assert_ne!(count(known), "0", "{place} does not even hold {known:?}");
        assert_eq!(count(&passphrase), "0", "the passphrase stands in {place}");
    }

    host.ok("virsh -q secret-list | awk '$2 == \"volume\" { print $1 }' >/run/secret
         virsh secret-dumpxml $(cat /run/secret) >/run/set.xml && grep -v '<description>' /run/set.xml >/run/unset.xml
         ! cmp -s /run/set.xml /run/unset.xml");
    // libvirtd forgets what is ephemeral when it restarts; the guest's next start needs it.
    host.ok("p=$(cat /run/rig/libvirtd.pid); kill $p; timeout 20 tail -s 0.1 --pid=$p -f /dev/null; libvirtd --daemon --pid-file /run/rig/libvirtd.pid");
    site.stop_agent();
    // As a kill leaves it between the two calls by which a secret gets its value.
    host.ok("virsh -q secret-undefine $(cat /run/secret) || :; virsh -q secret-define /run/unset.xml");
    site.start_agent("");
    host.ok("virsh -q destroy g1; virsh -q start g1");
    let (disk, head) = guest.expect_disk(&seen(&volume, "virtio"), Duration::from_secs(120));
    assert_eq!((head.as_str(), guest.read(&disk, 8192, 20)), (INSIDE, "written-by-the-guest".to_owned()));
    let detach = |volume: &str, disk: &str| {
        site.bowline(&format!("detach {volume}")).ok();
        guest.expect_gone(disk, SOON);
        site.assert_nothing_left("g1", volume, "after a detach");
    };
    detach(&volume, &disk);
    // While it has keys of its own, the service takes nobody else's.
    delete(&host, "volumes", &volume);

    // A real Keystone and a real Barbican: the key is made there, with the token of who asks for the volume, and goes with it.
    let entry = host.exec_for("key-manager-up", Duration::from_secs(180)).ok();
    host.write("/run/keystone-password", "rig-password");
    host.write("/etc/bowline/backend.toml", KEYS_ELSEWHERE);
    site.stop_service();
    site.start_service();
    host.write("/run/keys.yaml", &entry);
    host.ok("cat /var/lib/bowline-backend/clouds.yaml /run/keys.yaml >/run/both-clouds.yaml");
    host.write(
        "/etc/bowline/bowlined.d/30-clouds.toml",
        "[cloud]\nfile = \"/run/both-clouds.yaml\"\n[key_manager]\ncloud = \"keys\"",
    );
    site.stop_agent();
    site.start_agent("");
    let theirs = "$(. /run/key-manager.env; echo $TOKEN)";
    let (elsewhere, key) = encrypted_volume(&host, theirs, "elsewhere");
    let of_barbican =
        |what: &str| host.ok(&format!(". /run/key-manager.env; curl -sS -H \"X-Auth-Token: $TOKEN\" $KEYS/v1/secrets{what}"));
    let kept = of_barbican(&format!("/{key}"));
    assert!(kept.contains("\"bit_length\": 256"), "{kept}");
    let in_transit = "import sqlite3; database = sqlite3.connect(\"/var/lib/bowline-backend/volumes.db\")
print(database.execute(\"SELECT COUNT(*) FROM volume_keys WHERE kept = 0\").fetchone()[0])";
    assert_eq!(host.ok(&format!("python3 -c '{in_transit}'")), "0", "the service keeps what is Barbican's");
    site.bowline(&format!("attach {elsewhere} g1")).ok();
    let (disk, head) = guest.expect_disk(&seen(&elsewhere, "virtio"), SOON);
    assert_eq!(head, INSIDE);
    assert_ciphertext(&host, &file(&elsewhere), &[INSIDE]);
    detach(&elsewhere, &disk);

    // What is not as it should be is refused, and left as it is.
    let blank = site.volume("blank", "");
    host.ok("rm /etc/bowline/bowlined.d/30-clouds.toml");
    tell(&host, &json!({}));
    site.lie(&format!("tell:{TOLD}"));
    host.ok("cat /run/keys.yaml >>/run/lying-clouds.yaml");
    host.write("/etc/bowline/bowlined.d/40-keys.toml", "[key_manager]\ncloud = \"keys\"");
    site.stop_agent();
    site.start_agent("");
    let (other, other_key) = encrypted_volume(&host, theirs, "other");
    for (volume, told, status, word) in [
        (&blank, encrypted_by("luks", &key), 4, "LUKS"),
        (&elsewhere, encrypted_by("luks", &other_key), 6, "does not open"),
        (&elsewhere, encrypted_by("luks", "00000000-0000-4000-8000-000000000000"), 3, "key manager"),
        (&elsewhere, encrypted_by("luks2", &key), 10, "LUKS1"),
        (&elsewhere, encrypted_by("plain", &key), 10, "plain"),
    ] {
        let sum = || host.ok(&format!("sha256sum <{}", file(volume)));
        let before = sum();
        tell(&host, &told);
        let refused = site.bowline(&format!("attach {volume} g1"));
        assert!(refused.status == status && refused.stderr.contains(word), "{told}: {refused:?}");
        assert_eq!(guest.say("ls"), "", "{told}: the guest has a disk");
        assert_eq!(sum(), before, "{told}: the device was written to");
        site.assert_nothing_left("g1", volume, &told.to_string());
    }
    for volume in [&elsewhere, &other] {
        ask_service(&host, theirs, &format!("-X DELETE {SERVICE}/v3/volumes/{volume}"));
    }
    let left = "curl -sS -H \"X-Auth-Token: $TOKEN\" $KEYS/v1/secrets";
    host.write("/run/look", &format!(". /run/key-manager.env; until {left} | grep -q '\"total\": 0'; do sleep 0.2; done"));
    let gone = host.exec("timeout 50 bash /run/look");
    assert_eq!(gone.status, 0, "keys outlive their volumes: {}", of_barbican(""));
}
