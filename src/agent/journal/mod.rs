//! The agent's memory: what it is doing and what it has attached, durable before anything outside is touched.
//!
//! One thread owns the database. It takes every change that waits, writes all of them in one transaction with an fsync,
//! and only then answers: operations that run side by side share the cost of the disk.

mod database;
mod disk;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(test)]
mod memory;
mod records;
mod tasks;

pub use records::{AttachmentRecord, BootRecord, Facts, OperationRecord, Step, StepRecord};
pub use tasks::{
    AttachTask, BootTask, DeleteTask, DetachTask, ExtendTask, FillTask, RebuildTask, ReimageTask, RescueTask, SnapshotTask,
    StartTask, StopTask, Task, UnrescueTask,
};

use crate::model::{ErrorKind, GuestUuid, OperationId, VolumeId};
use database::Database;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::{mpsc, oneshot};

/// Version of what is written. An agent that finds a higher one refuses to start and leaves the file alone; a lower one is read,
/// and marked as this one by the first write. 2 has extends and abandoned operations, 3 guests that
/// were booted, 4 those that were started, stopped and rebuilt, and snapshots of guests, 5 guests that boots define and
/// that are rescued, and fills, 6 ephemeral disks on logical volumes, 7 those on RBD.
pub const FORMAT: u32 = 7;

/// The journal cannot be opened, read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// Not opened.
    #[error(
        "cannot open the journal {path}: {message}; nothing of it was changed, and nothing is attached or detached before it can be written"
    )]
    Open {
        /// File.
        path: PathBuf,
        /// Cause.
        message: String,
    },
    /// Another agent has it open.
    #[error("the journal {path} is in use by another bowlined; only one may run on a host")]
    InUse {
        /// File.
        path: PathBuf,
    },
    /// Written by a newer agent.
    #[error(
        "the journal {path} has format {found}, this bowlined reads up to {FORMAT}: start the newer version again, or detach \
         everything with it before going back"
    )]
    Newer {
        /// File.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// A record makes no sense.
    #[error("the journal {path} is damaged ({what}): {message}; keep the file, it is evidence, and restore one from backup")]
    Damaged {
        /// File.
        path: PathBuf,
        /// Which record.
        what: String,
        /// Cause.
        message: String,
    },
    /// Not written.
    #[error("cannot write the journal {path}: {message}")]
    Write {
        /// File.
        path: PathBuf,
        /// Cause.
        message: String,
    },
    /// The thread that owns it has ended.
    #[error("the journal is closed")]
    Closed,
}

impl JournalError {
    /// Another start will find the file just as it is: somebody has to see to it first.
    pub const fn needs_a_hand(&self) -> bool {
        matches!(self, Self::Newer { .. } | Self::Damaged { .. })
    }

    /// Its kind.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::InUse { .. } => ErrorKind::Conflict,
            Self::Newer { .. } => ErrorKind::Unsupported,
            Self::Open { .. } | Self::Damaged { .. } | Self::Write { .. } | Self::Closed => ErrorKind::Internal,
        }
    }
}

/// One change. All changes of a [`Journal::commit`] happen together or not at all.
#[derive(Debug, Clone)]
pub enum Change {
    /// Writes an operation as it is now.
    PutOperation(Box<OperationRecord>),
    /// Forgets an operation.
    DropOperation(OperationId),
    /// Writes an attachment.
    PutAttachment(Box<AttachmentRecord>),
    /// Forgets an attachment.
    DropAttachment(VolumeId, GuestUuid),
    /// Writes a guest that was booted.
    PutGuest(Box<BootRecord>),
    /// Forgets a guest.
    DropGuest(GuestUuid),
}

/// Everything the journal holds.
#[derive(Debug, Default)]
pub struct Contents {
    /// Operations, oldest first.
    pub operations: Vec<OperationRecord>,
    /// Attachments.
    pub attachments: Vec<AttachmentRecord>,
    /// Guests that were booted.
    pub guests: Vec<BootRecord>,
}

