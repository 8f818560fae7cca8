//! Names of Bowline's own for the devices it made: the proof that a device is ours, which survives the agent.
//!
//! ```text
//! RUN/claims/<volume id>    "this LUN was absent, and Bowline was about to scan it for this volume"   before the scan
//! RUN/volumes/<volume id>   symlink to /dev/sdX, what the guest's disk is given                        after it was found
//! ```
//! Only a device that a claim or a link of the volume leads to is ever deleted. Both live under /run, so they end
//! with the devices they speak of when the host does. No udev rule knows them, so none takes them back.

use crate::model::VolumeId;
use std::{
    fmt::Display,
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

/// The two folders.
#[derive(Debug, Clone)]
pub(in crate::connectors) struct OwnNames {
    run_dir: PathBuf,
}

impl OwnNames {
    pub(in crate::connectors) fn new(run_dir: &Path) -> Self {
        Self { run_dir: run_dir.to_owned() }
    }

    /// The volume's name, whether or not it exists now.
    pub(in crate::connectors) fn link(&self, volume: VolumeId) -> PathBuf {
        self.run_dir.join("volumes").join(volume.to_string())
    }

    fn claim_file(&self, volume: VolumeId) -> PathBuf {
        self.run_dir.join("claims").join(volume.to_string())
    }

    /// Notes that the LUN at `path` is about to be scanned for the volume and was absent before.
    pub(in crate::connectors) fn claim(&self, volume: VolumeId, path: &impl Display) -> io::Result<()> {
        let file = self.claim_file(volume);
        let draft = file.with_extension("new");
        create_parent(&file)?;
        fs::write(&draft, path.to_string())?;
        fs::rename(draft, file)
    }

    /// Whether the volume claimed exactly this LUN.
    pub(in crate::connectors) fn is_claimed(&self, volume: VolumeId, path: &impl Display) -> bool {
        fs::read_to_string(self.claim_file(volume)).is_ok_and(|text| text == path.to_string())
    }

    /// Points the volume's name at `/dev/<kernel_name>`, in one step for whoever opens it.
    pub(in crate::connectors) fn set_link(&self, volume: VolumeId, kernel_name: &str) -> io::Result<PathBuf> {
        let link = self.link(volume);
        let draft = link.with_extension("new");
        create_parent(&link)?;
        remove_if_there(&draft)?;
        symlink(Path::new("/dev").join(kernel_name), &draft)?;
        fs::rename(draft, &link)?;
        Ok(link)
    }

    /// The kernel name the volume's name points to.
    pub(in crate::connectors) fn linked(&self, volume: VolumeId) -> Option<String> {
        let target = fs::read_link(self.link(volume)).ok()?;
        Some(target.strip_prefix("/dev").ok()?.to_str()?.to_owned())
    }

    /// Removes the volume's link. The claim stays until the device is gone.
    pub(in crate::connectors) fn remove_link(&self, volume: VolumeId) -> io::Result<bool> {
        remove_if_there(&self.link(volume))
    }

    /// Takes back a claim of this LUN that brought no device. A claim of another path stays.
    pub(in crate::connectors) fn unclaim(&self, volume: VolumeId, path: &impl Display) -> io::Result<()> {
        if self.is_claimed(volume, path) { remove_if_there(&self.claim_file(volume)).map(drop) } else { Ok(()) }
    }

    /// Removes link and claim, once there is no device any more.
    pub(in crate::connectors) fn forget(&self, volume: VolumeId) -> io::Result<bool> {
        let link = self.remove_link(volume)?;
        Ok(remove_if_there(&self.claim_file(volume))? || link)
    }
}

/// QEMU, under a user of its own, follows the link: the folders are open to read, whatever the agent's umask is.
fn create_parent(file: &Path) -> io::Result<()> {
    let Some(folder) = file.parent() else { return Ok(()) };
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

/// Whether there was something to remove.
fn remove_if_there(file: &Path) -> io::Result<bool> {
    match fs::remove_file(file) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::IscsiPath;

    fn volume() -> VolumeId {
        "94333fbd-2aab-4a5a-befd-e30c2f7377fd".parse().unwrap()
    }

    #[test]
    fn a_link_moves_in_one_step_and_is_forgotten_whole() {
        let dir = tempfile::tempdir().unwrap();
        let names = OwnNames::new(dir.path());
        assert_eq!(names.linked(volume()), None);
        names.set_link(volume(), "sda").unwrap();
        let link = names.set_link(volume(), "sdb").unwrap();
        assert_eq!(fs::read_link(link).unwrap(), Path::new("/dev/sdb"));
        assert_eq!(names.linked(volume()).as_deref(), Some("sdb"));
        assert!(names.forget(volume()).unwrap());
        assert!(!names.forget(volume()).unwrap(), "a second time changes nothing");
        assert_eq!(fs::read_dir(dir.path().join("volumes")).unwrap().count(), 0);
    }

    #[test]
    fn a_claim_is_for_one_lun_of_one_volume() {
        let dir = tempfile::tempdir().unwrap();
        let names = OwnNames::new(dir.path());
        let path = |lun| IscsiPath { portal: "10.0.0.1".parse().unwrap(), iqn: "iqn.t".into(), lun };
        names.claim(volume(), &path(1)).unwrap();
        assert!(names.is_claimed(volume(), &path(1)));
        assert!(!names.is_claimed(volume(), &path(2)));
        names.unclaim(volume(), &path(2)).unwrap();
        assert!(names.is_claimed(volume(), &path(1)), "another LUN's claim must stay");
        names.remove_link(volume()).unwrap();
        assert!(names.is_claimed(volume(), &path(1)), "removing the link must keep the claim");
        names.forget(volume()).unwrap();
        assert!(!names.is_claimed(volume(), &path(1)));
    }
}
