//! Requests and their answers, which go out in the order in which they are done: a read that waits holds up no other.

use super::{
    super::stream::Stream,
    wire::{CMD_DISC, CMD_FLUSH, CMD_READ, CMD_WRITE, EINVAL, EIO, EPERM, READ_MAX_BYTES, REQUEST, SIMPLE_REPLY, nonsense},
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{io, sync::Arc};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Requests that are answered side by side; more wait in the socket. With the largest read this bounds what a client can make the agent hold.
const IN_FLIGHT_MAX: usize = 8;

/// A request's head.
struct Request {
    command: u16,
    cookie: u64,
    offset: u64,
    length: u32,
}

/// Answers requests until the client goes.
pub(super) async fn transmit<R, W>(stream: &Arc<Stream>, mut reader: R, mut writer: W) -> io::Result<()>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin,
{
    let mut in_flight = FuturesUnordered::new();
    let (requests, mut taken) = tokio::sync::mpsc::channel(1);
    let reading = async move {
        while let Some(request) = next(&mut reader).await? {
            if requests.send(request).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    let answering = async {
        loop {
            tokio::select! {
                request = taken.recv(), if in_flight.len() < IN_FLIGHT_MAX => match request {
                    Some(request) => in_flight.push(answer(stream, request)),
                    // The client has said goodbye: it waits for no answers.
                    None => return Ok(()),
                },
                Some(answer) = in_flight.next(), if !in_flight.is_empty() => {
                    let answer: Vec<u8> = answer;
                    writer.write_all(&answer).await?;
                }
            }
        }
    };
    let (read, answered): (io::Result<()>, io::Result<()>) = {
        tokio::pin!(reading);
        tokio::pin!(answering);
        tokio::select! {
            read = &mut reading => (read, Ok(())),
            answered = &mut answering => (Ok(()), answered),
        }
    };
    read.and(answered)
}

/// The next request; `None` once the client says goodbye or goes.
async fn next(reader: &mut (impl AsyncRead + Send + Unpin)) -> io::Result<Option<Request>> {
    match reader.read_u32().await {
        Ok(REQUEST) => {}
        Ok(_) => return Err(nonsense("what should be a request is none")),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let _flags = reader.read_u16().await?;
    let command = reader.read_u16().await?;
    let request = Request {
        command,
        cookie: reader.read_u64().await?,
        offset: reader.read_u64().await?,
        length: reader.read_u32().await?,
    };
    match command {
        CMD_DISC => return Ok(None),
        // Its bytes follow, and are nobody's.
        CMD_WRITE if request.length <= READ_MAX_BYTES => {
            let length = u64::from(request.length);
            if tokio::io::copy(&mut reader.take(length), &mut tokio::io::sink()).await? < length {
                return Ok(None);
            }
        }
        CMD_WRITE => return Err(nonsense("it would write more than there may be in a request")),
        _ => {}
    }
    Ok(Some(request))
}

async fn answer(stream: &Arc<Stream>, request: Request) -> Vec<u8> {
    let Request { command, cookie, offset, length } = request;
    let (error, bytes) = match command {
        CMD_READ if length == 0 || length > READ_MAX_BYTES => (EINVAL, vec![]),
        CMD_READ => match stream.read(offset, usize::try_from(length).unwrap_or_default()).await {
            Ok(bytes) => (0, bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => (EINVAL, vec![]),
            Err(error) => {
                tracing::warn!(%error, offset, length, "a guest's read of an image fails");
                (EIO, vec![])
            }
        },
        // Nothing is ever written.
        CMD_FLUSH => (0, vec![]),
        CMD_WRITE => (EPERM, vec![]),
        _ => (EINVAL, vec![]),
    };
    let mut reply = Vec::with_capacity(16 + bytes.len());
    reply.extend(SIMPLE_REPLY.to_be_bytes());
    reply.extend(error.to_be_bytes());
    reply.extend(cookie.to_be_bytes());
    reply.extend(bytes);
    reply
}
