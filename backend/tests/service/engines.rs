//! The store on both engines: the same tables, the same answers, and counters that are always the sum they stand for.

use std::collections::BTreeSet;
use std::path::Path;

use crate::common::odd::Dice;
use bowline_backend::domain::{
    Asker, NewSnapshot, NewVolume, OperationState, Refusal, SnapshotStatus, Source, VolumeStatus, VolumeType,
};
use bowline_backend::store::{Choice, Ending, Extension, Limits, Store, StoreError};
use uuid::Uuid;

/// Both engines, each with an empty database.
async fn stores(dir: &Path) -> [(&'static str, Store); 2] {
    let sqlite = Store::open(&dir.join("volumes.db")).await.unwrap();
    let postgres = Store::connect(&crate::common::postgres::database()).await.unwrap();
    [("sqlite", sqlite), ("postgres", postgres)]
}

/// `table.column` of every table in a migration folder's files, as they are after all of them.
fn columns(folder: &str) -> BTreeSet<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(folder);
    let mut columns = BTreeSet::new();
    for file in std::fs::read_dir(dir).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap().replace('"', "");
        let mut table = None;
        for line in text.lines().map(str::trim) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["CREATE", "TABLE", name, ..] => table = Some((*name).to_owned()),
                ["ALTER", "TABLE", name, "ADD", "COLUMN", column, ..] => {
                    columns.insert(format!("{name}.{column}"));
                }
                [first, ..] if first.starts_with(')') => table = None,
                ["--", ..] | ["UNIQUE" | "PRIMARY", ..] | [] => {}
                [column, ..] => {
                    if let Some(table) = &table {
                        columns.insert(format!("{table}.{column}"));
                    }
                }
            }
        }
    }
    columns
}

#[test]
fn both_engines_have_the_same_tables_and_columns() {
    let (sqlite, postgres) = (columns("sqlite"), columns("postgres"));
    assert!(sqlite.contains("volumes.host") && sqlite.contains("operations.cause"), "the files were read");
    assert_eq!(sqlite.symmetric_difference(&postgres).collect::<Vec<_>>(), Vec::<&String>::new());
}

fn asker(project: &str) -> Asker {
    Asker { project_id: project.into(), user_id: "u".into(), request_id: Some("req-1".into()) }
}

fn volume(project: &str, size_gib: u64, volume_type: &VolumeType, source: Source) -> NewVolume {
    NewVolume {
        id: Uuid::new_v4(),
        project_id: project.into(),
        user_id: "u".into(),
        name: None,
        description: None,
        size_gib,
        multiattach: false,
        availability_zone: "nova".into(),
        metadata: Default::default(),
        volume_type: volume_type.clone(),
        source,
        key: None,
    }
}

async fn default_type(store: &Store) -> VolumeType {
    let identity = store.service_identity().await.unwrap();
    store.ensure_default_type(&identity.type_id, "files").await.unwrap();
    store.volume_type("files", None).await.unwrap()
}

