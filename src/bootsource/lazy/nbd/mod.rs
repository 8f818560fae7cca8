//! The server's side of NBD, as much of it as QEMU needs to read an image: fixed newstyle negotiation, one read-only export, simple replies.
//!
//! ```text
//! greeting -> options, each answered -> (EXPORT_NAME | GO) -> requests, answered as they are done -> DISC, or the end
//!                  \-> ABORT, too many, or nonsense -> the end
//! ```
//! By the protocol's own description (`doc/proto.md` of the NetworkBlockDevice project). QEMU is the guest's, so whoever is behind the socket is taken for
//! hostile: every length is bounded before it is believed, requests in flight are counted, and what makes no sense ends the connection.

mod negotiate;
#[cfg(test)]
mod tests;
mod transmit;
mod wire;

use super::stream::Stream;
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

/// How long a client may take to say what it wants.
const NEGOTIATION_LIMIT: Duration = Duration::from_secs(10);

/// Serves an image to one client until it goes.
///
/// # Errors
/// The connection broke, or the client made no sense.
pub(super) async fn serve<R, W>(stream: &Arc<Stream>, mut reader: R, mut writer: W) -> io::Result<()>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin,
{
    let size_bytes = stream.store.size_bytes();
    let negotiated = timeout(NEGOTIATION_LIMIT, negotiate::negotiate(size_bytes, &mut reader, &mut writer)).await;
    match negotiated.unwrap_or_else(|_| Err(wire::nonsense("it does not say what it wants")))? {
        true => transmit::transmit(stream, reader, writer).await,
        false => Ok(()),
    }
}
