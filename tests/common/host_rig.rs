//! A host rig for one test: `tests/host/rig run` around a process that lives as long as this one holds its stdin.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::{Machine, Output, binaries, log_folder, repository};

/// How long the rig's services may take to start, the building of the guest included.
const START_LIMIT: Duration = Duration::from_secs(180);

/// A running rig; all of it ends when dropped, its logs kept if the test failed.
pub struct HostRig {
    name: String,
    rig: Child,
}

impl HostRig {
    /// Starts a fresh rig. `name` should name the test: logs are found by it.
    #[track_caller]
    pub fn start(name: &str) -> Self {
        let mut command = Command::new(repository().join("tests/host/rig"));
        command.args(["run", "--", "sh", "-c", "echo ready; exec cat >/dev/null"]).env("BOWLINE_BIN", binaries());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut rig = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdout = rig.stdout.take().unwrap();
        let host = Self { name: format!("{name}-{}", std::process::id()), rig };

        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = sender.send(line);
        });
        let line = receiver.recv_timeout(START_LIMIT).unwrap_or_default();
        assert_eq!(line.trim(), "ready", "the host rig did not start");
        host
    }

    fn inside(&self) -> Command {
        let mut command = Command::new(repository().join("tests/host/rig"));
        command.arg("exec").arg(self.rig.id().to_string()).stdin(Stdio::null());
        command
    }

    fn keep_logs(&self) {
        let folder = log_folder(&self.name);
        let _ = fs::create_dir_all(&folder);
        let logs = "tail -n +1 /run/rig/*.log /run/rig/*.err /run/guest-*.log /run/bowline*.log /run/lying.log /run/target/*.log /run/openstack/log/* /var/log/libvirt/*.log /var/log/libvirt/qemu/*.log";
        let output = self.exec(logs);
        let _ = fs::write(folder.join("rig.log"), output.stdout);
        eprintln!("logs of the host rig: {}", folder.display());
    }
}

impl Machine for HostRig {
    fn exec_for(&self, command: &str, limit: Duration) -> Output {
        let seconds = limit.as_secs().max(1).to_string();
        Output::of(self.inside().args(["timeout", "-k", "2", &seconds, "bash", "-c", command]))
    }
}

impl Drop for HostRig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep_logs();
        }
        drop(self.rig.stdin.take());
        let _ = self.rig.wait();
    }
}
