//! The service as a whole: everything opened, in order, run until it is told to stop, closed in reverse.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tracing::{info, warn};

use crate::api::{Service, Shared, TokenDigest};
use crate::config::{Config, ConfigError};
use crate::drivers::FilesDriver;
use crate::state_dir::{StateDir, StateDirError};
use crate::store::{Store, StoreError};
use crate::targets::TargetError;
use crate::targets::tgt::{Daemon, ManagedTgtd, TgtError, TgtTarget};
use crate::volume::{Backends, Manager, ManagerError};

/// How long clients may take to hear their answers once the service is told to stop.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

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
    /// Hosts cannot be let in.
    #[error(transparent)]
    Portal(TargetError),
    /// What was shown to hosts, or left unfinished, could not be taken up.
    #[error("cannot restore what was there before")]
    Restore(#[source] ManagerError),
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

/// The service, ready to answer.
pub struct Server {
    listener: TcpListener,
    service: Service,
    manager: Manager,
    daemon: Arc<TgtTarget>,
    store: Store,
    address: SocketAddr,
    _state_dir: StateDir,
}

impl Server {
    /// Opens everything. When this returns, hosts can reach what they could before, and the address listens.
    pub async fn open(config: &Config) -> Result<Self, ServerError> {
        config.check()?;
        let state_dir = StateDir::open(&config.state_dir)?;
        let token = state_dir.token()?;
        let listen_failed = |source| ServerError::Listen { listen: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen_failed)?;
        let address = listener.local_addr().map_err(listen_failed)?;
        state_dir.write_clouds_yaml(address, &token)?;
        let store = Store::open(&state_dir.database()).await?;
        let identity = store.service_identity().await?;

        let tgt = &config.targets.tgt;
        let daemon = if tgt.manage {
            Daemon::start(ManagedTgtd { program: tgt.program.clone(), directory: state_dir.run() }).await
        } else {
            Daemon::adopt(tgt.control_socket.clone()).await
        };
        let portals = [&tgt.portal].into_iter().chain(&tgt.extra_portals).map(ToString::to_string).collect();
        let daemon = Arc::new(TgtTarget::new(daemon.map_err(ServerError::Tgt)?, portals));
        let driver = Arc::new(FilesDriver::new(state_dir.volumes()));
        let backends = Backends { driver, target: daemon.clone() };
        let manager = match Manager::start(store.clone(), backends).await {
            Ok(manager) => manager,
            Err(error) => {
                daemon.stop().await;
                return Err(match error {
                    ManagerError::Target(error @ (TargetError::PortalTaken { .. } | TargetError::Portal { .. })) => {
                        ServerError::Portal(error)
                    }
                    other => ServerError::Restore(other),
                });
            }
        };
        let service = Service::new(Shared {
            manager: manager.clone(),
            identity,
            token: TokenDigest::of(&token),
            volume_type: config.volume_type.clone(),
            availability_zone: config.availability_zone.clone(),
            host: format!("{}@{type_}#{type_}", host_name(), type_ = config.volume_type),
        });
        Ok(Self { listener, service, manager, daemon, store, address, _state_dir: state_dir })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`, then finishes what was begun.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) -> Result<(), ServerError> {
        info!("ready: volumes at http://{}/v3, iSCSI at {}", self.address, self.manager.portals().join(", "));
        notify(&[NotifyState::Ready, NotifyState::Status(&format!("Listening on {}", self.address))]);
        let watchdog = tokio::spawn(feed_watchdog(self.store.clone()));
        let (stopping, stopped) = tokio::sync::oneshot::channel();
        let stop = async {
            stop.await;
            info!("stopping");
            notify(&[NotifyState::Stopping]);
            // The receiver is gone only when serving failed already.
            let _ = stopping.send(());
        };
        let served = tokio::select! {
            served = self.service.serve(self.listener, stop) => served,
            () = async {
                if stopped.await.is_err() {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(ANSWERS_WITHIN).await;
            } => {
                warn!("some clients did not take their answers in time");
                Ok(())
            }
        };
        watchdog.abort();
        self.manager.stop().await;
        self.daemon.stop().await;
        self.store.close().await;
        served.map_err(ServerError::Serve)
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
        match store.usage().await {
            Ok(_) => notify(&[NotifyState::Watchdog]),
            Err(error) => warn!("not telling the service manager that all is well: {error}"),
        }
    }
}

fn host_name() -> String {
    match std::fs::read_to_string("/proc/sys/kernel/hostname") {
        Ok(name) => name.trim().to_owned(),
        Err(_) => "localhost".into(),
    }
}
