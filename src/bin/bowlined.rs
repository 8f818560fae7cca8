//! `bowlined`, the agent's daemon: reads the configuration, wires the parts and runs them.

use anyhow::Context as _;
use bowline::{
    agent::{
        api::{AgentApi, GuestChange, OperationState},
        config::{self, EphemeralDisks, Initiator, MetricsListen, Multipath, RbdClient, RbdDisks, Settings},
        dbus,
        health::{self, Pace},
        journal::{Journal, JournalError},
        memory,
        metrics::{self, Metrics, Readings},
        operations::{
            Agent, GuestNews, Parts,
            adapters::{CloudVolumes, HostBootSources, HostConnectors, Hypervisor},
        },
    },
    bootsource::{Captures, DiskForm, DiskMaker, Pool, VolumeGroup},
    connectors::{
        self, Connectors, ConnectorsConfig, HostEvents, InitiatorChoice, IscsiConfig, MultipathChoice, NfsConfig, RbdConfig,
    },
    libvirt::{GuestEvent, Libvirt, LibvirtConfig, LifecycleChange},
    model::{self, DiskFormat, GIB, GuestUuid},
    openstack::{CloudConfig, HttpOptions, ImageService, KeyManager, VolumeService},
};
use clap::Parser;
use sd_notify::NotifyState;
use std::{io::IsTerminal, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{
        broadcast::{self, error::RecvError},
        mpsc,
    },
};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// How long a stop waits for operations under way. systemd's own patience is longer.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// How long the end of the process waits for blocking calls.
const THREADS_PATIENCE: Duration = Duration::from_secs(1);

/// How long nothing must have happened for the agent to count as idle.
const IDLE: Duration = Duration::from_secs(2);

/// First and last pause before what could not be connected again is tried once more.
const FIRST_RECONNECT: Duration = Duration::from_secs(2);
const LAST_RECONNECT: Duration = Duration::from_secs(60);

/// I/O errors of guests that wait to be looked at.
const IO_ERRORS_KEPT: usize = 64;

/// News of guests that wait to be told.
const GUEST_NEWS_KEPT: usize = 64;

/// Exit status where the journal has to be seen to by somebody first, as sysexits.h has it for what is wrong with the setup. The unit
/// starts the agent again after any other.
const NEEDS_A_HAND: u8 = 78;

/// How long a start under systemd that could not write the journal waits before it gives up, since the next one comes at once: on a
/// full disk each of them would only add to the log.
const BEFORE_ANOTHER_START: Duration = Duration::from_secs(10);

/// Threads of the runtime. The agent waits far more than it computes; libvirt's blocking calls have threads of their own.
const WORKER_THREADS: usize = 2;

