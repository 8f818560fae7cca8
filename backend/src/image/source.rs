//! An image as a stream of pieces for a volume: zeros are left out, one piece at a time is in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use uuid::Uuid;

use super::convert::convert;
use super::files::{ImageFiles, failed};
use super::inspect::{InspectError, inspect};
use super::{Format, GlanceError, Unfit};
use crate::command::CommandError;
use crate::domain::Image;
use crate::drivers::Chunk;
use crate::drivers::sparse::{is_zero, next_data};

/// How far something is, in percent, readable from elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// How far it is.
    pub fn percent(&self) -> i64 {
        i64::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(100).min(100)
    }

    pub(super) fn set(&self, percent: u64) {
        self.0.store(percent, Ordering::Relaxed);
    }

    /// A share of it: `done` of `all` bytes, between these percents.
    pub(crate) fn set_share(&self, done: u64, all: u64, from: u64, to: u64) {
        let share = u128::from(done) * u128::from(to - from) / u128::from(all.max(1));
        self.set(from + u64::try_from(share).unwrap_or(0));
    }
}

/// An image could not be opened as a raw disk.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its bytes are not what they should be.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// Its file.
    #[error(transparent)]
    Files(#[from] super::ImageFilesError),
    /// Glance.
    #[error(transparent)]
    Glance(#[from] GlanceError),
    /// Its conversion.
    #[error(transparent)]
    Convert(#[from] CommandError),
    /// Its conversion made something else.
    #[error("{found_bytes} bytes came of {wanted_bytes}")]
    Short {
        /// What came.
        found_bytes: u64,
        /// What it should be.
        wanted_bytes: u64,
    },
}

/// Opens an image as a raw disk: gives its size and its pieces. What is not raw is converted first, into a file that nobody else
/// sees and that is gone with the stream. `work_id` names that file, so two may make volumes of one image at once.
pub async fn open_as_raw(
    files: &ImageFiles,
    image: &Image,
    work_id: Uuid,
    progress: &Progress,
) -> Result<(u64, BoxStream<'static, Result<Chunk, io::Error>>), OpenError> {
    let file = files.open_image(image.id)?;
    raw_disk(files, (&files.path(image.id), file), format_of(image)?, work_id, progress).await
}

/// What an image's bytes are said to be.
pub(super) fn format_of(image: &Image) -> Result<Format, Unfit> {
    let name = image.disk_format.clone().unwrap_or_default();
    Format::parse(&name).ok_or(Unfit::FormatUnknown(name))
}

/// The same for a file of this format.
pub(super) async fn raw_disk(
    files: &ImageFiles,
    (path, file): (&Path, File),
    format: Format,
    work_id: Uuid,
    progress: &Progress,
) -> Result<(u64, BoxStream<'static, Result<Chunk, io::Error>>), OpenError> {
    // Looked into again, for the directory may be shared, or have been restored from somewhere.
    let virtual_bytes = inspect(&file, format, files.limits()).map_err(|error| match error {
        InspectError::Unfit(unfit) => OpenError::Unfit(unfit),
        InspectError::Io(source) => failed("look into", path)(source).into(),
    })?;
    let (file, from) = match format.qemu_name() {
        None => (file, 0),
        Some(qemu_name) => {
            let part = files.make_part(work_id, ".raw")?;
            let heard = progress.clone();
            let most = files.limits().largest_disk_bytes;
            let told = move |percent: u8| heard.set_share(percent.into(), 100, 0, 50);
            convert((path, qemu_name), (&part.path, "raw"), most, told).await?;
            let made = File::open(&part.path).map_err(failed("open", &part.path))?;
            let found = made.metadata().map_err(failed("look at", &part.path))?.len();
            if found < virtual_bytes {
                return Err(OpenError::Short { found_bytes: found, wanted_bytes: virtual_bytes });
            }
            // The part's name goes here; its bytes live as long as they are open.
            (made, 50)
        }
    };
    Ok((virtual_bytes, pieces(Arc::new(file), virtual_bytes, from, progress.clone())))
}

fn pieces(file: Arc<File>, length: u64, from: u64, progress: Progress) -> BoxStream<'static, Result<Chunk, io::Error>> {
    stream::try_unfold(0, move |offset| {
        let (file, progress) = (file.clone(), progress.clone());
        async move {
            let read = tokio::task::spawn_blocking(move || next_piece(&file, offset)).await;
            let next = read.map_err(io::Error::other)??;
            if let Some((_, offset)) = &next {
                progress.set_share(*offset, length, from, 100);
            }
            Ok(next)
        }
    })
    .boxed()
}

fn next_piece(file: &File, mut offset: u64) -> io::Result<Option<(Chunk, u64)>> {
    while let Some((at, length)) = next_data(file, offset)? {
        let mut data = vec![0; length];
        file.read_exact_at(&mut data, at)?;
        offset = at + length as u64;
        if !is_zero(&data) {
            return Ok(Some((Chunk { offset_bytes: at, data }, offset)));
        }
    }
    Ok(None)
}
