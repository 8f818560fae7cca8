//! Tells what happens to this host's storage: uevents of block devices and SCSI, failing iSCSI connections, and mounts.
//!
//! | source | tells | how |
//! | --- | --- | --- |
//! | the kernel's uevents | disks and maps that change, LUNs and sessions that come and go | netlink, by libudev |
//! | the iSCSI transport | a connection that failed, the moment it does | netlink, `NETLINK_ISCSI` |
//! | `/proc/self/mountinfo` | mounts that come and go | poll(2) says POLLPRI and POLLERR (proc(5)) |
//!
//! One thread waits on all of them, since libudev's handles may not leave theirs. A source that this host has not, such as an iSCSI
//! transport that is not loaded, is left out: slow looks see what it would have told.

use crate::model::HostEvent;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket},
};
use std::{
    fs::File,
    io::{self, Read, Seek},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    thread,
};
use tokio::sync::broadcast;

/// Events kept for a slow listener; after that it is told that it missed some.
const EVENT_BACKLOG: usize = 256;

/// The multicast groups of the iSCSI transport: 1 is iscsid's, where connections that fail are told; 2 is of sessions
/// (`ISCSI_NL_GRP_ISCSID` and `ISCSI_NL_GRP_UEVENT` in the kernel's iscsi_if.h).
const ISCSI_GROUPS: u32 = 0b11;

/// Events of this host. The thread ends when this is dropped.
#[derive(Debug)]
pub struct HostEvents {
    events: broadcast::Sender<HostEvent>,
    /// Closing it ends the thread.
    _stop: io::PipeWriter,
}

impl HostEvents {
    /// Starts the thread.
    ///
    /// # Errors
    /// The thread or its pipe cannot be made. A source that is not there is no error.
    pub fn start(sysfs: PathBuf) -> io::Result<Self> {
        let (events, _) = broadcast::channel(EVENT_BACKLOG);
        let (stopped, stop) = io::pipe()?;
        let sender = events.clone();
        thread::Builder::new().name("host-events".to_owned()).spawn(move || {
            if let Err(error) = Sources::open(sysfs).forward(&stopped, &sender) {
                tracing::error!(%error, "the host's events are not heard any more; only slow looks see what happens");
            }
        })?;
        Ok(Self { events, _stop: stop })
    }

    /// From now on.
    pub fn subscribe(&self) -> broadcast::Receiver<HostEvent> {
        self.events.subscribe()
    }
}

struct Sources {
    sysfs: PathBuf,
    uevents: Option<udev::MonitorSocket>,
    iscsi: Option<OwnedFd>,
    mounts: Option<File>,
}

/// What of it is there; what is not is logged.
fn there<T>(what: &str, opened: io::Result<T>) -> Option<T> {
    opened.inspect_err(|error| tracing::info!(%error, "no events from {what}")).ok()
}

impl Sources {
    fn open(sysfs: PathBuf) -> Self {
        Self {
            sysfs,
            uevents: there("the kernel's devices", uevents()),
            iscsi: there("the iSCSI transport", iscsi()),
            mounts: there("the mount table", File::open("/proc/self/mountinfo")),
        }
    }

    /// Forwards events until the other end of `stopped` is closed.
    fn forward(mut self, stopped: &io::PipeReader, events: &broadcast::Sender<HostEvent>) -> io::Result<()> {
        loop {
            let (uevents, iscsi, mounts) = {
                let readable = PollFlags::POLLIN;
                // A table is always readable: only its change is news.
                let changed = PollFlags::POLLPRI;
                let fds = [
                    Some((stopped.as_fd(), readable)),
                    self.uevents.as_ref().map(|socket| (socket.as_fd(), readable)),
                    self.iscsi.as_ref().map(|socket| (socket.as_fd(), readable)),
                    self.mounts.as_ref().map(|file| (file.as_fd(), changed)),
                ];
                let mut waited: Vec<PollFd<'_>> = fds.iter().flatten().map(|(fd, flags)| PollFd::new(*fd, *flags)).collect();
                match poll(&mut waited, PollTimeout::NONE) {
                    Ok(_) => {}
                    Err(nix::Error::EINTR) => continue,
                    Err(error) => return Err(error.into()),
                }
                let mut told = waited.iter().map(|fd| fd.any().unwrap_or(true));
                if told.next().unwrap_or(true) {
                    return Ok(());
                }
                let mut of = |there: bool| there && told.next().unwrap_or(false);
                (of(self.uevents.is_some()), of(self.iscsi.is_some()), of(self.mounts.is_some()))
            };
            let mut found = Vec::new();
            if uevents && let Some(socket) = &self.uevents {
                found.extend(socket.iter().filter_map(|event| self.of_device(event.syspath())));
            }
            if iscsi && let Some(socket) = &self.iscsi {
                found.extend(self.of_iscsi(socket));
            }
            if mounts && let Some(file) = &mut self.mounts {
                // Reading it to its end is what arms the next notice (proc(5)).
                file.rewind()?;
                file.read_to_end(&mut Vec::new())?;
                found.push(HostEvent::Mounts);
            }
            found.dedup();
            for event in found {
                // Nobody listening is fine.
                let _ = events.send(event);
            }
        }
    }

