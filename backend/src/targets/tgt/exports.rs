//! Exports in terms of requests to tgtd.
//!
//! The order matters: a target is made with its LUN and identity first, then its account, and only last the initiator's name
//! is let in. tgtd lets nobody in to a target without such a rule, so nobody gets in without a password meanwhile.
//! (A rule for all addresses, `ALL`, would let every initiator past the rules by name; it is never set.)

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use super::accounts;
use super::client::Client;
use super::daemon::Daemon;
use super::error::{TgtError, TgtRefusal};
use super::protocol::{Mode, Operation, Request};
use super::{grow, hold, sessions};
use crate::targets::{Access, Export, LUN, Target, TargetError};

/// What the LUN says of itself: 8 and 16 characters at most, by SCSI.
const VENDOR: &str = "BOWLINE";
const PRODUCT: &str = "VOLUME";

/// How long a session whose access is taken away may take to end by itself.
const SESSION_END: Duration = Duration::from_secs(2);

/// How long commands of a session that was cut may take to end.
const COMMANDS_END: Duration = Duration::from_secs(10);

/// Targets in a tgtd.
#[derive(Debug)]
pub struct TgtTarget {
    daemon: Daemon,
    portals: Vec<String>,
}

impl TgtTarget {
    /// Targets in this tgtd, which hosts reach at these portals.
    pub fn new(daemon: Daemon, portals: Vec<String>) -> Self {
        Self { daemon, portals }
    }

    async fn export_all(&self, export: &Export) -> Result<(), (&'static str, TgtError)> {
        let client = self.daemon.ready().await.map_err(|error| ("reach tgtd", error))?;
        let (tid, iqn, serial) = (export.target_id, export.iqn(), export.scsi_serial());

        let name = format!("targetname={iqn}");
        let request = Request::new(Mode::Target, Operation::New).target(tid).parameters(&name);
        client.ensure(request, TgtRefusal::TargetExists).await.map_err(|error| ("make the target", error))?;

        let Some(path) = export.path.to_str().filter(|path| !path.contains(',')) else {
            return Err(("make the LUN", TgtError::Unsendable { what: "the state directory's path" }));
        };
        let path = format!("path={path}");
        let lun = Request { lun: Some(LUN), ..Request::new(Mode::Device, Operation::New).target(tid) };
        client.ensure(lun.parameters(&path), TgtRefusal::LunExists).await.map_err(|error| ("make the LUN", error))?;

        // Thin provisioning lets guests give back what they discard.
        let identity =
            format!("targetOps scsi_sn={serial},scsi_id={serial},vendor_id={VENDOR},product_id={PRODUCT},thin_provisioning=1,");
        let update = Request { lun: Some(LUN), ..Request::new(Mode::Device, Operation::Update).target(tid) };
        client.ask(update.parameters(&identity)).await.map_err(|error| ("set the LUN's identity", error))?;

        for access in &export.accesses {
            grant(&client, tid, access).await?;
        }
        Ok(())
    }

    async fn revoke_one(&self, export: &Export, access: &Access) -> Result<(), (&'static str, TgtError)> {
        let client = self.daemon.ready().await.map_err(|error| ("reach tgtd", error))?;
        let tid = export.target_id;
        // The rule first: whoever is cut off below must not come straight back.
        let initiator_stays = export.accesses.iter().any(|other| other.initiator == access.initiator);
        if !initiator_stays {
            shut_out(&client, tid, &access.initiator).await.map_err(|error| ("shut the initiator out", error))?;
        }
        let staying: Vec<&str> = export.accesses.iter().map(|other| other.chap.username.as_str()).collect();
        if !staying.contains(&access.chap.username.as_str()) {
            let forgotten = accounts::forget(&client, tid, &access.chap.username, &staying).await;
            forgotten.map_err(|error| ("forget the account", error))?;
        }
        if initiator_stays {
            // The host has another attachment of this volume: its one session serves both.
            return Ok(());
        }
        let everybody = export.accesses.is_empty();
        end_sessions(&client, export, (!everybody).then_some(&access.initiator)).await?;
        if everybody { delete_target(&client, tid).await } else { Ok(()) }
    }

    async fn grow_one(&self, export: &Export) -> Result<(), (&'static str, TgtError)> {
        let client = self.daemon.ready().await.map_err(|error| ("reach tgtd", error))?;
        grow::grow(&client, export).await
    }

    async fn hold_one(&self, export: &Export) -> Result<(), (&'static str, TgtError)> {
        let client = self.daemon.ready().await.map_err(|error| ("reach tgtd", error))?;
        hold::hold(&client, export).await
    }

    async fn release_one(&self, export: &Export) -> Result<(), (&'static str, TgtError)> {
        let client = self.daemon.ready().await.map_err(|error| ("reach tgtd", error))?;
        hold::release(&client, export).await
    }

