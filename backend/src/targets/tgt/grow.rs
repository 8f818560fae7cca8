//! A LUN whose file has grown.
//!
//! tgtd reads a file's size when it opens it, so it must open it anew. While it does, its threads must have no command of the LUN
//! in hand: between close and open they would write to whatever has the descriptor then (tgt 1.0.85, `tgt_device_path_update`
//! sets it to 0 meanwhile). tgtd looks after that itself no more than it keeps initiators out, so:
//!
//! ```text
//! held (hold.rs) --> file opened anew --> let go on
//!                       new size
//! ```

use super::client::Client;
use super::error::TgtError;
use super::hold;
use super::protocol::{Mode, Operation, Request};
use crate::targets::{Export, LUN};

/// Has tgtd see the size that the file has now.
pub(super) async fn grow(client: &Client, export: &Export) -> Result<(), (&'static str, TgtError)> {
    hold::hold(client, export).await?;
    hold::released(client, export, open_anew(client, export).await).await
}

async fn open_anew(client: &Client, export: &Export) -> Result<(), (&'static str, TgtError)> {
    let Some(path) = export.path.to_str().filter(|path| !path.contains(',')) else {
        return Err(("open the file anew", TgtError::Unsendable { what: "the state directory's path" }));
    };
    // One request, which tgtd carries out in one go. An online LUN's file is not changed.
    let parameters = format!("targetOps online=0,path={path}");
    let update = Request { lun: Some(LUN), ..Request::new(Mode::Device, Operation::Update).target(export.target_id) };
    client.ask(update.parameters(&parameters)).await.map_err(|error| ("open the file anew", error))?;
    Ok(())
}
