//! An image of which a guest reads while it comes: reads wait for what is missing, and say so to whoever downloads.
//!
//! ```text
//!            +--------- bytes come again ---------+
//!            v                                    |
//! Coming ----+-- the service fails, or is silent -+-> Lost      reads wait; those that waited too long fail
//!   | all here, and the digest is right
//!   +-> Whole                                                   an ordinary image of the cache
//!   | all here, and the digest is wrong, or the bytes are hostile
//!   +-> Damaged                                                 every read fails, for good
//! ```

use super::{block_map::BLOCK_BYTES, store::Store};
use crate::bootsource::{BootSourceError, SourceError};
use crate::model::ErrorKind;
use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    task::spawn_blocking,
    time::{Instant, timeout_at},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How far beside a download goes on, blocks, before it jumps back to what was asked for: a request costs more than these.
const AHEAD_BLOCKS: u64 = 32;

/// How an image is doing.
#[derive(Debug, Clone)]
pub enum Streaming {
    /// It comes, or is being verified.
    Coming,
    /// Nothing comes now.
    Lost(SourceError),
    /// All is here, and is what it should be.
    Whole,
    /// It is not what it should be, in words.
    Damaged(Arc<BootSourceError>),
}

/// How far it is.
#[derive(Debug, Clone)]
pub struct Progress {
    /// How it is doing.
    pub state: Streaming,
    /// Bytes that are here.
    pub here_bytes: u64,
    /// Bytes in all.
    pub size_bytes: u64,
}

/// The image as guests and the downloader see it.
pub(super) struct Stream {
    pub(super) store: Store,
    wants: Mutex<Wants>,
    arrived: Notify,
    /// Somebody waits for a block that nobody waited for before.
    pub(super) wanted: Notify,
    progress: watch::Sender<Progress>,
    patience: Duration,
}

/// What is asked for.
struct Wants {
    /// Blocks that reads wait for, in the order in which they came.
    blocks: VecDeque<u64>,
    /// Where the download goes on where nobody waits.
    cursor: u64,
    /// When bytes came last.
    heard: Instant,
}

/// A stream that somebody uses; with the last of them its download ends.
pub(super) struct InUse {
    pub(super) stream: Arc<Stream>,
    _ends: DropGuard,
}

impl InUse {
    /// With the token that ends the download.
    pub(super) fn new(stream: Arc<Stream>) -> (Self, CancellationToken) {
        let token = CancellationToken::new();
        (Self { stream, _ends: token.clone().drop_guard() }, token)
    }
}

impl Stream {
    /// `patience`: how long a read waits while nothing comes at all; QEMU and the guest wait with it.
    pub(super) fn new(store: Store, state: Streaming, patience: Duration) -> Self {
        let progress = Progress { state, here_bytes: store.map().here_bytes(), size_bytes: store.size_bytes() };
        let wants = Wants { blocks: VecDeque::new(), cursor: 0, heard: Instant::now() };
        Self {
            store,
            wants: Mutex::new(wants),
            arrived: Notify::new(),
            wanted: Notify::new(),
            progress: watch::Sender::new(progress),
            patience,
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    fn wants(&self) -> MutexGuard<'_, Wants> {
        self.wants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a range of the image, once it is here.
    ///
    /// # Errors
    /// Nothing comes; the image is damaged; it has no such range; the host's disk.
    pub(super) async fn read(self: &Arc<Self>, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let end = at.checked_add(length as u64).filter(|end| *end <= self.store.size_bytes());
        if end.is_none() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let begun = Instant::now();
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            // From here on nothing that arrives is missed.
            arrived.as_mut().enable();
            if matches!(self.progress.borrow().state, Streaming::Damaged(_)) {
                return Err(io::Error::other("the image is damaged"));
            }
            let Some(block) = self.store.first_missing(at, length as u64) else { break };
            let deadline = {
                let mut wants = self.wants();
                if !wants.blocks.contains(&block) {
                    wants.blocks.push_back(block);
                    self.wanted.notify_one();
                }
                wants.heard.max(begun) + self.patience
            };
            if Instant::now() >= deadline {
                self.starve();
                return Err(io::ErrorKind::TimedOut.into());
            }
            let _ = timeout_at(deadline, arrived).await;
        }
        let stream = self.clone();
        spawn_blocking(move || stream.store.read(at, length)).await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// A read fails: whoever watches hears of it, also where the service has said nothing yet.
    fn starve(&self) {
        let patience_s = self.patience.as_secs();
        self.progress.send_modify(|progress| {
            if matches!(progress.state, Streaming::Coming) {
                let message = format!("the image service has sent nothing for {patience_s} s");
                progress.state = Streaming::Lost(SourceError { kind: ErrorKind::Timeout, message });
            }
        });
    }

    /// The block to begin with: what somebody waits for, else what is missing next.
    pub(super) fn next_block(&self) -> Option<u64> {
        let mut wants = self.wants();
        let map = self.store.map();
        wants.blocks.retain(|block| !map.has(*block));
        let next = wants.blocks.front().copied();
        next.or_else(|| map.first_missing(wants.cursor)).or_else(|| map.first_missing(0))
    }

    /// Whether a download that has come to this block should begin elsewhere: somebody waits for what is not just ahead, or nothing just
    /// ahead is missing.
    pub(super) fn should_jump(&self, block: u64) -> bool {
        let ahead = block..block.saturating_add(AHEAD_BLOCKS);
        self.next_block().is_some_and(|next| !ahead.contains(&next))
    }

    /// Takes in a block that has come.
    pub(super) async fn put(self: &Arc<Self>, block: u64, bytes: Vec<u8>) -> io::Result<()> {
        let stream = self.clone();
        let written = spawn_blocking(move || stream.store.put(block, &bytes)).await;
        written.unwrap_or_else(|error| Err(io::Error::other(error)))?;
        let mut wants = self.wants();
        wants.cursor = block + 1;
        wants.heard = Instant::now();
        drop(wants);
        self.arrived.notify_waiters();
        let here_bytes = self.store.map().here_bytes();
        self.progress.send_modify(|progress| {
            progress.here_bytes = here_bytes;
            progress.state = Streaming::Coming;
        });
        Ok(())
    }

    /// Tells how the image is doing now.
    pub(super) fn tell(&self, state: Streaming) {
        self.progress.send_modify(|progress| progress.state = state);
        self.arrived.notify_waiters();
    }

    /// Bytes of the image at which a block begins.
    pub(super) const fn offset_of(block: u64) -> u64 {
        block * BLOCK_BYTES
    }
}
