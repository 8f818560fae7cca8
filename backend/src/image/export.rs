//! A volume as an image: its pieces in a sparse file, converted where another format is asked for, digested, put in place.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use uuid::Uuid;

use super::convert::convert;
use super::files::{ImageFiles, ImageFilesError, failed};
use super::writer::{Whole, WriteError, digest_made};
use super::{Format, GlanceError, Progress};
use crate::command::CommandError;
use crate::drivers::{Chunk, DriverError};

/// A volume could not be made an image.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The volume cannot be read.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The image cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Glance.
    #[error(transparent)]
    Glance(#[from] GlanceError),
    /// The conversion.
    #[error(transparent)]
    Convert(#[from] CommandError),
}

impl From<ImageFilesError> for ExportError {
    fn from(error: ImageFilesError) -> Self {
        Self::Write(error.into())
    }
}

/// Writes the pieces of a volume of `size_bytes` as an image of `format`. May be repeated.
pub async fn export(
    files: &ImageFiles,
    id: Uuid,
    format: Format,
    size_bytes: u64,
    mut pieces: BoxStream<'static, Result<Chunk, DriverError>>,
    progress: &Progress,
) -> Result<Whole, ExportError> {
    let raw = files.make_part(id, ".raw")?;
    let file = Arc::new(raw.file.try_clone().map_err(failed("open", &raw.path))?);
    while let Some(piece) = pieces.next().await {
        let Chunk { offset_bytes, data } = piece?;
        let to = file.clone();
        let end = offset_bytes + data.len() as u64;
        let written = tokio::task::spawn_blocking(move || to.write_all_at(&data, offset_bytes)).await;
        written.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(failed("write", &raw.path))?;
        progress.set_share(end, size_bytes, 0, 50);
    }
    file.set_len(size_bytes).map_err(failed("size", &raw.path))?;
    let part = match format.qemu_name() {
        None => raw,
        Some(name) => {
            let part = files.make_part(id, "")?;
            let heard = progress.clone();
            let told = move |percent: u8| heard.set_share(percent.into(), 100, 50, 75);
            let most = files.limits().largest_bytes.max(size_bytes.saturating_mul(2));
            convert((&raw.path, "raw"), (&part.path, name), most, told).await?;
            part
        }
    };
    progress.set(75);
    let (files, path) = (files.clone(), part.path.clone());
    let digested = tokio::task::spawn_blocking(move || digest_made(&files, part, format)).await;
    Ok(digested.unwrap_or_else(|error| Err(failed("digest", &path)(io::Error::other(error)).into()))?)
}