#[tokio::test]
async fn whatever_happens_usage_is_the_sum() {
    let dir = tempfile::tempdir().unwrap();
    for (engine, store) in stores(dir.path()).await {
        let volume_type = default_type(&store).await;
        let limits = Limits::from([("volumes".to_owned(), 6), ("gigabytes".to_owned(), 40)]);
        let mut dice = Dice(7);
        let (mut volumes, mut snapshots, mut refused) = (Vec::<Uuid>::new(), Vec::<Uuid>::new(), 0);
        for step in 0..250 {
            let project = ["a", "b"][dice.roll(2)];
            match dice.roll(6) {
                0 | 1 => {
                    let size = dice.roll(9) as u64 + 1;
                    match store
                        .insert_volume(volume(project, size, &volume_type, Source::Nothing), asker(project), &limits)
                        .await
                    {
                        Ok((made, operation)) => {
                            let pool = format!("h@files#p{}", dice.roll(2));
                            let next = store.place(operation.id, |_| Choice::Pool(pool)).await.unwrap().unwrap();
                            let running = store.claim(operation.id, &next, "me").await.unwrap().unwrap();
                            if dice.roll(4) == 0 {
                                store.give_back(&running, "it failed").await.unwrap();
                                store.place(operation.id, |_| Choice::Pool("h@files#p2".into())).await.unwrap();
                            }
                            let running = store.operation(operation.id).await.unwrap();
                            let (from, to) = (VolumeStatus::Creating, VolumeStatus::Available);
                            store.end_volume_work(&running, from, to, Ending::done()).await.unwrap();
                            volumes.push(made.id);
                        }
                        Err(StoreError::Refused(Refusal::OverQuota { .. })) => refused += 1,
                        Err(other) => panic!("{engine} step {step}: {other}"),
                    }
                }
                2 if !volumes.is_empty() => {
                    let id = volumes[dice.roll(volumes.len())];
                    let new = NewSnapshot {
                        volume_id: id,
                        force: false,
                        name: None,
                        description: None,
                        metadata: Default::default(),
                    };
                    match store.insert_snapshot(new, asker(project), &limits).await {
                        Ok((made, operation)) => {
                            store.end_snapshot_work(&operation, SnapshotStatus::Available, Ending::done()).await.unwrap();
                            snapshots.push(made.id);
                        }
                        Err(StoreError::Refused(Refusal::OverQuota { .. })) => refused += 1,
                        Err(StoreError::Refused(Refusal::NotSnapshotable { .. })) => {}
                        Err(other) => panic!("{engine} step {step}: {other}"),
                    }
                }
                3 if !volumes.is_empty() => {
                    let id = volumes[dice.roll(volumes.len())];
                    let old = store.volume(id).await.unwrap().size_gib;
                    let new = old + dice.roll(4) as u64;
                    match store.begin_extend(id, new, false, asker(project), &limits).await {
                        Ok(operation) => {
                            assert_eq!(store.volume(id).await.unwrap().size_gib, old, "{engine}: the old size meanwhile");
                            let extension = Extension::of(&operation).unwrap();
                            let (has, ending) = match dice.roll(3) {
                                0 => (0, Ending::failed("no room")),
                                _ => (new, Ending::done()),
                            };
                            let failed = ending.cause.is_some();
                            for _ in 0..2 {
                                store.end_extend(&operation, &extension, has, ending.clone()).await.unwrap();
                            }
                            let ended = store.volume(id).await.unwrap();
                            let expected =
                                if failed { (old, VolumeStatus::ErrorExtending) } else { (new, VolumeStatus::Available) };
                            assert_eq!((ended.size_gib, ended.status), expected, "{engine} step {step}");
                        }
                        Err(StoreError::Refused(Refusal::OverQuota { .. })) => refused += 1,
                        Err(StoreError::Refused(Refusal::NotLarger { .. } | Refusal::NotExtendable { .. })) => {}
                        Err(other) => panic!("{engine} step {step}: {other}"),
                    }
                }
                4 if !volumes.is_empty() => {
                    let at = dice.roll(volumes.len());
                    match store.begin_delete(volumes[at], asker(project)).await {
                        Ok((_, operation)) => {
                            store.forget_volume(&operation).await.unwrap();
                            volumes.remove(at);
                        }
                        Err(StoreError::Refused(Refusal::NotDeletable)) => {}
                        Err(other) => panic!("{engine} step {step}: {other}"),
                    }
                }
                _ if !snapshots.is_empty() => {
                    let id = snapshots.remove(dice.roll(snapshots.len()));
                    let operation = store.begin_delete_snapshot(id, asker(project)).await.unwrap();
                    store.forget_snapshot(&operation).await.unwrap();
                }
                _ => {}
            }
            assert_eq!(store.usage_drift().await.unwrap(), [], "{engine} step {step}");
        }
        assert!(refused > 10, "{engine}: the quotas were reached ({refused})");
        store.close().await;
    }
}

#[tokio::test]
async fn a_quota_is_not_passed_however_many_ask_at_once() {
    let dir = tempfile::tempdir().unwrap();
    for (engine, store) in stores(dir.path()).await {
        let volume_type = default_type(&store).await;
        let limits = Limits::from([("volumes".to_owned(), 5)]);
        let asks = (0..32).map(|_| store.insert_volume(volume("a", 1, &volume_type, Source::Nothing), asker("a"), &limits));
        let accepted = futures_util::future::join_all(asks).await.into_iter().filter(Result::is_ok).count();
        assert_eq!(accepted, 5, "{engine}");
        assert_eq!(store.usage_drift().await.unwrap(), [], "{engine}");
        store.close().await;
    }
}

#[tokio::test]
async fn an_operation_is_claimed_once_and_again_only_when_its_worker_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    for (engine, store) in stores(dir.path()).await {
        let volume_type = default_type(&store).await;
        let new = volume("a", 1, &volume_type, Source::Nothing);
        let (made, operation) = store.insert_volume(new, asker("a"), &Limits::new()).await.unwrap();
        let queue = store.place(operation.id, |_| Choice::Pool("h@files#files".into())).await.unwrap().unwrap();
        assert_eq!(queue, "volume.h@files", "{engine}");
        assert!(store.place(operation.id, |_| Choice::Pool("x@y#z".into())).await.unwrap().is_none(), "{engine}: placed once");
        let owners: Vec<String> = (0..8).map(|n| format!("worker-{n}")).collect();
        let claims = futures_util::future::join_all(owners.iter().map(|owner| store.claim(operation.id, &queue, owner))).await;
        assert_eq!(claims.into_iter().filter(|claim| claim.as_ref().unwrap().is_some()).count(), 1, "{engine}");
        // The host starts again: nobody can be at work there.
        store.release_queue(&queue).await.unwrap();
        let again = store.claim(operation.id, &queue, "another").await.unwrap().unwrap();
        assert_eq!((again.attempts, again.object_id), (2, made.id), "{engine}");
        let ending = Ending::failed("no room");
        store.end_volume_work(&again, VolumeStatus::Creating, VolumeStatus::Error, ending).await.unwrap();
        let ended = store.operation(operation.id).await.unwrap();
        assert_eq!((ended.state, ended.cause.as_deref()), (OperationState::Failed, Some("no room")), "{engine}");
        assert_eq!(store.volume(made.id).await.unwrap().status, VolumeStatus::Error, "{engine}");
        store.close().await;
    }
}
