//! The probe against a real target (tgt), and against one that answers garbage.
//!
//! tgt is what the bundled backend exports with; it runs here as an ordinary process on loopback, on a port and control
//! channel of its own. Without it installed these tests fail: Debian package `tgt`.

use super::*;
use crate::model::{ErrorKind, Secret};
use proptest::prelude::*;
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream as StdStream},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::Instant,
};

const IQN: &str = "iqn.2010-10.org.bowline.test:volume";
const INITIATOR: &str = "iqn.1993-08.org.debian:01:probe";

/// A port that nobody listens on, of those that the kernel gives to nobody by itself: none takes it before tgtd does.
fn free_port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 8_000).unwrap();
    loop {
        let port = 10_240 + (first + GIVEN.fetch_add(1, Ordering::Relaxed)) % 8_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A target with one LUN 1 of 16 MiB, serial `probe-serial`, CHAP user `user`, password `correct-secret`.
struct Tgt {
    daemon: Child,
    port: u16,
    /// tgt's name for its control channel; it wants one below 32768, as the port is.
    control: String,
    image: tempfile::NamedTempFile,
}

impl Tgt {
    fn start() -> Self {
        let port = free_port();
        let portal = format!("portal=127.0.0.1:{port}");
        let control = port.to_string();
        let daemon = Command::new("tgtd")
            .args(["-f", "-C", &control, "--iscsi", &portal])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("tgtd must be installed (Debian package tgt)");
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(16 << 20).unwrap();
        let tgt = Self { daemon, port, control, image };
        let until = Instant::now() + Duration::from_secs(60);
        while !tgt.admin("--op show --mode sys") {
            assert!(Instant::now() < until, "tgtd did not start");
            thread::sleep(Duration::from_millis(20));
        }
        let file = tgt.image.path().display().to_string();
        for line in [
            &format!("--op new --mode target --tid 1 -T {IQN}"),
            &format!("--op new --mode logicalunit --tid 1 --lun 1 -b {file}"),
            "--op update --mode logicalunit --tid 1 --lun 1 --params scsi_sn=probe-serial",
            "--op new --mode account --user user --password correct-secret",
            "--op bind --mode account --tid 1 --user user",
            "--op bind --mode target --tid 1 -I ALL",
        ] {
            assert!(tgt.admin(line), "{line}");
        }
        tgt
    }

    fn admin(&self, line: &str) -> bool {
        let mut command = Command::new("tgtadm");
        command.args(["-C", &self.control, "--lld", "iscsi"]).args(line.split(' '));
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }

    fn path(&self, iqn: &str, lun: u64) -> IscsiPath {
        IscsiPath { portal: format!("127.0.0.1:{}", self.port).parse().unwrap(), iqn: iqn.into(), lun }
    }
}

impl Drop for Tgt {
    fn drop(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
        // Killed, it leaves its control socket behind.
        for suffix in ["", ".lock"] {
            let _ = std::fs::remove_file(format!("/var/run/tgtd/socket.{}{suffix}", self.control));
        }
    }
}

fn chap(password: &str) -> ChapCredentials {
    ChapCredentials { username: "user".into(), password: Secret::new(password) }
}

fn login(chap: Option<&ChapCredentials>) -> Login<'_> {
    Login { initiator: INITIATOR, chap, target_chap: None }
}

