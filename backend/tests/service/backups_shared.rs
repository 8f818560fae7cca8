//! Backups on a store that several have: another instance of the service takes them over, and hosts apart from each other share the work.

use crate::common::apart::Apart;
use crate::common::backups::{MIB, back_up, digest, noise, objects, restore, until, volume_with_bytes, wait_backup, write};
use crate::common::rabbitmq::Broker;
use crate::common::{Service, path_of};
use reqwest::StatusCode;
use serde_json::json;

#[tokio::test]
async fn another_instance_on_the_same_store_takes_a_backup_over() {
    let shared = tempfile::tempdir().unwrap();
    let on_shared = || {
        let mut service = Service::prepare();
        service.settings = format!("backup = {{ directory = \"{}\" }}", shared.path().display());
        service.start_again();
        service
    };
    let (here, there) = (on_shared(), on_shared());
    let (volume, path) = volume_with_bytes(&here, 8).await;
    let full = back_up(&here, json!({ "volume_id": volume, "container": "weekly" })).await;
    wait_backup(&here, &full, "available").await;
    write(&path, 0, move || b"changed".to_vec()).await;
    let difference = back_up(&here, json!({ "volume_id": volume, "incremental": true, "name": "tuesday" })).await;
    assert_eq!(wait_backup(&here, &difference, "available").await["container"], "weekly", "where its parent is");
    for backup in [&full, &difference] {
        let record = here.get(&format!("/backups/{backup}/export_record")).await;
        assert_eq!(record.status, StatusCode::OK, "{record:?}");
        let imported = there.post("/backups/import_record", record.body.clone()).await;
        assert_eq!((imported.status, &imported.body["backup"]["id"]), (StatusCode::CREATED, &json!(backup)));
        wait_backup(&there, backup, "available").await;
        let again = there.post("/backups/import_record", record.body).await;
        again.is_error(400, "badRequest", "Invalid backup: Backup already exists in database.");
    }
    let shown = wait_backup(&there, &difference, "available").await;
    assert_eq!((&shown["name"], &shown["is_incremental"]), (&json!("tuesday"), &json!(true)));
    let copy = restore(&there, &difference, json!({})).await;
    there.wait_status(&copy, "available").await;
    assert_eq!(digest(&path_of(&there, &copy)).await, digest(&path).await);

    // A record of what the store does not have is taken, and found out.
    let record = here.get(&format!("/backups/{difference}/export_record")).await.body;
    assert_eq!(there.delete(&format!("/backups/{difference}")).await.status, StatusCode::ACCEPTED);
    wait_backup(&there, &difference, "gone").await;
    assert_eq!(there.post("/backups/import_record", record).await.status, StatusCode::CREATED);
    let shown = wait_backup(&there, &difference, "error").await;
    assert!(shown["fail_reason"].as_str().unwrap().contains("is missing"), "{shown}");
}

#[tokio::test]
async fn apart_the_host_that_has_the_volume_reads_it_and_another_may_write_it() {
    let broker = Broker::start();
    let mut apart = Apart::start(&broker);
    let store = apart.backups();
    let volume = apart.api.volume(json!({})).await;
    let at = apart.hosts.iter().position(|host| path_of(host, &volume).exists()).unwrap();
    let path = path_of(&apart.hosts[at], &volume);
    for part in 0..3 {
        write(&path, part * 300 * MIB, move || noise(part, 28 * MIB)).await;
    }
    let before = digest(&path).await;
    // It waits for a backup service, however late that comes.
    let backup = back_up(&apart.api, json!({ "volume_id": volume })).await;
    let mut service = Apart::role(&apart.bus, &apart.database, "backup", "k");
    service.settings.push_str(&format!("\nbackup = {{ directory = \"{}\" }}", store.display()));
    service.start_again();
    until(|| objects(&store, &backup).len() > 3).await;
    apart.hosts[at].kill();
    apart.hosts[at].start_again();
    wait_backup(&apart.api, &backup, "available").await;
    let services = apart.api.get("/os-services?binary=cinder-backup").await.body;
    assert_eq!((&services["services"][0]["host"], &services["services"][0]["state"]), (&json!("k"), &json!("up")));
    // Wherever they come to be, on either host.
    for _ in 0..3 {
        let copy = restore(&apart.api, &backup, json!({})).await;
        apart.api.wait_status(&copy, "available").await;
        let host = apart.hosts.iter().find(|host| path_of(host, &copy).exists()).unwrap();
        assert_eq!(digest(&path_of(host, &copy)).await, before);
    }
    assert_eq!(apart.api.delete(&format!("/backups/{backup}")).await.status, StatusCode::ACCEPTED);
    wait_backup(&apart.api, &backup, "gone").await;
    assert_eq!(objects(&store, &backup), []);
    apart.is_whole().await;
    service.stop();
}
