//! An image's bytes as Ceph's own stream of differences, version 1 (`doc/dev/rbd-diff`), with holes left out: numbers are
//! little-endian.
//!
//! ```text
//! "rbd diff v1\n"   's' u64 size   ( 'w' u64 offset, u64 length, bytes | 'z' u64 offset, u64 length )...   'e'
//! ```

use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::super::{CHUNK_BYTES, Chunk, DriverError, sparse};
use super::cluster::{Cluster, RBD};
use super::{failed, image};
use crate::command::read;

const HEADER: &[u8] = b"rbd diff v1\n";

/// So long may `rbd` take for the next piece: longer than it waits for the cluster itself.
const PIECE_WITHIN: Duration = Duration::from_secs(150);

/// What is kept of its complaints, in bytes.
const LONGEST_COMPLAINT: u64 = 16 << 10;

const READING: &str = "read its image";
const WRITING: &str = "write its image";

/// A running `rbd`; killed when dropped.
struct Running {
    child: Child,
    complaint: JoinHandle<Vec<u8>>,
}

impl Running {
    fn new(mut child: Child) -> Self {
        let complaint = tokio::spawn(read(child.stderr.take(), LONGEST_COMPLAINT));
        Self { child, complaint }
    }

    /// Waits for its end, and says what it said where that was not well.
    async fn end(mut self, id: Uuid, doing: &'static str) -> Result<(), DriverError> {
        let status = in_time(id, self.child.wait()).await?;
        let status: ExitStatus = status.map_err(|error| failed(id, doing)(RBD.start_error(error)))?;
        let complaint = self.complaint.await.unwrap_or_default();
        RBD.judge(status, &complaint).map_err(failed(id, doing))
    }
}

async fn in_time<T>(volume_id: Uuid, work: impl Future<Output = T>) -> Result<T, DriverError> {
    let ended = tokio::time::timeout(PIECE_WITHIN, work).await;
    ended.map_err(|_| DriverError::Stream { volume_id, what: "rbd stands still" })
}

impl Cluster {
    /// Writes pieces into a volume's image.
    pub(super) async fn copy_in(
        &self,
        id: Uuid,
        size_bytes: u64,
        mut pieces: BoxStream<'_, Result<Chunk, io::Error>>,
    ) -> Result<u64, DriverError> {
        let words = ["import-diff", "--no-progress", "-", &self.spec(&image(id))];
        let mut child = self.rbd_stream(words, Stdio::piped(), Stdio::null()).map_err(failed(id, WRITING))?;
        let stdin = child.stdin.take();
        let running = Running::new(child);
        let Some(mut stdin) = stdin else { return Err(DriverError::Stream { volume_id: id, what: "rbd takes no input" }) };
        let mut written = 0;
        let mut fed = in_time(id, stdin.write_all(HEADER)).await?;
        while fed.is_ok() {
            let Some(piece) = pieces.next().await else { break };
            let piece = piece.map_err(|source| DriverError::Source { volume_id: id, source })?;
            let length = piece.data.len() as u64;
            if piece.offset_bytes.checked_add(length).is_none_or(|end| end > size_bytes) {
                return Err(DriverError::too_large(id));
            }
            fed = in_time(id, write_piece(&mut stdin, &piece)).await?;
            written += length;
        }
        if fed.is_ok() {
            fed = in_time(id, stdin.write_all(b"e")).await?;
        }
        drop(stdin);
        // Where it takes no more it has ended, and says why.
        running.end(id, WRITING).await?;
        match fed {
            Ok(()) => Ok(written),
            Err(_) => Err(DriverError::Stream { volume_id: id, what: "rbd did not take all of it" }),
        }
    }

    /// Reads a volume's image.
    pub(super) fn copy_out(self: Arc<Self>, id: Uuid) -> BoxStream<'static, Result<Chunk, DriverError>> {
        let begin = move || {
            let words = ["export-diff", "--no-progress", &self.spec(&image(id)), "-"];
            let mut child = self.rbd_stream(words, Stdio::null(), Stdio::piped()).map_err(failed(id, READING))?;
            let stdout = child.stdout.take().ok_or(DriverError::Stream { volume_id: id, what: "rbd gives no output" })?;
            Ok::<_, DriverError>(Reader {
                id,
                stdout: BufReader::new(stdout),
                running: Running::new(child),
                offset: 0,
                left: 0,
                begun: false,
            })
        };
        stream::once(async move { begin().map(|reader| stream::try_unfold(reader, Reader::next)) }).try_flatten().boxed()
    }
}

async fn write_piece(stdin: &mut ChildStdin, piece: &Chunk) -> io::Result<()> {
    let mut head = [b'w'; 17];
    if let Some((offset, length)) = head.get_mut(1..).and_then(|numbers| numbers.split_at_mut_checked(8)) {
        offset.copy_from_slice(&piece.offset_bytes.to_le_bytes());
        length.copy_from_slice(&(piece.data.len() as u64).to_le_bytes());
    }
    stdin.write_all(&head).await?;
    stdin.write_all(&piece.data).await
}

/// Where in the stream the reading is.
struct Reader {
    id: Uuid,
    stdout: BufReader<ChildStdout>,
    running: Running,
    /// Of the data that is being read: where it goes on, and how much is left.
    offset: u64,
    left: u64,
    begun: bool,
}

impl Reader {
    /// The next piece that is not zeros.
    async fn next(mut self) -> Result<Option<(Chunk, Self)>, DriverError> {
        loop {
            match in_time(self.id, self.step()).await? {
                Ok(Step::Piece(chunk)) if sparse::is_zero(&chunk.data) => {}
                Ok(Step::Piece(chunk)) => return Ok(Some((chunk, self))),
                Ok(Step::End) => return self.running.end(self.id, READING).await.map(|()| None),
                Err(error) => {
                    // Where it broke off, its own words say more.
                    let id = self.id;
                    self.running.end(id, READING).await?;
                    let what = match error.kind() {
                        io::ErrorKind::InvalidData => "rbd export-diff said something that is not known here",
                        _ => "rbd export-diff broke off",
                    };
                    return Err(DriverError::Stream { volume_id: id, what });
                }
            }
        }
    }

    async fn step(&mut self) -> io::Result<Step> {
        if !self.begun {
            let mut header = [0; HEADER.len()];
            self.stdout.read_exact(&mut header).await?;
            if header != *HEADER {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.begun = true;
        }
        while self.left == 0 {
            match self.stdout.read_u8().await? {
                b's' => drop(self.stdout.read_u64_le().await?),
                b'z' => {
                    self.stdout.read_u64_le().await?;
                    self.stdout.read_u64_le().await?;
                }
                b'w' => {
                    self.offset = self.stdout.read_u64_le().await?;
                    self.left = self.stdout.read_u64_le().await?;
                }
                b'e' => return Ok(Step::End),
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        let length = usize::try_from(self.left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let mut data = vec![0; length];
        self.stdout.read_exact(&mut data).await?;
        let offset_bytes = self.offset;
        self.left -= length as u64;
        self.offset = offset_bytes.checked_add(length as u64).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Step::Piece(Chunk { offset_bytes, data }))
    }
}

enum Step {
    Piece(Chunk),
    End,
}
