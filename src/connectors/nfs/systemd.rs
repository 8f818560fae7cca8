//! Mounts and unmounts in the host's own namespace, by asking systemd.
//!
//! ```text
//! Subscribe -> StartTransientUnit X.mount -> job --JobRemoved "done"--> mounted
//!                                             \--JobRemoved "failed"--> what mount(8) said is in the journal
//!                                              \-- in the mount table --> mounted, wherever the job is
//! ```
//! systemd reads the mount table at most some times a second, and ends the job when it has: what the kernel tells is not waited for.
//! The agent runs in a mount namespace of its own (its unit's sandbox): what it mounted itself, QEMU would never see. What systemd
//! mounts, both see. The connection to the bus is kept from one request to the next; where the bus was restarted meanwhile, the next
//! request finds that out before it asks for anything, and connects anew.
//! The interface is that of org.freedesktop.systemd1(5).

use super::{NfsError, mountinfo};
use crate::{connectors::command, model::NfsExport};
use futures_util::StreamExt;
use std::{
    num::NonZeroUsize,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{sync::Mutex, time::timeout};
use zbus::{
    Connection, MatchRule, MessageStream, OwnedObjectPath, Proxy, Variant, fdo::DBusProxy, message::Type,
    proxy::CacheProperties,
};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// What says that systemd is the first process (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

/// The bus and systemd answer from memory.
const ANSWER: Duration = Duration::from_secs(5);
/// systemd keeps the deadline itself; this is for its own work around it.
const RESERVE: Duration = Duration::from_secs(2);
/// Jobs of other units that may end while one is waited for: a whole boot.
const SIGNALS_MAX: usize = 1024;
/// How long the journal may take to tell what mount(8) said.
const JOURNAL: Duration = Duration::from_secs(3);

/// The properties of a transient unit.
type Properties<'a> = Vec<(&'a str, Variant<'a>)>;

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JobEnd {
    /// As it should.
    Done,
    /// In another way.
    Failed,
    /// There is no such unit.
    NoUnit,
}

/// The connection to the system bus, once there is one on which systemd tells of its jobs.
#[derive(Debug, Default)]
pub(super) struct Bus(Mutex<Option<Connection>>);

/// systemd's manager on the system bus.
pub(super) struct Systemd {
    manager: Proxy<'static>,
    ended: MessageStream,
}

impl Systemd {
    /// `None` where systemd is not the first process or is not on the bus: then the agent is in the host's namespace itself.
    pub(super) async fn connect(bus: &Bus) -> Result<Option<Self>, NfsError> {
        if !Path::new(BOOTED).is_dir() {
            return Ok(None);
        }
        let connecting = async {
            let mut kept = bus.0.lock().await;
            if let Some(connection) = kept.take()
                && let Ok(systemd) = Self::on(&connection).await
            {
                *kept = Some(connection);
                return Ok(Some(systemd));
            }
            let connection = Connection::system().await?;
            if !DBusProxy::new(&connection).await?.name_has_owner(SYSTEMD.try_into()?).await? {
                return Ok(None);
            }
            let systemd = Self::on(&connection).await?;
            // Without a subscriber systemd tells nobody of the end of jobs.
            systemd.manager.call::<_, _, ()>("Subscribe", &()).await?;
            *kept = Some(connection);
            Ok(Some(systemd))
        };
        answered("subscribe to the end of its jobs", timeout(ANSWER, connecting).await)
    }

    /// The bus is asked for the signals: a connection that broke is found out here.
    async fn on(connection: &Connection) -> zbus::Result<Self> {
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(SYSTEMD)
            .path(OBJECT)
            .interface(MANAGER)
            .member("JobRemoved")
            .build()?;
        let ended = MessageStream::for_match_rule(rule, connection, NonZeroUsize::new(SIGNALS_MAX)).await?;
        let manager: Proxy<'static> = zbus::proxy::Builder::new(connection)
            .destination(SYSTEMD)
            .path(OBJECT)
            .interface(MANAGER)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        Ok(Self { manager, ended })
    }

    /// Mounts. systemd makes the folder.
    pub(super) async fn mount(
        &mut self,
        export: &NfsExport,
        mount_point: &Path,
        options: &str,
        limit: Duration,
    ) -> Result<(), NfsError> {
        let begun = Instant::now();
        let unit = mount_unit(mount_point);
        let properties = vec![
            ("Description", Variant::from(format!("NFS export {export} for volumes of guests (Bowline)"))),
            ("What", Variant::from(export.to_string())),
            ("Type", Variant::from("nfs")),
            ("Options", Variant::from(options)),
            ("TimeoutUSec", Variant::from(u64::try_from(limit.as_micros()).unwrap_or(u64::MAX))),
            // One that failed must not stay, or its name could not be used again.
            ("CollectMode", Variant::from("inactive-or-failed")),
        ];
        let end = tokio::select! {
            end = self.start(&unit, properties, limit + RESERVE) => end,
            () = mountinfo::mounted(export, mount_point) => Ok(JobEnd::Done),
        };
        match end {
            Ok(JobEnd::Done) => Ok(()),
            _ if begun.elapsed() >= limit => Err(NfsError::MountTimeout { export: export.clone(), waited_s: limit.as_secs() }),
            Ok(_) => Err(NfsError::Mount { export: export.clone(), said: said(&unit, begun.elapsed()).await }),
            Err(error) => Err(error),
        }
    }

    /// Unmounts, and ends a mount that is still under way.
    pub(super) async fn unmount(&mut self, mount_point: &Path, limit: Duration) -> Result<JobEnd, NfsError> {
        let unit = mount_unit(mount_point);
        let asked = timeout(ANSWER, self.manager.call::<_, _, OwnedObjectPath>("StopUnit", &(unit.as_str(), "replace"))).await;
        if let Ok(Err(zbus::Error::MethodError(name, ..))) = &asked
            && name.as_str() == "org.freedesktop.systemd1.NoSuchUnit"
        {
            return Ok(JobEnd::NoUnit);
        }
        let action = format!("stop {unit}");
        let job = answered(&action, asked)?;
        self.wait(&job, &action, limit + RESERVE).await
    }

    /// Takes the mount out of the tree although something still holds it.
    pub(super) async fn unmount_lazily(
        &mut self,
        mount_point: &Path,
        arguments: &[&str],
        limit: Duration,
    ) -> Result<(), NfsError> {
        let unit = mount_unit(mount_point).replace(".mount", "-lazily.service");
        let mut command = vec!["umount".to_owned()];
        command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        command.push(mount_point.display().to_string());
        let properties = vec![
            ("Description", Variant::from("lazy unmount of an NFS export (Bowline)")),
            ("Type", Variant::from("oneshot")),
            ("CollectMode", Variant::from("inactive-or-failed")),
            ("ExecStart", Variant::from(vec![("/bin/umount".to_owned(), command, false)])),
        ];
        match self.start(&unit, properties, limit).await? {
            JobEnd::Done => Ok(()),
            JobEnd::Failed | JobEnd::NoUnit => Err(NfsError::Unmount {
                mount_point: mount_point.to_owned(),
                said: format!("systemd unit {unit} failed: journalctl -u {unit} tells why"),
            }),
        }
    }

    async fn start(&mut self, unit: &str, properties: Properties<'_>, limit: Duration) -> Result<JobEnd, NfsError> {
        let auxiliary: Vec<(&str, Properties<'_>)> = vec![];
        let request = (unit, "fail", properties, auxiliary);
        let action = format!("start {unit}");
        let job: OwnedObjectPath = answered(&action, timeout(ANSWER, self.manager.call("StartTransientUnit", &request)).await)?;
        self.wait(&job, &action, limit).await
    }

    async fn wait(&mut self, job: &OwnedObjectPath, action: &str, limit: Duration) -> Result<JobEnd, NfsError> {
        let ended = async {
            loop {
                let Some(message) = self.ended.next().await else {
                    return Err(zbus::Error::Failure("the bus closed the connection".to_owned()));
                };
                let (_, ended, _, result): (u32, OwnedObjectPath, String, String) = message?.body().deserialize()?;
                if ended == *job {
                    return Ok(if result == "done" { JobEnd::Done } else { JobEnd::Failed });
                }
            }
        };
        answered(action, timeout(limit, ended).await)
    }
}

fn answered<T>(action: &str, answer: Result<zbus::Result<T>, tokio::time::error::Elapsed>) -> Result<T, NfsError> {
    let said = match answer {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    Err(NfsError::Systemd { action: action.to_owned(), said })
}

/// What mount(8) wrote, which systemd passes to the journal alone.
async fn said(unit: &str, since: Duration) -> String {
    let _ = command::run("journalctl", &["--sync"], JOURNAL).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let since = format!("--since=@{}", now.saturating_sub(since).as_secs());
    let unit_argument = format!("--unit={unit}");
    let arguments = ["--quiet", "--output=cat", "--identifier=mount", "--lines=4", &unit_argument, &since];
    let written = command::run("journalctl", &arguments, JOURNAL).await.map(|finished| finished.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&written);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() { format!("journalctl -u {unit} tells why") } else { lines.join("; ") }
}

/// The name of a mount point's unit, as systemd-escape(1) --path makes it.
fn mount_unit(mount_point: &Path) -> String {
    let mut name = String::new();
    for byte in mount_point.as_os_str().as_encoded_bytes().iter().skip_while(|byte| **byte == b'/') {
        match byte {
            b'/' => name.push('-'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'_' => name.push(char::from(*byte)),
            b'.' if !name.is_empty() => name.push('.'),
            other => name.push_str(&format!("\\x{other:02x}")),
        }
    }
    name.push_str(".mount");
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_named_as_systemd_names_them() {
        // From `systemd-escape --path --suffix=mount`.
        for (path, unit) in [
            ("/run/bowline/mnt/0f", "run-bowline-mnt-0f.mount"),
            ("/run/my-run/a.b_c d", "run-my\\x2drun-a.b_c\\x20d.mount"),
            ("/.hidden/ä", "\\x2ehidden-\\xc3\\xa4.mount"),
        ] {
            assert_eq!(mount_unit(Path::new(path)), unit);
        }
    }
}
