//! Volumes as qcow2 files, made and read by qemu-img in children that can be killed. Copies are copies of the whole file.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::BoxStream;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::super::files::{read_pieces, write_pieces};
use super::super::place::{self, Copied, Unfinished, blocking, file_error};
use super::super::{Chunk, DriverError};
use crate::command::{CommandError, Tool};
use crate::image;

const QEMU_IMG: Tool = Tool { program: "qemu-img", package: "qemu-utils" };

/// A look into a header, or a change of one.
const SHORT: Duration = Duration::from_secs(60);

const QCOW2: &str = "qcow2";

/// `qemu-img info --output json`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Info {
    virtual_size: u64,
    backing_filename: Option<String>,
    #[serde(default)]
    format_specific: Value,
}

/// The size of a volume's disk. Refused is a file that would have another read: whoever runs guests could have made it so.
pub(super) async fn size_bytes(id: Uuid, path: &Path) -> Result<u64, DriverError> {
    let words = ["info", "-U", "-f", QCOW2, "--output", "json", "--"].map(OsStr::new);
    let text = QEMU_IMG.run(words.into_iter().chain([path.as_os_str()]), SHORT).await;
    let info = text.and_then(|text| {
        serde_json::from_slice::<Info>(&text).map_err(|source| CommandError::Answer { program: QEMU_IMG.program, source })
    });
    let info = info.map_err(failed(id, "look into its file"))?;
    let elsewhere = info.format_specific.pointer("/data/data-file").is_some() || info.backing_filename.is_some();
    if elsewhere {
        return Err(DriverError::Stream { volume_id: id, what: "its qcow2 file names another file, and is not read" });
    }
    Ok(info.virtual_size)
}

/// Makes a file: empty, or with the bytes of another, its disk of this size or more.
pub(super) async fn make(
    id: Uuid,
    directory: PathBuf,
    path: PathBuf,
    disk_bytes: u64,
    from: Option<Copied>,
) -> Result<(), DriverError> {
    let is_new = from.is_none();
    let to = path.clone();
    let unfinished = blocking(id, path.clone(), "make", move || Unfinished::begin(&directory, &to, id, from)).await?;
    let now = unfinished.now.as_os_str();
    let size = disk_bytes.to_string();
    if is_new {
        let words = ["create", "-q", "-f", QCOW2, "--"].map(OsStr::new);
        let made = QEMU_IMG.run(words.into_iter().chain([now, OsStr::new(&size)]), SHORT).await;
        made.map_err(failed(id, "make its file"))?;
    } else if size_bytes(id, &unfinished.now).await? < disk_bytes {
        resize(id, &unfinished.now, disk_bytes).await?;
    }
    blocking(id, path, "make", move || unfinished.finish()).await
}

/// Makes the disk in a file larger.
pub(super) async fn resize(id: Uuid, path: &Path, disk_bytes: u64) -> Result<(), DriverError> {
    let words = ["resize", "-q", "-f", QCOW2, "--"].map(OsStr::new);
    let size = disk_bytes.to_string();
    let resized = QEMU_IMG.run(words.into_iter().chain([path.as_os_str(), OsStr::new(&size)]), SHORT).await;
    resized.map(drop).map_err(failed(id, "resize its file"))
}

/// Makes a file anew of pieces.
pub(super) async fn copy_in(
    id: Uuid,
    directory: PathBuf,
    path: PathBuf,
    disk_bytes: u64,
    pieces: BoxStream<'_, Result<Chunk, std::io::Error>>,
) -> Result<u64, DriverError> {
    let flat = flat(id, &directory, &path, disk_bytes, place::FLAT_IN).await?;
    let written = write_pieces(id, flat.now.clone(), disk_bytes, pieces).await?;
    let to = path.clone();
    let unfinished = blocking(id, path.clone(), "make", move || Unfinished::begin(&directory, &to, id, None)).await?;
    convert(id, (&flat.now, "raw"), (&unfinished.now, QCOW2), disk_bytes).await?;
    blocking(id, path, "make", move || unfinished.finish()).await?;
    Ok(written)
}

/// Reads the disk in a file.
pub(super) async fn copy_out(
    id: Uuid,
    directory: PathBuf,
    path: PathBuf,
) -> Result<BoxStream<'static, Result<Chunk, DriverError>>, DriverError> {
    let disk_bytes = size_bytes(id, &path).await?;
    let flat = flat(id, &directory, &path, disk_bytes, place::FLAT_OUT).await?;
    convert(id, (&path, QCOW2), (&flat.now, "raw"), disk_bytes).await?;
    let opened = flat.now.clone();
    // Its name goes here; its bytes live as long as they are open.
    let file = blocking(id, path.clone(), "open", move || {
        File::open(&opened).map(Arc::new).map_err(file_error(id, "open", &opened)).inspect(|_| drop(flat))
    })
    .await?;
    Ok(read_pieces(id, path, Some(file)))
}

/// A raw file beside, for as long as it is needed.
async fn flat(id: Uuid, directory: &Path, path: &Path, size_bytes: u64, extension: &str) -> Result<Unfinished, DriverError> {
    let (directory, beside) = (directory.to_owned(), path.with_extension(extension));
    blocking(id, path.to_owned(), "make", move || {
        let made = Unfinished::begin(&directory, &beside, id, None)?;
        made.file.set_len(size_bytes).map_err(file_error(id, "make", &beside))?;
        Ok(made)
    })
    .await
}

async fn convert(id: Uuid, from: (&Path, &str), to: (&Path, &str), disk_bytes: u64) -> Result<(), DriverError> {
    // What says where the bytes are is at most as large as they are.
    image::convert(from, to, disk_bytes.saturating_mul(2).saturating_add(1 << 30), |_| {})
        .await
        .map_err(failed(id, "convert its file"))
}

fn failed(volume_id: Uuid, operation: &'static str) -> impl FnOnce(CommandError) -> DriverError {
    move |source| DriverError::Tool { volume_id, operation, source }
}

/// Whether a file is there.
pub(super) async fn is_there(id: Uuid, path: PathBuf) -> Result<bool, DriverError> {
    let looked = path.clone();
    blocking(id, path, "look at", move || match OpenOptions::new().read(true).open(&looked) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(file_error(id, "look at", &looked)(error)),
    })
    .await
}