impl Change {
    /// What it is about: of two changes of one subject the later one counts.
    fn subject(&self) -> Subject {
        match self {
            Self::PutOperation(record) => Subject::Operation(record.id),
            Self::DropOperation(id) => Subject::Operation(*id),
            Self::PutAttachment(record) => Subject::Attachment(record.volume, record.guest),
            Self::DropAttachment(volume, guest) => Subject::Attachment(*volume, *guest),
            Self::PutGuest(record) => Subject::Guest(record.guest),
            Self::DropGuest(guest) => Subject::Guest(*guest),
        }
    }
}

/// What a change is about.
#[derive(PartialEq, Eq)]
enum Subject {
    Operation(OperationId),
    Attachment(VolumeId, GuestUuid),
    Guest(GuestUuid),
}

struct Commit {
    changes: Vec<Change>,
    /// They have happened, so where they cannot be written now they are written with what comes next.
    is_owed: bool,
    done: oneshot::Sender<Result<(), JournalError>>,
}

/// A handle to the journal; cheap to clone.
#[derive(Clone)]
pub struct Journal {
    commits: mpsc::UnboundedSender<Commit>,
    path: Arc<Path>,
}

impl Journal {
    /// Opens the journal in this folder, making both where they are missing (0700 and 0600), and reads it.
    pub fn open(state_dir: &Path) -> Result<(Self, Contents), JournalError> {
        let path = state_dir.join("journal.redb");
        let (database, contents) = Database::load(state_dir, &path)?;
        let (commits, waiting) = mpsc::unbounded_channel();
        std::thread::Builder::new()
            .name("journal".into())
            .stack_size(256 * 1024)
            .spawn(move || serve(database, waiting))
            .map_err(|error| JournalError::Open { path: path.clone(), message: error.to_string() })?;
        Ok((Self { commits, path: path.into() }, contents))
    }

    /// Makes changes durable. When this returns they survive a power cut; on an error they will never have happened.
    pub async fn commit(&self, changes: Vec<Change>) -> Result<(), JournalError> {
        self.send(changes, false).await
    }

    /// The same for what is so already, written or not. On an error it is written before the next commit that can be.
    pub async fn commit_or_owe(&self, changes: Vec<Change>) -> Result<(), JournalError> {
        self.send(changes, true).await
    }

    async fn send(&self, changes: Vec<Change>, is_owed: bool) -> Result<(), JournalError> {
        let (done, answer) = oneshot::channel();
        self.commits.send(Commit { changes, is_owed, done }).map_err(|_| JournalError::Closed)?;
        answer.await.map_err(|_| JournalError::Closed)?
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn serve(mut database: Database, mut waiting: mpsc::UnboundedReceiver<Commit>) {
    let mut owed: Vec<Change> = vec![];
    while let Some(first) = waiting.blocking_recv() {
        write_waiting(first, &mut waiting, &mut owed, |changes| database.write(changes));
    }
    if !owed.is_empty()
        && let Err(error) = database.write(owed.iter())
    {
        tracing::error!(%error, "what the journal owes is lost: the next start finds out anew how it ended");
    }
}

/// Writes what is owed and what waits, in one go, and answers.
fn write_waiting(
    first: Commit,
    waiting: &mut mpsc::UnboundedReceiver<Commit>,
    owed: &mut Vec<Change>,
    write: impl FnOnce(&mut dyn Iterator<Item = &Change>) -> Result<(), JournalError>,
) {
    let mut batch = vec![first];
    while let Ok(next) = waiting.try_recv() {
        batch.push(next);
    }
    let result = write(&mut owed.iter().chain(batch.iter().flat_map(|commit| &commit.changes)));
    if result.is_ok() {
        owed.clear();
    }
    for Commit { changes, is_owed, done } in batch {
        if result.is_err() && is_owed {
            owed.retain(|before| changes.iter().all(|change| change.subject() != before.subject()));
            owed.extend(changes);
        }
        // Whoever asked may be gone: its operation was dropped with the runtime.
        let _ = done.send(result.clone());
    }
}

#[cfg(test)]
pub use disk::faulty;
#[cfg(test)]
pub use memory::Memory;

#[cfg(test)]
mod tests;
