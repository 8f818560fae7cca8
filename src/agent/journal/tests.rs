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
    let contents = (0..12_000)
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
        let mut database = Database::load(dir.path(), &file).unwrap().0;
        database.write([Change::PutOperation(Box::new(kept.clone()))].iter()).unwrap();
    }
    {
        let database = redb::Database::create(&file).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(definition).unwrap().insert("format", FORMAT - 1).unwrap();
        transaction.commit().unwrap();
    }
    {
        let mut database = Database::load(dir.path(), &file).unwrap().0;
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
    let record = bytes.windows(7).position(|bytes| bytes == b"guest-1").unwrap();
    bytes[record & !0xfff..][..8].fill(0xff);
    std::fs::write(&file, &bytes).unwrap();
    let error = Journal::open(dir.path()).err().unwrap();
    assert!(matches!(error, JournalError::Damaged { .. }) && error.to_string().contains("journal.redb"), "{error}");
    assert_eq!(std::fs::read(&file).unwrap().len(), bytes.len());
}

fn put(record: &OperationRecord) -> Vec<Change> {
    vec![Change::PutOperation(Box::new(record.clone()))]
}

/// What the next agent reads: the thread of this one lets the file go a moment after its last handle.
fn read_again(dir: &Path) -> Contents {
    reopened(dir).1
}

fn reopened(dir: &Path) -> (Journal, Contents) {
    for _ in 0..12_000 {
        match Journal::open(dir) {
            Err(JournalError::InUse { .. }) => std::thread::sleep(std::time::Duration::from_millis(5)),
            opened => return opened.unwrap(),
        }
    }
    panic!("the journal is never let go");
}

#[tokio::test]
async fn a_full_disk_is_told_and_once_there_is_room_all_that_happened_is_written() {
    for (fault, words) in [(faulty::Fault::Full, "No space left"), (faulty::Fault::ReadOnly, "Read-only file system")] {
        let dir = tempfile::tempdir().unwrap();
        let [before, refused, happened, after] = [operation(), operation(), operation(), operation()];
        {
            let (journal, _) = Journal::open(dir.path()).unwrap();
            journal.commit(put(&before)).await.unwrap();
            faulty::lay(dir.path(), Some(fault));
            for _ in 0..3 {
                let error = journal.commit(put(&refused)).await.unwrap_err();
                assert!(error.to_string().contains("journal.redb") && error.to_string().contains(words), "{error}");
            }
            assert!(journal.commit_or_owe(put(&OperationRecord { duration_us: 7, ..happened.clone() })).await.is_err());
            assert!(journal.commit_or_owe(put(&happened)).await.is_err());
            faulty::lay(dir.path(), None);
            journal.commit(put(&after)).await.unwrap();
        }
        let mut found = read_again(dir.path()).operations;
        let mut expected = vec![before, happened, after];
        found.sort_by_key(|record| record.id);
        expected.sort_by_key(|record| record.id);
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn what_is_owed_is_written_at_the_latest_when_the_agent_stops() {
    let dir = tempfile::tempdir().unwrap();
    let owed = operation();
    {
        let (journal, _) = Journal::open(dir.path()).unwrap();
        faulty::lay(dir.path(), Some(faulty::Fault::Full));
        assert!(journal.commit_or_owe(put(&owed)).await.is_err());
        faulty::lay(dir.path(), None);
    }
    assert_eq!(read_again(dir.path()).operations, [owed]);
}

#[tokio::test]
async fn a_journal_that_was_deleted_under_the_agent_is_not_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path()).unwrap();
    faulty::lay(dir.path(), Some(faulty::Fault::Full));
    assert!(journal.commit(put(&operation())).await.is_err());
    faulty::lay(dir.path(), None);
    std::fs::remove_file(journal.path()).unwrap();
    let error = journal.commit(put(&operation())).await.unwrap_err();
    assert!(error.to_string().contains("No such file"), "{error}");
    assert!(!journal.path().exists());
}

/// The power goes after any number of writes of a commit: it happened as a whole, or not at all.
#[tokio::test]
async fn a_commit_that_a_power_cut_tears_happened_or_not() {
    let (mut happened, mut did_not) = (0, 0);
    for writes in 0..24 {
        let dir = tempfile::tempdir().unwrap();
        let [before, torn] = [operation(), operation()];
        {
            let (journal, _) = Journal::open(dir.path()).unwrap();
            journal.commit(put(&before)).await.unwrap();
            faulty::lay(dir.path(), Some(faulty::Fault::LostAfter(writes)));
            let mut changes = put(&torn);
            changes.push(Change::DropOperation(before.id));
            journal.commit(changes).await.unwrap();
            // What is written from now on is lost as well, until the file is let go.
        }
        let folder = std::fs::File::open(dir.path()).unwrap();
        folder.lock().unwrap();
        faulty::lay(dir.path(), None);
        drop(folder);
        let found = read_again(dir.path()).operations;
        assert!(found == [torn.clone()] || found == [before], "after {writes} writes: {found:?}");
        *(if found == [torn] { &mut happened } else { &mut did_not }) += 1;
    }
    assert!(happened > 0 && did_not > 0, "{happened} happened, {did_not} did not");
}

#[test]
fn a_flipped_bit_is_told_or_makes_no_difference() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("journal.redb");
    fuzzing::make(dir.path(), &file).unwrap();
    let whole = std::fs::read(&file).unwrap();
    let expected = read_again(dir.path()).operations;
    // redb makes room far beyond what it has written.
    let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let mut told = 0;
    for at in used.iter().step_by(used.len() / 150 + 1) {
        let mut bytes = whole.clone();
        bytes[*at] ^= 1 << (at % 8);
        std::fs::write(&file, &bytes).unwrap();
        match Journal::open(dir.path()) {
            Err(error) => {
                assert!(error.to_string().contains("journal.redb"), "{error}");
                told += 1;
            }
            Ok((journal, contents)) => {
                assert_eq!(contents.operations, expected, "byte {at}");
                drop(journal);
                reopened(dir.path());
            }
        }
    }
    assert!(told > 10, "only {told} of the flips were told");
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
