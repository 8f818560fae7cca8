//! A target that nobody gets at for a moment.
//!
//! ```text
//! target offline --> sessions cut and gone --> (what is to be done) --> target ready
//!   nobody logs in     nothing in hand                                   initiators come back by themselves
//! ```
//! Initiators that lose a session log in again and repeat what was not answered: their guests wait and lose nothing. Whatever fails on
//! the way, the target is made ready again.

use std::time::Duration;

use tracing::warn;

use super::client::Client;
use super::error::{TgtError, TgtRefusal};
use super::protocol::{Mode, Operation, Request};
use super::sessions;
use crate::targets::Export;

/// How long cut sessions may take to be gone with the commands they had in hand.
const SESSIONS_GONE: Duration = Duration::from_secs(10);

/// Keeps everybody off a target; when this returns, no command of anybody is in hand.
pub(super) async fn hold(client: &Client, export: &Export) -> Result<(), (&'static str, TgtError)> {
    set_state(client, export.target_id, "offline").await.map_err(|error| ("hold the target", error))?;
    match quiet(client, export.target_id).await {
        Ok(()) => Ok(()),
        failed => released(client, export, failed).await,
    }
}

/// Lets everybody in again, also after a failure: a target that stays offline would be a disk that hangs.
pub(super) async fn released(
    client: &Client,
    export: &Export,
    done: Result<(), (&'static str, TgtError)>,
) -> Result<(), (&'static str, TgtError)> {
    let ready = release(client, export).await;
    if let (Err(_), Err((operation, error))) = (&done, &ready) {
        warn!(volume = %export.volume_id, "cannot {operation}: {error}");
    }
    done.and(ready)
}

/// Lets everybody in again.
pub(super) async fn release(client: &Client, export: &Export) -> Result<(), (&'static str, TgtError)> {
    set_state(client, export.target_id, "ready").await.map_err(|error| ("let the target go on", error))
}

async fn quiet(client: &Client, tid: i32) -> Result<(), (&'static str, TgtError)> {
    let logged_in = sessions::of_target(client, tid).await.map_err(|error| ("see who is logged in", error))?;
    for session in &logged_in {
        sessions::cut(client, tid, session).await.map_err(|error| ("hold a session", error))?;
    }
    let idle = sessions::wait_idle(client, tid, SESSIONS_GONE).await;
    if !idle.map_err(|error| ("see who is logged in", error))? {
        return Err(("hold a session", TgtError::Refused(TgtRefusal::TargetActive)));
    }
    Ok(())
}

async fn set_state(client: &Client, tid: i32, state: &str) -> Result<(), TgtError> {
    let parameters = format!("state={state}");
    let request = Request::new(Mode::Target, Operation::Update).target(tid).parameters(&parameters);
    client.ask(request).await.map(drop)
}
