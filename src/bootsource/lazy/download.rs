//! The one download of an image that guests read meanwhile: from its beginning to its end, but first what somebody waits for.
//!
//! ```text
//! next block --asked for from there on--> blocks come --nobody waits elsewhere--> on to the end
//!      ^                                        | somebody does, or what follows is here
//!      +----------------------------------------+
//! ```
//! A service that cannot begin in the middle is read from the beginning, and never left before its end.

use super::{
    block_map::BLOCK_BYTES,
    stream::{Stream, Streaming},
};
use crate::bootsource::{ImageSource, Piece, SourceError};
use crate::model::{ErrorKind, ImageId};
use std::{sync::Arc, time::Duration};
use tokio::{sync::mpsc, task::spawn_blocking};

/// Pieces that may wait to be written.
const PIECES: usize = 32;
/// Blocks that a request brings before it is left for another: the service's work for it is worth something.
const RUN_BLOCKS: u64 = 4;
/// Blocks after which what has come is made to survive a power cut: 16 MiB.
const PERSIST_BLOCKS: u64 = 256;
/// First and longest pause after a failure.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// How a request ended.
enum Ended {
    /// It was left, or came to the end of the image.
    Left,
    /// The service began at 0 whatever was asked for.
    WithoutRanges,
}

/// Downloads until all of the image is here, however often the service goes away.
pub(super) async fn download(stream: &Arc<Stream>, image: ImageId, source: &dyn ImageSource) {
    let mut pause = PAUSES.0;
    let mut has_ranges = true;
    while let Some(block) = stream.next_block() {
        let before = stream.store.map().here_bytes();
        let ended = request(stream, image, source, if has_ranges { block } else { 0 }, has_ranges).await;
        if let Ok(Ended::WithoutRanges) = ended {
            has_ranges = false;
        }
        let gained = stream.store.map().here_bytes() > before;
        let failure = match ended {
            Ok(_) if gained => None,
            Ok(_) => Some(SourceError { kind: ErrorKind::Internal, message: "it ended before its end".to_owned() }),
            Err(error) => Some(error),
        };
        if gained {
            pause = PAUSES.0;
        }
        if let Some(error) = failure {
            tracing::warn!(%image, error = error.message, "the image does not come: trying on");
            stream.tell(Streaming::Lost(error));
            tokio::time::sleep(pause).await;
            pause = PAUSES.1.min(pause * 2);
        }
    }
}

/// One request, from a block on.
async fn request(
    stream: &Arc<Stream>,
    image: ImageId,
    source: &dyn ImageSource,
    from: u64,
    may_jump: bool,
) -> Result<Ended, SourceError> {
    let (sender, mut pieces) = mpsc::channel(PIECES);
    let mut fetching = source.fetch(image, Stream::offset_of(from), sender);
    let mut fetched = None;
    let (mut block, mut ended, mut may_jump) = (from, Ended::Left, may_jump);
    let mut gathered: Vec<u8> = vec![];
    let mut taken = 0;
    loop {
        let piece = tokio::select! {
            piece = pieces.recv() => piece,
            result = &mut fetching, if fetched.is_none() => {
                fetched = Some(result);
                continue;
            }
            () = stream.wanted.notified(), if may_jump && taken >= RUN_BLOCKS => {
                if stream.should_jump(block) {
                    return Ok(ended);
                }
                continue;
            }
        };
        match piece {
            Some(Piece::From(offset)) if offset == Stream::offset_of(from) => {}
            Some(Piece::From(_)) => {
                (block, ended, may_jump) = (0, Ended::WithoutRanges, false);
                gathered.clear();
            }
            Some(Piece::Bytes(bytes)) => {
                gathered.extend(bytes);
                while let Some(bytes) = complete_block(stream, block, &mut gathered) {
                    stream.put(block, bytes).await.map_err(unwritten)?;
                    block += 1;
                    taken += 1;
                    if taken % PERSIST_BLOCKS == 0 {
                        persist(stream).await?;
                    }
                }
                if may_jump && taken >= RUN_BLOCKS && stream.should_jump(block) {
                    return Ok(ended);
                }
                // More than the image has is not taken, however much comes.
                if stream.store.length_of(block) == 0 {
                    persist(stream).await?;
                    return Ok(ended);
                }
            }
            // The sender is gone: what the request came to is known, or about to be.
            None => {
                let result = match fetched {
                    Some(result) => result,
                    None => fetching.await,
                };
                persist(stream).await?;
                return result.map(|()| ended);
            }
        }
    }
}

/// The bytes of this block, once all of them were gathered. More than the image has are never kept.
fn complete_block(stream: &Stream, block: u64, gathered: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = usize::try_from(stream.store.length_of(block)).ok().filter(|length| *length > 0)?;
    (gathered.len() >= length).then(|| gathered.drain(..length).collect())
}

async fn persist(stream: &Arc<Stream>) -> Result<(), SourceError> {
    let stream = stream.clone();
    let persisted = spawn_blocking(move || stream.store.persist()).await;
    persisted.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(unwritten)
}

fn unwritten(error: std::io::Error) -> SourceError {
    SourceError { kind: ErrorKind::Internal, message: format!("the file in the image cache cannot be written: {error}") }
}

const _: () = assert!(RUN_BLOCKS * BLOCK_BYTES <= 1 << 20, "a guest waits for what is asked for before");
