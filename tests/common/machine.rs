//! A machine that commands run on. Both rigs are one; a test body written against it runs on both.

use std::process::Command;
use std::time::Duration;

use super::Guest;

/// How long a command may take unless a test says otherwise.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// What a command said and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// The exit status; 124 if it did not end in time and was killed.
    pub status: i32,
    /// Standard output, without trailing white space.
    pub stdout: String,
    /// Standard error, without trailing white space.
    pub stderr: String,
}

impl Output {
    /// Runs a rig's script to its end. The scripts bound what they run.
    pub(super) fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).trim_end().to_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
        }
    }

    /// Standard output of a command that must have succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.status, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }
}

/// Somewhere to run commands, with libvirt, guests and iSCSI targets.
pub trait Machine {
    /// Runs a shell command as root; after `limit` it and all that it started is killed.
    fn exec_for(&self, command: &str, limit: Duration) -> Output;

    /// Runs a shell command as root, for a minute at most.
    fn exec(&self, command: &str) -> Output {
        self.exec_for(command, COMMAND_LIMIT)
    }

    /// Runs a shell command that must succeed, and returns its standard output.
    #[track_caller]
    fn ok(&self, command: &str) -> String {
        let output = self.exec(command);
        assert_eq!(output.status, 0, "{command}\nstdout: {}\nstderr: {}", output.stdout, output.stderr);
        output.stdout
    }

    /// Writes a file.
    #[track_caller]
    fn write(&self, path: &str, content: &str) {
        self.ok(&format!("cat >'{path}' <<'END-OF-FILE'\n{content}\nEND-OF-FILE"));
    }

    /// Boots a transient guest and waits until it listens.
    #[track_caller]
    fn guest(&self, name: &str) -> Guest<'_>
    where
        Self: Sized,
    {
        Guest::start(self, name, "")
    }

    /// Boots a guest that libvirt has a definition of already.
    #[track_caller]
    fn started_guest(&self, name: &str) -> Guest<'_>
    where
        Self: Sized,
    {
        Guest::start(self, name, "--defined")
    }

    /// Defines a guest without kernel and disks, which is off and boots from the disks it is given. Returns its UUID.
    #[track_caller]
    fn diskless_guest(&self, name: &str) -> String {
        self.ok(&format!("guest-up {name} --diskless"))
    }

    /// A guest that somebody else has started, once it listens.
    #[track_caller]
    fn booted_guest(&self, name: &str) -> Guest<'_>
    where
        Self: Sized,
    {
        Guest::start(self, name, "--booted")
    }

    /// Boots a guest that libvirt also keeps when it is off.
    #[track_caller]
    fn persistent_guest(&self, name: &str) -> Guest<'_>
    where
        Self: Sized,
    {
        Guest::start(self, name, "--persistent")
    }
}
