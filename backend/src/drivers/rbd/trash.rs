//! Removing images. One that others were cloned from cannot go before them: it gets another name and goes to Ceph's trash, and from
//! there with the last that shares bytes with it.
//!
//! ```text
//!                     has clones
//! volume-ID  --rm--------------------> gone-volume-ID --> trash --(its last clone is gone)--> nothing
//!            \--has none: nothing
//! ```

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::atomic::Ordering;
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

/// So many images in the trash are tried with each deletion beside those that it may have set free: however many wait, it takes no longer.
const OTHERS_TRIED: usize = 2;

/// And with one that a try before had removed already, so that nobody knows what it set free.
const TRIED_AFTER_A_CUT: usize = 50;

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
        let mut lineage = self.lineage(id).await.unwrap_or_else(|error| {
            warn!(volume = %id, "cannot tell what it was cloned from, so that waits in the trash for later: {error}");
            Vec::new()
        });
        let tried = if lineage.is_empty() { TRIED_AFTER_A_CUT } else { OTHERS_TRIED };
        let mut is_cloned = false;
        self.remove_image(&making(id)).await.map_err(failed(id, "remove what was made of its image before"))?;
        if let Err(error) = self.remove_image(&image(id)).await {
            if error.code() != Some(ENOTEMPTY) || self.has_snapshots(id).await? {
                return Err(failed(id, "remove its image")(error));
            }
            let renamed = self.rbd(["rename", &self.spec(&image(id)), &self.spec(&gone)]).await;
            renamed.map_err(failed(id, "rename its image, which has clones,"))?;
            is_cloned = true;
        }
        // Also one that a try before had only renamed.
        gone_is_fine(self.rbd(["trash", "mv", &self.spec(&gone)]).await)
            .map_err(failed(id, "move its image, which has clones, to the trash"))?;
        // Its last clone may have gone meanwhile; else it is gone, and may have been the last of what it was cloned from.
        let freed = lineage.split_off(usize::from(!is_cloned).min(lineage.len()));
        self.reap(&freed, tried).await.map_err(failed(id, "look through the trash"))
    }

    /// The ids of a volume's image and of all that it shares bytes with, the youngest first.
    async fn lineage(&self, id: Uuid) -> Result<Vec<String>, CommandError> {
        let Some(found) = self.find(&image(id)).await? else { return Ok(Vec::new()) };
        let ancestors = self.ancestors(&found).await?.into_iter().map(|(parent, _)| parent.id);
        Ok([found.id.clone()].into_iter().chain(ancestors).collect())
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

    /// Removes from the trash what may have lost its last clone now, `freed`, the youngest first; and tries so many `others`, for what a
    /// deletion that was cut off has left.
    async fn reap(&self, freed: &[String], others: usize) -> Result<(), CommandError> {
        let words = ["trash", "ls", "--format", "json"].map(OsString::from);
        let listed = self.rbd(words.into_iter().chain(self.place())).await?;
        let waiting: Vec<Named> = parse(RBD, &listed)?;
        let mut waiting: BTreeMap<String, String> = waiting
            .into_iter()
            .filter(|one| one.name.starts_with(GONE))
            .filter_map(|one| Some((one.id.as_str()?.to_owned(), one.name)))
            .collect();
        for id in freed {
            // What one was cloned from keeps its bytes as long as that one does.
            match waiting.remove(id) {
                Some(name) if self.remove_from_trash(id, &name).await => {}
                _ => break,
            }
        }
        let next = self.reaped.fetch_add(others, Ordering::Relaxed);
        let count = waiting.len();
        for (id, name) in waiting.iter().cycle().skip(next.checked_rem(count).unwrap_or(0)).take(others.min(count)) {
            self.remove_from_trash(id, name).await;
        }
        Ok(())
    }

    /// Whether it is gone.
    async fn remove_from_trash(&self, id: &str, name: &str) -> bool {
        let words = ["trash", "rm", "--no-progress", "--image-id", id];
        match self.rbd_long(words.map(OsString::from).into_iter().chain(self.place())).await {
            Ok(_) => return true,
            Err(error) if is_missing(&error) => return true,
            Err(error) if error.code() == Some(ENOTEMPTY) => debug!(image = name, "still has clones"),
            Err(error) => warn!(image = name, "cannot be removed from the trash: {error}"),
        }
        false
    }
}
