//! What is kept on this host where ephemeral disks are, whoever still knows of it; and taking away what nobody has.
//!
//! What a file is, is told by where it is, its name, its kind and its mode, never by its bytes: those are a guest's. Whatever is not in
//! all of that as Bowline makes it is somebody else's.

use super::{
    BootSourceError,
    cache::blocking,
    disks::DiskMaker,
    lvm::{self, VolumeGroup},
    rbd::PoolError,
};
use crate::model::{GuestUuid, LocalDisk, LocalPlace, Part, Store, Stored, is_disk_name};
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
};
use std::{
    fs::{self, DirEntry, Metadata, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// The mode of a disk's file (`Paths::finish`). One that is being made has what its maker gave it, and an image what the cache gives.
const DISK_MODE: u32 = 0o600;

impl DiskMaker {
    /// What there is: of files in the folders of now, of volumes in the groups of now and in those of `known`. A store that cannot be
    /// looked at is told with why.
    pub async fn stored(&self, known: &[LocalDisk]) -> Vec<Result<Vec<Stored>, BootSourceError>> {
        let folder = self.folder().to_owned();
        let mut found = vec![blocking(&folder.clone(), move || files(&folder)).await];
        for group in lvm::groups(self.group(), known) {
            found.push(group.stored().await);
        }
        found
    }

    /// What of a disk that was made is not there any more.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub async fn missing(&self, disk: &LocalDisk) -> Result<Option<PathBuf>, BootSourceError> {
        let files: Vec<_> = match &disk.place {
            LocalPlace::LogicalVolume => return lvm::missing(disk).await,
            LocalPlace::Rbd(_) => {
                return match self.check_pooled(disk).await {
                    Err(BootSourceError::Pool(PoolError::Gone { .. })) => Ok(Some(disk.path.clone())),
                    seen => seen.map(|()| None),
                };
            }
            LocalPlace::File => [&disk.path].into_iter().chain(disk.base.as_ref().map(|(base, _)| base)).cloned().collect(),
        };
        blocking(&disk.path, move || {
            for file in files {
                match fs::symlink_metadata(&file) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(file)),
                    Err(error) => return Err(BootSourceError::file("look at", &file)(error)),
                }
            }
            Ok(None)
        })
        .await
    }

    /// Takes away what nobody has. It is looked at once more; what is gone by now is fine.
    ///
    /// # Errors
    /// It is another thing by now, or something has it open; a file or a volume that cannot be removed.
    pub async fn remove_stored(&self, stored: &Stored) -> Result<(), BootSourceError> {
        match &stored.store {
            Store::VolumeGroup(group) => VolumeGroup::new(group.clone(), None).remove_stored(stored).await,
            Store::Files => {
                let (folder, stored) = (self.folder().to_owned(), stored.clone());
                blocking(&folder.clone(), move || match files(&folder)?.into_iter().find(|found| found.path == stored.path) {
                    None => Ok(()),
                    Some(found) if found == stored => take_away(&stored),
                    Some(found) => Err(kept(&found.path, "it is not what it was a moment ago")),
                })
                .await
            }
        }
    }
}

/// Why something is left alone.
pub(super) fn kept(path: &Path, why: impl Into<String>) -> BootSourceError {
    BootSourceError::Kept { path: path.to_owned(), why: why.into() }
}

fn take_away(stored: &Stored) -> Result<(), BootSourceError> {
    let path = &stored.path;
    if let Some(why) = &stored.stays {
        return Err(kept(path, why));
    }
    match stored.part {
        Part::Foreign(why) => return Err(kept(path, why)),
        Part::Folder(_) => return gone(fs::remove_dir(path), path),
        // The file is one with what other disks are over, so its own locks tell nothing.
        Part::Base(..) => match path.with_extension("") {
            disk if disk.exists() => check_unused(&disk)?,
            _ => {}
        },
        Part::Disk(..) | Part::Unfinished(..) | Part::Capture(_) => check_unused(path)?,
    }
    gone(fs::remove_file(path), path)?;
    match (&stored.part, path.parent()) {
        (Part::Capture(_), _) | (_, None) => Ok(()),
        // With the last of its guest's.
        (_, Some(folder)) => gone(fs::remove_dir(folder), folder),
    }
}

fn gone(removed: io::Result<()>, path: &Path) -> Result<(), BootSourceError> {
    match removed {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => Ok(()),
        removed => removed.map_err(BootSourceError::file("remove", path)),
    }
}

