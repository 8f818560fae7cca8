//! The connections to libvirt's daemon, and how calls go over them.
//!
//! One connection hears events and is never called on. Calls have connections of their own, each used by one call at a
//! time and kept for the next: libvirt's client before 10.0 can lose the wake-up of a second caller on a connection
//! (measured with 9.0: the call then stands still until other traffic comes, up to a keepalive's 5 s), and so a call
//! that hangs holds up nobody else.
//!
//! libvirt's calls block, so each runs on a blocking thread with a deadline. One that does not come back in time keeps
//! its thread, its connection and its guest's turn until it does, so that hung calls are few, are counted, and no later
//! call can look at a guest which an earlier one is still changing.
//!
//! ```text
//!          link()                      closed (callback or dead socket)
//! none ------------> connected ------------------------------------------> none
//!   ^  keep_connected(): at once, then with growing pauses                   |
//!   +------------------------------------------------------------------------+
//! ```

use super::{
    config::LibvirtConfig,
    error::{LibvirtError, LibvirtMessage},
    events::GuestEvent,
    ffi::{Sink, Subscription},
};
use crate::model::GuestUuid;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::Ordering},
    time::Duration,
};
use tokio::{
    sync::{Mutex as AsyncMutex, Semaphore, broadcast},
    task::spawn_blocking,
    time::timeout,
};
use virt::{connect::Connect, error::ErrorNumber};

/// Calls under way at a time, each with a thread and a connection. The daemon has 20 workers for all its clients.
const CALLS_AT_ONCE: usize = 8;
/// Events a slow listener may be behind; after that it is told so and looks for itself.
const EVENTS_KEPT: usize = 256;
/// Seconds between keepalives, and how many may stay unanswered: a dead daemon is noticed after 20 s.
const KEEPALIVE_INTERVAL_S: i32 = 5;
const KEEPALIVE_COUNT: u32 = 3;
/// Pauses between attempts to reconnect: short at first, since a restart takes about a second.
const RECONNECT_PAUSE_FIRST: Duration = Duration::from_millis(100);
const RECONNECT_PAUSE_LONGEST: Duration = Duration::from_secs(5);

/// The connection for events. Callbacks come off before it is closed: fields drop in order.
struct Link {
    _subscription: Subscription,
    connect: Connect,
    sink: Sink,
}

impl Link {
    fn is_usable(&self) -> bool {
        if !self.connect.is_alive().unwrap_or(false) {
            self.sink.close();
        }
        !self.sink.closed.load(Ordering::SeqCst)
    }
}

/// Connects when needed, and again when the daemon was restarted.
pub(super) struct Connection {
    pub(super) config: LibvirtConfig,
    events: broadcast::Sender<GuestEvent>,
    current: Mutex<Option<Arc<Link>>>,
    idle: Mutex<Vec<Connect>>,
    connecting: Arc<AsyncMutex<()>>,
    slots: Arc<Semaphore>,
    turns: Mutex<HashMap<GuestUuid, Arc<AsyncMutex<()>>>>,
}

impl Connection {
    pub(super) fn new(config: LibvirtConfig) -> Arc<Self> {
        Arc::new(Self {
            config,
            events: broadcast::Sender::new(EVENTS_KEPT),
            current: Mutex::new(None),
            idle: Mutex::default(),
            connecting: Arc::default(),
            slots: Arc::new(Semaphore::new(CALLS_AT_ONCE)),
            turns: Mutex::default(),
        })
    }

    pub(super) fn events(&self) -> broadcast::Receiver<GuestEvent> {
        self.events.subscribe()
    }

    /// Runs `work`, which changes nothing, and runs it once more if the connection turns out to have been dead.
    pub(super) async fn read<T, W>(self: &Arc<Self>, call: Call, work: W) -> Result<T, LibvirtError>
    where
        T: Send + 'static,
        W: Fn(&Connect) -> Result<T, LibvirtError> + Clone + Send + 'static,
    {
        match self.run(call.clone(), work.clone()).await {
            Err(LibvirtError::ConnectionLost { .. }) => self.run(call, work).await,
            done => done,
        }
    }

    /// Runs `work` on a blocking thread, on a standing connection, in turn with other calls on the same guest.
    pub(super) async fn run<T, W>(self: &Arc<Self>, call: Call, work: W) -> Result<T, LibvirtError>
    where
        T: Send + 'static,
        W: FnOnce(&Connect) -> Result<T, LibvirtError> + Send + 'static,
    {
        // No call without ears: whoever acts on a guest may have to hear what comes of it.
        self.link().await?;
        let this = Arc::clone(self);
        let operation = call.operation.clone();
        let slots = Arc::clone(&self.slots);
        let turn = call.guest.map(|guest| self.turn(guest));
        let in_turn = async move {
            let turn = match turn {
                Some(turn) => Some(turn.lock_owned().await),
                None => None,
            };
            // The semaphore is never closed, so there is always a permit to wait for.
            let slot = slots.acquire_owned().await.ok();
            let worked = spawn_blocking(move || {
                let _held_until_it_returns = (turn, slot);
                let connect = this.take_idle().map_or_else(|| this.connect(), Ok)?;
                let worked = work(&connect);
                if connect.is_alive().unwrap_or(false) {
                    lock(&this.idle).push(connect);
                    return worked;
                }
                worked.map_err(lost)
            });
            worked.await.unwrap_or(Err(LibvirtError::Broken { operation }))
        };
        timeout(call.limit, in_turn).await.unwrap_or_else(|_| {
            Err(LibvirtError::CallTimeout {
                operation: call.operation,
                timeout_s: call.limit.as_secs(),
                stuck_calls: CALLS_AT_ONCE - self.slots.available_permits(),
            })
        })
    }

