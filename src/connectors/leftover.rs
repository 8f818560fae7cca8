//! The names of Bowline's own that are on this host, whoever still knows of them: for whoever compares.
//!
//! | below the run folder | is |
//! | --- | --- |
//! | `volumes/<volume id>` | the link that a guest's disk is given |
//! | `claims/<volume id>` | a device that was about to be made |
//! | `mnt-users/<mount>/<volume id>` | a user of an NFS mount |

use super::{ConnectorError, Connectors, own_name::OwnNames};
use crate::model::{OwnName, VolumeId};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

impl Connectors {
    /// All names of Bowline's own. Touches no device.
    ///
    /// # Errors
    /// The folders cannot be read.
    pub fn own_names(&self) -> Result<Vec<OwnName>, ConnectorError> {
        list(&self.inner.config.run_dir).map_err(ConnectorError::system("read Bowline's own names"))
    }

    /// Removes the volume's link where it leads nowhere.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn forget_own_name(&self, volume: VolumeId) -> Result<(), ConnectorError> {
        let run_dir = &self.inner.config.run_dir;
        if self.own_names()?.iter().any(|name| name.volume == volume && name.leads_nowhere) {
            let failed = ConnectorError::system(format!("remove the name of volume {volume}"));
            OwnNames::new(run_dir).remove_link(volume).map_err(failed)?;
        }
        Ok(())
    }
}

fn list(run_dir: &Path) -> io::Result<Vec<OwnName>> {
    let mut found = vec![];
    for (volume, path) in volumes_in(&run_dir.join("volumes"))? {
        let target = fs::read_link(&path).map(|target| target.display().to_string()).unwrap_or_default();
        let is_claimed = run_dir.join("claims").join(volume.to_string()).exists();
        let is_gone = !path.exists();
        let what = format!("a link to {target}{}", if is_gone { ", which is gone" } else { "" });
        found.push(OwnName { volume, path, what, leads_nowhere: is_gone && !is_claimed });
    }
    for (volume, path) in volumes_in(&run_dir.join("claims"))? {
        let lines = fs::read_to_string(&path).unwrap_or_default();
        let what = format!("a claim of {}", lines.lines().collect::<Vec<_>>().join(", "));
        found.push(OwnName { volume, path, what, leads_nowhere: false });
    }
    for mount in entries(&run_dir.join("mnt-users"))? {
        let place = run_dir.join("mnt").join(mount.file_name().unwrap_or_default());
        for (volume, path) in volumes_in(&mount)? {
            let what = format!("a user of the mount at {}", place.display());
            found.push(OwnName { volume, path, what, leads_nowhere: false });
        }
    }
    Ok(found)
}

/// Entries whose name is a volume's id; drafts and strangers are none.
fn volumes_in(folder: &Path) -> io::Result<Vec<(VolumeId, PathBuf)>> {
    let id = |path: &PathBuf| path.file_name()?.to_str()?.parse().ok();
    Ok(entries(folder)?.into_iter().filter_map(|path| Some((id(&path)?, path))).collect())
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => {
            let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
            paths.sort();
            Ok(paths)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![]),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_link_without_device_and_claim_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let volume = |number: u128| VolumeId(uuid::Uuid::from_u128(number));
        let names = OwnNames::new(dir.path());
        names.set_link(volume(1), "null").unwrap();
        names.set_link(volume(2), "gone-for-good").unwrap();
        names.set_link(volume(3), "gone-for-good").unwrap();
        names.claim(volume(3), &"iqn.x 1").unwrap();
        fs::create_dir_all(dir.path().join("mnt-users/m")).unwrap();
        fs::write(dir.path().join("mnt-users/m").join(volume(4).to_string()), "").unwrap();
        fs::write(dir.path().join("volumes/stranger"), "").unwrap();
        let found = list(dir.path()).unwrap();
        let told: Vec<_> = found.iter().map(|name| (name.volume, name.leads_nowhere)).collect();
        assert_eq!(told, [(volume(1), false), (volume(2), true), (volume(3), false), (volume(3), false), (volume(4), false)]);
        assert!(found[1].what.contains("/dev/gone-for-good, which is gone"), "{found:?}");
        assert_eq!(list(&dir.path().join("absent")).unwrap(), []);
    }
}
