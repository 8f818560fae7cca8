//! Watches block devices come and go, for whoever waits for one.
//!
//! libudev's handles may not leave their thread, so one thread owns the monitor and hands out owned events. Waiters subscribe
//! before they cause the event they wait for. Where udevd runs, its own events are taken and not the kernel's: they come
//! after its rules, so the device node has its final owner by then and no rule undoes what libvirt sets on it.

use std::{
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Instant, timeout_at},
};

/// Events kept for a slow waiter. A waiter that misses some is told so and looks at sysfs itself.
const EVENT_BACKLOG: usize = 1024;

/// Receive buffer of the netlink socket, bytes: room for several thousand events in a burst of attaches.
const SOCKET_BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// Where udevd listens; it is there exactly while udevd is managed on this host.
const UDEVD_CONTROL: &str = "/run/udev/control";

/// One event of a whole disk.
#[derive(Debug, Clone)]
pub(crate) struct BlockEvent {
    /// Its folder in sysfs, without symlinks.
    pub syspath: PathBuf,
    /// The kernel's number of this very disk, never used twice, where the kernel (5.15 and later) has it. Tells a new `sda`
    /// from events of an old one that come late.
    pub diskseq: Option<u64>,
    /// The disk went away.
    pub removed: bool,
}

/// The monitor. Its thread ends when this is dropped.
#[derive(Debug)]
pub(crate) struct UdevMonitor {
    events: broadcast::Sender<BlockEvent>,
    /// Closing it ends the thread.
    _stop: io::PipeWriter,
}

impl UdevMonitor {
    /// Starts the thread; returns once events are being received.
    pub(crate) fn start() -> io::Result<Self> {
        let (events, _) = broadcast::channel(EVENT_BACKLOG);
        let (stopped, stop) = io::pipe()?;
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let sender = events.clone();
        thread::Builder::new().name("udev".to_owned()).spawn(move || match listen() {
            Ok(socket) => {
                let _ = ready.send(Ok(()));
                if let Err(error) = forward(&socket, &stopped, &sender) {
                    tracing::error!(%error, "the udev monitor failed; new devices are seen only at their deadline");
                }
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        })?;
        is_ready.recv().map_err(|_| io::Error::other("the udev thread ended before it was ready"))??;
        Ok(Self { events, _stop: stop })
    }

    /// From now on, events are kept for the subscription.
    pub(crate) fn subscribe(&self) -> Subscription {
        Subscription(self.events.subscribe())
    }
}

/// What one waiter receives.
#[derive(Debug)]
pub(crate) struct Subscription(broadcast::Receiver<BlockEvent>);

/// What a wait brought.
#[derive(Debug)]
pub(crate) enum Waited {
    /// An event.
    Event(BlockEvent),
    /// Events were lost: look at sysfs.
    Missed,
    /// The deadline passed.
    TimedOut,
}

impl Subscription {
    /// The next event, of any disk.
    pub(crate) async fn next(&mut self, deadline: Instant) -> Waited {
        match timeout_at(deadline, self.0.recv()).await {
            Ok(Ok(event)) => Waited::Event(event),
            Ok(Err(RecvError::Lagged(_))) => Waited::Missed,
            Ok(Err(RecvError::Closed)) => {
                // The monitor is gone, so nothing more can be seen: the caller's deadline still holds.
                tokio::time::sleep_until(deadline).await;
                Waited::TimedOut
            }
            Err(_) => Waited::TimedOut,
        }
    }
}

/// Whether udevd has handled the device: its rules ran and its links are there. Without udevd there is nothing to wait for.
pub(crate) fn is_settled(syspath: &Path) -> bool {
    !udevd_runs() || udev::Device::from_syspath(syspath).is_ok_and(|device| device.is_initialized())
}

/// What udev's rules have set for the device.
pub(crate) fn property(syspath: &Path, name: &str) -> Option<String> {
    let real = std::fs::canonicalize(syspath).ok()?;
    Some(udev::Device::from_syspath(&real).ok()?.property_value(name)?.to_str()?.to_owned())
}

fn udevd_runs() -> bool {
    Path::new(UDEVD_CONTROL).exists()
}

fn listen() -> io::Result<udev::MonitorSocket> {
    let builder = if udevd_runs() { udev::MonitorBuilder::new()? } else { udev::MonitorBuilder::new_kernel()? };
    let socket = builder.match_subsystem_devtype("block", "disk")?.listen()?;
    // Only a privileged process may exceed the system's bound; the default size then still works for quiet hosts.
    if let Err(error) =
        nix::sys::socket::setsockopt(&socket.as_fd(), nix::sys::socket::sockopt::RcvBufForce, &SOCKET_BUFFER_BYTES)
    {
        tracing::debug!(%error, "the udev socket keeps its default buffer");
    }
    Ok(socket)
}

/// Forwards events until the other end of `stopped` is closed.
fn forward(socket: &udev::MonitorSocket, stopped: &io::PipeReader, events: &broadcast::Sender<BlockEvent>) -> io::Result<()> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    loop {
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN), PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(nix::Error::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if fds.get(1).and_then(PollFd::any).unwrap_or(true) {
            return Ok(());
        }
        for event in socket.iter() {
            let diskseq = event.property_value("DISKSEQ").and_then(|value| value.to_str()?.parse().ok());
            let removed = event.event_type() == udev::EventType::Remove;
            // Nobody waiting is the usual case.
            let _ = events.send(BlockEvent { syspath: event.syspath().to_owned(), diskseq, removed });
        }
    }
}

/// Deadline `duration` from now.
pub(crate) fn deadline(duration: Duration) -> Instant {
    Instant::now() + duration
}