    fn of_device(&self, syspath: &Path) -> Option<HostEvent> {
        // A disk on a session is told by its session's target: it concerns whoever has a LUN there.
        if let Some(session) = session_in(syspath) {
            return Some(self.of_session(session));
        }
        let name = syspath.file_name()?.to_str()?;
        let is_block = syspath.components().any(|part| part.as_os_str() == "block");
        is_block.then(|| HostEvent::Block { kernel_name: name.to_owned() })
    }

    /// A session that is gone already has no name to be asked for.
    fn of_session(&self, session: &str) -> HostEvent {
        let file = self.sysfs.join("class/iscsi_session").join(session).join("targetname");
        match std::fs::read_to_string(file) {
            Ok(iqn) => HostEvent::IscsiTarget { iqn: iqn.trim_end().to_owned() },
            Err(_) => HostEvent::IscsiSessions,
        }
    }

    /// Takes all waiting messages off the socket. They are not read closer: the next message of the kernel's next version may look
    /// otherwise, and a look at all sessions costs little.
    fn of_iscsi(&self, socket: &OwnedFd) -> Option<HostEvent> {
        let (mut buffer, mut any) = ([0; 4096], false);
        // Too many to keep (ENOBUFS) is news as well; anything else is the end of what waits.
        while let Ok(_) | Err(nix::Error::ENOBUFS | nix::Error::EINTR) =
            recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT)
        {
            any = true;
        }
        any.then_some(HostEvent::IscsiSessions)
    }
}

/// `session2` of `/sys/devices/platform/host0/session2/target0:0:0/…`.
fn session_in(syspath: &Path) -> Option<&str> {
    let is_session = |name: &&str| {
        name.strip_prefix("session")
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    syspath.components().filter_map(|part| part.as_os_str().to_str()).find(is_session)
}

fn uevents() -> io::Result<udev::MonitorSocket> {
    // The kernel's own, not udevd's: nobody opens a device for these, so udev's rules need not have run.
    udev::MonitorBuilder::new_kernel()?
        .match_subsystem("block")?
        .match_subsystem("scsi")?
        .match_subsystem("iscsi_session")?
        .match_subsystem("iscsi_connection")?
        .listen()
}

fn iscsi() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkISCSI)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, ISCSI_GROUPS))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> (tempfile::TempDir, Sources) {
        let sysfs = tempfile::tempdir().unwrap();
        let session = sysfs.path().join("class/iscsi_session/session2");
        std::fs::create_dir_all(&session).unwrap();
        std::fs::write(session.join("targetname"), "iqn.a\n").unwrap();
        let sources = Sources { sysfs: sysfs.path().to_owned(), uevents: None, iscsi: None, mounts: None };
        (sysfs, sources)
    }

    #[test]
    fn a_device_is_told_by_its_target_or_its_own_name() {
        let (_sysfs, sources) = sources();
        let of = |path: &str| sources.of_device(Path::new(path));
        let target = Some(HostEvent::IscsiTarget { iqn: "iqn.a".into() });
        assert_eq!(of("/sys/devices/platform/host0/session2/target0:0:0/0:0:0:1/block/sda"), target);
        assert_eq!(of("/sys/devices/platform/host0/session2/iscsi_session/session2"), target);
        assert_eq!(of("/sys/devices/platform/host0/session9/iscsi_session/session9"), Some(HostEvent::IscsiSessions));
        assert_eq!(of("/sys/devices/virtual/block/dm-0"), Some(HostEvent::Block { kernel_name: "dm-0".into() }));
        assert_eq!(of("/sys/devices/pci0000:00/host1"), None);
    }

    #[test]
    fn the_thread_ends_with_its_owner() {
        let events = HostEvents::start("/sys".into()).unwrap();
        let mut receiver = events.subscribe();
        drop(events);
        while !matches!(receiver.blocking_recv(), Err(broadcast::error::RecvError::Closed)) {}
    }
}