/// QEMU, and its tools, hold locks on the bytes of what they have open (OFD locks, fcntl(2)), read or written.
fn check_unused(path: &Path) -> Result<(), BootSourceError> {
    let failed = |operation| BootSourceError::file(operation, path);
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed("open"))?;
    let [wanted, none] = [libc::F_WRLCK, libc::F_UNLCK].map(|kind| libc::c_short::try_from(kind).unwrap_or_default());
    let whence = libc::c_short::try_from(libc::SEEK_SET).unwrap_or_default();
    let mut lock = libc::flock { l_type: wanted, l_whence: whence, l_start: 0, l_len: 0, l_pid: 0 };
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock)).map_err(|error| failed("ask for locks of")(error.into()))?;
    if lock.l_type == none { Ok(()) } else { Err(kept(path, "a program has it open (fuser tells which)")) }
}

/// What is in the folders of disks and of captures. One that is gone by the time it is looked at is not there.
fn files(folder: &Path) -> Result<Vec<Stored>, BootSourceError> {
    let mut found = vec![];
    for (entry, about) in entries(&folder.join("disks"))? {
        match name(&entry).and_then(|name| name.parse::<GuestUuid>().ok()).filter(|_| about.is_dir()) {
            Some(guest) => found.extend(of_guest(guest, &entry.path())?),
            None => found.push(foreign(&entry, "it is no folder of a guest")),
        }
    }
    for (entry, about) in entries(&folder.join("snapshots"))? {
        found.push(match name(&entry).and_then(|name| name.parse().ok()).filter(|_| about.is_file()) {
            Some(image) => file(entry.path(), Part::Capture(image)),
            None => foreign(&entry, "it is not named for an image"),
        });
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

fn of_guest(guest: GuestUuid, folder: &Path) -> Result<Vec<Stored>, BootSourceError> {
    let entries = entries(folder)?;
    if entries.is_empty() {
        return Ok(vec![file(folder.to_owned(), Part::Folder(guest))]);
    }
    let mut found: Vec<_> = entries.iter().map(|(entry, about)| of_disk(guest, entry, about)).collect();
    // What somebody put there may be over a disk, as the files of a snapshot are.
    let others: Vec<_> = found.iter().filter(|found| matches!(found.part, Part::Foreign(_))).collect();
    if let Some(other) = others.first().map(|other| other.path.display().to_string()) {
        let ours = found.iter_mut().filter(|found| !matches!(found.part, Part::Foreign(_)));
        ours.for_each(|found| found.stays = Some(format!("{other} lies beside it and may need it")));
    }
    Ok(found)
}

fn of_disk(guest: GuestUuid, entry: &DirEntry, about: &Metadata) -> Stored {
    let name = name(entry).unwrap_or_default();
    let (disk, end) = name.split_once('.').map_or((name.as_str(), ""), |(disk, end)| (disk, end));
    if !about.is_file() || !is_disk_name(disk) {
        return foreign(entry, "it is no disk of Bowline's");
    }
    let (disk, is_alone) = (disk.to_owned(), about.nlink() == 1);
    let part = match end {
        "" if is_alone && about.permissions().mode() & 0o777 == DISK_MODE => Part::Disk(guest, disk),
        "new" if is_alone => Part::Unfinished(guest, disk),
        "base" => Part::Base(guest, disk),
        _ => return foreign(entry, "it is not as Bowline makes its disks"),
    };
    file(entry.path(), part)
}

fn file(path: PathBuf, part: Part) -> Stored {
    Stored { store: Store::Files, path, part, stays: None }
}

fn foreign(entry: &DirEntry, why: &'static str) -> Stored {
    file(entry.path(), Part::Foreign(why))
}

fn name(entry: &DirEntry) -> Option<String> {
    entry.file_name().into_string().ok()
}

/// What a folder holds, links not followed; nothing, where there is no such folder.
fn entries(folder: &Path) -> Result<Vec<(DirEntry, Metadata)>, BootSourceError> {
    let listed = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        listed => listed.map_err(BootSourceError::file("list", folder))?,
    };
    let mut found = vec![];
    for entry in listed {
        let entry = entry.map_err(BootSourceError::file("list", folder))?;
        match entry.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            about => {
                let about = about.map_err(BootSourceError::file("look at", &entry.path()))?;
                found.push((entry, about));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
#[path = "stored_tests.rs"]
mod tests;
