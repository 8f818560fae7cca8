//! Removing images. One that others were cloned from cannot go before them: it gets another name and goes to Ceph's trash, and from
//! there with the last that shares bytes with it.
//!
//! ```text
//!                     has clones
//! volume-ID  --rm--------------------> gone-volume-ID --> trash --(its last clone is gone)--> nothing
//!            \--has none: nothing
//! ```

use std::ffi::OsString;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tracing::{debug, warn};
use uuid::Uuid;

use super::super::DriverError;
use super::clones::{MOMENT, making};
use super::cluster::{Cluster, RBD, gone_is_fine, is_missing, parse};
use super::{failed, image};
use crate::command::CommandError;

/// It has snapshots.
const ENOTEMPTY: i32 = 39;

/// Somebody has it open.
const EBUSY: i32 = 16;

/// Ceph forgets a client that died after 30 s (`osd_client_watch_timeout`); that takes it some more. And how long to wait before the
/// next try.
const HOLDER_FORGOTTEN: Duration = Duration::from_secs(45);
const TRY_AGAIN: Duration = Duration::from_secs(3);

/// What images are called that only wait for their clones to go. Others' images in the trash are left alone.
pub(super) const GONE: &str = "gone-volume-";

/// An image in the trash, or a snapshot.
#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    id: serde_json::Value,
    name: String,
}

impl Cluster {
    /// Removes a volume's image. Where there is none, nothing happens.
    pub(super) async fn delete(&self, id: Uuid) -> Result<(), DriverError> {
        let gone = format!("{GONE}{id}");
        self.remove_image(&making(id)).await.map_err(failed(id, "remove what was made of its image before"))?;
        if let Err(error) = self.remove_image(&image(id)).await {
            if error.code() != Some(ENOTEMPTY) || self.has_snapshots(id).await? {
                return Err(failed(id, "remove its image")(error));
            }
            let renamed = self.rbd(["rename", &self.spec(&image(id)), &self.spec(&gone)]).await;
            renamed.map_err(failed(id, "rename its image, which has clones,"))?;
        }
        // Also one that a try before had only renamed.
        gone_is_fine(self.rbd(["trash", "mv", &self.spec(&gone)]).await)
            .map_err(failed(id, "move its image, which has clones, to the trash"))?;
        self.reap().await.map_err(failed(id, "look through the trash"))
    }

    /// Removes an image. Where there is none, nothing happens. An `rbd` that was killed counts as its holder until Ceph has forgotten it.
    pub(super) async fn remove_image(&self, name: &str) -> Result<(), CommandError> {
        let begun = Instant::now();
        loop {
            let removed = gone_is_fine(self.rbd_long(["rm", "--no-progress", &self.spec(name)]).await);
            match removed {
                Err(error) if error.code() == Some(EBUSY) && begun.elapsed() < HOLDER_FORGOTTEN => {
                    debug!(image = name, "still held; trying again");
                    tokio::time::sleep(TRY_AGAIN).await;
                }
                other => return other,
            }
        }
    }

    /// Whether an image has snapshots that somebody still wants. Those that clones were made from, and that were left when that was
    /// cut off, are removed.
    async fn has_snapshots(&self, id: Uuid) -> Result<bool, DriverError> {
        let listed = self.rbd(["snap", "ls", "--format", "json", &self.spec(&image(id))]).await;
        let snapshots: Vec<Named> =
            listed.and_then(|text| parse(RBD, &text)).map_err(failed(id, "list its image's snapshots"))?;
        let mut wanted = false;
        for Named { name, .. } in snapshots {
            if name.starts_with(MOMENT) {
                let removed = self.remove_snapshot(&format!("{}@{name}", image(id))).await;
                removed.map_err(failed(id, "remove a snapshot that was left"))?;
            } else {
                wanted = true;
            }
        }
        Ok(wanted)
    }

    /// Removes from the trash what waited for clones that are gone now; that may set free what it was cloned from itself.
    async fn reap(&self) -> Result<(), CommandError> {
        loop {
            let words = ["trash", "ls", "--format", "json"].map(OsString::from);
            let listed = self.rbd(words.into_iter().chain(self.place())).await?;
            let waiting: Vec<Named> = parse(RBD, &listed)?;
            let mut removed = false;
            for Named { id, name } in waiting.into_iter().filter(|one| one.name.starts_with(GONE)) {
                let words = ["trash", "rm", "--no-progress", "--image-id", id.as_str().unwrap_or_default()];
                let done = self.rbd_long(words.map(OsString::from).into_iter().chain(self.place())).await;
                match done {
                    Ok(_) => removed = true,
                    Err(error) if error.code() == Some(ENOTEMPTY) => debug!(image = name, "still has clones"),
                    Err(error) if is_missing(&error) => {}
                    Err(error) => warn!(image = name, "cannot be removed from the trash: {error}"),
                }
            }
            if !removed {
                return Ok(());
            }
        }
    }
}
