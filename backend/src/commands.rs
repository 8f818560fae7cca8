//! The commands beside those that serve, as the command line has them. Secrets come in by standard input, one line, and
//! never by an argument, which every process of the machine could read.

use std::io::{BufRead as _, Read as _};

use anyhow::Context as _;
use bowline_backend::admin::Admin;
use bowline_backend::audit::Repair;
use bowline_backend::config::Config;
use bowline_backend::doctor::{self, Verdict};
use bowline_backend::secret::Secret;
use clap::{Args, Subcommand};

/// `bowline-backend user …`
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// All users and what they are where.
    List,
    /// Make a user; its password is read from standard input.
    Create {
        /// Its name.
        name: String,
        /// Its project, made where it is new.
        #[arg(long, default_value = "bowline")]
        project: String,
        /// What it is there: admin, manager, member, reader or service.
        #[arg(long, default_value = "member")]
        role: String,
    },
    /// Give a user a role in a project.
    Grant {
        /// Its name.
        name: String,
        /// The project.
        #[arg(long)]
        project: String,
        /// The role.
        #[arg(long)]
        role: String,
    },
    /// Give a user another password, read from standard input; its tokens are revoked.
    SetPassword {
        /// Its name.
        name: String,
    },
    /// Forget a user, its roles and its tokens.
    Delete {
        /// Its name.
        name: String,
    },
}

/// `bowline-backend token …`
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Print a new token.
    Issue {
        /// For whom.
        #[arg(long, default_value = "bowline")]
        user: String,
        /// For which project.
        #[arg(long, default_value = "bowline")]
        project: String,
    },
    /// Make a token, read from standard input, worthless.
    Revoke,
}

/// `bowline-backend db …`
#[derive(Debug, Subcommand)]
pub enum DbCommand {
    /// Bring the database up to date; the service does so itself when it starts.
    Upgrade,
}

/// Carries out a command about the database.
pub async fn db(config: &Config, DbCommand::Upgrade: DbCommand) -> anyhow::Result<()> {
    Admin::open(config).await?;
    println!("the database is up to date");
    Ok(())
}

/// Says what the installation is doing.
pub async fn status(config: &Config, json: bool) -> anyhow::Result<()> {
    let status = Admin::open(config).await?.status().await?;
    if json {
        println!("{}", serde_json::to_string(&status)?)
    } else {
        print!("{status}")
    }
    Ok(())
}

/// Says what keeps the service from working; fails where something does.
pub async fn doctor(config: &Config, json: bool) -> anyhow::Result<()> {
    config.check()?;
    let found = doctor::examine(config).await;
    if json {
        println!("{}", serde_json::to_string(&found)?);
    } else {
        found.iter().for_each(|finding| println!("{finding}"));
    }
    let failed = found.iter().filter(|finding| finding.verdict == Verdict::Failed).count();
    anyhow::ensure!(failed == 0, "{failed} of {} checks failed", found.len());
    Ok(())
}

/// `bowline-backend service …`
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Say that a volume service that is down will not come back: what waits for it is ended within seconds.
    Gone {
        /// `host@backend`, as `openstack volume service list` shows it.
        host: String,
    },
}

/// Carries out a command about services.
pub async fn service(config: &Config, command: ServiceCommand) -> anyhow::Result<()> {
    let ServiceCommand::Gone { host } = command;
    Ok(Admin::open(config).await?.declare_gone(&host).await?)
}

/// How `bowline-backend audit` is to look.
#[derive(Debug, Args)]
pub struct How {
    /// Mend what can be mended without losing a byte: statuses that nobody works on, counters.
    #[arg(long)]
    repair: bool,
    /// With --repair: also move what nobody knows of aside, into `quarantine` beside it.
    #[arg(long, requires = "repair")]
    quarantine: bool,
    /// As one JSON document.
    #[arg(long)]
    json: bool,
}

/// Compares, mends where asked to, and tells.
pub async fn audit(config: &Config, how: How) -> anyhow::Result<()> {
    let repair = match (how.repair, how.quarantine) {
        (false, _) => Repair::Nothing,
        (true, false) => Repair::Safe,
        (true, true) => Repair::SafeAndQuarantine,
    };
    let report = Admin::open(config).await?.audit(config, repair).await?;
    if how.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        for difference in &report.differences {
            println!("{difference}");
        }
        for unseen in &report.not_looked_at {
            println!("not looked at: {unseen}");
        }
    }
    let left = report.left();
    anyhow::ensure!(left == 0, "{left} differences are left of {}", report.differences.len());
    Ok(())
}

/// Carries out a command about users.
pub async fn user(config: &Config, command: UserCommand) -> anyhow::Result<()> {
    let admin = Admin::open(config).await?;
    match command {
        UserCommand::List => {
            for line in admin.users().await? {
                println!("{line}");
            }
        }
        UserCommand::Create { name, project, role } => admin.create_user(&name, read_secret()?, &project, &role).await?,
        UserCommand::Grant { name, project, role } => admin.grant(&name, &project, &role).await?,
        UserCommand::SetPassword { name } => admin.set_password(&name, read_secret()?).await?,
        UserCommand::Delete { name } => admin.delete_user(&name).await?,
    }
    Ok(())
}

/// Carries out a command about tokens.
pub async fn token(config: &Config, command: TokenCommand) -> anyhow::Result<()> {
    let admin = Admin::open(config).await?;
    match command {
        TokenCommand::Issue { user, project } => println!("{}", admin.issue_token(&user, &project).await?.reveal()),
        TokenCommand::Revoke => admin.revoke_token(&read_secret()?).await?,
    }
    Ok(())
}

/// One line of at most 4 KiB.
fn read_secret() -> anyhow::Result<Secret> {
    let mut line = String::new();
    std::io::stdin().lock().take(4097).read_line(&mut line).context("cannot read standard input")?;
    Ok(Secret::new(line.trim_end_matches(['\r', '\n']).to_owned()))
}
