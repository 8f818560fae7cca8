//! A small iSCSI initiator of our own, which asks a LUN who it is and how large, and leaves.
//!
//! ```text
//!  TCP -> login: security (CHAP) -> login: operational -> INQUIRY, VPD 0x80, VPD 0x83, READ CAPACITY -> logout
//!                     | redirected: once more, to the portal named
//! ```
//! Where QEMU logs in itself, the host's kernel sees nothing of the volume; this is how its identity is proved all the same. It reads
//! no data of the volume and writes none. Formats: RFC 7143 (iSCSI), SPC-4 and SBC-3 (commands). The target is not trusted:
//! every length is bounded, every field checked, and the whole runs under one deadline.

mod chap;
mod error;
mod login;
mod pdu;
mod scsi;
#[cfg(test)]
mod tests;

use crate::model::{ChapCredentials, IscsiPath, ObservedIdentity};
use std::time::Duration;
use tokio::{net::TcpStream, time::timeout};

pub use error::ProbeError;

/// Redirections followed. An array may name the controller that owns the LUN; two of them naming each other must end.
const MAX_REDIRECTIONS: u32 = 2;

/// How long the target may take to acknowledge the logout. What was asked is known by then.
const LOGOUT_TIMEOUT: Duration = Duration::from_secs(1);

/// Logs in as `initiator` and identifies the LUN.
pub(super) async fn identify(
    path: &IscsiPath,
    initiator: &str,
    chap: Option<&ChapCredentials>,
    timeout_s: u64,
) -> Result<ObservedIdentity, ProbeError> {
    match timeout(Duration::from_secs(timeout_s), session(path, initiator, chap)).await {
        Ok(result) => result,
        Err(_) => Err(ProbeError::TimedOut { timeout_s }),
    }
}

async fn session(path: &IscsiPath, initiator: &str, chap: Option<&ChapCredentials>) -> Result<ObservedIdentity, ProbeError> {
    let mut portal = path.portal.clone();
    for _ in 0..=MAX_REDIRECTIONS {
        let stream = TcpStream::connect((portal.host.as_str(), portal.port)).await.map_err(ProbeError::Connect)?;
        stream.set_nodelay(true).map_err(ProbeError::Connect)?;
        let mut connection = pdu::Connection::new(stream);
        match login::login(&mut connection, &path.iqn, initiator, chap).await? {
            login::Outcome::LoggedIn => {
                let result = scsi::identify(&mut connection, path.lun).await;
                let _ = timeout(LOGOUT_TIMEOUT, connection.logout()).await;
                return result;
            }
            login::Outcome::Redirected(to) => portal = to,
        }
    }
    Err(ProbeError::RedirectedTooOften)
}
