//! `bowlined` itself, started on a journal that it cannot use: it says which file and what to do, ends with the status by which systemd
//! tells what another start may mend from what it cannot, and leaves the file byte for byte as it was.

use super::support::am_root;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;

/// As in the unit: not started again.
const NEEDS_A_HAND: i32 = 78;

/// The folders of an agent that has no bus to go on, and whose journal an earlier start has made.
struct Host {
    folder: TempDir,
}

impl Host {
    fn new() -> Self {
        let host = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(host.path("config")).unwrap();
        let clouds = host.path("clouds.yaml");
        let cloud = "clouds: {here: {auth_type: none, auth: {endpoint: 'http://127.0.0.1:9'}}}";
        fs::write(&clouds, cloud).unwrap();
        let settings = format!(
            "[cloud]\nfile = {clouds:?}\nname = \"here\"\n[paths]\nstate_dir = {:?}\nrun_dir = {:?}\n",
            host.path("state"),
            host.path("run")
        );
        fs::write(host.path("config/10.toml"), settings).unwrap();
        host
    }

    /// With the journal that a first start makes.
    fn used() -> Self {
        let host = Self::new();
        let first = host.start("");
        assert!(host.journal().is_file(), "{}", said(&first));
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn journal(&self) -> PathBuf {
        self.path("state/journal.redb")
    }

    /// Starts `bowlined` and waits for its end, in a mount namespace of its own that a line of shell has prepared, if one is given.
    fn start(&self, prepare: &str) -> Output {
        let agent = env!("CARGO_BIN_EXE_bowlined");
        let mut command = if prepare.is_empty() {
            let mut command = Command::new("timeout");
            command.args(["60", agent]);
            command
        } else {
            let mut command = Command::new("unshare");
            command.args(["--mount", "timeout", "60", "sh", "-ec", &format!("{prepare}; exec \"$0\" \"$@\""), agent]);
            command
        };
        command.arg("--config-dir").arg(self.path("config")).env("STATE", self.path("state"));
        command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus").env_remove("NOTIFY_SOCKET");
        command.output().unwrap()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn files(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Where a record or a page of redb's is: behind its header, among bytes that are in use.
fn a_used_byte(bytes: &[u8]) -> usize {
    (4096..bytes.len()).find(|at| bytes[*at..].starts_with(b"format")).expect("the journal has no format")
}

#[test]
fn a_journal_that_makes_no_sense_is_named_and_kept_and_no_start_is_tried_again() {
    let whole = fs::read(Host::used().journal()).unwrap();
    let mut torn = whole.clone();
    torn[a_used_byte(&whole) & !0xfff..][..512].fill(0xff);
    let mut flipped = whole.clone();
    flipped[a_used_byte(&whole)] ^= 1;
    let cases = [
        ("torn", torn),
        ("with a flipped bit", flipped),
        ("cut in half", whole[..whole.len() / 2].to_vec()),
        ("cut within its first page", whole[..700].to_vec()),
        ("empty", vec![]),
        ("of zeros", vec![0; whole.len()]),
        ("another file", b"not a journal at all".to_vec()),
    ];
    for (what, bytes) in cases {
        let host = Host::new();
        fs::create_dir(host.path("state")).unwrap();
        fs::write(host.journal(), &bytes).unwrap();
        let ended = host.start("");
        let words = said(&ended);
        assert_eq!(ended.status.code(), Some(NEEDS_A_HAND), "{what}: {words}");
        assert!(words.contains(host.journal().to_str().unwrap()) && words.contains("damaged"), "{what}: {words}");
        assert!(words.contains("restore one from backup"), "{what}: {words}");
        assert!(fs::read(host.journal()).unwrap() == bytes, "{what}: the file was changed");
        assert_eq!(files(&host.path("state")), ["journal.redb"], "{what}");
    }
}

#[test]
fn a_journal_of_a_newer_version_is_kept_for_it() {
    let host = Host::used();
    {
        let database = redb::Database::create(host.journal()).unwrap();
        let transaction = database.begin_write().unwrap();
        let meta: redb::TableDefinition<'_, &str, u32> = redb::TableDefinition::new("meta");
        transaction.open_table(meta).unwrap().insert("format", 1000).unwrap();
        transaction.commit().unwrap();
    }
    let before = fs::read(host.journal()).unwrap();
    let ended = host.start("");
    let words = said(&ended);
    assert_eq!(ended.status.code(), Some(NEEDS_A_HAND), "{words}");
    for word in [host.journal().to_str().unwrap(), "format 1000", "start the newer version again"] {
        assert!(words.contains(word), "{word}: {words}");
    }
    assert!(fs::read(host.journal()).unwrap() == before, "the file was changed");
}

#[test]
fn a_disk_that_is_full_or_read_only_is_told_and_another_start_may_find_it_mended() {
    if !am_root() {
        eprintln!("not root: no mount of its own");
        return;
    }
    let host = Host::used();
    let before = fs::read(host.journal()).unwrap();
    let ended = host.start("mount --bind $STATE $STATE; mount -o remount,ro,bind $STATE");
    let words = said(&ended);
    assert_eq!(ended.status.code(), Some(1), "{words}");
    assert!(words.contains(host.journal().to_str().unwrap()) && words.contains("Read-only file system"), "{words}");
    assert!(fs::read(host.journal()).unwrap() == before, "the file was changed");

    // Full from the start on: there is no journal, and no half of one comes to be.
    let host = Host::new();
    let ended = host.start("mkdir $STATE; mount -t tmpfs -o size=4k none $STATE; trap 'ls $STATE >&2' EXIT; \"$0\" \"$@\"");
    let words = said(&ended);
    assert_eq!(ended.status.code(), Some(1), "{words}");
    assert!(words.contains("journal.redb") && words.contains("No space left on device"), "{words}");
    assert!(!words.lines().any(|line| line == "journal.redb"), "half a journal was left: {words}");
}

#[test]
fn the_unit_does_not_start_again_what_needs_a_hand() {
    let unit = include_str!("../../systemd/bowlined.service");
    assert!(unit.lines().any(|line| line == format!("RestartPreventExitStatus={NEEDS_A_HAND}")), "{unit}");
}
