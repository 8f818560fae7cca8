//! The way in for the fuzz target: a journal's file, and what was done to its bytes.

use super::{Change, Contents, DetachTask, JournalError, OperationRecord, Task, database::Database, records::Facts};
use crate::{
    agent::api::OperationState,
    model::{GuestUuid, OperationId, VolumeId},
};
use std::{
    panic::{self, AssertUnwindSafe},
    path::Path,
};

/// Opens and reads the journal in that file.
///
/// # Errors
/// The file is damaged.
pub fn read(folder: &Path, file: &Path) -> Result<Contents, JournalError> {
    let (database, contents) = Database::load(folder, file)?;
    // What redb writes at the end of a damaged file's use may fail as well. In the agent that is the end of the journal's own
    // thread, which whoever commits is told of.
    let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(database)));
    Ok(contents)
}

/// Makes a journal with an operation in it.
///
/// # Errors
/// The file cannot be written.
pub fn make(folder: &Path, file: &Path) -> Result<(), JournalError> {
    let task = DetachTask {
        volume: VolumeId(uuid::Uuid::from_u128(1)),
        guest: GuestUuid(uuid::Uuid::from_u128(2)),
        guest_name: "guest-1".to_owned(),
    };
    let record = OperationRecord {
        id: OperationId::random(),
        task: Task::Detach(task),
        created_at_us: 1,
        state: OperationState::Queued,
        steps: Vec::new(),
        facts: Facts::default(),
        cause: None,
        failure: None,
        duration_us: 0,
    };
    Database::load(folder, file)?.0.write(std::iter::once(&Change::PutOperation(Box::new(record))))
}
