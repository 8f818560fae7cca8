//! Which volumes use a mount: one empty file each.
//!
//! ```text
//! RUN/mnt-users/<mount>/<volume id>    written before the mount is looked for, removed once the volume is let go
//! RUN/mnt/<mount>                      unmounted when there is no user any more
//! ```
//! Both live under /run: they survive the agent, and end with the mounts when the host does.

use super::NfsError;
use crate::model::VolumeId;
use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// The users of one mount.
#[derive(Debug)]
pub(super) struct Users {
    folder: PathBuf,
}

impl Users {
    /// Of the mount that is called `mount` (the last part of its mount point).
    pub(super) fn of(run_dir: &Path, mount: &str) -> Self {
        Self { folder: run_dir.join("mnt-users").join(mount) }
    }

    fn file(&self, volume: VolumeId) -> PathBuf {
        self.folder.join(volume.to_string())
    }

    /// Adds one; twice is fine. Whether it was none before.
    pub(super) fn add(&self, volume: VolumeId) -> Result<bool, NfsError> {
        let file = self.file(volume);
        let write = || match File::create_new(&file) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        };
        make_folder(&self.folder).and_then(|()| write()).map_err(NfsError::system(format!("write {}", file.display())))
    }

    /// Whether the volume is one.
    pub(super) fn has(&self, volume: VolumeId) -> bool {
        self.file(volume).exists()
    }

    /// Removes one; whether it was there.
    pub(super) fn remove(&self, volume: VolumeId) -> Result<bool, NfsError> {
        let file = self.file(volume);
        match fs::remove_file(&file) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(NfsError::system(format!("remove {}", file.display()))(error)),
        }
    }

    /// Whether there is none. Then the folder goes too.
    pub(super) fn is_empty(&self) -> Result<bool, NfsError> {
        match fs::remove_dir(&self.folder) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
            Err(error) => Err(NfsError::system(format!("remove {}", self.folder.display()))(error)),
        }
    }
}

/// QEMU, under a user of its own, passes through the folders above a mount: they are open, whatever the agent's umask is.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    for folder in folder.ancestors().take(3).collect::<Vec<_>>().into_iter().rev() {
        match fs::create_dir(folder) {
            Ok(()) => fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_user_is_known_by_who_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let users = Users::of(dir.path(), "m");
        let [a, b]: [VolumeId; 2] =
            ["94333fbd-2aab-4a5a-befd-e30c2f7377fd", "94333fbd-2aab-4a5a-befd-e30c2f7377fe"].map(|id| id.parse().unwrap());
        assert!(users.is_empty().unwrap());
        assert!(users.add(a).unwrap() && users.add(b).unwrap());
        assert!(!users.add(b).unwrap(), "it was one before");
        assert!(users.has(a) && users.remove(a).unwrap() && !users.remove(a).unwrap());
        assert!(!users.is_empty().unwrap(), "one is left");
        assert!(users.remove(b).unwrap() && users.is_empty().unwrap());
        assert!(!dir.path().join("mnt-users/m").exists());
    }
}
