//! The service's processes: which roles one has, everything opened, in order, run until it is told to stop, closed in reverse.
//!
//! ```text
//! bowline-backend serve       api + scheduler + volume + backup, over a file and a bus within the process
//! bowline-backend api         ┐
//! bowline-backend scheduler   ├ apart, over PostgreSQL and RabbitMQ
//! bowline-backend volume      │
//! bowline-backend backup      ┘
//! ```

mod open;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::sync::{OnceCell, mpsc, watch};
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::api::Service;
use crate::auth::AuthError;
use crate::backup::{BackupService, StoreFault};
use crate::bus::{Bus, BusError, LocalBus, RabbitBus};
use crate::config::{Config, ConfigError};
use crate::domain::place::{BACKUP_QUEUE, SCHEDULER_QUEUE, backup_queue, volume_queue};
use crate::identity::{PasswordError, People};
use crate::image::{GlanceError, ImageFilesError};
use crate::keys::{BarbicanError, Vault, VaultError};
use crate::operations::{Relay, Runner, Work, keep_telling};
use crate::scheduler::{Scheduler, Watchman};
use crate::secret::Secret;
use crate::state_dir::{StateDir, StateDirError};
use crate::store::{ServiceIdentity, Store, StoreError};
use crate::targets::lio::LioError;
use crate::targets::tgt::TgtError;
use crate::targets::{Target, TargetError};
use crate::volume::{VolumeError, VolumeHost, chain};

/// How long clients may take to hear their answers once the service is told to stop.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// So many operations at once on a volume host: they wait for the disk, and more would only wait there.
const VOLUME_AT_ONCE: u16 = 8;

/// A choice is one transaction, so more at once would wait for each other.
const SCHEDULER_AT_ONCE: u16 = 2;

/// Reading and writing for backups takes long and fills memory and network: one more would make both slower.
const BACKUPS_AT_ONCE: u16 = 2;

/// Between the signs of life of backup services.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Which roles a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleSet {
    /// Answers clients.
    pub api: bool,
    /// Finds places.
    pub scheduler: bool,
    /// Keeps volumes.
    pub volume: bool,
    /// Looks after backups.
    pub backup: bool,
}

impl RoleSet {
    /// Everything in one process.
    pub const ALL: Self = Self { api: true, scheduler: true, volume: true, backup: true };
}

