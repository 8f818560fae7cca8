//! Ephemeral disks: files of this host, logical volumes (`lvm`), or RBD images (`rbd`), that come and go with a guest.
//!
//! A file is made under another name and renamed, so one that is there is whole. Its format is decided here and told to QEMU from
//! then on; nobody ever asks the bytes, which are the guest's (CVE-2026-24708).

use super::{
    BootSourceError, ImageCache, ImageSource,
    cache::{blocking, make_folder, remove, sync_folder},
    lvm::{self, VolumeGroup},
    rbd::{self, Pool},
};
use crate::{
    command,
    model::{
        DiskBus, DiskFormat, Filesystem, FolderRoom, GroupRoom, GuestUuid, ImageFile, LocalContent, LocalDisk, LocalDiskPlan,
        LocalPlace,
    },
};
use nix::sys::statvfs::statvfs;
use std::{
    ffi::OsString,
    fs::{self, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

/// How long making a file system, or an empty copy-on-write file, may take.
const TOOL_LIMIT: Duration = Duration::from_secs(120);
/// Address space of a qemu-img that reads an image, bytes: hostile tables cannot fill the host's memory. Its up to 64 threads have a
/// stack of 8 MiB each, and one arena for all, where malloc would give each 64 MiB.
pub(super) const QEMU_IMG_MEMORY: &str = "--as=2147483648";
pub(super) const ONE_ARENA: &str = "MALLOC_ARENA_MAX=1";

/// What a disk is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskForm {
    /// A file; over an image a copy-on-write one: there at once, and small.
    Overlay,
    /// A file with all its bytes: as fast as the host's disk.
    Flat,
    /// A logical volume, with all its bytes.
    Logical(VolumeGroup),
    /// An RBD image.
    Rbd(Pool),
}

/// Makes and removes ephemeral disks.
pub struct DiskMaker {
    folder: PathBuf,
    form: DiskForm,
    /// `rbd.keyring_file`, where it is set.
    pub(super) keyring_file: Option<PathBuf>,
    pub(super) copy_limit: Duration,
    pub(super) cache: ImageCache,
}

impl DiskMaker {
    /// A maker with its disks, and the images below them, in this folder. `cache_bytes`: the most that images may take.
    /// `copy_limit`: for a flat disk to be filled, or an image to be converted.
    pub fn new(folder: &Path, form: DiskForm, cache_bytes: u64, copy_limit: Duration) -> Self {
        let cache = ImageCache::new(folder.join("cache"), cache_bytes, copy_limit);
        Self { folder: folder.to_owned(), form, keyring_file: None, copy_limit, cache }
    }

    /// The same with a keyring in which the keys of disks on RBD are, whatever disks are made now. Without it each user has its own.
    pub fn with_keyring(self, keyring_file: Option<PathBuf>) -> Self {
        Self { keyring_file, ..self }
    }

    /// What everything is below that is a file.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn disks(&self) -> PathBuf {
        self.folder.join("disks")
    }

    /// Whether disks are files.
    pub const fn makes_files(&self) -> bool {
        matches!(self.form, DiskForm::Overlay | DiskForm::Flat)
    }

    pub(super) const fn group(&self) -> Option<&VolumeGroup> {
        match &self.form {
            DiskForm::Overlay | DiskForm::Flat | DiskForm::Rbd(_) => None,
            DiskForm::Logical(group) => Some(group),
        }
    }

    pub(super) const fn pool(&self) -> Option<&Pool> {
        match &self.form {
            DiskForm::Rbd(pool) => Some(pool),
            DiskForm::Overlay | DiskForm::Flat | DiskForm::Logical(_) => None,
        }
    }

    /// The room for images, and for disks that are files.
    ///
    /// # Errors
    /// The file system cannot be asked.
    pub async fn room(&self) -> Result<FolderRoom, BootSourceError> {
        let (folder, (cached_bytes, limit_bytes)) = (self.folder.clone(), self.cache.held_bytes());
        blocking(&self.folder, move || {
            // Nothing was made below it yet, perhaps: it will be on the file system of what there is of it.
            let there = folder.ancestors().find(|path| path.exists()).unwrap_or(&folder);
            let room = statvfs(there).map_err(io::Error::from).map_err(BootSourceError::file("look for room in", there))?;
            let free_bytes = room.blocks_available().saturating_mul(room.fragment_size());
            Ok(FolderRoom { folder: folder.display().to_string(), free_bytes, cached_bytes, limit_bytes })
        })
        .await
    }

    /// The volume group of disks, where they are made in one.
    ///
    /// # Errors
    /// It, its pool or LVM is not there.
    pub async fn group_room(&self) -> Result<Option<GroupRoom>, BootSourceError> {
        match self.group() {
            Some(group) => group.room().await.map(Some),
            None => Ok(None),
        }
    }

    /// Makes a disk; what an earlier try left of it is replaced.
    ///
    /// # Errors
    /// The image, its size, a tool, a file, a volume group or a pool.
    pub async fn make(
        &self,
        plan: &LocalDiskPlan,
        bus: DiskBus,
        source: &dyn ImageSource,
    ) -> Result<LocalDisk, BootSourceError> {
        if let Some(group) = self.group() {
            return self.make_logical(group, plan, bus, source).await;
        }
        if let Some(pool) = self.pool() {
            return self.make_in_pool(pool, plan, bus, source).await;
        }
        let paths = self.clear(plan.guest, &plan.target).await?;
        let (format, base) = match &plan.content {
            LocalContent::Image { image, size_bytes } => {
                let virtual_bytes = self.cache.take(image, source, &paths.base).await?;
                let size_bytes = disk_bytes(&plan.target, image, *size_bytes, virtual_bytes)?;
                if self.form == DiskForm::Overlay {
                    let backing = (paths.base.clone().into(), image.format);
                    self.overlay(&plan.target, &paths, backing, size_bytes).await?;
                    (DiskFormat::Qcow2, Some((paths.base.clone(), image.format)))
                } else {
                    self.flat(plan, &paths, image, size_bytes).await?;
                    (DiskFormat::Raw, None)
                }
            }
            LocalContent::Blank { size_bytes, filesystem } => {
                blank(plan, &paths, *size_bytes, *filesystem).await?;
                (DiskFormat::Raw, None)
            }
        };
        let (made, has_base) = (paths.clone(), base.is_some());
        blocking(&paths.disk, move || made.finish(has_base)).await?;
        let (target, place) = (plan.target.clone(), LocalPlace::File);
        Ok(LocalDisk { target, bus, path: paths.disk, place, format, base, lazy: None })
    }

    /// Removes a disk, and the guest's folder with the last of them. One that is not there is fine. `made`: the disk, if it is known to
    /// have been made.
    ///
    /// # Errors
    /// A file, a volume or an image that cannot be removed.
    pub async fn remove(&self, guest: GuestUuid, name: &str, made: Option<&LocalDisk>) -> Result<(), BootSourceError> {
        lvm::remove(self.group(), guest, name, made).await?;
        let begun = self.pool().filter(|_| self.paths(guest, name).folder.exists());
        rbd::remove(begun, self.keyring_file.as_deref(), guest, name, made).await?;
        self.remove_files(guest, name).await
    }

    /// Removes the files of a disk, and the guest's folder with the last of them.
    pub(super) async fn remove_files(&self, guest: GuestUuid, name: &str) -> Result<(), BootSourceError> {
        let paths = self.paths(guest, name);
        blocking(&paths.disk.clone(), move || {
            paths.remove()?;
            match fs::remove_dir(&paths.folder) {
                Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
                    Err(BootSourceError::file("remove the folder", &paths.folder)(error))
                }
                _ => Ok(()),
            }
        })
        .await
    }

    /// The files of a disk that is to be made, and nothing where they are to be.
    pub(super) async fn clear(&self, guest: GuestUuid, target: &str) -> Result<Paths, BootSourceError> {
        let paths = self.paths(guest, target);
        let (outer, cleared) = (self.disks(), paths.clone());
        blocking(&paths.folder, move || {
            make_folder(&outer)?;
            make_folder(&cleared.folder)?;
            cleared.remove()?;
            Ok(cleared)
        })
        .await
    }

    pub(super) fn paths(&self, guest: GuestUuid, target: &str) -> Paths {
        let folder = self.disks().join(guest.to_string());
        let file = |suffix: &str| folder.join(format!("{target}{suffix}"));
        Paths { disk: file(""), unfinished: file(".new"), base: file(".base"), folder }
    }

    /// qemu-img is told the base's format and not to open it.
    pub(super) async fn overlay(
        &self,
        target: &str,
        paths: &Paths,
        (base, base_format): (OsString, DiskFormat),
        size_bytes: u64,
    ) -> Result<(), BootSourceError> {
        let size = size_bytes.to_string();
        let arguments: [OsString; 12] = [
            "create".into(),
            "-q".into(),
            "-u".into(),
            "-f".into(),
            DiskFormat::Qcow2.as_str().into(),
            "-b".into(),
            base,
            "-F".into(),
            base_format.as_str().into(),
            "--".into(),
            paths.unfinished.clone().into(),
            size.into(),
        ];
        self.qemu_img(target, &arguments).await
    }

    /// Runs a qemu-img that opens no image's bytes.
    pub(super) async fn qemu_img(&self, target: &str, arguments: &[OsString]) -> Result<(), BootSourceError> {
        run(target, "qemu-img", arguments, TOOL_LIMIT).await
    }

    async fn flat(
        &self,
        plan: &LocalDiskPlan,
        paths: &Paths,
        image: &ImageFile,
        size_bytes: u64,
    ) -> Result<(), BootSourceError> {
        let (from, to) = ((paths.base.as_path(), image.format), (paths.unfinished.as_path(), DiskFormat::Raw));
        convert(&plan.target, from, to, &[], self.copy_limit).await?;
        let unfinished = paths.unfinished.clone();
        blocking(&paths.unfinished, move || {
            let file = OpenOptions::new().write(true).open(&unfinished);
            file.and_then(|file| file.set_len(size_bytes)).map_err(BootSourceError::file("resize", &unfinished))
        })
        .await
    }
}

