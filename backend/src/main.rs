//! The `bowline-backend` command: reads what it is told, runs the service.

mod commands;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use bowline_backend::config::Config;
use bowline_backend::server::{RoleSet, Server};
use clap::{Args, Parser, Subcommand, ValueEnum};
use commands::{DbCommand, How, ServiceCommand, TokenCommand, UserCommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing::warn;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Bowline's volume service, compatible with Cinder's API v3.
#[derive(Debug, Parser)]
#[command(name = "bowline-backend", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How the log is written to standard error, or to the journal.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, global = true)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// A line each, for people.
    Text,
    /// A JSON object each, a line.
    Json,
    /// Structured, to systemd's journal.
    Journald,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole service until SIGTERM or SIGINT.
    ///
    /// At the first start it makes a token in STATE_DIR/token and a STATE_DIR/clouds.yaml for stock clients:
    /// OS_CLIENT_CONFIG_FILE=STATE_DIR/clouds.yaml openstack --os-cloud bowline volume list
    Serve(Options),
    /// Make STATE_DIR ready, with clouds.yaml, without serving: as the first start would.
    Init(Options),
    /// Look after users.
    User {
        #[command(flatten)]
        options: Options,
        #[command(subcommand)]
        command: UserCommand,
    },
    /// Issue and revoke tokens.
    Token {
        #[command(flatten)]
        options: Options,
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Look after the database.
    Db {
        #[command(flatten)]
        options: Options,
        #[command(subcommand)]
        command: DbCommand,
    },
    /// Say which roles live where, what pools have room for, what waits and what is stuck.
    Status(Report),
    /// Say what keeps the service from working on this machine, and what mends it.
    Doctor(Report),
    /// Look after the service's processes.
    Service {
        #[command(flatten)]
        options: Options,
        #[command(subcommand)]
        command: ServiceCommand,
    },
    /// Compare what there is on this machine with what the database says; the service may be running.
    ///
    /// Ends with 1 where differences are left.
    Audit {
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        how: How,
    },
    /// Answer clients, and nothing else: the other roles run elsewhere, over the same [database] and [bus].
    Api(Options),
    /// Find places for volumes, and nothing else.
    Scheduler(Options),
    /// Keep volumes on this machine, and nothing else.
    Volume(Options),
    /// Look after backups, and nothing else: their bytes are read and written by the volumes' hosts.
    Backup(Options),
}

#[derive(Debug, Args)]
struct Options {
    /// Configuration file (TOML). Without it everything has its default.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Where everything is kept [default: /var/lib/bowline-backend].
    #[arg(long, value_name = "DIR", global = true)]
    state_dir: Option<PathBuf>,
    /// Where to listen for HTTP [default: 127.0.0.1:8776].
    #[arg(long, value_name = "ADDRESS:PORT", global = true)]
    listen: Option<SocketAddr>,
}

#[derive(Debug, Args)]
struct Report {
    #[command(flatten)]
    options: Options,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// What a process is for.
enum Task {
    Serve(RoleSet),
    Init,
    User(UserCommand),
    Token(TokenCommand),
    Db(DbCommand),
    Status { json: bool },
    Doctor { json: bool },
    Service(ServiceCommand),
    Audit(How),
}

impl Command {
    fn task(self) -> (Task, Options) {
        let none = RoleSet { api: false, scheduler: false, volume: false, backup: false };
        match self {
            Self::Serve(options) => (Task::Serve(RoleSet::ALL), options),
            Self::Api(options) => (Task::Serve(RoleSet { api: true, ..none }), options),
            Self::Scheduler(options) => (Task::Serve(RoleSet { scheduler: true, ..none }), options),
            Self::Volume(options) => (Task::Serve(RoleSet { volume: true, ..none }), options),
            Self::Backup(options) => (Task::Serve(RoleSet { backup: true, ..none }), options),
            Self::Init(options) => (Task::Init, options),
            Self::User { options, command } => (Task::User(command), options),
            Self::Token { options, command } => (Task::Token(command), options),
            Self::Db { options, command } => (Task::Db(command), options),
            Self::Status(Report { options, json }) => (Task::Status { json }, options),
            Self::Doctor(Report { options, json }) => (Task::Doctor { json }, options),
            Self::Service { options, command } => (Task::Service(command), options),
            Self::Audit { options, how } => (Task::Audit(how), options),
        }
    }
}

fn main() -> ExitCode {
    let Cli { command, log_format } = Cli::parse();
    let (task, options) = command.task();
    if let Err(error) = start_log(log_format) {
        eprintln!("bowline-backend: cannot write to the journal: {error}");
        return ExitCode::FAILURE;
    }
    raise_file_limit();
    match run(task, options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bowline-backend: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What is logged follows `BOWLINE_LOG`, `info` without.
fn start_log(format: LogFormat) -> std::io::Result<()> {
    let filter = EnvFilter::try_from_env("BOWLINE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    if let LogFormat::Journald = format {
        tracing_subscriber::registry().with(filter).with(tracing_journald::layer()?).init();
        return Ok(());
    }
    let lines =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).with_target(false);
    match format {
        LogFormat::Json => lines.json().flatten_event(true).init(),
        LogFormat::Text | LogFormat::Journald => lines.init(),
    }
    Ok(())
}

/// Most systems give 1,024 files to whoever does not ask, and allow more to whoever does; each connection is one, and SQLite,
/// tgtd's requests and volumes being made have theirs.
const OPEN_FILES: u64 = 65_536;

fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| match OPEN_FILES.min(hard) {
        wanted if wanted > soft => setrlimit(Resource::RLIMIT_NOFILE, wanted, hard),
        _ => Ok(()),
    });
    if let Err(error) = raised {
        warn!("cannot raise the limit of open files: {error}");
    }
}

fn run(task: Task, Options { config, state_dir, listen }: Options) -> anyhow::Result<()> {
    let mut config = config.map(|path| Config::read(&path)).transpose()?.unwrap_or_default();
    if let Some(state_dir) = state_dir {
        config.state_dir = std::path::absolute(&state_dir).with_context(|| state_dir.display().to_string())?;
    }
    config.listen = listen.unwrap_or(config.listen);
    // Two threads: one may wait for the database while the other answers. More only cost memory.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let roles = match task {
            Task::Serve(roles) => roles,
            Task::Init => return Ok(bowline_backend::admin::init(&config).await?),
            Task::User(command) => return commands::user(&config, command).await,
            Task::Token(command) => return commands::token(&config, command).await,
            Task::Db(command) => return commands::db(&config, command).await,
            Task::Status { json } => return commands::status(&config, json).await,
            Task::Doctor { json } => return commands::doctor(&config, json).await,
            Task::Service(command) => return commands::service(&config, command).await,
            Task::Audit(how) => return commands::audit(&config, how).await,
        };
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut stop = Box::pin(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        let server = tokio::select! {
            server = Server::open(&config, roles) => server?,
            () = &mut stop => return Ok(()),
        };
        Ok(server.run(stop).await?)
    })
}
