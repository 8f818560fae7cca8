//! The tgtd that is used: a child of this service, or one that somebody else runs.
//!
//! ```text
//!            ┌────────── exit seen ──────────┐
//!            ▼                               │
//! down ──▶ starting ──READY──▶ generation n ─┴─ stop ──▶ ended
//!            │  ▲
//!            └──┘ did not start: again, later each time
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Child;
use tokio::sync::{Mutex, Notify, watch};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::client::Client;
use super::error::{TgtError, TgtRefusal};
pub use super::process::ManagedTgtd;
use super::protocol::{Mode, Operation, Request};

/// How long a request waits for a tgtd that is being started again.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// Between starts of a tgtd that keeps dying: doubled each time, up to the longest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A tgtd of a service that was killed may take a moment to be gone, and its port with it: so many tries.
const FIRST_TRIES: u32 = 5;

/// The daemon, whoever runs it.
#[derive(Debug)]
pub struct Daemon {
    client: Client,
    /// Whether requests make sense just now.
    life: watch::Sender<Life>,
    /// Which life this is, from 1.
    generation: watch::Sender<u64>,
    stop: Arc<Notify>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

/// Whether a tgtd runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Up,
    Down,
}

impl Daemon {
    /// Uses a tgtd that somebody else runs; its portals are that somebody's affair.
    pub async fn adopt(socket: PathBuf) -> Result<Self, TgtError> {
        let client = Client::new(socket);
        client.ask(Request::new(Mode::System, Operation::Show)).await?;
        Ok(Self::new(client))
    }

    /// Starts a tgtd and keeps it running until [`Daemon::stop`].
    pub async fn start(managed: ManagedTgtd) -> Result<Self, TgtError> {
        let client = Client::new(managed.control_socket());
        evict(&client).await;
        let mut tries = 1;
        let child = loop {
            match managed.launch().await {
                Ok(child) => break child,
                Err(error @ TgtError::NotReady { .. }) if tries < FIRST_TRIES => {
                    warn!("tgtd does not start yet: {error}");
                    tokio::time::sleep(SHORTEST_PAUSE * tries).await;
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        };
        let daemon = Self::new(client);
        let keeper = tokio::spawn(keep(managed, child, daemon.life.clone(), daemon.generation.clone(), daemon.stop.clone()));
        *daemon.keeper.lock().await = Some(keeper);
        Ok(daemon)
    }

    fn new(client: Client) -> Self {
        Self {
            client,
            life: watch::Sender::new(Life::Up),
            generation: watch::Sender::new(1),
            stop: Arc::new(Notify::new()),
            keeper: Mutex::new(None),
        }
    }

    /// Counts its lives, from 1.
    pub fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// A client to ask it by, once it runs.
    pub(super) async fn ready(&self) -> Result<Client, TgtError> {
        let mut life = self.life.subscribe();
        let up = life.wait_for(|life| *life == Life::Up);
        match tokio::time::timeout(BACK_WITHIN, up).await {
            Ok(Ok(_)) => Ok(self.client.clone()),
            _ => Err(TgtError::Down),
        }
    }

    /// Lets hosts connect at `portal`. Only for a tgtd of our own.
    pub(super) async fn open_portal(&self, portal: &str) -> Result<(), TgtError> {
        if self.keeper.lock().await.is_none() {
            return Ok(());
        }
        let client = self.ready().await?;
        let mut tries = 1;
        loop {
            let Err(error) = open(&client, portal).await else { return Ok(()) };
            if tries == FIRST_TRIES {
                return Err(error);
            }
            tokio::time::sleep(SHORTEST_PAUSE * tries).await;
            tries += 1;
        }
    }

    /// Ends our own tgtd; one that somebody else runs goes on with its exports.
    pub async fn stop(&self) {
        if let Some(keeper) = self.keeper.lock().await.take() {
            self.stop.notify_one();
            if keeper.await.is_err() {
                error!("the task that watches tgtd failed");
            }
        }
    }
}

/// Opens a portal, where it is not open already.
async fn open(client: &Client, portal: &str) -> Result<(), TgtError> {
    let parameters = format!("portal={portal}");
    let Err(error) = client.ask(Request::new(Mode::Portal, Operation::New).parameters(&parameters)).await else {
        return Ok(());
    };
    // It shows `Portal: 127.0.0.1:3260,1`, the 1 being the portal group.
    let shown = client.ask(Request::new(Mode::Portal, Operation::Show)).await?;
    let listed = format!("Portal: {portal}");
    let mut portals = shown.lines().filter_map(|line| line.trim().rsplit_once(','));
    if portals.any(|(portal, _)| portal == listed) { Ok(()) } else { Err(error) }
}

/// Watches the child; starts another when it dies.
async fn keep(
    managed: ManagedTgtd,
    mut child: Child,
    life: watch::Sender<Life>,
    generation: watch::Sender<u64>,
    stop: Arc<Notify>,
) {
    let mut pause = SHORTEST_PAUSE;
    loop {
        tokio::select! {
            _ = stop.notified() => {
                // It may have died just now, which is as good.
                let _ = child.kill().await;
                return;
            }
            status = child.wait() => {
                life.send_replace(Life::Down);
                match status {
                    Ok(status) => error!("tgtd ended ({status}): starting it again"),
                    Err(error) => error!("tgtd cannot be watched ({error}): starting another"),
                }
            }
        }
        child = loop {
            match managed.launch().await {
                Ok(child) => break child,
                Err(error) => error!("tgtd does not start: {error}; trying again in {} ms", pause.as_millis()),
            }
            tokio::select! {
                _ = stop.notified() => return,
                _ = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        };
        pause = SHORTEST_PAUSE;
        info!("tgtd runs again");
        life.send_replace(Life::Up);
        generation.send_modify(|number| *number += 1);
    }
}

/// Ends a tgtd that a former life of this service left behind on our own control socket. The state directory is locked, so it can
/// be nobody else's. Best effort: where it stays, the new one says so.
async fn evict(client: &Client) {
    let Ok(targets) = client.ask(Request::new(Mode::Target, Operation::Show)).await else { return };
    warn!("a tgtd of an earlier run still serves {}: ending it", client.socket().display());
    for target in targets.lines().filter_map(|line| line.strip_prefix("Target ")?.split(':').next()?.parse().ok()) {
        let request = Request { force: true, ..Request::new(Mode::Target, Operation::Delete).target(target) };
        if let Err(error) = client.ensure(request, TgtRefusal::NoTarget).await {
            warn!("cannot remove its target {target}: {error}");
        }
    }
    if let Err(error) = client.ask(Request::new(Mode::System, Operation::Delete)).await {
        warn!("cannot end it: {error}");
    }
}
