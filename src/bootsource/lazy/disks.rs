//! Ephemeral disks over images that are still coming.

use super::{
    images::{Images, coming},
    server::Export,
    stream::{InUse, Progress, Streaming},
};
use crate::bootsource::{
    BootSourceError, ImageProgress, ImageSource,
    cache::{blocking, make_folder, remove},
    disks::{DiskMaker, disk_bytes},
    inspect::{self, Look},
    telling::Telling,
};
use crate::model::{DiskBus, DiskFormat, GuestUuid, ImageFile, LazyBase, LocalContent, LocalDisk, LocalDiskPlan, LocalPlace};
use std::{
    collections::HashMap,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{runtime::Handle, sync::watch};
use tokio_util::sync::CancellationToken;

/// Makes, serves and removes such disks.
pub struct LazyDisks {
    maker: Arc<DiskMaker>,
    images: Images,
    source: Arc<dyn ImageSource>,
    sockets: PathBuf,
    exports: Mutex<HashMap<(GuestUuid, String), Export>>,
}

impl LazyDisks {
    /// Beside `maker`'s other disks, over the same cache. `sockets`: the folder of the sockets by which QEMU reads.
    /// `patience`: how long a read waits while nothing comes.
    pub fn new(maker: Arc<DiskMaker>, source: Arc<dyn ImageSource>, sockets: PathBuf, patience: Duration) -> Self {
        Self { maker, images: Images::new(source.clone(), patience), source, sockets, exports: Mutex::default() }
    }

    /// The maker of all other disks.
    pub fn maker(&self) -> &DiskMaker {
        &self.maker
    }

    /// Whether disks are files, as all over coming images are.
    pub fn makes_files(&self) -> bool {
        self.maker.makes_files()
    }

    /// Makes a disk over an image of which only the header has come, and serves the image to it. What is blank, or over an image that is
    /// here, or no file, is made as any other.
    ///
    /// # Errors
    /// The image, its size, a tool or a file.
    pub async fn make(&self, plan: &LocalDiskPlan, bus: DiskBus) -> Result<LocalDisk, BootSourceError> {
        let LocalContent::Image { image, size_bytes } = &plan.content else {
            return self.maker.make(plan, bus, &*self.source).await;
        };
        if !self.maker.makes_files() || self.maker.cache.path(image).exists() {
            return self.maker.make(plan, bus, &*self.source).await;
        }
        let paths = self.maker.clear(plan.guest, &plan.target).await?;
        let in_use = self.images.open(&self.maker.cache, image).await?;
        let (base, from) = (paths.base.clone(), self.maker.cache.path(image));
        // By this the cache knows that it is in use, now and when it is whole.
        let linked = blocking(&paths.base, move || {
            let file = if from.exists() { from } else { coming(&from) };
            fs::hard_link(&file, &base).map_err(BootSourceError::file("link to the coming image", &base))
        });
        linked.await?;
        let size_bytes = match look_into(&in_use, image).await {
            Ok(virtual_bytes) => disk_bytes(&plan.target, image, *size_bytes, virtual_bytes),
            Err(error) => Err(error),
        };
        let size_bytes = match size_bytes {
            Ok(size_bytes) => size_bytes,
            Err(error) => {
                self.maker.clear(plan.guest, &plan.target).await?;
                return Err(error);
            }
        };
        let socket = self.sockets.join(format!("{}-{}.sock", plan.guest, plan.target));
        let backing = format!("nbd+unix:///?socket={}", socket.display());
        self.maker.overlay(&plan.target, &paths, (backing.into(), image.format), size_bytes).await?;
        let made = paths.clone();
        blocking(&paths.disk, move || made.finish(true)).await?;
        let lazy = LazyBase { image: image.clone(), socket, is_damaged: false, is_given_up: false };
        let (target, format) = (plan.target.clone(), DiskFormat::Qcow2);
        let disk = LocalDisk { target, bus, path: paths.disk, place: LocalPlace::File, format, base: None, lazy: Some(lazy) };
        self.listen(plan.guest, &disk, in_use).await?;
        Ok(disk)
    }

    /// Makes a disk as any other, over an image that is all here. One that comes for a lazy disk is waited for rather than fetched a
    /// second time, as long as it comes. `told`: how much of it is here.
    ///
    /// # Errors
    /// The image, its size, a tool or a file.
    pub async fn make_filled(
        &self,
        plan: &LocalDiskPlan,
        bus: DiskBus,
        told: &ImageProgress,
    ) -> Result<LocalDisk, BootSourceError> {
        if let LocalContent::Image { image, .. } = &plan.content {
            self.images.wait_for(&self.maker.cache.path(image), told).await;
        }
        self.maker.make(plan, bus, &Telling { source: &*self.source, told }).await
    }

    /// Serves a disk's image to it, as after a restart of the agent. One that is served, or is over no coming image, is fine.
    ///
    /// # Errors
    /// A file or a socket of this host; no room for the image.
    pub async fn serve(&self, guest: GuestUuid, disk: &LocalDisk) -> Result<(), BootSourceError> {
        let Some(lazy) = disk.lazy.as_ref().filter(|lazy| !lazy.is_damaged) else { return Ok(()) };
        // For one that was removed nothing has to come.
        if self.exports().contains_key(&(guest, disk.name().to_owned())) || !disk.path.exists() {
            return Ok(());
        }
        let in_use = self.images.open(&self.maker.cache, &lazy.image).await?;
        self.listen(guest, disk, in_use).await?;
        if !disk.path.exists() {
            self.exports().remove(&(guest, disk.name().to_owned()));
        }
        Ok(())
    }

    async fn listen(&self, guest: GuestUuid, disk: &LocalDisk, in_use: Arc<InUse>) -> Result<(), BootSourceError> {
        let Some(lazy) = &disk.lazy else { return Ok(()) };
        make_folder(&self.sockets)?;
        // Its end takes its socket along, which must not be the new one.
        self.exports().remove(&(guest, disk.name().to_owned()));
        let listening = Export::listen(in_use, &lazy.socket, &disk.path);
        let export = listening.map_err(BootSourceError::file("listen at", &lazy.socket))?;
        self.exports().insert((guest, disk.name().to_owned()), export);
        Ok(())
    }

    /// How the image of a disk comes, for whoever waits for it.
    ///
    /// # Errors
    /// It is not served, and cannot be.
    pub async fn fetching(&self, guest: GuestUuid, disk: &LocalDisk) -> Result<Fetching, BootSourceError> {
        self.serve(guest, disk).await?;
        let exports = self.exports();
        Ok(match exports.get(&(guest, disk.name().to_owned())) {
            Some(export) => Fetching { progress: Some(export.image.stream.watch()), gone: export.ends(), begun: false },
            None => Fetching { progress: None, gone: CancellationToken::new(), begun: false },
        })
    }

    /// Puts the disk of a guest that is off over the image in the cache, which is whole.
    ///
    /// # Errors
    /// The image is not here and does not come; something has the disk open; a tool or a file.
    pub async fn rebase(&self, guest: GuestUuid, disk: &LocalDisk) -> Result<LocalDisk, BootSourceError> {
        let Some(lazy) = &disk.lazy else { return Ok(disk.clone()) };
        let paths = self.maker.paths(guest, disk.name());
        self.maker.cache.take(&lazy.image, &*self.source, &paths.base).await?;
        let format = lazy.image.format;
        let words = ["rebase", "-q", "-u", "-f", disk.format.as_str(), "-F", format.as_str(), "-b"];
        let mut arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
        arguments.extend([paths.base.clone().into(), "--".into(), disk.path.clone().into()]);
        self.maker.qemu_img(&disk.target, &arguments).await?;
        Ok(LocalDisk { base: Some((paths.base, format)), lazy: None, ..disk.clone() })
    }

    /// Ends the serving of a disk that needs its image no more, and lets go of the image. One that is not served is fine.
    ///
    /// # Errors
    /// A file of this host.
    pub async fn release(&self, guest: GuestUuid, disk: &LocalDisk) -> Result<(), BootSourceError> {
        self.exports().remove(&(guest, disk.name().to_owned()));
        // What it is put over since is another matter.
        let base = self.maker.paths(guest, disk.name()).base;
        if disk.base.is_some() {
            return Ok(());
        }
        blocking(&base.clone(), move || remove(&base)).await
    }

    /// Removes a disk; see [`DiskMaker::remove`].
    ///
    /// # Errors
    /// A file or a volume that cannot be removed.
    pub async fn remove(&self, guest: GuestUuid, name: &str, made: Option<&LocalDisk>) -> Result<(), BootSourceError> {
        self.exports().remove(&(guest, name.to_owned()));
        self.maker.remove(guest, name, made).await
    }

    /// Removes images that no disk has used for long; see [`crate::bootsource::ImageCache::remove_old`].
    ///
    /// # Errors
    /// A file of the cache.
    pub async fn remove_old_images(&self) -> Result<(), BootSourceError> {
        self.maker.cache.remove_old().await
    }

    fn exports(&self) -> MutexGuard<'_, HashMap<(GuestUuid, String), Export>> {
        self.exports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The news of a disk's image.
pub struct Fetching {
    progress: Option<watch::Receiver<Progress>>,
    gone: CancellationToken,
    begun: bool,
}

impl Fetching {
    /// How it is doing now, and from then on each time that this has changed. `None`: the disk is served no more.
    pub async fn next(&mut self) -> Option<Progress> {
        let progress = self.progress.as_mut()?;
        if self.begun {
            tokio::select! {
                biased;
                () = self.gone.cancelled() => return None,
                changed = progress.changed() => changed.ok()?,
            }
        }
        self.begun = true;
        Some(progress.borrow_and_update().clone())
    }
}

/// Bytes that may have to come first. To be looked at from a thread that may wait.
struct Coming {
    image: Arc<InUse>,
    runtime: Handle,
}

impl Look for Coming {
    fn length(&self) -> io::Result<u64> {
        Ok(self.image.stream.store.size_bytes())
    }

    fn bytes(&self, at: u64, count: usize) -> io::Result<Vec<u8>> {
        let left = self.length()?.saturating_sub(at);
        let count = usize::try_from(left).unwrap_or(count).min(count);
        self.runtime.block_on(self.image.stream.read(at, count))
    }
}

/// Looks into an image's header as it comes. Gives the size that a guest sees, bytes.
async fn look_into(in_use: &Arc<InUse>, image: &ImageFile) -> Result<u64, BootSourceError> {
    let look = Coming { image: in_use.clone(), runtime: Handle::current() };
    let (id, format) = (image.id, image.format);
    let looked = blocking(Path::new("the image's header"), move || {
        inspect::inspect(&look, format).map_err(|source| BootSourceError::Unfit { image: id, source })
    });
    match (looked.await, in_use.stream.watch().borrow().state.clone()) {
        // It could not be read because it did not come.
        (Err(BootSourceError::Unfit { source: inspect::Unfit::Read(_), .. }), Streaming::Lost(error)) => {
            Err(BootSourceError::Download { image: id, problem: error.message, kind: error.kind })
        }
        (looked, _) => looked,
    }
}