/// The service cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// It was told something that cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its directory.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// Its database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The target daemon.
    #[error("cannot use tgtd")]
    Tgt(#[source] TgtError),
    /// The kernel's targets.
    #[error("cannot use the kernel's iSCSI targets")]
    Lio(#[from] LioError),
    /// Hosts cannot be let in.
    #[error(transparent)]
    Portal(TargetError),
    /// What was shown to hosts, or left unfinished, could not be taken up.
    #[error("cannot restore what was there before")]
    Restore(#[source] VolumeError),
    /// The images' directory.
    #[error(transparent)]
    Images(#[from] ImageFilesError),
    /// The Glance that has the images.
    #[error(transparent)]
    Glance(#[from] GlanceError),
    /// Where backups are.
    #[error(transparent)]
    Backups(#[from] StoreFault),
    /// The Barbican that has the keys.
    #[error(transparent)]
    Keys(#[from] BarbicanError),
    /// The file of the master key is not the one that was there.
    #[error(
        "the master key in {} does not open the keys of encrypted volumes that are in the database: put back the one they were made \
         with (STATE_DIR/master_key, or where key_manager.master_key_file says), which all roles have in common", path.display()
    )]
    MasterKey {
        /// The file.
        path: PathBuf,
        /// Why.
        source: VaultError,
    },
    /// The keys are here.
    #[error(
        "key_manager.kind is \"barbican\", and the database has keys of the service's own: no volume that they open could be used. \
         Delete or copy out those volumes and backups first, with kind = \"local\""
    )]
    KeysHere,
    /// The identity service.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The operator's password.
    #[error("cannot keep the operator's password")]
    Password(#[source] PasswordError),
    /// The roles cannot reach each other.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The address to listen on.
    #[error("cannot listen on {listen}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Serving failed.
    #[error("cannot serve")]
    Serve(#[source] std::io::Error),
}

/// A process of the service, ready.
pub struct Server {
    api: Option<Api>,
    host: Option<(VolumeHost, Arc<dyn Target>)>,
    store: Store,
    /// Set to true when no more operations are to be taken.
    stopping: watch::Sender<bool>,
    /// A clone is held by each piece of work.
    work: mpsc::Sender<()>,
    running: mpsc::Receiver<()>,
    _state_dir: StateDir,
}

struct Api {
    listener: TcpListener,
    address: SocketAddr,
    service: Service,
}

/// What all roles of a process share.
struct Common<'a> {
    config: &'a Config,
    state_dir: &'a StateDir,
    store: &'a Store,
    bus: &'a Arc<dyn Bus>,
    /// Under which name this process claims operations.
    owner: String,
    stopping: watch::Receiver<bool>,
    work: &'a mpsc::Sender<()>,
    /// Opened by the first role that needs it.
    vault: OnceCell<Vault>,
}

impl Server {
    /// Opens everything. When this returns, hosts can reach what they could before, and the address listens.
    pub async fn open(config: &Config, roles: RoleSet) -> Result<Self, ServerError> {
        config.check()?;
        if roles != RoleSet::ALL && config.bus.url.is_empty() {
            let problem = "must name a broker where the roles are apart; `bowline-backend serve` runs them together without";
            return Err(ConfigError::Value { key: "bus.url", problem }.into());
        }
        let state_dir = StateDir::open(&config.state_dir)?;
        let listener = if roles.api { Some(listen(config).await?) } else { None };
        let store = open_store(config, &state_dir.database()).await?;
        let identity = store.service_identity().await?;
        store.ensure_default_project(&identity).await?;
        store.ensure_default_type(&identity.type_id, &config.volume_type).await?;
        let bus: Arc<dyn Bus> = if config.bus.url.is_empty() {
            Arc::new(LocalBus::default())
        } else {
            Arc::new(RabbitBus::connect(&config.bus.url, Duration::from_secs(config.bus.connect_timeout_s)).await?)
        };
        let (stopping, stopped) = watch::channel(false);
        let (work, running) = mpsc::channel(1);
        let owner = format!("{}:{}", config.host_name(), Uuid::new_v4());
        let vault = OnceCell::new();
        let common =
            Common { config, state_dir: &state_dir, store: &store, bus: &bus, owner, stopping: stopped, work: &work, vault };

        let api = match listener {
            Some((listener, address)) => Some(open::open_api(&common, &identity, listener, address).await?),
            None => None,
        };
        let host = if roles.volume { Some(open::open_host(&common, &identity).await?) } else { None };
        if roles.scheduler {
            let (host, availability_zone) = (config.host_name(), config.availability_zone.clone());
            let watchman = Watchman { store: store.clone(), bus: bus.clone(), host, availability_zone };
            watchman.live().await?;
            tokio::spawn(watchman.run(common.stopping.clone()));
            common.run(SCHEDULER_QUEUE, Arc::new(Scheduler::new(store.clone())), SCHEDULER_AT_ONCE).await?;
        }
        if let Some((host, _)) = &host {
            for backend in host.backends() {
                common.run_storage(&volume_queue(backend), host, backend, VOLUME_AT_ONCE).await?;
                common.run_storage(&backup_queue(backend), host, backend, BACKUPS_AT_ONCE).await?;
            }
        }
        tokio::spawn(keep_telling(store.clone(), bus.clone(), common.stopping.clone()));
        if roles.backup {
            if config.bus.url.is_empty() {
                // There is no other, so nobody can be at work.
                store.release_queue(BACKUP_QUEUE).await?;
            }
            let service = BackupService::new(store.clone(), open::open_backups(&common)?, common.owner.clone());
            common.run(BACKUP_QUEUE, Arc::new(service), VOLUME_AT_ONCE).await?;
            common.keep_alive("cinder-backup").await?;
        }
        let relay = Relay::new(store.clone(), bus.clone(), common.owner.clone());
        relay.send_all().await?;
        tokio::spawn(relay.run(common.stopping.clone()));
        Ok(Self { api, host, store, stopping, work, running, _state_dir: state_dir })
    }

    /// Where it listens, where it does.
    pub fn address(&self) -> Option<SocketAddr> {
        self.api.as_ref().map(|api| api.address)
    }

    /// Answers and works until `stop`, then finishes what was begun.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) -> Result<(), ServerError> {
        let Self { api, host, store, stopping, work, mut running, _state_dir } = self;
        info!("{}", ready_line(api.as_ref().map(|api| api.address), host.as_ref().map(|(host, _)| host.portals())));
        let status = match &api {
            Some(api) => format!("Listening on {}", api.address),
            None => "Working".to_owned(),
        };
        notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
        let watchdog = tokio::spawn(feed_watchdog(store.clone()));
        let stop = async {
            stop.await;
            info!("stopping");
            notify(&[NotifyState::Stopping]);
        };
        let served = match api {
            Some(api) => serve(api, stop).await,
            None => {
                stop.await;
                Ok(())
            }
        };
        watchdog.abort();
        // Requests that wait for operations have been answered by now.
        let _ = stopping.send(true);
        drop(work);
        // Nothing is ever sent: this ends when the last piece of work drops its sender.
        while running.recv().await.is_some() {}
        if let Some((_, target)) = host {
            target.stop().await;
        }
        store.close().await;
        served
    }
}

impl Common<'_> {
    /// Starts a worker on a queue.
    async fn run(&self, queue: &str, work: Arc<dyn Work>, at_once: u16) -> Result<(), BusError> {
        self.runner(queue, work, at_once).start().await
    }

    /// The same on a queue of a backend, when its storage works: what comes before waits.
    async fn run_storage(&self, queue: &str, host: &VolumeHost, backend: &str, at_once: u16) -> Result<(), BusError> {
        let runner = self.runner(queue, Arc::new(host.clone()), at_once);
        match host.waits_for_storage(backend) {
            None => runner.start().await,
            Some(is_ready) => {
                tokio::spawn(start_when(is_ready, runner, self.stopping.clone()));
                Ok(())
            }
        }
    }

    fn runner(&self, queue: &str, work: Arc<dyn Work>, at_once: u16) -> Runner {
        let (bus, stopping, guard) = (self.bus.clone(), self.stopping.clone(), self.work.clone());
        Runner::new(queue.to_owned(), work, bus, at_once, stopping, guard)
    }

    /// Says that a role without pools lives, now and again and again.
    async fn keep_alive(&self, service: &'static str) -> Result<(), StoreError> {
        let (store, host, zone) = (self.store.clone(), self.config.host_name(), self.config.availability_zone.clone());
        store.heartbeat(service, &host, &zone, &[], None).await?;
        tokio::spawn(keep_alive(store, service, host, zone, self.stopping.clone()));
        Ok(())
    }
}

/// Starts a worker when its storage works, unless the service stops before.
async fn start_when(mut is_ready: watch::Receiver<bool>, runner: Runner, mut stopping: watch::Receiver<bool>) {
    let ready = tokio::select! {
        ready = is_ready.wait_for(|is_ready| *is_ready) => ready.is_ok(),
        _ = stopping.wait_for(|stopping| *stopping) => false,
    };
    if ready && let Err(error) = runner.start().await {
        error!("nobody works for storage that came late: {}", chain(&error));
    }
}

async fn listen(config: &Config) -> Result<(TcpListener, SocketAddr), ServerError> {
    let failed = |source| ServerError::Listen { listen: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

pub(crate) async fn open_store(config: &Config, file: &std::path::Path) -> Result<Store, StoreError> {
    if config.database.url.is_empty() { Store::open(file).await } else { Store::connect(&config.database.url).await }
}

/// The password that clouds.yaml tells: the operator's, where this directory is where it was chosen.
pub(crate) async fn first_password(
    state_dir: &StateDir,
    store: &Store,
    people: &People,
    identity: &ServiceIdentity,
) -> Result<Option<Secret>, ServerError> {
    let kept = state_dir.password()?;
    let user = store.user(&identity.user_id).await?;
    if user.password_hash.is_none() {
        let hash = people.passwords.hash(kept.clone()).await.map_err(ServerError::Password)?;
        store.set_first_password(&user.id, &hash).await?;
        return Ok(Some(kept));
    }
    // Another process with a directory of its own may have been first, or the password have been changed since.
    let same = people.passwords.verify(kept.clone(), user.password_hash).await.map_err(ServerError::Password)?;
    Ok(same.then_some(kept))
}

async fn serve(api: Api, stop: impl Future<Output = ()> + Send + 'static) -> Result<(), ServerError> {
    let (told, stopped) = tokio::sync::oneshot::channel();
    let stop = async {
        stop.await;
        // The receiver is gone only when serving failed already.
        let _ = told.send(());
    };
    tokio::select! {
        served = api.service.serve(api.listener, stop) => served.map_err(ServerError::Serve),
        () = async {
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(ANSWERS_WITHIN).await;
        } => {
            warn!("some clients did not take their answers in time");
            Ok(())
        }
    }
}

fn ready_line(address: Option<SocketAddr>, portals: Option<&[String]>) -> String {
    let reached = |portals: &[String]| match portals {
        [] => "hosts go to the storage themselves".to_owned(),
        portals => format!("iSCSI at {}", portals.join(", ")),
    };
    match (address, portals.map(reached)) {
        (Some(address), Some(reached)) => format!("ready: volumes at http://{address}/v3, {reached}"),
        (Some(address), None) => format!("ready: volumes at http://{address}/v3, their hosts elsewhere"),
        (None, Some(reached)) => format!("ready: {reached}"),
        (None, None) => "ready".to_owned(),
    }
}

async fn keep_alive(store: Store, service: &str, host: String, zone: String, mut stopping: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(HEARTBEAT);
    ticks.tick().await;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
        if let Err(error) = store.heartbeat(service, &host, &zone, &[], None).await {
            warn!("cannot say that {service} lives: {}", chain(&error));
        }
    }
}

/// Tells the service manager, where there is one.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!("cannot notify the service manager: {error}");
    }
}

/// Tells the service manager that all is well, as long as the database answers.
async fn feed_watchdog(store: Store) {
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = tokio::time::interval(period / 3);
    loop {
        ticks.tick().await;
        match store.ping().await {
            Ok(()) => notify(&[NotifyState::Watchdog]),
            Err(error) => warn!("not telling the service manager that all is well: {error}"),
        }
    }
}