#[tokio::test]
async fn a_real_target_is_identified_and_refuses_what_it_should() {
    let tgt = Tgt::start();
    let right = chap("correct-secret");
    for _ in 0..2 {
        let found = identify(&tgt.path(IQN, 1), login(Some(&right)), 10).await.unwrap();
        assert_eq!(found.identity.serial.as_deref(), Some("probe-serial"));
        assert_eq!(found.size_bytes, 16 << 20);
        assert!(found.identity.wwids.iter().any(|wwid| wwid.starts_with("t10.IET")), "{found:?}");
    }
    let asked = |path: IscsiPath, chap: Option<ChapCredentials>| async move {
        identify(&path, login(chap.as_ref()), 10).await.unwrap_err()
    };
    for (path, chap, kind) in [
        (tgt.path(IQN, 1), Some(chap("another-secret")), ErrorKind::AuthenticationFailed),
        (tgt.path(IQN, 1), None, ErrorKind::AuthenticationFailed),
        (tgt.path("iqn.2010-10.org.bowline.test:none", 1), Some(chap("correct-secret")), ErrorKind::NotFound),
        (tgt.path(IQN, 7), Some(chap("correct-secret")), ErrorKind::NotFound),
        // LUN 0 of tgt is its controller.
        (tgt.path(IQN, 0), Some(chap("correct-secret")), ErrorKind::IdentityMismatch),
    ] {
        let error = asked(path.clone(), chap).await;
        assert_eq!(error.kind(), kind, "{path}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn a_portal_tells_its_targets_and_who_may_ask() {
    let tgt = Tgt::start();
    let portal = tgt.path(IQN, 1).portal;
    let found = discover(&portal, login(None), 10).await.unwrap();
    assert_eq!(found, [Advertised { iqn: IQN.into(), portal: portal.clone() }]);
    // More targets than fit into one answer.
    for number in 2..700 {
        let name = format!("{IQN}-{number}-{}", "x".repeat(100));
        assert!(tgt.admin(&format!("--op new --mode target --tid {number} -T {name}")), "{number}");
        if number > 690 {
            assert!(tgt.admin(&format!("--op bind --mode target --tid {number} -I ALL")), "{number}");
        }
    }
    assert_eq!(discover(&portal, login(None), 10).await.unwrap().len(), 10, "only those shown to this initiator");
}

#[tokio::test]
async fn a_target_proves_itself_or_is_not_talked_to() {
    let tgt = Tgt::start();
    for line in [
        "--op new --mode account --user array --password array-secret",
        "--op bind --mode account --tid 1 --user array --outgoing",
    ] {
        assert!(tgt.admin(line), "{line}");
    }
    let own = chap("correct-secret");
    let asked = |username: &str, password: &str| ChapCredentials { username: username.into(), password: Secret::new(password) };
    let path = tgt.path(IQN, 1);
    for (account, is_right) in [
        (asked("array", "array-secret"), true),
        (asked("array", "other-secret"), false),
        (asked("other", "array-secret"), false),
    ] {
        let login = Login { initiator: INITIATOR, chap: Some(&own), target_chap: Some(&account) };
        match identify(&path, login, 10).await {
            Ok(found) => assert!(is_right && found.identity.serial.as_deref() == Some("probe-serial")),
            Err(error) => assert!(!is_right && matches!(error, ProbeError::TargetNotProven { .. }), "{error}"),
        }
    }
    // One that cannot, and one that does not even want CHAP.
    for line in [
        format!("--op new --mode target --tid 2 -T {IQN}-cannot"),
        "--op bind --mode account --tid 2 --user user".to_owned(),
        "--op bind --mode target --tid 2 -I ALL".to_owned(),
        format!("--op new --mode target --tid 3 -T {IQN}-open"),
        "--op bind --mode target --tid 3 -I ALL".to_owned(),
    ] {
        assert!(tgt.admin(&line), "{line}");
    }
    let account = asked("array", "array-secret");
    for iqn in [format!("{IQN}-cannot"), format!("{IQN}-open")] {
        let login = Login { initiator: INITIATOR, chap: Some(&own), target_chap: Some(&account) };
        let error = identify(&tgt.path(&iqn, 1), login, 10).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AuthenticationFailed, "{iqn}: {error}");
    }
}

#[tokio::test]
async fn sessions_are_closed_afterwards() {
    let tgt = Tgt::start();
    identify(&tgt.path(IQN, 1), login(Some(&chap("correct-secret"))), 10).await.unwrap();
    let shown = || {
        let mut show = Command::new("tgtadm");
        show.args(["-C", &tgt.control, "--lld", "iscsi", "--op", "show", "--mode", "conn", "--tid", "1"]);
        String::from_utf8(show.output().unwrap().stdout).unwrap()
    };
    // It may not have seen yet that the connection was closed.
    let until = Instant::now() + Duration::from_secs(60);
    while !shown().is_empty() {
        assert!(Instant::now() < until, "a session is left: {}", shown());
        thread::sleep(Duration::from_millis(20));
    }
}

/// A listener that sends these bytes to whoever connects, then closes.
fn liar(bytes: Vec<u8>) -> IscsiPath {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let portal = listener.local_addr().unwrap().to_string().parse().unwrap();
    thread::spawn(move || {
        let (mut stream, _): (StdStream, _) = listener.accept().unwrap();
        let mut request = [0; 48];
        let _ = stream.read_exact(&mut request);
        let _ = stream.write_all(&bytes);
    });
    IscsiPath { portal, iqn: IQN.into(), lun: 1 }
}

#[tokio::test]
async fn nobody_listening_is_unavailable() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let path = IscsiPath { portal: format!("127.0.0.1:{port}").parse().unwrap(), iqn: IQN.into(), lun: 1 };
    assert_eq!(identify(&path, login(None), 5).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_silent_target_ends_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let portal = listener.local_addr().unwrap().to_string().parse().unwrap();
    let path = IscsiPath { portal, iqn: IQN.into(), lun: 1 };
    let error = identify(&path, login(None), 1).await.unwrap_err();
    assert!(matches!(error, ProbeError::TimedOut { timeout_s: 1 }), "{error}");
}

#[tokio::test]
async fn a_data_segment_beyond_the_limit_is_refused_before_it_is_read() {
    let mut header = vec![0x23, 0x80, 0, 0, 0, 0xff, 0xff, 0xff];
    header.resize(48, 0);
    let error = identify(&liar(header), login(None), 5).await.unwrap_err();
    assert!(matches!(error, ProbeError::Malformed { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn garbage_is_an_error_and_never_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), as_login in any::<bool>()) {
        if as_login && bytes.len() >= 48 {
            // A well-framed answer to the first request, with everything else random.
            bytes[0] = 0x23;
            let length = u8::try_from(bytes.len() - 48).unwrap_or(200);
            bytes[4..8].copy_from_slice(&[0, 0, 0, length]);
            bytes[16..20].copy_from_slice(&1u32.to_be_bytes());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let path = liar(bytes);
        prop_assert!(runtime.block_on(identify(&path, login(Some(&chap("correct-secret"))), 5)).is_err());
    }
}
