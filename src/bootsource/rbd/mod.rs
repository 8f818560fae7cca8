//! Ephemeral disks on RBD: an image each, raw, that the guest's QEMU opens by itself.
//!
//! ```text
//! none --rbd create, of no size--> empty --tagged, sized--> blank --image or file system--> whole
//!   \______________rbd rm, where it has the tag or is empty_________________________________/
//! ```
//! An image is named for its guest and its disk, and what has the name without the tag is somebody else's. Nobody asks an image whether it
//! is whole: until the journal has the disk, a next try makes it anew. The kernel of this host maps nothing: a file system is made in a
//! sparse file, and only what is in that is written into the pool.
//!
//! | file | knows |
//! | --- | --- |
//! | `pool` | Ceph's commands, and how the key gets to them |
//! | `error` | what can go wrong |

mod error;
mod pool;

pub use error::PoolError;
pub use pool::Pool;

use super::{
    BootSourceError, ImageSource,
    disks::{DiskMaker, blank, convert, disk_bytes},
};
use crate::model::{
    DiskBus, DiskFormat, GuestUuid, LocalContent, LocalDisk, LocalDiskPlan, LocalPlace, Secret, ephemeral_disk_name,
};
use std::path::Path;
use uuid::Uuid;

/// The image is all zeros yet, and pieces may come in any order.
const INTO_ZEROS: &[&str] = &["-n", "--target-is-zero", "-W"];

/// Namespace of the UUIDs of libvirt secrets, each derived from its disk's name, so that a secret is found again whatever happens.
const SECRET_NAMESPACE: Uuid = Uuid::from_u128(0x3f0b_61c2_9f0e_4c57_8a4b_6d1f_20e5_7b90);

impl DiskMaker {
    /// Makes a disk in a pool; what an earlier try left of it is replaced.
    pub(super) async fn make_in_pool(
        &self,
        pool: &Pool,
        plan: &LocalDiskPlan,
        bus: DiskBus,
        source: &dyn ImageSource,
    ) -> Result<LocalDisk, BootSourceError> {
        // Without it no guest could open the disk.
        pool.key()?;
        let name = ephemeral_disk_name(plan.guest, &plan.target);
        pool.remove(&name).await?;
        // From here on the guest's folder tells that something may be in the pool.
        let paths = self.clear(plan.guest, &plan.target).await?;
        match &plan.content {
            LocalContent::Image { image, size_bytes } => {
                let virtual_bytes = self.cache.take(image, source, &paths.base).await?;
                let size_bytes = disk_bytes(&plan.target, image, *size_bytes, virtual_bytes)?;
                pool.create(&name, size_bytes).await?;
                self.fill(pool, &plan.target, (&paths.base, image.format), &name).await?;
            }
            LocalContent::Blank { size_bytes, filesystem: None } => pool.create(&name, *size_bytes).await?,
            LocalContent::Blank { size_bytes, filesystem } => {
                pool.create(&name, *size_bytes).await?;
                blank(plan, &paths, *size_bytes, *filesystem).await?;
                self.fill(pool, &plan.target, (&paths.unfinished, DiskFormat::Raw), &name).await?;
            }
        }
        self.clear(plan.guest, &plan.target).await?;
        let device = pool.device(&name, secret_of(&name));
        let (target, path) = (plan.target.clone(), device.image.to_string().into());
        let (place, format) = (LocalPlace::Rbd(Box::new(device)), DiskFormat::Raw);
        Ok(LocalDisk { target, bus, path, place, format, base: None, lazy: None })
    }

    /// Writes a file's disk into an image that is all zeros.
    async fn fill(&self, pool: &Pool, target: &str, from: (&Path, DiskFormat), name: &str) -> Result<(), BootSourceError> {
        let to = pool.qemu_name(name);
        let filled = convert(target, from, (&to, DiskFormat::Raw), INTO_ZEROS, self.copy_limit).await;
        if filled.is_err() {
            pool.check_room().await?;
        }
        filled
    }

    /// The pool that a disk is in, if it is in one.
    fn pool_of(&self, disk: &LocalDisk) -> Option<Pool> {
        pool_of(disk, self.keyring_file.as_deref())
    }

    /// Refuses a disk in a pool that is not to be seen.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses; the image is not there.
    pub async fn check_pooled(&self, disk: &LocalDisk) -> Result<(), BootSourceError> {
        let (Some(pool), LocalPlace::Rbd(device)) = (self.pool_of(disk), &disk.place) else { return Ok(()) };
        match pool.look(&device.image.name).await? {
            Some(_) => Ok(()),
            None => Err(PoolError::Gone { image: device.image.to_string() }.into()),
        }
    }

    /// The secret by which QEMU opens a disk, and the key that it is to hold; `None` for a disk that needs none.
    ///
    /// # Errors
    /// This host has no key.
    pub fn key_of(&self, disk: &LocalDisk) -> Result<Option<(Uuid, Secret)>, BootSourceError> {
        match (self.pool_of(disk), disk.place.secret()) {
            (Some(pool), Some(secret)) => Ok(Some((secret, pool.key()?))),
            _ => Ok(None),
        }
    }

    /// Whether disks can be made in the pool that the settings name, tried with a small image; `None` where they name none.
    pub async fn examine_pool(&self, host: &str) -> Option<Result<(), BootSourceError>> {
        let pool = self.pool()?;
        Some(pool.try_out(host).await.map_err(BootSourceError::from))
    }
}

/// The pool that a disk is in, if it is in one.
pub(super) fn pool_of(disk: &LocalDisk, keyring_file: Option<&Path>) -> Option<Pool> {
    match &disk.place {
        LocalPlace::Rbd(device) => Some(Pool::of(device, keyring_file)),
        LocalPlace::File | LocalPlace::LogicalVolume => None,
    }
}

/// What qemu-img is to read of a disk.
pub(super) fn readable(disk: &LocalDisk, keyring_file: Option<&Path>) -> std::path::PathBuf {
    match (&disk.place, pool_of(disk, keyring_file)) {
        (LocalPlace::Rbd(device), Some(pool)) => pool.qemu_name(&device.image.name),
        _ => disk.path.clone(),
    }
}

/// Removes the image of a disk. `made`: the disk, where it is known to have been made; then it is where that says, and nowhere else.
/// `begun`: the pool where the making of one has begun, if so. Where a cluster refuses whoever asks, that is told before anything is made.
pub(super) async fn remove(
    begun: Option<&Pool>,
    keyring_file: Option<&Path>,
    guest: GuestUuid,
    name: &str,
    made: Option<&LocalDisk>,
) -> Result<(), BootSourceError> {
    let image = ephemeral_disk_name(guest, name);
    let removed = match (made.map(|disk| pool_of(disk, keyring_file)), begun) {
        (Some(Some(pool)), _) => return Ok(pool.remove(&image).await?),
        (None, Some(pool)) => pool.remove(&image).await,
        _ => return Ok(()),
    };
    match removed {
        // Where there is no pool, nothing was made; nor is that ours which the making was refused for.
        Err(PoolError::NoPool { .. } | PoolError::NoNamespace { .. } | PoolError::Foreign { .. }) => Ok(()),
        removed => Ok(removed?),
    }
}

fn secret_of(name: &str) -> Uuid {
    Uuid::new_v5(&SECRET_NAMESPACE, name.as_bytes())
}
