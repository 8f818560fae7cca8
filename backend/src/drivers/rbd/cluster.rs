//! The cluster, asked by its own tools: `rbd` and `ceph`, both of `ceph-common`. The key is in the keyring that they read, so it is
//! on no argument list. A cluster that does not answer fails a command by Ceph's own deadlines.

use std::ffi::OsString;
use std::process::Stdio;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::process::Child;
use tokio::sync::Mutex;

use super::super::{Capacity, DriverError};
use crate::command::{CommandError, Tool};
use crate::config::Rbd;

pub(super) const RBD: Tool = Tool { program: "rbd", package: "ceph-common" };
pub(super) const CEPH: Tool = Tool { program: "ceph", package: "ceph-common" };

/// How long monitors may take to answer, in seconds.
const MONITORS_WITHIN_S: &str = "10";

/// How long the OSDs may take for one piece of work, in seconds: a cluster that loses an OSD pauses for 20 s before it goes on.
const OSDS_WITHIN_S: &str = "60";

/// A command of some such pieces.
const SHORT: Duration = Duration::from_secs(150);

/// One that touches every object of an image: Ceph's deadlines end it where the cluster is silent, so this is for a large image.
const LONG: Duration = Duration::from_secs(6 * 3600);

/// How long the monitors that are known are told to hosts without asking again, and how long a cluster that was silent is believed to
/// be so.
const KNOWN_FOR: Duration = Duration::from_secs(60);
const SILENT_FOR: Duration = Duration::from_secs(20);

/// Exit codes: the errno of what went wrong.
const ENOENT: i32 = 2;
const EACCES: i32 = 13;
const ETIMEDOUT: i32 = 110;

/// A cluster's monitors, as hosts are told of them: addresses without brackets, and ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Monitors {
    pub(super) hosts: Vec<String>,
    pub(super) ports: Vec<String>,
}

/// The cluster and the pool that a backend is in.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) settings: Rbd,
    /// When they were asked for, and what was heard, if anything.
    monitors: Mutex<Option<(Instant, Option<Monitors>)>>,
    /// How many images of the trash were tried in turn.
    pub(super) reaped: AtomicUsize,
}

impl Cluster {
    pub(super) fn new(settings: Rbd) -> Self {
        Self { settings, monitors: Mutex::default(), reaped: AtomicUsize::default() }
    }

    /// The spec of an image or of one of its snapshots, in this backend's pool.
    pub(super) fn spec(&self, name: &str) -> String {
        let Rbd { pool, namespace, .. } = &self.settings;
        if namespace.is_empty() { format!("{pool}/{name}") } else { format!("{pool}/{namespace}/{name}") }
    }

    /// Where the backend's images are, for commands that take the pool alone.
    pub(super) fn place(&self) -> [OsString; 4] {
        ["--pool".into(), self.settings.pool.clone().into(), "--namespace".into(), self.settings.namespace.clone().into()]
    }

    fn identity(&self) -> Vec<OsString> {
        let Rbd { user, conf_file, keyring_file, .. } = &self.settings;
        let mut arguments: Vec<OsString> = vec!["--id".into(), user.into(), "--conf".into(), conf_file.into()];
        if !keyring_file.as_os_str().is_empty() {
            arguments.extend(["--keyring".into(), keyring_file.into()]);
        }
        arguments
    }

    fn rbd_arguments<A: Into<OsString>>(&self, arguments: impl IntoIterator<Item = A>) -> Vec<OsString> {
        let mut all = self.identity();
        for (option, value) in [
            ("--client-mount-timeout", MONITORS_WITHIN_S),
            ("--rados-mon-op-timeout", MONITORS_WITHIN_S),
            ("--rados-osd-op-timeout", OSDS_WITHIN_S),
        ] {
            all.extend([option.into(), value.into()]);
        }
        all.extend(arguments.into_iter().map(Into::into));
        all
    }

    /// Runs `rbd`.
    pub(super) async fn rbd<A: Into<OsString>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<Vec<u8>, CommandError> {
        RBD.run(self.rbd_arguments(arguments), SHORT).await
    }

    /// Runs an `rbd` that may have every object of an image to look at.
    pub(super) async fn rbd_long<A: Into<OsString>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Vec<u8>, CommandError> {
        RBD.run(self.rbd_arguments(arguments), LONG).await
    }

