//! Bytes on their way in: counted, digested and written by a thread of their own while they come, looked at before they are put in
//! place. A few pieces wait between the two at most, so memory does not grow with the image.

use std::fs::File;
use std::io::{self, Write as _};

use md5::Md5;
use sha2::{Digest as _, Sha512};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::files::{ImageFiles, ImageFilesError, Part, failed};
use super::format::{HEAD_BYTES, check_head};
use super::inspect::{InspectError, inspect};
use super::{Format, Unfit};
use crate::domain::ImageFacts;
use crate::hex::hex;

/// So many pieces wait to be written.
const PIECES_WAITING: usize = 4;

/// Bytes could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// They are not what they are said to be, or must not be opened.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// There is no room for them, or the disk failed.
    #[error(transparent)]
    Files(#[from] ImageFilesError),
    /// They did not come to an end, or the service stops.
    #[error("the data was cut off")]
    CutOff,
}

/// Whole bytes that were looked at, under a name that nobody sees: to be put in place, or sent elsewhere. Dropped, they are gone.
pub struct Whole {
    pub(super) part: Part,
    pub(super) facts: ImageFacts,
}

impl Whole {
    /// Puts them in place as an image's, on the disk for good.
    pub async fn place(self, files: ImageFiles, id: Uuid) -> Result<ImageFacts, WriteError> {
        let Self { part, facts } = self;
        let placed = tokio::task::spawn_blocking(move || files.place(part, id)).await;
        placed.map_err(|_| WriteError::CutOff)??;
        Ok(facts)
    }
}

enum Message {
    Data(Box<dyn AsRef<[u8]> + Send>),
    End,
}

/// Takes the bytes of one image. Dropped before its end, nothing is left of them.
pub struct ImageWriter {
    pieces: mpsc::Sender<Message>,
    files: ImageFiles,
    id: Uuid,
    thread: JoinHandle<Result<Whole, WriteError>>,
}

impl ImageWriter {
    /// For an image that is said to be of `format`.
    pub fn start(files: ImageFiles, id: Uuid, format: Format) -> Self {
        Self::begin(files, id, format, false)
    }

    /// The same for an image that may have no bytes at all: one that names snapshots of volumes.
    pub fn start_of_mapping(files: ImageFiles, id: Uuid, format: Format) -> Self {
        Self::begin(files, id, format, true)
    }

    fn begin(files: ImageFiles, id: Uuid, format: Format, may_be_empty: bool) -> Self {
        let (pieces, coming) = mpsc::channel(PIECES_WAITING);
        let into = files.clone();
        Self { pieces, files, id, thread: tokio::task::spawn_blocking(move || take(&into, id, format, may_be_empty, coming)) }
    }

    /// Takes the next bytes; false where no more are wanted: `finish` tells why.
    pub async fn write(&self, bytes: impl AsRef<[u8]> + Send + 'static) -> bool {
        self.pieces.send(Message::Data(Box::new(bytes))).await.is_ok()
    }

    /// There are no more bytes. When this returns well they are in place.
    pub async fn finish(self) -> Result<ImageFacts, WriteError> {
        let (files, id) = (self.files.clone(), self.id);
        self.whole().await?.place(files, id).await
    }

    /// There are no more bytes; they are put in no place.
    pub async fn whole(self) -> Result<Whole, WriteError> {
        // Where the thread has ended already it says why.
        let _ = self.pieces.send(Message::End).await;
        self.thread.await.unwrap_or(Err(WriteError::CutOff))
    }
}

fn take(
    files: &ImageFiles,
    id: Uuid,
    format: Format,
    may_be_empty: bool,
    mut coming: mpsc::Receiver<Message>,
) -> Result<Whole, WriteError> {
    let mut part = files.make_part(id, "")?;
    let mut digests = Digests::default();
    let mut head = Vec::new();
    let mut head_seen = false;
    let most = files.limits().largest_bytes;
    loop {
        match coming.blocking_recv() {
            None => return Err(WriteError::CutOff),
            Some(Message::End) => break,
            Some(Message::Data(piece)) => {
                let piece = (*piece).as_ref();
                digests.update(piece);
                if digests.size_bytes > most {
                    return Err(Unfit::TooLarge { most }.into());
                }
                if !head_seen {
                    head.extend_from_slice(piece.get(..piece.len().min(HEAD_BYTES - head.len())).unwrap_or_default());
                    if head.len() == HEAD_BYTES {
                        // Nobody need send a terabyte to hear that it is the wrong one.
                        check_head(format, &head)?;
                        head_seen = true;
                    }
                }
                part.file.write_all(piece).map_err(failed("write", &part.path))?;
            }
        }
    }
    let is_empty = may_be_empty && digests.size_bytes == 0;
    let virtual_bytes = if is_empty { 0 } else { looked_at(&part.file, format, files)? };
    Ok(Whole { part, facts: digests.facts(virtual_bytes) })
}

fn looked_at(file: &File, format: Format, files: &ImageFiles) -> Result<u64, WriteError> {
    inspect(file, format, files.limits()).map_err(|error| match error {
        InspectError::Unfit(unfit) => unfit.into(),
        InspectError::Io(source) => {
            WriteError::Files(ImageFilesError { operation: "look into", path: "what was uploaded".into(), source })
        }
    })
}

/// Digests a file that this service made itself.
pub(super) fn digest_made(files: &ImageFiles, part: Part, format: Format) -> Result<Whole, WriteError> {
    let virtual_bytes = looked_at(&part.file, format, files)?;
    let mut digests = Digests::default();
    digest(&part.file, &mut digests).map_err(failed("read", &part.path))?;
    Ok(Whole { part, facts: digests.facts(virtual_bytes) })
}

fn digest(file: &File, digests: &mut Digests) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let mut buffer = vec![0; crate::drivers::CHUNK_BYTES];
    loop {
        match file.read_at(&mut buffer, digests.size_bytes)? {
            0 => return Ok(()),
            length => digests.update(buffer.get(..length).unwrap_or_default()),
        }
    }
}

#[derive(Default)]
struct Digests {
    size_bytes: u64,
    md5: Md5,
    sha512: Sha512,
}

impl Digests {
    fn update(&mut self, piece: &[u8]) {
        self.size_bytes += piece.len() as u64;
        self.md5.update(piece);
        self.sha512.update(piece);
    }

    fn facts(self, virtual_bytes: u64) -> ImageFacts {
        ImageFacts {
            size_bytes: self.size_bytes,
            virtual_bytes,
            checksum: hex(&self.md5.finalize()),
            hash_value: hex(&self.sha512.finalize()),
        }
    }
}