/// The size of a disk over an image, bytes: what was asked for, or the image's own.
pub(super) fn disk_bytes(
    target: &str,
    image: &ImageFile,
    asked_bytes: Option<u64>,
    virtual_bytes: u64,
) -> Result<u64, BootSourceError> {
    match asked_bytes.unwrap_or(virtual_bytes) {
        asked_bytes if asked_bytes < virtual_bytes => {
            Err(BootSourceError::TooSmall { target: target.to_owned(), image: image.id, asked_bytes, virtual_bytes })
        }
        bytes => Ok(bytes),
    }
}

/// A blank disk. Its file takes no room but what is written.
pub(super) async fn blank(
    plan: &LocalDiskPlan,
    paths: &Paths,
    size_bytes: u64,
    filesystem: Option<Filesystem>,
) -> Result<(), BootSourceError> {
    let unfinished = paths.unfinished.clone();
    blocking(&paths.unfinished, move || {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished);
        file.and_then(|file| file.set_len(size_bytes)).map_err(BootSourceError::file("make", &unfinished))
    })
    .await?;
    make_filesystem(&plan.target, &paths.unfinished, filesystem).await
}

/// Formats what is all zero. Nothing is discarded: there is nothing to be gained, and some disks show what they held before.
pub(super) async fn make_filesystem(target: &str, disk: &Path, filesystem: Option<Filesystem>) -> Result<(), BootSourceError> {
    let (program, options): (_, &[&str]) = match filesystem {
        None => return Ok(()),
        Some(Filesystem::Ext4) => ("mkfs.ext4", &["-q", "-F", "-E", "nodiscard"]),
        Some(Filesystem::Xfs) => ("mkfs.xfs", &["-q", "-f", "-K"]),
        // Of a whole disk, too.
        Some(Filesystem::Vfat) => ("mkfs.vfat", &["-I"]),
        Some(Filesystem::Swap) => ("mkswap", &[]),
    };
    let arguments: Vec<OsString> = options.iter().map(OsString::from).chain(["--".into(), disk.into()]).collect();
    run(target, program, &arguments, TOOL_LIMIT).await
}

