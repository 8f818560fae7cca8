//! A LUN whose file has grown.
//!
//! tgtd reads a file's size when it opens it, so it must open it anew. While it does, its threads must have no command of the LUN
//! in hand: between close and open they would write to whatever has the descriptor then (tgt 1.0.85, `tgt_device_path_update`
//! sets it to 0 meanwhile). tgtd looks after that itself no more than it keeps initiators out, so:
//!
//! ```text
//! target offline --> sessions cut and gone --> file opened anew --> target ready
//!   nobody logs in     nothing in hand            new size            initiators come back by themselves
//! ```
//! Initiators that lose a session log in again and repeat what was not answered: their guests wait for a second or two and lose
//! nothing. Whatever fails on the way, the target is made ready again.

use std::time::Duration;

use tracing::warn;

use super::client::Client;
use super::error::{TgtError, TgtRefusal};
use super::protocol::{Mode, Operation, Request};
use super::sessions;
use crate::targets::{Export, LUN};

/// How long cut sessions may take to be gone with the commands they had in hand.
const SESSIONS_GONE: Duration = Duration::from_secs(10);

/// Has tgtd see the size that the file has now.
pub(super) async fn grow(client: &Client, export: &Export) -> Result<(), (&'static str, TgtError)> {
    let tid = export.target_id;
    set_state(client, tid, "offline").await.map_err(|error| ("hold the target", error))?;
    let grown = open_anew(client, export).await;
    // Also after a failure: a target that stays offline would be a disk that hangs.
    let ready = set_state(client, tid, "ready").await.map_err(|error| ("let the target go on", error));
    if let (Err(_), Err((operation, error))) = (&grown, &ready) {
        warn!(volume = %export.volume_id, "cannot {operation}: {error}");
    }
    grown.and(ready)
}

async fn open_anew(client: &Client, export: &Export) -> Result<(), (&'static str, TgtError)> {
    let tid = export.target_id;
    let logged_in = sessions::of_target(client, tid).await.map_err(|error| ("see who is logged in", error))?;
    for session in &logged_in {
        sessions::cut(client, tid, session).await.map_err(|error| ("hold a session", error))?;
    }
    let idle = sessions::wait_idle(client, tid, SESSIONS_GONE).await;
    if !idle.map_err(|error| ("see who is logged in", error))? {
        return Err(("hold a session", TgtError::Refused(TgtRefusal::TargetActive)));
    }
    let Some(path) = export.path.to_str().filter(|path| !path.contains(',')) else {
        return Err(("open the file anew", TgtError::Unsendable { what: "the state directory's path" }));
    };
    // One request, which tgtd carries out in one go. An online LUN's file is not changed.
    let parameters = format!("targetOps online=0,path={path}");
    let update = Request { lun: Some(LUN), ..Request::new(Mode::Device, Operation::Update).target(tid) };
    client.ask(update.parameters(&parameters)).await.map_err(|error| ("open the file anew", error))?;
    Ok(())
}

async fn set_state(client: &Client, tid: i32, state: &str) -> Result<(), TgtError> {
    let parameters = format!("state={state}");
    let request = Request::new(Mode::Target, Operation::Update).target(tid).parameters(&parameters);
    client.ask(request).await.map(drop)
}
