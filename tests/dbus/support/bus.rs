//! A dbus-daemon of the test's own, with its own configuration and socket.

use std::{
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;
use zbus::{Connection, connection::Builder};

/// What the bus lets users do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Everything.
    Open,
    /// Nobody may talk to the agent.
    AgentOutOfReach,
    /// Nobody may own the agent's name.
    AgentUnnameable,
}

/// uid of nobody.
pub const NOBODY: u32 = 65534;

/// A running bus; dropping it stops the daemon.
pub struct Bus {
    pub address: String,
    folder: TempDir,
    daemon: Child,
}

impl Bus {
    /// Starts one and waits until it listens.
    pub fn start(policy: Policy) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Another user's client must reach the socket, and the command that is copied here.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let deny = match policy {
            Policy::Open => "",
            Policy::AgentOutOfReach => r#"<deny send_destination="org.bowline.Agent1"/>"#,
            Policy::AgentUnnameable => r#"<deny own="org.bowline.Agent1"/>"#,
        };
        let socket = folder.path().join("bus");
        let config = folder.path().join("bus.conf");
        let log = folder.path().join("log");
        let text = format!(
            r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow send_type="signal"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    {deny}
  </policy>
</busconfig>
"#,
            socket.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut daemon = Command::new("dbus-daemon")
            .args(["--nofork", "--nosyslog", "--print-address"])
            .arg(format!("--config-file={}", config.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run dbus-daemon ({error}): install it (Debian: apt-get install dbus)"));
        // The address is printed once the daemon listens.
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let address = address.trim().to_owned();
        assert!(address.starts_with("unix:"), "dbus-daemon did not start: {}", std::fs::read_to_string(log).unwrap());
        Self { address, folder, daemon }
    }

    /// A client's connection.
    pub async fn connect(&self) -> Connection {
        Builder::address(self.address.as_str()).build().await.unwrap()
    }

    /// A client's connection whose other end, the bus takes it, is nobody; of who runs the tests, where that is not root.
    pub async fn connect_as_nobody(&self) -> Connection {
        let path = self.folder.path().join("bus");
        // The kernel notes who connects, and a thread may be somebody of its own.
        let connecting = std::thread::spawn(move || {
            if super::am_root() {
                let nobody = rustix::thread::Uid::from_raw(NOBODY);
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            }
            std::os::unix::net::UnixStream::connect(path).unwrap()
        });
        let stream = connecting.join().unwrap();
        stream.set_nonblocking(true).unwrap();
        let builder = Builder::unix_stream(stream);
        let builder = if super::am_root() { builder.user_id(NOBODY) } else { builder };
        builder.build().await.unwrap()
    }

    /// A folder every user can read.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Takes the bus down as a crash would.
    pub fn kill(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}