/// Copies a disk's bytes into a new file, or by `options` into what is there. Each is told its format, and the first is never asked for
/// it.
pub(super) async fn convert(
    target: &str,
    (from, from_format): (&Path, DiskFormat),
    (to, to_format): (&Path, DiskFormat),
    options: &[&str],
    limit: Duration,
) -> Result<(), BootSourceError> {
    let before: [OsString; 6] =
        [QEMU_IMG_MEMORY.into(), "--".into(), "env".into(), ONE_ARENA.into(), "qemu-img".into(), "convert".into()];
    let after: [OsString; 7] =
        ["-f".into(), from_format.as_str().into(), "-O".into(), to_format.as_str().into(), "--".into(), from.into(), to.into()];
    let arguments: Vec<OsString> = before.into_iter().chain(options.iter().map(OsString::from)).chain(after).collect();
    run(target, "prlimit", &arguments, limit).await
}

pub(super) async fn run(
    target: &str,
    program: &'static str,
    arguments: &[OsString],
    limit: Duration,
) -> Result<(), BootSourceError> {
    let target = || target.to_owned();
    let ended = command::run(program, arguments, limit).await;
    let ended = ended.map_err(|source| BootSourceError::Tool { target: target(), source })?;
    if ended.code == Some(0) {
        return Ok(());
    }
    Err(BootSourceError::ToolFailed { target: target(), program, said: ended.stderr })
}

/// The files of a disk.
#[derive(Clone)]
pub(super) struct Paths {
    folder: PathBuf,
    pub(super) disk: PathBuf,
    pub(super) unfinished: PathBuf,
    pub(super) base: PathBuf,
}

impl Paths {
    fn remove(&self) -> Result<(), BootSourceError> {
        [&self.unfinished, &self.disk, &self.base].into_iter().try_for_each(|path| remove(path))
    }

    /// From here on it is a disk.
    pub(super) fn finish(&self, has_base: bool) -> Result<(), BootSourceError> {
        let failed = |operation| BootSourceError::file(operation, &self.unfinished);
        fs::set_permissions(&self.unfinished, Permissions::from_mode(0o600)).map_err(failed("close to others"))?;
        fs::File::open(&self.unfinished).and_then(|file| file.sync_all()).map_err(failed("sync"))?;
        fs::rename(&self.unfinished, &self.disk).map_err(failed("rename"))?;
        if !has_base {
            remove(&self.base)?;
        }
        sync_folder(&self.disk)
    }
}

#[cfg(test)]
#[path = "disks_tests.rs"]
mod tests;
