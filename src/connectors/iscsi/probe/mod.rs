//! A small iSCSI initiator of our own, which asks a LUN who it is and how large, or a portal what targets it has, and leaves.
//!
//! ```text
//!  TCP -> login: security (CHAP) -> login: operational -> INQUIRY, VPD 0x80, VPD 0x83, READ CAPACITY -> logout
//!                     | redirected: once more, to the portal named  \-> or: SendTargets=All ---------^
//! ```
//! Where QEMU logs in itself, the host's kernel sees nothing of the volume; this is how its identity is proved all the same. Where the
//! kernel logs in, its copy of a LUN's identity is as old as its device; this tells what the LUN is now. It reads no data of a volume
//! and writes none. Formats: RFC 7143 (iSCSI), SPC-4 and SBC-3 (commands). The target is not trusted: every length is
//! bounded, every field checked, and the whole runs under one deadline.

mod chap;
mod discovery;
mod error;
mod login;
mod pdu;
mod scsi;
#[cfg(test)]
mod tests;

use crate::model::{ChapCredentials, IscsiPath, ObservedIdentity, Portal};
use std::time::Duration;
use tokio::{net::TcpStream, time::timeout};

pub(super) use discovery::Advertised;
pub use error::ProbeError;

/// Redirections followed. An array may name the controller that owns the LUN; two of them naming each other must end.
const MAX_REDIRECTIONS: u32 = 2;

/// How long the target may take to acknowledge the logout. What was asked is known by then.
const LOGOUT_TIMEOUT: Duration = Duration::from_secs(1);

/// Who logs in, and what both sides have to prove.
#[derive(Debug, Clone, Copy)]
pub(super) struct Login<'a> {
    /// This host's initiator name.
    pub initiator: &'a str,
    /// What this side proves itself with.
    pub chap: Option<&'a ChapCredentials>,
    /// What the target must prove itself with in return (mutual CHAP). A target that does not is not talked to.
    pub target_chap: Option<&'a ChapCredentials>,
}

/// Logs in and identifies the LUN.
pub(super) async fn identify(path: &IscsiPath, login: Login<'_>, timeout_s: u64) -> Result<ObservedIdentity, ProbeError> {
    within(timeout_s, async {
        let mut connection = open(&path.portal, Some(&path.iqn), login).await?;
        let result = scsi::identify(&mut connection, path.lun).await;
        let _ = timeout(LOGOUT_TIMEOUT, connection.logout()).await;
        result
    })
    .await
}

/// Asks a portal for all targets it shows to this initiator, with all of their portals (`SendTargets=All`).
pub(super) async fn discover(portal: &Portal, login: Login<'_>, timeout_s: u64) -> Result<Vec<Advertised>, ProbeError> {
    within(timeout_s, async {
        let mut connection = open(portal, None, login).await?;
        let result = discovery::send_targets(&mut connection, portal).await;
        let _ = timeout(LOGOUT_TIMEOUT, connection.logout()).await;
        result
    })
    .await
}

async fn within<T>(timeout_s: u64, work: impl Future<Output = Result<T, ProbeError>>) -> Result<T, ProbeError> {
    match timeout(Duration::from_secs(timeout_s), work).await {
        Ok(result) => result,
        Err(_) => Err(ProbeError::TimedOut { timeout_s }),
    }
}

/// Connects and logs in to a target, or, with none, for discovery alone.
async fn open(portal: &Portal, target: Option<&str>, login: Login<'_>) -> Result<pdu::Connection, ProbeError> {
    let mut portal = portal.clone();
    for _ in 0..=MAX_REDIRECTIONS {
        let stream = TcpStream::connect((portal.host.as_str(), portal.port)).await.map_err(ProbeError::Connect)?;
        stream.set_nodelay(true).map_err(ProbeError::Connect)?;
        let mut connection = pdu::Connection::new(stream);
        match login::login(&mut connection, target, login).await? {
            login::Outcome::LoggedIn => return Ok(connection),
            login::Outcome::Redirected(to) => portal = to,
        }
    }
    Err(ProbeError::RedirectedTooOften)
}
