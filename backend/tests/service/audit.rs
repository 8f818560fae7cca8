//! `bowline-backend audit` beside the running service: every difference is told with its meaning, the safe ones are mended, and no
//! byte is lost.

use std::collections::BTreeSet;
use std::path::Path;

use crate::common::{Service, path_of};
use serde_json::{Value, json};
use uuid::Uuid;

/// Whether nothing is left, and the report.
fn audit(service: &mut Service, how: &[&str]) -> (bool, Value) {
    service.role = "audit";
    let mut command = service.command();
    service.role = "serve";
    let output = command.arg("--json").args(how).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout);
    assert!(report.is_ok(), "{report:?}: {said}");
    (output.status.success(), report.unwrap())
}

/// `kind` and `object` of those that were not mended.
fn left(report: &Value) -> BTreeSet<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let all = report["differences"].as_array().unwrap().iter().filter(|one| one["mended"].is_null());
    all.map(|one| (text(&one["kind"]), text(&one["object"]))).collect()
}

fn file(path: &Path, bytes: u64) {
    std::fs::File::create(path).unwrap().set_len(bytes).unwrap();
}

#[tokio::test]
async fn every_difference_is_told_and_only_the_safe_ones_are_mended() {
    let mut service = Service::start();
    let mut volumes = Vec::new();
    for _ in 0..5 {
        volumes.push(service.volume(json!({})).await);
    }
    let [whole, missing, smaller, stuck, kept] = &volumes[..] else { panic!() };
    let snapshot = service.post("/snapshots", json!({ "snapshot": { "volume_id": kept } })).await;
    let snapshot = snapshot.body["snapshot"]["id"].as_str().unwrap().to_owned();
    crate::common::wait_snapshot(&service, &snapshot, "available").await;
    assert_eq!(audit(&mut service, &[]), (true, json!({ "differences": [], "not_looked_at": [] })));

    let directory = service.state.path().join("volumes");
    let [orphan, unfinished, image] = [(); 3].map(|()| Uuid::new_v4());
    let orphans = [format!("volume-{orphan}"), format!(".making-volume-{unfinished}")];
    std::fs::write(directory.join(&orphans[0]), b"somebody's").unwrap();
    file(&directory.join(&orphans[1]), 10);
    file(&directory.join("somebody else's"), 10);
    file(&service.state.path().join("images").join(image.to_string()), 10);
    std::fs::remove_file(path_of(&service, missing)).unwrap();
    std::fs::remove_file(directory.join(format!("snapshot-{snapshot}"))).unwrap();
    file(&path_of(&service, smaller), 1 << 20);
    let leave = format!("UPDATE volumes SET status = 'deleting', updated_at_us = 1 WHERE id = '{stuck}'");
    service.execute(&leave, &leave).await;
    let drift = "UPDATE usages SET in_use = in_use + 7 WHERE resource = 'volumes'";
    service.execute(drift, drift).await;

    let pair = |kind: &str, object: String| (kind.to_owned(), object);
    let mut wanted = BTreeSet::from([
        pair("orphan_volume", orphans[0].clone()),
        pair("unfinished", orphans[1].clone()),
        pair("orphan_image", image.to_string()),
        pair("missing_volume", format!("volume {missing}")),
        pair("missing_snapshot", format!("snapshot {snapshot}")),
        pair("wrong_size", format!("volume {smaller}")),
    ]);
    let told_of_records = |found: &BTreeSet<(String, String)>| -> usize {
        found.iter().filter(|(kind, _)| ["stuck", "drift"].contains(&kind.as_str())).count()
    };
    let (clean, report) = audit(&mut service, &[]);
    let found = left(&report);
    assert!(!clean && found.is_superset(&wanted), "{report:#}");
    assert_eq!((found.len() - wanted.len(), told_of_records(&found)), (2, 2), "{report:#}");
    assert_eq!(service.get(&format!("/volumes/{stuck}")).await.body["volume"]["status"], "deleting", "only looked at");

    let (clean, report) = audit(&mut service, &["--repair"]);
    assert_eq!((clean, left(&report)), (false, wanted.clone()), "{report:#}");
    service.wait_status(stuck, "error_deleting").await;
    assert!(orphans.iter().all(|name| directory.join(name).exists()), "nobody asked for that");

    let (clean, report) = audit(&mut service, &["--repair", "--quarantine"]);
    wanted.retain(|(kind, _)| kind != "orphan_volume" && kind != "unfinished");
    assert_eq!((clean, left(&report)), (false, wanted.clone()), "{report:#}");
    assert_eq!(std::fs::read(directory.join("quarantine").join(&orphans[0])).unwrap(), b"somebody's");
    assert!(directory.join("somebody else's").exists() && path_of(&service, whole).exists());
    assert_eq!(left(&audit(&mut service, &[]).1), wanted, "what is left is left");
    let store = service.store().await;
    assert_eq!(store.usage_drift().await.unwrap(), []);
    store.close().await;
}

#[tokio::test]
async fn beside_a_busy_service_there_is_no_false_alarm() {
    let mut service = Service::start();
    for round in 0..3 {
        let mut made = Vec::new();
        for n in 0..6 {
            let answer = service.post("/volumes", json!({ "volume": { "size": 1, "name": format!("{round}-{n}") } })).await;
            made.push(answer.body["volume"]["id"].as_str().unwrap().to_owned());
        }
        let (clean, report) = audit(&mut service, &["--repair", "--quarantine"]);
        assert!(clean, "{report:#}");
        for id in &made {
            service.wait_status(id, "available").await;
            assert_eq!(service.delete(&format!("/volumes/{id}")).await.status, 202);
        }
        let (clean, report) = audit(&mut service, &[]);
        assert!(clean, "{report:#}");
    }
}