/// The agent of a libvirt host: attaches volumes to guests, over D-Bus.
#[derive(Parser)]
#[command(name = "bowlined", version)]
struct Arguments {
    /// Folder with *.toml fragments, instead of the usual ones; may be given several times, the last wins
    #[arg(long = "config-dir", value_name = "DIR")]
    config_dirs: Vec<PathBuf>,
    /// Read the configuration, tell what is wrong with it, and exit
    #[arg(long)]
    check_config: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log();
    match start(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            match error.downcast_ref::<JournalError>() {
                Some(error) if error.needs_a_hand() => ExitCode::from(NEEDS_A_HAND),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// To the journal where systemd listens, else to stderr. `BOWLINE_LOG` sets the level, `info` if it is not set.
fn log() {
    let level = EnvFilter::try_from_env("BOWLINE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(level);
    let to_journal = std::env::var_os("JOURNAL_STREAM").is_some();
    match tracing_journald::layer() {
        Ok(journald) if to_journal => registry.with(journald).init(),
        _ => {
            let stderr = tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal())
                .with_target(false);
            registry.with(stderr).init();
        }
    }
}

fn start(arguments: &Arguments) -> anyhow::Result<()> {
    let dirs = if arguments.config_dirs.is_empty() {
        config::FRAGMENT_DIRS.map(PathBuf::from).to_vec()
    } else {
        arguments.config_dirs.clone()
    };
    let settings = config::load(&dirs).context("the configuration cannot be used")?;
    let cloud = &settings.cloud;
    let user = CloudConfig::load(cloud.file.as_deref(), &cloud.name)?;
    let service = cloud.service_name.as_deref().map(|name| CloudConfig::load(cloud.file.as_deref(), name)).transpose()?;
    let keys = match settings.key_manager.cloud.as_deref() {
        Some(name) => CloudConfig::load(cloud.file.as_deref(), name)?,
        None => user.clone(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .thread_stack_size(512 * 1024)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    if arguments.check_config {
        // The parts know more of their own settings than the file's reader does. None of them is set to work.
        runtime.block_on(async { clients(&settings, user, service, keys).map(|_| ()) })?;
        println!("the configuration is fine");
        return Ok(());
    }
    let result = runtime.block_on(run(&settings, user, service, keys));
    // A call that hangs in libvirt holds its thread; the process need not wait for it.
    runtime.shutdown_timeout(THREADS_PATIENCE);
    result
}

/// The parts that can be put together without asking anybody. Each checks its settings.
fn clients(
    settings: &Settings,
    user: CloudConfig,
    service: Option<CloudConfig>,
    keys: CloudConfig,
) -> anyhow::Result<(VolumeService, KeyManager, ImageService, Connectors)> {
    let http = HttpOptions {
        connect_timeout_s: settings.cloud.connect_timeout_s,
        request_timeout_s: settings.cloud.request_timeout_s,
        ..HttpOptions::default()
    };
    let keys = KeyManager::new(keys, settings.key_manager.endpoint.as_deref(), http.clone())?;
    let images = ImageService::new(user.clone(), http.clone())?;
    let volumes = VolumeService::new(user, service, http)?;
    libvirt_config(settings).check()?;
    Ok((volumes, keys, images, Connectors::new(connectors_config(settings))?))
}

async fn run(settings: &Settings, user: CloudConfig, service: Option<CloudConfig>, keys: CloudConfig) -> anyhow::Result<()> {
    // Caught from the first moment on, so that a stop during recovery is a clean one too.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    status("opening the journal");
    let (journal, contents) = match Journal::open(&settings.paths.state_dir) {
        Ok(opened) => opened,
        Err(error) => {
            if !error.needs_a_hand() && std::env::var_os("NOTIFY_SOCKET").is_some() {
                status(&error.to_string());
                tokio::select! {
                    () = tokio::time::sleep(BEFORE_ANOTHER_START) => {}
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            }
            return Err(error.into());
        }
    };
    let journal_file = journal.path().to_owned();
    let (volumes, keys, images, connectors) = clients(settings, user, service, keys)?;
    let kernels_name = || nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
    match settings.host_name.clone().map_or_else(kernels_name, Ok) {
        Ok(name) => volumes.lease_for(&name),
        Err(error) => tracing::warn!(%error, "the kernel's host name cannot be read: attachments are made without a lease"),
    }
    let leases = volumes.clone();
    let libvirt = Libvirt::start(libvirt_config(settings))?;
    let guest_events = libvirt.events();
    let host_events = HostEvents::start(ConnectorsConfig::default().sysfs).context("cannot listen to this host's events")?;
    let guest_news = guest_news(libvirt.events());
    let sources = health::Sources { host: host_events.subscribe(), io_errors: io_errors(libvirt.events()) };
    let parts = Parts {
        volumes: Arc::new(CloudVolumes(volumes, keys)),
        connectors: Arc::new(HostConnectors::new(connectors)),
        hypervisor: Arc::new(Hypervisor(libvirt)),
        boot_sources: Arc::new(HostBootSources::new(
            images,
            disk_maker(settings),
            captures(settings),
            &settings.paths.run_dir,
            Duration::from_secs(settings.images.stall_timeout_s),
        )),
        journal,
        contents,
    };
    status("finishing what was cut");
    let starting = async {
        let agent = Arc::new(Agent::start(parts, settings).await);
        status("connecting what a reboot took");
        let patience = Duration::from_secs(settings.operations.recovery_timeout_s);
        let mut first = reconnect(&agent);
        // What takes longer is not waited for any more, but never cut.
        let left = tokio::time::timeout(patience, &mut first).await.ok();
        let first = async move {
            match left {
                Some(left) => left,
                None => first.await,
            }
            .unwrap_or(usize::MAX)
        };
        (agent, first)
    };
    let (agent, first) = tokio::select! {
        started = starting => started,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let published = dbus::publish(agent.clone(), settings.bus_address.as_deref()).await?;
    let served = published.claim_name().await?;
    notify(&[NotifyState::Ready, NotifyState::Status(&summary(&agent))]);
    tracing::info!("ready: {}", summary(&agent));
    memory::give_back_code();

    let watchdog = tokio::spawn(feed_watchdog());
    let leasing = tokio::spawn(keep_leases(leases));
    let reconnecting = tokio::spawn(keep_connected(agent.clone(), guest_events, first));
    let status_line = tokio::spawn(tell_status(agent.clone()));
    let watching_sizes = {
        let agent = agent.clone();
        tokio::spawn(async move { agent.watch().await })
    };
    let pace = Pace {
        interval: Duration::from_secs(settings.health.interval_s),
        limit: Duration::from_secs(settings.health.look_timeout_s),
    };
    let watching = tokio::spawn(health::watch(agent.clone(), sources, pace));
    let watching_guests = {
        let agent = agent.clone();
        tokio::spawn(async move { agent.watch_guests(guest_news).await })
    };

    let tending_images = {
        let agent = agent.clone();
        tokio::spawn(async move { agent.tend_images().await })
    };

    let measuring = measure(&agent, journal_file, settings.metrics.as_ref()).await;

    let lost_bus = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        () = served.closed() => true,
    };
    notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    measuring.iter().for_each(tokio::task::JoinHandle::abort);
    watching.abort();
    watching_guests.abort();
    drop(host_events);
    reconnecting.abort();
    status_line.abort();
    watching_sizes.abort();
    tending_images.abort();
    leasing.abort();
    agent.finish(STOP_PATIENCE).await;
    served.close().await;
    watchdog.abort();
    if lost_bus {
        // Without the bus nobody can ask for anything: a fresh start connects to the new one.
        anyhow::bail!("the connection to D-Bus was lost");
    }
    Ok(())
}

/// Keeps systemd's status line true, and lets go of code once the agent has nothing to do.
async fn tell_status(agent: Arc<Agent>) {
    let mut events = agent.events();
    let mut used = false;
    loop {
        let next = events.recv();
        let event = if used { tokio::time::timeout(IDLE, next).await } else { Ok(next.await) };
        match event {
            Err(_) => {
                memory::give_back_code();
                used = false;
            }
            Ok(Err(RecvError::Closed)) => return,
            Ok(_) => {
                status(&summary(&agent));
                used = true;
            }
        }
    }
}

/// Connects again what is lost, and starts what waited for it: when libvirtd is back, which has lost its ephemeral secrets, and as long as something
/// could not be connected, ever more seldom.
async fn keep_connected(
    agent: Arc<Agent>,
    mut guest_events: broadcast::Receiver<GuestEvent>,
    first: impl Future<Output = usize>,
) {
    let mut incomplete = first.await > 0;
    incomplete |= agent.autostart().await > 0;
    let mut pause = FIRST_RECONNECT;
    loop {
        let back = async {
            loop {
                match guest_events.recv().await {
                    // What else was told meanwhile does not matter: everything is looked at anew.
                    Ok(GuestEvent::Connected) | Err(RecvError::Lagged(_)) => break,
                    Ok(_) => {}
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        if incomplete {
            let _ = tokio::time::timeout(pause, back).await;
            pause = (pause * 2).min(LAST_RECONNECT);
        } else {
            back.await;
            pause = FIRST_RECONNECT;
        }
        incomplete = reconnect(&agent).await.unwrap_or(usize::MAX) > 0;
        incomplete |= agent.autostart().await > 0;
    }
}

/// Goes on to its end, whoever waits for it: a connect that is cut midway would leave what nobody knows of.
fn reconnect(agent: &Arc<Agent>) -> tokio::task::JoinHandle<usize> {
    let agent = Arc::clone(agent);
    tokio::spawn(async move { agent.reconnect().await })
}

/// Counts, and serves what was counted, where the settings ask for it. A page that cannot be served is no reason to attach nothing.
async fn measure(agent: &Arc<Agent>, journal: PathBuf, listen: Option<&MetricsListen>) -> Vec<tokio::task::JoinHandle<()>> {
    let Some(listen) = listen else { return vec![] };
    let retries = agent.clone();
    let readings =
        Readings { retries: Box::new(move || retries.retries()), commands: Box::new(connectors::commands_started), journal };
    let metrics = Arc::new(Metrics::new(agent.clone(), readings));
    let listen = match listen {
        MetricsListen::Tcp(address) => metrics::Listen::Tcp(*address),
        MetricsListen::Unix(path) => metrics::Listen::Unix(path.clone()),
    };
    match metrics::serve(metrics.clone(), &listen).await {
        Ok(serving) => vec![serving, tokio::spawn(async move { metrics.follow().await })],
        Err(error) => {
            let problem = format!("{:#}", anyhow::Error::new(error));
            tracing::error!(problem, "going on without metrics");
            agent.tell_metrics_problem(problem);
            vec![]
        }
    }
}

/// Of all that libvirt tells, what QEMU could not do. One that is lost because nobody was fast enough to read it is followed by
/// others: a guest that cannot reach its disk goes on trying.
fn io_errors(mut events: broadcast::Receiver<GuestEvent>) -> mpsc::Receiver<(GuestUuid, String, String)> {
    let (sender, receiver) = mpsc::channel(IO_ERRORS_KEPT);
    tokio::spawn(async move {
        loop {
            match events.recv().await {
                Ok(GuestEvent::IoError { guest, alias, reason }) => {
                    let _ = sender.try_send((guest, alias, reason));
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    });
    receiver
}

/// Of all that libvirt tells, what becomes of guests as a whole, and that one has let go of a device. What cannot be told fast enough is found by looking again.
fn guest_news(mut events: broadcast::Receiver<GuestEvent>) -> mpsc::Receiver<GuestNews> {
    let (sender, receiver) = mpsc::channel(GUEST_NEWS_KEPT);
    tokio::spawn(async move {
        loop {
            let news = match events.recv().await {
                Ok(GuestEvent::Lifecycle { guest, change }) => match change {
                    LifecycleChange::Defined => GuestNews::Changed(guest, GuestChange::Defined),
                    LifecycleChange::Undefined => GuestNews::Changed(guest, GuestChange::Undefined),
                    LifecycleChange::Started => GuestNews::Changed(guest, GuestChange::Started),
                    LifecycleChange::Stopped => GuestNews::Changed(guest, GuestChange::Stopped),
                    LifecycleChange::Crashed => GuestNews::Changed(guest, GuestChange::Crashed),
                    LifecycleChange::Paused => GuestNews::Changed(guest, GuestChange::Paused),
                    LifecycleChange::Other => continue,
                },
                Ok(GuestEvent::DeviceRemoved { guest, .. }) => GuestNews::LetGo(guest),
                Ok(GuestEvent::Connected) | Err(RecvError::Lagged(_)) => GuestNews::LookAgain,
                Ok(_) => continue,
                Err(RecvError::Closed) => return,
            };
            if sender.send(news).await.is_err() {
                return;
            }
        }
    });
    receiver
}

fn connectors_config(settings: &Settings) -> ConnectorsConfig {
    let iscsi = &settings.iscsi;
    ConnectorsConfig {
        iscsi: IscsiConfig {
            initiator: match iscsi.initiator {
                Initiator::Auto => InitiatorChoice::Auto,
                Initiator::Kernel => InitiatorChoice::Kernel,
                Initiator::Qemu => InitiatorChoice::Qemu,
            },
            multipath: match iscsi.multipath {
                Multipath::Off => MultipathChoice::Off,
                Multipath::Preferred => MultipathChoice::Preferred,
                Multipath::Required => MultipathChoice::Required,
            },
            login_timeout_s: iscsi.login_timeout_s,
            device_timeout_s: iscsi.device_timeout_s,
            logout_timeout_s: iscsi.logout_timeout_s,
            initiator_name_file: iscsi.initiator_name_file.clone(),
            iface: iscsi.iface.clone(),
            target_accounts_file: iscsi.target_accounts_file.clone(),
            ..IscsiConfig::default()
        },
        nfs: NfsConfig { mount_options: settings.nfs.mount_options.clone(), mount_timeout_s: settings.nfs.mount_timeout_s },
        rbd: rbd_config(settings),
        my_ip: settings.my_ip.clone(),
        host: settings.host_name.clone(),
        run_dir: settings.paths.run_dir.clone(),
        ..ConnectorsConfig::default()
    }
}

fn disk_maker(settings: &Settings) -> DiskMaker {
    let images = &settings.images;
    let form = match &images.disks {
        EphemeralDisks::Files(DiskFormat::Qcow2) => DiskForm::Overlay,
        EphemeralDisks::Files(DiskFormat::Raw) => DiskForm::Flat,
        EphemeralDisks::Lvm { volume_group, thin_pool } => {
            DiskForm::Logical(VolumeGroup::new(volume_group.clone(), thin_pool.clone()))
        }
        EphemeralDisks::Rbd(RbdDisks { pool, namespace, user }) => {
            let (conf_file, keyring_file) = (settings.rbd.conf_file.clone(), settings.rbd.keyring_file.clone());
            DiskForm::Rbd(Pool::new((pool.clone(), namespace.clone()), user.clone(), conf_file, keyring_file))
        }
    };
    let copy_limit = Duration::from_secs(images.download_timeout_s);
    let cache_bytes = images.limit_gib.saturating_mul(GIB);
    DiskMaker::new(&images.dir, form, cache_bytes, copy_limit).with_keyring(settings.rbd.keyring_file.clone())
}

fn captures(settings: &Settings) -> Captures {
    let copy_limit = Duration::from_secs(settings.images.download_timeout_s);
    Captures::new(&settings.images.dir, copy_limit, settings.rbd.keyring_file.clone())
}

fn rbd_config(settings: &Settings) -> RbdConfig {
    let rbd = &settings.rbd;
    RbdConfig {
        client: match rbd.client {
            RbdClient::Qemu => model::Initiator::Qemu,
            RbdClient::Kernel => model::Initiator::Kernel,
        },
        conf_file: rbd.conf_file.clone(),
        user: rbd.user.clone(),
        keyring_file: rbd.keyring_file.clone(),
        map_options: rbd.map_options.clone(),
        allow_open_elsewhere: rbd.allow_open_elsewhere,
        info_timeout_s: rbd.info_timeout_s,
        map_timeout_s: rbd.map_timeout_s,
        ..RbdConfig::default()
    }
}

fn libvirt_config(settings: &Settings) -> LibvirtConfig {
    let libvirt = &settings.libvirt;
    LibvirtConfig {
        uri: libvirt.uri.clone(),
        connect_timeout_s: libvirt.connect_timeout_s,
        call_timeout_s: libvirt.call_timeout_s,
        attach_timeout_s: libvirt.attach_timeout_s,
        detach_request_interval_s: libvirt.detach_request_interval_s,
        detach_timeout_s: libvirt.detach_timeout_s,
        shutdown_timeout_s: libvirt.shutdown_timeout_s,
    }
}

fn summary(agent: &Agent) -> String {
    let operations = agent.operations();
    let under_way = operations.iter().filter(|operation| !operation.state.is_final()).count();
    let stuck = operations.iter().filter(|operation| operation.state == OperationState::Stuck).count();
    let stuck = if stuck > 0 { format!(", {stuck} STUCK (bowline operations)") } else { String::new() };
    format!("{} volumes attached, {under_way} operations under way{stuck}", agent.attachments().len())
}

fn status(text: &str) {
    notify(&[NotifyState::Status(text)]);
}

/// Tells systemd, if it is there to listen.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// Between renewals of leases, which run for 15 minutes: some may be lost.
const LEASE_RENEWED_EVERY: Duration = Duration::from_secs(180);

/// Says to a bundled volume service that this host lives, for as long as it does.
async fn keep_leases(volumes: VolumeService) {
    let mut beat = tokio::time::interval(LEASE_RENEWED_EVERY);
    loop {
        beat.tick().await;
        if let Err(error) = volumes.renew_leases().await {
            tracing::debug!(%error, "leases are not renewed now");
        }
    }
}

/// Says that the runtime is alive, twice as often as systemd asks for it.
async fn feed_watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut beat = tokio::time::interval(limit / 2);
    loop {
        beat.tick().await;
        notify(&[NotifyState::Watchdog]);
    }
}