    async fn remove_target(&self, export: &Export) -> Result<(), (&'static str, TgtError)> {
        let client = self.daemon.ready().await.map_err(|error| ("reach tgtd", error))?;
        end_sessions(&client, export, None).await?;
        delete_target(&client, export.target_id).await
    }
}

/// Lets one initiator in, with its account.
async fn grant(client: &Client, tid: i32, access: &Access) -> Result<(), (&'static str, TgtError)> {
    accounts::bind(client, tid, &access.chap).await.map_err(|error| ("make the account", error))?;
    let rule = format!("initiator-name={}", access.initiator);
    let request = Request::new(Mode::Target, Operation::Bind).target(tid).parameters(&rule);
    client.ensure(request, TgtRefusal::RuleExists).await.map_err(|error| ("let the initiator in", error))
}

async fn shut_out(client: &Client, tid: i32, initiator: &str) -> Result<(), TgtError> {
    let rule = format!("initiator-name={initiator}");
    let request = Request::new(Mode::Target, Operation::Unbind).target(tid).parameters(&rule);
    match client.ensure(request, TgtRefusal::NoRule).await {
        Err(TgtError::Refused(TgtRefusal::NoTarget)) => Ok(()),
        other => other,
    }
}

/// Gives the sessions of `initiator`, or of everybody, time to end; then cuts them.
async fn end_sessions(client: &Client, export: &Export, initiator: Option<&String>) -> Result<(), (&'static str, TgtError)> {
    let (tid, initiator) = (export.target_id, initiator.map(String::as_str));
    let left = sessions::wait_gone(client, tid, initiator, SESSION_END).await;
    for session in left.map_err(|error| ("see who is logged in", error))? {
        warn!(volume = %export.volume_id, initiator = %session.initiator, "still logged in after its attachment was deleted: cutting the session");
        sessions::cut(client, tid, &session).await.map_err(|error| ("cut a session", error))?;
    }
    Ok(())
}

/// Removes the target. Commands of a session that was cut may still be on their way to the disk; tgtd refuses until they are done.
async fn delete_target(client: &Client, tid: i32) -> Result<(), (&'static str, TgtError)> {
    let request = Request { force: true, ..Request::new(Mode::Target, Operation::Delete).target(tid) };
    let deadline = Instant::now() + COMMANDS_END;
    loop {
        match client.ensure(request, TgtRefusal::NoTarget).await {
            Ok(()) => return Ok(()),
            Err(TgtError::Refused(TgtRefusal::TargetActive | TgtRefusal::LunActive)) if Instant::now() < deadline => {
                tokio::time::sleep(sessions::ASK_AGAIN).await;
            }
            Err(error) => return Err(("remove the target", error)),
        }
    }
}

impl Target for TgtTarget {
    fn export<'a>(&'a self, export: &'a Export) -> BoxFuture<'a, Result<(), TargetError>> {
        self.export_all(export).map(|done| named(export, done)).boxed()
    }

    fn revoke<'a>(&'a self, export: &'a Export, access: &'a Access) -> BoxFuture<'a, Result<(), TargetError>> {
        self.revoke_one(export, access).map(|done| named(export, done)).boxed()
    }

    fn grow<'a>(&'a self, export: &'a Export) -> BoxFuture<'a, Result<(), TargetError>> {
        self.grow_one(export).map(|done| named(export, done)).boxed()
    }

    fn hold<'a>(&'a self, export: &'a Export) -> BoxFuture<'a, Result<bool, TargetError>> {
        self.hold_one(export).map(|done| named(export, done).map(|()| true)).boxed()
    }

    fn release<'a>(&'a self, export: &'a Export) -> BoxFuture<'a, Result<(), TargetError>> {
        self.release_one(export).map(|done| named(export, done)).boxed()
    }

    fn remove<'a>(&'a self, export: &'a Export) -> BoxFuture<'a, Result<(), TargetError>> {
        self.remove_target(export).map(|done| named(export, done)).boxed()
    }

    fn portals(&self) -> &[String] {
        &self.portals
    }

    fn generation(&self) -> watch::Receiver<u64> {
        self.daemon.generation()
    }

    fn open(&self) -> BoxFuture<'_, Result<(), TargetError>> {
        async {
            for portal in &self.portals {
                self.daemon.open_portal(portal).await.map_err(|source| portal_error(portal, source))?;
            }
            Ok(())
        }
        .boxed()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        self.daemon.stop().boxed()
    }
}

/// tgtd says no more than that it cannot; whether the port is taken is asked of the kernel.
fn portal_error(portal: &str, source: TgtError) -> TargetError {
    let portal = portal.to_owned();
    match std::net::TcpListener::bind(&portal) {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => TargetError::PortalTaken { portal },
        _ => TargetError::Portal { portal, source },
    }
}

fn named(export: &Export, done: Result<(), (&'static str, TgtError)>) -> Result<(), TargetError> {
    done.map_err(|(operation, source)| TargetError::Daemon { volume_id: export.volume_id, operation, source })
}