    fn turn(&self, guest: GuestUuid) -> Arc<AsyncMutex<()>> {
        let mut turns = lock(&self.turns);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(guest).or_default())
    }

    fn is_usable(&self) -> bool {
        let link = lock(&self.current).clone();
        link.is_some_and(|link| link.is_usable())
    }

    /// Sees to it that events are heard. Only one attempt is ever under way.
    async fn link(self: &Arc<Self>) -> Result<(), LibvirtError> {
        if self.is_usable() {
            return Ok(());
        }
        let this = Arc::clone(self);
        let attempt = async move {
            let turn = Arc::clone(&this.connecting).lock_owned().await;
            if this.is_usable() {
                return Ok(());
            }
            let opened = spawn_blocking(move || {
                let _held_until_it_returns = turn;
                this.open()
            });
            opened.await.unwrap_or_else(|_| Err(LibvirtError::Broken { operation: "connect".to_owned() }))
        };
        let timeout_s = self.config.connect_timeout_s;
        timeout(Duration::from_secs(timeout_s), attempt)
            .await
            .unwrap_or_else(|_| Err(LibvirtError::ConnectTimeout { uri: self.config.uri.clone(), timeout_s }))
    }

    /// The call connection that was used last, if it still stands.
    fn take_idle(&self) -> Option<Connect> {
        loop {
            // Outside of the lock, since dropping a dead one may take a while.
            let connect = lock(&self.idle).pop()?;
            if connect.is_alive().unwrap_or(false) {
                return Some(connect);
            }
        }
    }

    fn connect(&self) -> Result<Connect, LibvirtError> {
        let connect = Connect::open(Some(&self.config.uri)).map_err(|error| self.unconnected(error))?;
        match connect.set_keep_alive(KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT) {
            // Drivers without a daemon have nothing to keep alive.
            Err(error) if !error.code().is(ErrorNumber::NoSupport) => Err(self.unconnected(error)),
            _ => Ok(connect),
        }
    }

    fn unconnected(&self, error: virt::error::Error) -> LibvirtError {
        LibvirtError::Connect { uri: self.config.uri.clone(), source: LibvirtMessage::from(error) }
    }

    fn open(&self) -> Result<(), LibvirtError> {
        let connect = self.connect()?;
        let sink = Sink { events: self.events.clone(), closed: Arc::default() };
        let subscription = Subscription::new(&connect, &sink).map_err(|error| self.unconnected(error))?;
        let link = Arc::new(Link { _subscription: subscription, connect, sink });
        // Closing may block, so the locks are let go first.
        let old = lock(&self.current).replace(link);
        let dead = std::mem::take(&mut *lock(&self.idle));
        drop((old, dead));
        let _ = self.events.send(GuestEvent::Connected);
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let link = lock(&self.current).take();
        let idle = std::mem::take(&mut *lock(&self.idle));
        // Closing tells the daemon and waits for it, which no task of the runtime should.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || drop((link, idle)));
        }
    }
}

/// What a call is for and how long it may take.
#[derive(Clone)]
pub(super) struct Call {
    /// Completes "could not …".
    pub(super) operation: String,
    /// The guest it is about; calls on one guest run one after another.
    pub(super) guest: Option<GuestUuid>,
    pub(super) limit: Duration,
}

impl Call {
    pub(super) fn new(operation: impl Into<String>, guest: Option<GuestUuid>, limit_s: u64) -> Self {
        Self { operation: operation.into(), guest, limit: Duration::from_secs(limit_s) }
    }
}

/// An error on a dead connection says nothing of what was asked, only that the answer never came.
fn lost(error: LibvirtError) -> LibvirtError {
    match error {
        LibvirtError::Call { operation, source } => LibvirtError::ConnectionLost { operation, source },
        error => error,
    }
}

/// A panic elsewhere leaves what these locks guard whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Holds the connection for as long as anybody has the handle, so that events arrive without a call being made.
pub(super) async fn keep_connected(connection: Weak<Connection>) {
    let Some(mut events) = connection.upgrade().map(|connection| connection.events()) else { return };
    let mut pause = RECONNECT_PAUSE_FIRST;
    loop {
        let Some(link) = (match connection.upgrade() {
            Some(connection) => Some(connection.link().await),
            None => None,
        }) else {
            return;
        };
        match link {
            Ok(()) => {
                pause = RECONNECT_PAUSE_FIRST;
                loop {
                    match events.recv().await {
                        Ok(GuestEvent::Disconnected) | Err(broadcast::error::RecvError::Lagged(_)) => break,
                        Ok(_) => {}
                        Err(broadcast::error::RecvError::Closed) => return,
                    }
                }
            }
            Err(error) => {
                if pause == RECONNECT_PAUSE_FIRST {
                    tracing::warn!(error = &error as &dyn std::error::Error, "no connection to libvirt; trying on");
                }
                tokio::time::sleep(pause).await;
                pause = RECONNECT_PAUSE_LONGEST.min(pause * 2);
            }
        }
    }
}
