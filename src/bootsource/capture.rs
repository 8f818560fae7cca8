//! What is caught of an ephemeral disk: one file for each image that is to be made, whole in itself, from when it is caught until
//! the image service has it.

use super::{
    BootSourceError,
    cache::{blocking, make_folder, remove},
    disks::convert,
    rbd::readable,
};
use crate::model::{DiskFormat, GIB, ImageId, LocalDisk, qcow2};
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

/// The folder of what is caught.
pub struct Captures {
    folder: PathBuf,
    keyring_file: Option<PathBuf>,
    copy_limit: Duration,
}

impl Captures {
    /// Below the folder that has the images and disks of this host. `copy_limit`: for a disk to be copied.
    /// `keyring_file`: where the keys of disks on RBD are, if not each where Ceph looks for it.
    pub fn new(folder: &Path, copy_limit: Duration, keyring_file: Option<PathBuf>) -> Self {
        Self { folder: folder.join("snapshots"), keyring_file, copy_limit }
    }

    /// Where the bytes for an image are caught, as qcow2. Nothing is there then, whatever an earlier try left.
    ///
    /// # Errors
    /// A file of this host.
    pub async fn clear(&self, image: ImageId) -> Result<PathBuf, BootSourceError> {
        let (folder, path) = (self.folder.clone(), self.path(image));
        blocking(&self.path(image), move || {
            make_folder(&folder)?;
            remove(&path)?;
            Ok(path)
        })
        .await
    }

    /// Catches the disk of a guest that is off. One that starts meanwhile is told by QEMU that its disk is in use.
    ///
    /// # Errors
    /// A file or a tool of this host; something has the disk open.
    pub async fn of_stopped(&self, disk: &LocalDisk, image: ImageId) -> Result<(), BootSourceError> {
        let to = self.clear(image).await?;
        let from = readable(disk, self.keyring_file.as_deref());
        convert(&disk.target, (&from, disk.format), (&to, DiskFormat::Qcow2), &[], self.copy_limit).await
    }

    /// The size of the disk that was caught, GiB, rounded up.
    ///
    /// # Errors
    /// It is not there, or no qcow2 file that is whole in itself.
    pub async fn size_gib(&self, image: ImageId) -> Result<u64, BootSourceError> {
        let path = self.path(image);
        blocking(&self.path(image), move || {
            let mut head = Vec::with_capacity(qcow2::HEADER_BYTES);
            let limit = u64::try_from(qcow2::HEADER_BYTES).unwrap_or(u64::MAX);
            let read = File::open(&path).and_then(|file| file.take(limit).read_to_end(&mut head));
            let size_bytes = read
                .and_then(|_| qcow2::virtual_size(&head).map_err(|problem| io::Error::new(io::ErrorKind::InvalidData, problem)))
                .map_err(BootSourceError::file("read", &path))?;
            Ok(size_bytes.div_ceil(GIB))
        })
        .await
    }

    /// Removes what was caught. Where there is nothing, that is fine.
    ///
    /// # Errors
    /// A file of this host.
    pub async fn remove(&self, image: ImageId) -> Result<(), BootSourceError> {
        let path = self.path(image);
        blocking(&self.path(image), move || remove(&path)).await
    }

    /// The file for an image.
    pub fn path(&self, image: ImageId) -> PathBuf {
        self.folder.join(image.to_string())
    }
}
