//! What the journal promises: kept across restarts, closed to others, refused when it cannot be understood.

use super::*;
use crate::agent::api::OperationState;
use std::os::unix::fs::PermissionsExt;

fn operation() -> OperationRecord {
    OperationRecord {
        id: OperationId::random(),
        task: Task::Detach(DetachTask {
            volume: VolumeId(uuid::Uuid::new_v4()),
            guest: GuestUuid(uuid::Uuid::new_v4()),
            guest_name: "guest-1".into(),
        }),
        created_at_us: 1,
        state: OperationState::Queued,
        steps: vec![],
        facts: Facts::default(),
        cause: None,
        failure: None,
        duration_us: 0,
    }
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (kept, dropped) = (operation(), operation());
    {
        let (journal, contents) = Journal::open(dir.path()).unwrap();
        assert!(contents.operations.is_empty());
        let put = |record: &OperationRecord| Change::PutOperation(Box::new(record.clone()));
        journal.commit(vec![put(&kept), put(&dropped)]).await.unwrap();
        journal.commit(vec![Change::DropOperation(dropped.id)]).await.unwrap();
    }
    // The thread lets the file go once its last handle is dropped; until then the next open says InUse.
    let contents = (0..200)
        .find_map(|_| match Journal::open(dir.path()) {
            Ok((_, contents)) => Some(contents),
            Err(JournalError::InUse { .. }) => {
                std::thread::yield_now();
                std::thread::sleep(std::time::Duration::from_millis(5));
                None
            }
            Err(error) => panic!("{error}"),
        })
        .unwrap();
    assert_eq!(contents.operations, [kept]);
}

#[tokio::test]
async fn the_file_is_closed_to_others() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path()).unwrap();
    assert_eq!(std::fs::metadata(journal.path()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_second_agent_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Journal::open(dir.path()).unwrap();
    assert!(matches!(Journal::open(dir.path()), Err(JournalError::InUse { .. })));
}

#[test]
fn bytes_that_are_no_journal_are_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("journal.redb");
    std::fs::write(&file, b"not a journal at all").unwrap();
    let error = Journal::open(dir.path()).err().unwrap();
    assert!(error.to_string().contains("journal.redb"), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), b"not a journal at all");
}

#[tokio::test]
async fn a_journal_of_an_older_version_is_read_and_marked_as_this_one_once_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("journal.redb");
    let definition: redb::TableDefinition<'_, &str, u32> = redb::TableDefinition::new("meta");
    let kept = operation();
    {
        let database = Database::open(dir.path(), &file).unwrap();
        database.write([Change::PutOperation(Box::new(kept.clone()))].iter()).unwrap();
    }
    {
        let database = redb::Database::create(&file).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(definition).unwrap().insert("format", FORMAT - 1).unwrap();
        transaction.commit().unwrap();
    }
    {
        let database = Database::open(dir.path(), &file).unwrap();
        assert_eq!(database.read().unwrap().operations, std::slice::from_ref(&kept));
        database.write([Change::DropOperation(kept.id)].iter()).unwrap();
    }
    let database = redb::Database::create(&file).unwrap();
    let transaction = redb::ReadableDatabase::begin_read(&database).unwrap();
    let format = transaction.open_table(definition).unwrap().get("format").unwrap().unwrap().value();
    assert_eq!(format, FORMAT, "an older agent must not believe that it can read this");
}

/// redb trusts its pages, and panics where their bytes make no sense.
#[test]
fn a_journal_with_a_damaged_page_is_told_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("journal.redb");
    fuzzing::make(dir.path(), &file).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    for (at, byte) in [(4096, 1), (4097, 0xff), (8192, 2), (8194, 0xff), (8195, 0xff), (12288, 1)] {
        bytes[at] = byte;
    }
    std::fs::write(&file, &bytes).unwrap();
    let error = Journal::open(dir.path()).err().unwrap();
    assert!(matches!(error, JournalError::Damaged { .. }) && error.to_string().contains("journal.redb"), "{error}");
    assert_eq!(std::fs::read(&file).unwrap().len(), bytes.len());
}

#[test]
fn a_journal_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("journal.redb");
    {
        let database = redb::Database::create(&file).unwrap();
        let transaction = database.begin_write().unwrap();
        let definition: redb::TableDefinition<'_, &str, u32> = redb::TableDefinition::new("meta");
        transaction.open_table(definition).unwrap().insert("format", FORMAT + 1).unwrap();
        transaction.commit().unwrap();
    }
    let error = Journal::open(dir.path()).err().unwrap();
    assert!(matches!(error, JournalError::Newer { found, .. } if found == FORMAT + 1), "{error}");
}
