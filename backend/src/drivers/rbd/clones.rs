//! New images. What is made from something is made under another name and renamed when it is whole, so that an image of a volume's
//! name is always whole.
//!
//! Clones are those of Ceph's second kind: a snapshot with clones need not be protected and can be removed, which is what the
//! field's services are known to fail at. Ceph keeps its bytes out of sight until the last clone is gone.

use uuid::Uuid;

use super::super::{DriverError, Provided};
use super::cluster::{Cluster, gone_is_fine};
use super::{failed, image};
use crate::command::CommandError;

/// Something of that name is there.
const EEXIST: i32 = 17;

impl Cluster {
    /// Makes an image of zeros.
    pub(super) async fn create(&self, id: Uuid, size_bytes: u64) -> Provided {
        let name = image(id);
        let (size, spec) = (format!("{size_bytes}B"), self.spec(&name));
        let words = ["create", "--size", &size, &spec];
        match self.rbd(words).await {
            Err(error) if error.code() == Some(EEXIST) => {
                if !self.whole(id, size_bytes).await? {
                    // Its name is taken and there is no image: so far came a try that was cut off.
                    self.remove_image(&name).await.map_err(failed(id, "remove what was made of its image before"))?;
                    self.rbd(words).await.map_err(failed(id, "create its image"))?;
                }
            }
            other => drop(other.map_err(failed(id, "create its image"))?),
        }
        Ok(None)
    }

    /// Whether a volume's image is there already, whole; refused where it is another.
    pub(super) async fn whole(&self, id: Uuid, size_bytes: u64) -> Result<bool, DriverError> {
        let name = image(id);
        match self.find(&name).await.map_err(failed(id, "look for its image"))? {
            None => Ok(false),
            Some(found) if found.size == size_bytes => Ok(true),
            Some(found) => Err(DriverError::Occupied {
                volume_id: id,
                path: self.spec(&name).into(),
                found_bytes: found.size,
                wanted_bytes: size_bytes,
            }),
        }
    }

    /// Makes a volume's image of a snapshot, `IMAGE@SNAPSHOT`.
    pub(super) async fn clone_of(&self, snapshot: &str, id: Uuid, size_bytes: u64, alone: bool) -> Result<(), DriverError> {
        if self.whole(id, size_bytes).await? {
            return Ok(());
        }
        let unfinished = self.spec(&making(id));
        // What a try before left is of no use: nobody knows how far it came.
        self.remove_image(&making(id)).await.map_err(failed(id, "remove what was made of its image before"))?;
        let cloned = self.rbd(["clone", "--rbd-default-clone-format", "2", &self.spec(snapshot), &unfinished]).await;
        cloned.map_err(failed(id, "clone its image"))?;
        if alone || self.is_deep(id).await.map_err(failed(id, "look at what its image was cloned from"))? {
            let flattened = self.rbd_long(["flatten", "--no-progress", &unfinished]).await;
            flattened.map_err(failed(id, "make its image stand on its own"))?;
        }
        self.enlarge(&making(id), size_bytes).await.map_err(failed(id, "size its image"))?;
        let renamed = self.rbd(["rename", &unfinished, &self.spec(&image(id))]).await;
        renamed.map(drop).map_err(failed(id, "put its image in place"))
    }

    async fn is_deep(&self, id: Uuid) -> Result<bool, CommandError> {
        let Some(found) = self.find(&making(id)).await? else { return Ok(false) };
        let depth = self.ancestors(&found).await?.len();
        Ok(u32::try_from(depth).unwrap_or(u32::MAX) > self.settings.max_clone_depth)
    }

    /// Makes an image larger, never smaller.
    pub(super) async fn enlarge(&self, name: &str, size_bytes: u64) -> Result<(), CommandError> {
        if self.find(name).await?.is_some_and(|found| found.size >= size_bytes) {
            return Ok(());
        }
        let size = format!("{size_bytes}B");
        self.rbd(["resize", "--no-progress", "--size", &size, &self.spec(name)]).await.map(drop)
    }

    /// Makes a snapshot, where it is not there already.
    pub(super) async fn snapshot(&self, snapshot: &str) -> Result<(), CommandError> {
        match self.rbd(["snap", "create", "--no-progress", &self.spec(snapshot)]).await {
            Err(error) if error.code() == Some(EEXIST) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Removes a snapshot; its clones live on.
    pub(super) async fn remove_snapshot(&self, snapshot: &str) -> Result<(), CommandError> {
        gone_is_fine(self.rbd_long(["snap", "rm", "--no-progress", &self.spec(snapshot)]).await)
    }
}

/// What an image is called while it is made.
pub(super) fn making(id: Uuid) -> String {
    format!("making-volume-{id}")
}

/// The snapshot of a volume that another, `of`, is cloned from.
pub(super) fn moment(source: Uuid, of: Uuid) -> String {
    format!("{}@{MOMENT}{of}", image(source))
}

/// What such snapshots' names begin with.
pub(super) const MOMENT: &str = "clone-";