    /// Starts an `rbd` whose input or output is a stream.
    pub(super) fn rbd_stream<A: Into<OsString>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        stdin: Stdio,
        stdout: Stdio,
    ) -> Result<Child, CommandError> {
        let mut command = RBD.command(self.rbd_arguments(arguments));
        command.stdin(stdin).stdout(stdout).spawn().map_err(|error| RBD.start_error(error))
    }

    /// Runs `ceph`.
    pub(super) async fn ceph<A: Into<OsString>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Vec<u8>, CommandError> {
        let mut all = self.identity();
        all.extend(["--connect-timeout".into(), MONITORS_WITHIN_S.into()]);
        all.extend(arguments.into_iter().map(Into::into));
        CEPH.run(all, SHORT).await
    }

    /// The monitors, as they are or were a minute ago.
    pub(super) async fn monitors(&self) -> Result<Monitors, DriverError> {
        let mut known = self.monitors.lock().await;
        match &*known {
            Some((asked, Some(monitors))) if asked.elapsed() < KNOWN_FOR => return Ok(monitors.clone()),
            Some((asked, None)) if asked.elapsed() < SILENT_FOR => return Err(self.unready(None)),
            _ => {}
        }
        let heard = self.ceph(["mon", "dump", "--format", "json"]).await.and_then(|text| parse::<MonDump>(CEPH, &text));
        let heard = heard.map(|dump| dump.monitors());
        *known = Some((Instant::now(), heard.as_ref().ok().cloned()));
        heard.map_err(|error| self.unready(Some(error)))
    }

    /// What the pool has. Says what is amiss with the cluster, the user or the pool where it cannot.
    pub(super) async fn capacity(&self) -> Result<Capacity, DriverError> {
        let text = self.ceph(["df", "--format", "json"]).await.map_err(|error| self.unready(Some(error)))?;
        let df: Df = parse(CEPH, &text).map_err(|error| self.unready(Some(error)))?;
        let pool = &self.settings.pool;
        let problem = |problem| DriverError::Unready { problem, source: None };
        if df.pools.is_empty() {
            return Err(problem("the Ceph cluster tells of no pool: is a manager (ceph-mgr) running?".into()));
        }
        let Some(found) = df.pools.into_iter().find(|found| found.name == *pool) else {
            return Err(problem(format!(
                "the Ceph cluster has no pool {pool}: `ceph osd pool create {pool} && rbd pool init {pool}`"
            )));
        };
        let Stats { stored, max_avail } = found.stats;
        Ok(Capacity { total_bytes: stored.saturating_add(max_avail), free_bytes: max_avail })
    }

    /// Sees to it that the pool can be worked with.
    pub(super) async fn check(&self) -> Result<(), DriverError> {
        let listed = self.rbd(["trash", "ls"].map(OsString::from).into_iter().chain(self.place())).await;
        listed.map(drop).map_err(|error| self.unready(Some(error)))
    }

    /// What to do where nothing of the cluster can be used.
    fn unready(&self, heard: Option<CommandError>) -> DriverError {
        let Rbd { user, pool, namespace, conf_file, keyring_file, .. } = &self.settings;
        let keyring = if keyring_file.as_os_str().is_empty() {
            format!("/etc/ceph/ceph.client.{user}.keyring")
        } else {
            keyring_file.display().to_string()
        };
        let conf = conf_file.display();
        let problem = match &heard {
            Some(error) if error.says("namespace '") => {
                format!("pool {pool} has no namespace {namespace}: `rbd namespace create {pool}/{namespace}`")
            }
            Some(error) if error.says("open config file") => format!("there is no {conf}: copy it from the cluster"),
            Some(error) if error.code() == Some(EACCES) || error.says("keyring") || error.says("denied") => format!(
                "the Ceph cluster of {conf} does not take client.{user}: is its key in {keyring}, readable by the service, and are its \
                 rights `mon 'profile rbd' osd 'profile rbd pool={pool}'`?"
            ),
            Some(error) if error.code() == Some(ETIMEDOUT) || error.says("timed out") || error.says("couldn't connect") => {
                format!("no monitor of {conf} answers in time")
            }
            Some(_) => format!("the Ceph cluster of {conf} cannot be used by client.{user}"),
            None => format!("no monitor of {conf} answered a moment ago"),
        };
        DriverError::Unready { problem, source: heard }
    }
}

/// Whether an image, or a snapshot of it, is not there. The pool is.
pub(super) fn is_missing(error: &CommandError) -> bool {
    error.code() == Some(ENOENT) && !error.says("pool '") && !error.says("namespace '")
}

/// Nothing, where it is gone already.
pub(super) fn gone_is_fine(done: Result<Vec<u8>, CommandError>) -> Result<(), CommandError> {
    match done {
        Err(error) if is_missing(&error) => Ok(()),
        other => other.map(drop),
    }
}

pub(super) fn parse<T: DeserializeOwned>(tool: Tool, text: &[u8]) -> Result<T, CommandError> {
    serde_json::from_slice(text).map_err(|source| CommandError::Answer { program: tool.program, source })
}

/// `ceph df --format json`.
#[derive(Deserialize)]
struct Df {
    pools: Vec<Pool>,
}

#[derive(Deserialize)]
struct Pool {
    name: String,
    stats: Stats,
}

/// In bytes, copies not counted.
#[derive(Deserialize)]
struct Stats {
    stored: u64,
    max_avail: u64,
}

/// `ceph mon dump --format json`.
#[derive(Deserialize)]
struct MonDump {
    mons: Vec<Mon>,
}

/// `addr` is `HOST:PORT/NONCE`, of the older protocol where there is one.
#[derive(Deserialize)]
struct Mon {
    addr: String,
}

impl MonDump {
    fn monitors(&self) -> Monitors {
        let address = |mon: &Mon| {
            let address = mon.addr.split('/').next()?;
            let (host, port) = address.rsplit_once(':')?;
            Some((host.trim_matches(['[', ']']).to_owned(), port.to_owned()))
        };
        let (hosts, ports) = self.mons.iter().filter_map(address).unzip();
        Monitors { hosts, ports }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monitors_are_told_as_the_field_tells_them() {
        let text = br#"{"epoch": 1, "mons": [{"addr": "10.0.0.1:6789/0"}, {"addr": "[fd00::1]:3300/0", "rank": 1}]}"#;
        let monitors = parse::<MonDump>(CEPH, text).unwrap().monitors();
        assert_eq!(
            (monitors.hosts, monitors.ports),
            (vec!["10.0.0.1".into(), "fd00::1".into()], vec!["6789".into(), "3300".into()])
        );
    }

    #[test]
    fn an_image_in_a_namespace_has_it_in_its_spec() {
        let settings = Rbd { namespace: "ns".into(), ..Rbd::default() };
        assert_eq!(Cluster::new(settings).spec("volume-a"), "volumes/ns/volume-a");
        assert_eq!(Cluster::new(Rbd::default()).spec("volume-a"), "volumes/volume-a");
    }
}
