//! Runs Ceph's `rbd` command, and says what its exit code means.
//!
//! The key is handed over in a file that is only in memory and has no name: the command's standard input. So it stands on no
//! argument list and in no file system, and is gone with the process, however that ends.

use super::RbdError;
use crate::connectors::{
    command::{self, CommandError},
    turns::Turns,
};
use crate::model::{Portal, RbdImage, Secret, own_words_of_rbd};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::{
    fs::File,
    io::{self, Seek, Write},
    path::Path,
    process::Stdio,
    time::Duration,
};

/// Commands at once. Each loads Ceph's libraries and greets the cluster, which is work for a processor.
static COMMANDS: Turns = Turns::new(8);

/// Exit codes of `rbd` are the errno of what went wrong.
const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EACCES: i32 = 13;
/// What the OSDs answer a client whose address is on the cluster's blocklist.
const ESHUTDOWN: i32 = 108;

/// Which image, where, and as whom.
#[derive(Clone, Copy)]
pub(super) struct Access<'a> {
    pub(super) image: &'a RbdImage,
    pub(super) monitors: &'a [Portal],
    pub(super) cluster: &'a str,
    /// None: the one of the system, by the cluster's name.
    pub(super) conf_file: Option<&'a Path>,
    /// Without `client.`; none where the cluster wants none.
    pub(super) user: Option<&'a str>,
    /// None: Ceph's own configuration names where it is.
    pub(super) key: Option<&'a Secret>,
}

impl Access<'_> {
    /// Runs `rbd VERB... --pool .. --image ..` for at most `limit`; its standard output. `doing` is said in errors.
    pub(super) async fn run(&self, doing: &'static str, verb: &[&str], limit: Duration) -> Result<String, RbdError> {
        let image = || self.image.to_string();
        let stdin = match self.key {
            Some(key) => in_memory(key.expose()).map_err(|source| RbdError::HandOver { image: image(), source })?,
            None => Stdio::null(),
        };
        let monitors = self.monitors();
        let answer = COMMANDS.take(command::run_with_input("rbd", &self.arguments(verb), stdin, limit)).await;
        let finished = answer.map_err(|source| match &source {
            CommandError::Start { source: cause, .. } if cause.kind() == io::ErrorKind::NotFound => {
                RbdError::NoCommand { doing, image: image() }
            }
            _ => RbdError::Command { doing, image: image(), monitors: monitors.clone(), source },
        })?;
        let stderr = own_words_of_rbd(&finished.stderr);
        match finished.code {
            Some(0) => Ok(String::from_utf8_lossy(&finished.stdout).into_owned()),
            Some(ENOENT) => Err(RbdError::NoImage { image: image(), stderr }),
            Some(EPERM | EACCES) => {
                let user = self.user.unwrap_or("admin").to_owned();
                Err(RbdError::Refused { image: image(), monitors, user, stderr })
            }
            Some(ESHUTDOWN) => Err(RbdError::Blocklisted { image: image(), monitors }),
            code => Err(RbdError::Unavailable { doing, image: image(), monitors, code: code.unwrap_or(-1), stderr }),
        }
    }

    fn monitors(&self) -> String {
        self.monitors.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// Pool, namespace and image are given one by one, so that no name is taken apart. Each value follows its option and is a
    /// plain name, an absolute path or an address, which cannot be an option itself.
    pub(super) fn arguments(&self, verb: &[&str]) -> Vec<String> {
        let monitors = self.monitors();
        let conf = self.conf_file.map(|file| file.display().to_string());
        let mut arguments = vec!["--cluster", self.cluster];
        if let Some(conf) = &conf {
            arguments.extend(["--conf", conf]);
        }
        arguments.extend(["-m", &monitors]);
        if let Some(user) = self.user {
            arguments.extend(["--id", user]);
        }
        if self.key.is_some() {
            arguments.extend(["--keyfile", "/proc/self/fd/0"]);
        }
        arguments.extend(verb);
        arguments.extend(["--pool", &self.image.pool, "--image", &self.image.name]);
        if let Some(namespace) = &self.image.namespace {
            arguments.extend(["--namespace", namespace]);
        }
        arguments.into_iter().map(str::to_owned).collect()
    }
}

/// A file in memory with the text in it, to be read from its beginning, or opened anew.
pub(super) fn in_memory(text: &str) -> io::Result<Stdio> {
    let mut file = File::from(memfd_create(c"bowline", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(Stdio::from(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_on_no_argument_list() {
        let image = RbdImage { pool: "volumes".into(), namespace: Some("ns".into()), name: "volume-1".into() };
        let key = Secret::new("SECRETKEY");
        let monitors = ["10.0.0.1:6789".parse().unwrap(), "[fd00::1]:3300".parse().unwrap()];
        let (user, key) = (Some("cinder"), Some(&key));
        let mut access = Access { image: &image, monitors: &monitors, cluster: "ceph", conf_file: None, user, key };
        let arguments = access.arguments(&["--format", "json", "info"]).join(" ");
        assert_eq!(
            arguments,
            "--cluster ceph -m 10.0.0.1:6789,[fd00::1]:3300 --id cinder --keyfile /proc/self/fd/0 \
             --format json info --pool volumes --image volume-1 --namespace ns"
        );
        access.conf_file = Some(Path::new("/etc/ceph/other.conf"));
        assert!(access.arguments(&["info"]).join(" ").starts_with("--cluster ceph --conf /etc/ceph/other.conf -m "));
    }

    #[tokio::test]
    async fn a_command_finds_the_key_on_its_standard_input() {
        for arguments in [vec!["/proc/self/fd/0"], vec![]] {
            let stdin = in_memory("SECRETKEY").unwrap();
            let finished = command::run_with_input("cat", &arguments, stdin, Duration::from_secs(10)).await.unwrap();
            assert_eq!(finished.stdout, b"SECRETKEY");
        }
    }
}
