//! Login and logout with open-iscsi: one process each.
//!
//! The login wants a node record (`node_record`); the logout names the session by its number and needs none. `iscsiadm` reads
//! every record of the host to find its own, so one that another volume's detach removes at that moment makes it give up before it
//! has asked iscsid for anything. Such a login is simply asked again.

use crate::{
    connectors::{ConnectorError, command, turns::Turns},
    model::IscsiPath,
};
use std::time::Duration;

/// Beyond iscsid's own timeout, which should end first and says more.
const GRACE: Duration = Duration::from_secs(5);

/// How often a login is asked again because the records changed while `iscsiadm` read them. Each time needs a removal
/// within the same few milliseconds.
const RECORD_RACE_RETRIES: u32 = 8;

/// Logins at once. iscsid is one process with one thread, so that more of them are no faster together, and each of them waits for all.
static LOGINS: Turns = Turns::new(8);

/// Exit codes of `iscsiadm` (open-iscsi `include/iscsi_err.h`).
mod code {
    pub(super) const IDBM: i32 = 6;
    pub(super) const SESSION_EXISTS: i32 = 15;
    pub(super) const NO_OBJECTS_FOUND: i32 = 21;
    /// "Could not get session info": it went in the meantime.
    pub(super) const SESSION_GONE: i32 = 22;
    pub(super) const LOGIN_AUTH_FAILED: i32 = 24;
}

/// Logs in with the record that is there, when it is its turn.
pub(super) async fn login(path: &IscsiPath, timeout_s: u64) -> Result<(), ConnectorError> {
    LOGINS.take(log_in(path, timeout_s)).await
}

async fn log_in(path: &IscsiPath, timeout_s: u64) -> Result<(), ConnectorError> {
    let portal = path.portal.to_string();
    let arguments = ["-m", "node", "-T", &path.iqn, "-p", &portal, "--login"];
    let mut attempt = 0;
    loop {
        let limit = Duration::from_secs(timeout_s) + GRACE;
        let ended = command::run("iscsiadm", &arguments, limit).await.map_err(|source| ConnectorError::Command {
            action: "login",
            path: path.clone(),
            source,
        })?;
        match ended.code {
            Some(0 | code::SESSION_EXISTS) => return Ok(()),
            Some(code::LOGIN_AUTH_FAILED) => return Err(ConnectorError::LoginRefused { path: path.clone() }),
            Some(code::IDBM | code::NO_OBJECTS_FOUND) if attempt < RECORD_RACE_RETRIES => {
                attempt += 1;
                tracing::debug!(%path, attempt, stderr = %ended.stderr, "the node records changed under iscsiadm: asking again");
            }
            code => return Err(failed("login", path, code, ended.stderr)),
        }
    }
}

/// Logs session `id` out.
pub(super) async fn logout(path: &IscsiPath, id: u32, timeout_s: u64) -> Result<(), ConnectorError> {
    let id = id.to_string();
    let limit = Duration::from_secs(timeout_s) + GRACE;
    let ended = command::run("iscsiadm", &["-m", "session", "-r", &id, "--logout"], limit)
        .await
        .map_err(|source| ConnectorError::Command { action: "logout", path: path.clone(), source })?;
    match ended.code {
        Some(0 | code::NO_OBJECTS_FOUND | code::SESSION_GONE) => Ok(()),
        code => Err(failed("logout", path, code, ended.stderr)),
    }
}

fn failed(action: &'static str, path: &IscsiPath, code: Option<i32>, stderr: String) -> ConnectorError {
    ConnectorError::Iscsiadm { action, path: path.clone(), code: code.unwrap_or(-1), stderr }
}
