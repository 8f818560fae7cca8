//! From the greeting to the first request.

use super::wire::{
    FIXED_NEWSTYLE, GREETING, INFO_BLOCK_SIZE, INFO_EXPORT, NO_ZEROES, OPT_ABORT, OPT_EXPORT_NAME, OPT_GO, OPT_INFO, OPTION,
    OPTION_REPLY, READ_MAX_BYTES, REP_ACK, REP_ERR_INVALID, REP_ERR_UNSUP, REP_INFO, TRANSMISSION_FLAGS, nonsense,
};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest data of an option: a name has 4096 bytes at most, and what else may stand there is small.
const OPTION_MAX_BYTES: u32 = 8192;
/// Options that a client may send: QEMU sends three or four.
const OPTIONS_MAX: usize = 32;

/// Agrees with a client on the one export there is, whatever it calls it. `false`: it wants none.
pub(super) async fn negotiate<R, W>(size_bytes: u64, reader: &mut R, writer: &mut W) -> io::Result<bool>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin,
{
    let mut greeting = vec![];
    greeting.extend(GREETING.to_be_bytes());
    greeting.extend(OPTION.to_be_bytes());
    greeting.extend((FIXED_NEWSTYLE | NO_ZEROES).to_be_bytes());
    writer.write_all(&greeting).await?;
    let flags = reader.read_u32().await?;
    if flags & u32::from(FIXED_NEWSTYLE) == 0 || flags & !u32::from(FIXED_NEWSTYLE | NO_ZEROES) != 0 {
        return Err(nonsense("it wants another handshake"));
    }
    for _ in 0..OPTIONS_MAX {
        if reader.read_u64().await? != OPTION {
            return Err(nonsense("what should be an option is none"));
        }
        let (option, length) = (reader.read_u32().await?, reader.read_u32().await?);
        if length > OPTION_MAX_BYTES {
            return Err(nonsense("an option is too long"));
        }
        let mut data = vec![0; usize::try_from(length).unwrap_or_default()];
        reader.read_exact(&mut data).await?;
        match option {
            OPT_EXPORT_NAME => {
                let mut answer = vec![];
                answer.extend(size_bytes.to_be_bytes());
                answer.extend(TRANSMISSION_FLAGS.to_be_bytes());
                if flags & u32::from(NO_ZEROES) == 0 {
                    answer.extend([0; 124]);
                }
                writer.write_all(&answer).await?;
                return Ok(true);
            }
            OPT_ABORT => {
                // It may be gone already.
                let _ = writer.write_all(&reply(option, REP_ACK, &[])).await;
                return Ok(false);
            }
            OPT_INFO | OPT_GO => {
                let Some(wants_blocks) = wants_block_sizes(&data) else {
                    writer.write_all(&reply(option, REP_ERR_INVALID, &[])).await?;
                    continue;
                };
                let mut answer = reply(option, REP_INFO, &export(size_bytes));
                if wants_blocks {
                    answer.extend(reply(option, REP_INFO, &block_sizes()));
                }
                answer.extend(reply(option, REP_ACK, &[]));
                writer.write_all(&answer).await?;
                if option == OPT_GO {
                    return Ok(true);
                }
            }
            _ => writer.write_all(&reply(option, REP_ERR_UNSUP, &[])).await?,
        }
    }
    Err(nonsense("it sends options without end"))
}

fn reply(option: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let mut reply = OPTION_REPLY.to_be_bytes().to_vec();
    reply.extend(option.to_be_bytes());
    reply.extend(kind.to_be_bytes());
    reply.extend(u32::try_from(data.len()).unwrap_or_default().to_be_bytes());
    reply.extend(data);
    reply
}

fn export(size_bytes: u64) -> Vec<u8> {
    let mut info = INFO_EXPORT.to_be_bytes().to_vec();
    info.extend(size_bytes.to_be_bytes());
    info.extend(TRANSMISSION_FLAGS.to_be_bytes());
    info
}

/// Smallest, best and largest request.
fn block_sizes() -> Vec<u8> {
    let mut info = INFO_BLOCK_SIZE.to_be_bytes().to_vec();
    [1, 65536, READ_MAX_BYTES].iter().for_each(|size: &u32| info.extend(size.to_be_bytes()));
    info
}

/// Whether the data of INFO or GO asks for block sizes: length of the name, name, number of items, items. `None`: it is no such data.
fn wants_block_sizes(data: &[u8]) -> Option<bool> {
    let (length, rest) = data.split_first_chunk::<4>()?;
    let rest = rest.get(usize::try_from(u32::from_be_bytes(*length)).ok()?..)?;
    let (count, items) = rest.split_first_chunk::<2>()?;
    if items.len() != usize::from(u16::from_be_bytes(*count)) * 2 {
        return None;
    }
    let (items, _) = items.as_chunks::<2>();
    Some(items.iter().any(|item| u16::from_be_bytes(*item) == INFO_BLOCK_SIZE))
}
