//! Names of Bowline's own for the devices it made: the proof that a device is ours, which survives the agent.
//!
//! ```text
//! RUN/claims/<volume id>    "this LUN was absent, and Bowline was about to scan it for this volume"   before the scan
//! RUN/volumes/<volume id>   symlink to /dev/sdX or /dev/dm-N, what the guest's disk is given           after it was found
//! ```
//! A volume of several paths has a line in its claim for each. Only a device that a claim or a link of the volume leads to is
//! ever deleted. Both live under /run, so they end with the devices they speak of when the host does. No udev rule knows them,
//! so none takes them back.

use crate::model::VolumeId;
use std::{
    fmt::Display,
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The two folders.
#[derive(Debug, Clone)]
pub(super) struct OwnNames {
    run_dir: PathBuf,
    /// The paths of one volume come and go side by side, and their lines are in one file.
    changing: Arc<Mutex<()>>,
}

impl OwnNames {
    pub(super) fn new(run_dir: &Path) -> Self {
        Self { run_dir: run_dir.to_owned(), changing: Arc::default() }
    }

    /// The volume's name, whether or not it exists now.
    pub(super) fn link(&self, volume: VolumeId) -> PathBuf {
        self.run_dir.join("volumes").join(volume.to_string())
    }

    fn claim_file(&self, volume: VolumeId) -> PathBuf {
        self.run_dir.join("claims").join(volume.to_string())
    }

    /// Notes that the LUN at `path` is about to be scanned for the volume and was absent before.
    pub(super) fn claim(&self, volume: VolumeId, path: &impl Display) -> io::Result<()> {
        let _guard = self.changing();
        let mut lines = self.claims(volume)?;
        let line = path.to_string();
        if !lines.contains(&line) {
            lines.push(line);
        }
        self.write_claims(volume, &lines)
    }

    /// Whether the volume claimed exactly this LUN.
    pub(super) fn is_claimed(&self, volume: VolumeId, path: &impl Display) -> bool {
        self.claims(volume).is_ok_and(|lines| lines.contains(&path.to_string()))
    }

    /// What the volume has claimed, a line each.
    pub(super) fn claims(&self, volume: VolumeId) -> io::Result<Vec<String>> {
        match fs::read_to_string(self.claim_file(volume)) {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn write_claims(&self, volume: VolumeId, lines: &[String]) -> io::Result<()> {
        let file = self.claim_file(volume);
        let draft = file.with_extension("new");
        create_parent(&file)?;
        fs::write(&draft, lines.join("\n"))?;
        fs::rename(draft, file)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Points the volume's name at `/dev/<kernel_name>`, in one step for whoever opens it.
    pub(super) fn set_link(&self, volume: VolumeId, kernel_name: &str) -> io::Result<PathBuf> {
        let link = self.link(volume);
        let draft = link.with_extension("new");
        create_parent(&link)?;
        remove_if_there(&draft)?;
        symlink(Path::new("/dev").join(kernel_name), &draft)?;
        fs::rename(draft, &link)?;
        Ok(link)
    }

    /// The kernel name the volume's name points to.
    pub(super) fn linked(&self, volume: VolumeId) -> Option<String> {
        let target = fs::read_link(self.link(volume)).ok()?;
        Some(target.strip_prefix("/dev").ok()?.to_str()?.to_owned())
    }

    /// Removes the volume's link. The claim stays until the device is gone.
    pub(super) fn remove_link(&self, volume: VolumeId) -> io::Result<bool> {
        remove_if_there(&self.link(volume))
    }

    /// Takes back a claim of this LUN that brought no device. Claims of other paths stay.
    pub(super) fn unclaim(&self, volume: VolumeId, path: &impl Display) -> io::Result<()> {
        let _guard = self.changing();
        let mut lines = self.claims(volume)?;
        lines.retain(|line| *line != path.to_string());
        if lines.is_empty() { remove_if_there(&self.claim_file(volume)).map(drop) } else { self.write_claims(volume, &lines) }
    }

    /// Removes link and claim, once there is no device any more.
    pub(super) fn forget(&self, volume: VolumeId) -> io::Result<bool> {
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
        names.claim(volume(), &path(2)).unwrap();
        assert!(names.is_claimed(volume(), &path(1)) && names.is_claimed(volume(), &path(2)), "a second path is claimed too");
        names.unclaim(volume(), &path(2)).unwrap();
        assert!(!names.is_claimed(volume(), &path(2)));
        names.remove_link(volume()).unwrap();
        assert!(names.is_claimed(volume(), &path(1)), "removing the link must keep the claim");
        names.forget(volume()).unwrap();
        assert!(!names.is_claimed(volume(), &path(1)));
    }
}
