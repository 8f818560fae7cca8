//! The images of this host that are coming, one stream each for all guests.

use super::{
    download::download,
    store::Store,
    stream::{InUse, Progress, Stream, Streaming},
};
use crate::bootsource::{
    BootSourceError, ImageCache, ImageProgress, ImageSource, SourceError,
    cache::{blocking, keep},
    intake::{Hasher, Written},
};
use crate::model::{ErrorKind, ImageFile};
use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::{sync::Mutex as AsyncMutex, time::timeout};

/// Bytes that are read at a time to be digested.
const READ_BYTES: u64 = 1 << 20;
/// Pause before an image that is all here, and cannot be read or renamed on this host, is tried again.
const VERIFY_PAUSE: Duration = Duration::from_secs(30);

/// The streams.
pub(super) struct Images {
    source: Arc<dyn ImageSource>,
    patience: Duration,
    /// By the file that each becomes.
    streams: Mutex<HashMap<PathBuf, Weak<InUse>>>,
    /// Held while one is opened: one file has one stream.
    opening: AsyncMutex<()>,
}

impl Images {
    /// `patience`: how long a read waits while nothing comes.
    pub(super) fn new(source: Arc<dyn ImageSource>, patience: Duration) -> Self {
        Self { source, patience, streams: Mutex::default(), opening: AsyncMutex::default() }
    }

    /// The image's stream: the one there is, one over what came before, or a new one. It comes for as long as somebody has it.
    pub(super) async fn open(&self, cache: &ImageCache, image: &ImageFile) -> Result<Arc<InUse>, BootSourceError> {
        let _opening = self.opening.lock().await;
        let path = cache.path(image);
        if let Some(known) = self.known(&path) {
            return Ok(known);
        }
        let size_bytes = image.size_bytes;
        let is_whole = path.exists();
        let file = if is_whole { path.clone() } else { coming(&path) };
        if !file.exists() {
            cache.prepare(image).await?;
        }
        let opened = file.clone();
        let store = blocking(&file, move || {
            let store = if is_whole { Store::whole(&opened, size_bytes) } else { Store::open(&opened, size_bytes) };
            store.map_err(BootSourceError::file("open", &opened))
        })
        .await?;
        let state = if is_whole { Streaming::Whole } else { Streaming::Coming };
        let (in_use, ends) = InUse::new(Arc::new(Stream::new(store, state, self.patience)));
        let in_use = Arc::new(in_use);
        if !is_whole {
            let (used, source, image, path) = (Arc::downgrade(&in_use), self.source.clone(), image.clone(), path.clone());
            let stream = in_use.stream.clone();
            tokio::spawn(async move { ends.run_until_cancelled(bring(stream, used, source, image, path)).await });
        }
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|_, stream| stream.strong_count() > 0);
        streams.insert(path, Arc::downgrade(&in_use));
        Ok(in_use)
    }

    /// Waits for an image that is coming, until it is here, or does not come any more. What becomes of it then is seen in the cache.
    pub(super) async fn wait_for(&self, path: &Path, told: &ImageProgress) {
        // Held, so that it comes to its end whatever becomes of its guests.
        let Some(coming) = self.known(path) else { return };
        let mut progress = coming.stream.watch();
        let is_lost = |now: &Progress| matches!(now.state, Streaming::Lost(_));
        let has_paused = |now: &Progress| {
            told(now.here_bytes, now.size_bytes);
            !matches!(now.state, Streaming::Coming)
        };
        while progress.wait_for(has_paused).await.is_ok_and(|now| is_lost(&now)) {
            // One broken connection is nothing.
            if timeout(self.patience, progress.wait_for(|now| !is_lost(now))).await.is_err() {
                return;
            }
        }
    }

    /// The stream that is open. One that proved to be damaged is only its guests'.
    fn known(&self, path: &Path) -> Option<Arc<InUse>> {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let known = streams.get(path)?.upgrade()?;
        let is_damaged = matches!(known.stream.watch().borrow().state, Streaming::Damaged(_));
        (!is_damaged).then_some(known)
    }
}

/// The file of an image that is coming.
pub(super) fn coming(path: &Path) -> PathBuf {
    path.with_added_extension(crate::bootsource::cache::LAZY)
}

/// Downloads the rest, and makes it an image of the cache.
async fn bring(stream: Arc<Stream>, used: Weak<InUse>, source: Arc<dyn ImageSource>, image: ImageFile, path: PathBuf) {
    loop {
        download(&stream, image.id, &*source).await;
        // Nobody else opens the file while it is verified, be its last guest gone.
        let Some(in_use) = used.upgrade() else { return };
        let state = match verify(in_use, &image, &path).await {
            Ok(()) => {
                tracing::info!(image = %image.id, "all of the image is here, and is what it should be");
                Streaming::Whole
            }
            Err(error @ (BootSourceError::Mismatch { .. } | BootSourceError::Unfit { .. })) => {
                tracing::error!(image = %image.id, %error, "guests that read of it are paused");
                Streaming::Damaged(Arc::new(error))
            }
            // This host's file system: it will work again.
            Err(error) => Streaming::Lost(SourceError { kind: ErrorKind::Internal, message: error.to_string() }),
        };
        let is_over = !matches!(state, Streaming::Lost(_));
        stream.tell(state);
        if is_over {
            return;
        }
        tokio::time::sleep(VERIFY_PAUSE).await;
    }
}

async fn verify(in_use: Arc<InUse>, image: &ImageFile, path: &Path) -> Result<(), BootSourceError> {
    let (image, path, file) = (image.clone(), path.to_owned(), coming(path));
    blocking(&coming(&path), move || {
        let store = &in_use.stream.store;
        let digest = digest(store, &image).map_err(BootSourceError::file("read", &file))?;
        store.finish().map_err(BootSourceError::file("sync", &file))?;
        keep(&image, &file, &path, &Written { length: image.size_bytes, digest })
    })
    .await
}

/// What all bytes digest to, as they are on this host's disk.
fn digest(store: &Store, image: &ImageFile) -> io::Result<String> {
    let mut hasher = Hasher::new(image.digest.algorithm);
    let mut at = 0;
    while at < store.size_bytes() {
        let count = READ_BYTES.min(store.size_bytes() - at);
        hasher.update(&store.read(at, usize::try_from(count).unwrap_or_default())?);
        at += count;
    }
    Ok(hasher.finish())
}
