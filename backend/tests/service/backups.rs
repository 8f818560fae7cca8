//! Backups: a volume comes back as it was or not at all, whatever the store, a crash or a client does to it.

use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use crate::common::backups::{
    MIB, back_up, digest, noise, objects, restore, store_of, until, volume_with_bytes, wait_backup, write,
};
use crate::common::{Answer, Service, path_of, token, wait_snapshot};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test]
async fn a_volume_comes_back_as_it_was_and_its_differences_cost_what_they_are() {
    let service = Service::start();
    let (volume, path) = volume_with_bytes(&service, 1).await;
    let before = digest(&path).await;
    let asked = json!({ "volume_id": volume, "name": "monday", "description": "all of it", "metadata": { "k": "v" } });
    let made = service.post("/backups", json!({ "backup": asked })).await;
    assert_eq!(made.status, StatusCode::ACCEPTED);
    let full = made.body["backup"]["id"].as_str().unwrap();
    let keys: Vec<_> = made.body["backup"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["id", "links", "name"], "as the field answers");
    let shown = wait_backup(&service, full, "available").await;
    for (key, value) in [
        ("name", json!("monday")),
        ("description", json!("all of it")),
        ("size", json!(1)),
        ("volume_id", json!(volume)),
        ("container", json!("backups")),
        ("availability_zone", json!("nova")),
        ("fail_reason", Value::Null),
        ("snapshot_id", Value::Null),
        ("is_incremental", json!(false)),
        ("has_dependent_backups", json!(false)),
        ("metadata", json!({ "k": "v" })),
        // 9 MiB are three chunks, 1 MiB is one, the end is one.
        ("object_count", json!(5)),
    ] {
        assert_eq!(shown[key], value, "{key}");
    }
    assert_eq!(shown["data_timestamp"], shown["created_at"]);
    assert!(shown["os-backup-project-attr:project_id"].is_string() && shown["user_id"].is_string());
    service.wait_status(&volume, "available").await;
    let stored: u64 = objects(&store_of(&service), full).iter().map(|(_, length)| length).sum();
    assert!((10 * MIB..11 * MIB).contains(&stored), "zeros and what is there twice cost nothing: {stored}");

    let copy = restore(&service, full, json!({ "name": "copy" })).await;
    service.wait_status(&copy, "available").await;
    assert_eq!(digest(&path_of(&service, &copy)).await, before);
    assert!(std::fs::metadata(path_of(&service, &copy)).unwrap().blocks() * 512 < 24 * MIB, "sparse as it was");

    write(&path, 5 * MIB, move || noise(7, 4096)).await;
    write(&path, 700 * MIB, move || vec![0; 2 << 20]).await;
    let after = digest(&path).await;
    let difference = back_up(&service, json!({ "volume_id": volume, "incremental": true })).await;
    let shown = wait_backup(&service, &difference, "available").await;
    assert_eq!(
        (&shown["is_incremental"], &shown["object_count"]),
        (&json!(true), &json!(1)),
        "one chunk has changed, one gone"
    );
    let written = objects(&store_of(&service), &difference);
    let names: Vec<_> = written.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["chunk-000000000001", "manifest", "page-0000000000"]);
    assert!(written.iter().map(|(_, length)| length).sum::<u64>() < 5 * MIB, "{written:?}");
    assert_eq!(wait_backup(&service, full, "available").await["has_dependent_backups"], true);
    let refused = service.delete(&format!("/backups/{full}")).await;
    refused.is_error(400, "badRequest", "Invalid backup: Incremental backups exist for this backup.");

    // Into a larger volume that is full of something else.
    let other = service.volume(json!({ "size": 2 })).await;
    for offset in [0, 30, 500, 699, 1020, 1500] {
        write(&path_of(&service, &other), offset * MIB, move || noise(99, 7 * MIB)).await;
    }
    assert_eq!(restore(&service, &difference, json!({ "volume_id": other })).await, other);
    service.wait_status(&other, "available").await;
    assert_eq!(digest(&path_of(&service, &other)).await, after);

    let steps = service.get("/operations").await.body["operations"].clone();
    let steps: Vec<_> = steps.as_array().unwrap().iter().filter(|one| one["object_type"] == "backup").collect();
    assert_eq!(steps.len(), 3);
    assert!(steps.iter().all(|one| one["state"] == "done" && one["progress"] == 100), "{steps:?}");
    for backup in [&difference, full] {
        assert_eq!(service.delete(&format!("/backups/{backup}")).await.status, StatusCode::ACCEPTED);
        wait_backup(&service, backup, "gone").await;
        assert_eq!(objects(&store_of(&service), backup), []);
    }
    let store = service.store().await;
    assert_eq!(store.usage_drift().await.unwrap(), []);
    store.close().await;
}

#[tokio::test]
async fn what_was_damaged_is_refused_by_name_and_never_silently_wrong() {
    let service = Service::start();
    let (volume, path) = volume_with_bytes(&service, 3).await;
    let good = back_up(&service, json!({ "volume_id": volume })).await;
    wait_backup(&service, &good, "available").await;
    let (other, _) = volume_with_bytes(&service, 4).await;
    let others = back_up(&service, json!({ "volume_id": other })).await;
    wait_backup(&service, &others, "available").await;
    let object = |backup: &str, name: &str| store_of(&service).join("backups").join(backup).join(name);
    let chunk = object(&good, "chunk-000000000000");
    let whole = std::fs::read(&chunk).unwrap();
    let mut flipped = whole.clone();
    flipped[2_000_000] ^= 1;
    // It unpacks to 1 GiB, and is exactly as long as what it stands for: the rest is a frame that is skipped.
    let mut bomb = zstd::bulk::compress(&vec![0; 1 << 30], 1).unwrap();
    let rest = u32::try_from(whole.len() - bomb.len() - 8).unwrap();
    bomb.extend([0x50, 0x2a, 0x4d, 0x18]);
    bomb.extend(rest.to_le_bytes());
    bomb.resize(whole.len(), 0);
    let mut foreign = std::fs::read(object(&others, "chunk-000000000000")).unwrap();
    foreign.resize(whole.len(), 0);
    let manifest = String::from_utf8(std::fs::read(object(&good, "manifest")).unwrap()).unwrap();
    let escaping = manifest.replace(&good, "../../../../../../../../etc/host");
    let page = std::fs::read(object(&good, "page-0000000000")).unwrap();
    for (what, name, damage, told) in [
        ("truncated", "chunk-000000000000", Some(whole[..1000].to_vec()), "it has 1000 bytes instead of"),
        ("flipped", "chunk-000000000000", Some(flipped), "not what was put there"),
        ("bomb", "chunk-000000000000", Some(bomb), "does not unpack to 4194304 bytes"),
        ("another backup's", "chunk-000000000000", Some(foreign), "not what was put there"),
        ("gone", "chunk-000000000000", None, "is missing"),
        ("another page", "page-0000000000", Some(page.iter().map(|byte| byte ^ 1).collect()), "its SHA-256 is another"),
        ("a path that escapes", "manifest", Some(escaping.into_bytes()), "its SHA-256 is another"),
        ("no manifest", "manifest", None, "is missing"),
    ] {
        let at = object(&good, name);
        let saved = std::fs::read(&at).unwrap();
        match damage {
            Some(bytes) => std::fs::write(&at, bytes).unwrap(),
            None => std::fs::remove_file(&at).unwrap(),
        }
        let target = restore(&service, &good, json!({ "name": what })).await;
        service.wait_status(&target, "error").await;
        let shown = wait_backup(&service, &good, "available").await;
        let reason = shown["fail_reason"].as_str().unwrap_or_default();
        assert!(reason.contains(told) && reason.contains(name), "{what}: {reason}");
        std::fs::write(&at, saved).unwrap();
        assert_eq!(service.delete(&format!("/volumes/{target}")).await.status, StatusCode::ACCEPTED);
    }
    let messages = service.get("/messages").await.body.to_string();
    assert!(messages.contains("restore backup:"), "the owner is told: {messages}");
    let copy = restore(&service, &good, json!({})).await;
    service.wait_status(&copy, "available").await;
    assert_eq!(digest(&path_of(&service, &copy)).await, digest(&path).await, "what was mended is whole");
    assert_eq!(wait_backup(&service, &good, "available").await["fail_reason"], Value::Null);
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_backup_or_a_restore_is_made_good_by_itself() {
    let mut service = Service::start();
    let volume = service.volume(json!({})).await;
    let path = path_of(&service, &volume);
    for part in 0..4 {
        write(&path, part * 200 * MIB, move || noise(part, 28 * MIB)).await;
    }
    let before = digest(&path).await;
    let mut tries = 0;
    let backup = loop {
        let backup = back_up(&service, json!({ "volume_id": volume })).await;
        until(|| objects(&store_of(&service), &backup).len() > 3).await;
        service.kill();
        let finished = objects(&store_of(&service), &backup).iter().any(|(name, _)| name == "manifest");
        service.start_again();
        if !finished {
            break backup;
        }
        // It was quicker than the kill, so nothing was shown.
        wait_backup(&service, &backup, "available").await;
        service.wait_status(&volume, "available").await;
        tries += 1;
        assert!(tries < 10, "it is always finished");
    };
    let shown = service.get(&format!("/backups/{backup}")).await.body["backup"]["status"].clone();
    assert!(["creating", "available"].contains(&shown.as_str().unwrap()), "it goes on by itself: {shown}");
    wait_backup(&service, &backup, "available").await;
    service.wait_status(&volume, "available").await;

    // A stop is no crash: it does not wait for what takes long.
    let again = back_up(&service, json!({ "volume_id": volume })).await;
    until(|| objects(&store_of(&service), &again).len() > 3).await;
    let stopping = Instant::now();
    service.stop();
    assert!(stopping.elapsed() < Duration::from_secs(20), "{:?}", stopping.elapsed());
    service.start_again();
    wait_backup(&service, &again, "available").await;

    let mut tries = 0;
    let written = loop {
        let target = service.volume(json!({})).await;
        write(&path_of(&service, &target), 900 * MIB, move || noise(5, MIB)).await;
        restore(&service, &backup, json!({ "volume_id": target })).await;
        let written = path_of(&service, &target);
        until(|| std::fs::metadata(&written).unwrap().blocks() * 512 > 12 * MIB).await;
        service.kill();
        let finished = digest(&written).await == before;
        service.start_again();
        service.wait_status(&target, "available").await;
        if !finished {
            break written;
        }
        tries += 1;
        assert!(tries < 10, "it is always finished");
    };
    assert_eq!(digest(&written).await, before);
    wait_backup(&service, &backup, "available").await;
    let making = |name: &str| name.starts_with(".making");
    assert_eq!(service.delete(&format!("/backups/{backup}")).await.status, StatusCode::ACCEPTED);
    wait_backup(&service, &backup, "gone").await;
    assert!(!objects(&store_of(&service), &backup).iter().any(|(name, _)| making(name)));
}

#[tokio::test]
async fn a_volume_is_made_from_a_backup_in_one_request() {
    let mut service = Service::start();
    let (volume, path) = volume_with_bytes(&service, 21).await;
    let before = digest(&path).await;
    let backup = back_up(&service, json!({ "volume_id": volume })).await;
    wait_backup(&service, &backup, "available").await;
    let asked = |size: Value| json!({ "volume": { "backup_id": backup, "size": size, "name": "anew" } });
    let ask = async |version: &str, body: Value| service.ask(Method::POST, "/volumes", version, Some(body)).await;

    let text = "this service does not support it";
    let old = ask("3.46", asked(json!(1))).await;
    assert!(old.status == StatusCode::BAD_REQUEST && old.body.to_string().contains(text), "never an empty volume: {old:?}");
    let unknown = ask("3.47", json!({ "volume": { "backup_id": uuid::Uuid::nil(), "size": 1 } })).await;
    unknown.is_error(404, "itemNotFound", &format!("Backup {} could not be found.", uuid::Uuid::nil()));
    let two = ask("3.47", json!({ "volume": { "backup_id": backup, "source_volid": volume, "size": 1 } })).await;
    assert_eq!(two.status, StatusCode::BAD_REQUEST);
    let store = service.store().await;
    let token = token(&store, "another", "member").await;
    store.close().await;
    let headers = [("x-auth-token", token.as_str()), ("openstack-api-version", "volume 3.47")];
    let theirs = service.bare(Method::POST, "/volumes", &headers, Some(&asked(json!(1)).to_string())).await;
    theirs.is_error(404, "itemNotFound", &format!("Backup {backup} could not be found."));

    // Larger than it, as large where nothing is said, several at once; what is being read is not deleted.
    let mut made = Vec::new();
    for size in [json!(2), Value::Null] {
        let answer = ask("3.47", asked(size)).await;
        assert_eq!((answer.status, &answer.body["volume"]["status"]), (StatusCode::ACCEPTED, &json!("creating")), "{answer:?}");
        made.push(answer.body["volume"]["id"].as_str().unwrap().to_owned());
    }
    let refused = service.delete(&format!("/backups/{backup}")).await;
    refused.is_error(400, "badRequest", "Invalid backup: A volume is being made from it.");
    let sizes = [2, 1];
    for (id, size) in made.iter().zip(sizes) {
        service.wait_status(id, "available").await;
        let shown = service.get(&format!("/volumes/{id}")).await.body["volume"].clone();
        assert_eq!((&shown["size"], &shown["bootable"]), (&json!(size), &json!("false")));
        assert_eq!(digest(&path_of(&service, id)).await, before);
    }

    // Cut off in the middle it is made to its end; a request that is repeated with its key is not carried out again, and is answered
    // the same where the answer was lost.
    let restore = json!({ "restore": { "name": "again" } }).to_string();
    let path = format!("/backups/{backup}/restore");
    let own = service.token();
    let headers = [("x-auth-token", own.as_str()), ("idempotency-key", "r1")];
    let first = service.bare(Method::POST, &path, &headers, Some(&restore)).await;
    assert_eq!(first.status, StatusCode::ACCEPTED, "{first:?}");
    let new = first.body["restore"]["volume_id"].as_str().unwrap().to_owned();
    service.kill();
    let lost = "UPDATE idempotency_keys SET status = NULL, answer = NULL, process = ''";
    service.execute(lost, lost).await;
    service.start_again();
    let again = service.bare(Method::POST, &path, &headers, Some(&restore)).await;
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    service.wait_status(&new, "available").await;
    assert_eq!(digest(&path_of(&service, &new)).await, before);

    assert_eq!(service.delete(&format!("/backups/{backup}")).await.status, StatusCode::ACCEPTED);
    wait_backup(&service, &backup, "gone").await;
    let store = service.store().await;
    assert_eq!(store.usage_drift().await.unwrap(), []);
    store.close().await;
}

#[tokio::test]
async fn snapshots_and_volumes_in_use_are_backed_up_as_they_are_at_one_moment() {
    let service = Service::start();
    let (volume, path) = volume_with_bytes(&service, 5).await;
    let before = digest(&path).await;
    let made = service.post("/snapshots", json!({ "snapshot": { "volume_id": volume } })).await;
    let snapshot = made.body["snapshot"]["id"].as_str().unwrap().to_owned();
    wait_snapshot(&service, &snapshot, "available").await;
    write(&path, 0, move || b"later".to_vec()).await;
    let backup = back_up(&service, json!({ "volume_id": volume, "snapshot_id": snapshot })).await;
    let shown = wait_backup(&service, &backup, "available").await;
    assert_eq!(shown["snapshot_id"], json!(snapshot));
    wait_snapshot(&service, &snapshot, "available").await;
    let copy = restore(&service, &backup, json!({})).await;
    service.wait_status(&copy, "available").await;
    assert_eq!(digest(&path_of(&service, &copy)).await, before);
    let files = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(files, 3, "nothing but the volume, the snapshot and the copy is left");

    let attachment = service.attach(&volume, "iqn.2016-04.com.open-iscsi:node-a").await;
    let complete = format!("/attachments/{}/action", attachment["id"].as_str().unwrap());
    service.post(&complete, json!({ "os-complete": {} })).await;
    let refused = service.post("/backups", json!({ "backup": { "volume_id": volume } })).await;
    refused.is_error(400, "badRequest", "Invalid volume: Backing up an in-use volume must use the force flag.");
    let forced = back_up(&service, json!({ "volume_id": volume, "force": true })).await;
    service.wait_status(&volume, "in-use").await;
    // Where files cannot be cloned, its host is held off meanwhile.
    let shown = service.get(&format!("/backups/{forced}")).await.body["backup"].clone();
    assert_eq!(shown["status"], "available", "{shown}");
    let copy = restore(&service, &forced, json!({})).await;
    service.wait_status(&copy, "available").await;
    assert_eq!(digest(&path_of(&service, &copy)).await, digest(&path).await);
}

#[tokio::test]
async fn what_cannot_be_is_refused_in_the_field_s_words() {
    let mut service = Service::prepare();
    service.settings = "quota = { backups = 2, backup_gigabytes = 3 }".into();
    service.start_again();
    let volume = service.volume(json!({})).await;
    let large = service.volume(json!({ "size": 4 })).await;
    let ask = async |path: &str, body: Value| service.post(path, body).await;
    let incremental = ask("/backups", json!({ "backup": { "volume_id": volume, "incremental": true } })).await;
    incremental.is_error(400, "badRequest", "Invalid backup: No backups available to do an incremental backup.");
    let too_much = ask("/backups", json!({ "backup": { "volume_id": large } })).await;
    assert_eq!(too_much.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(too_much.body["overLimit"]["message"].as_str().unwrap().contains("Requested backup exceeds"), "{too_much:?}");
    let limits = service.get("/limits").await.body["limits"]["absolute"].clone();
    assert_eq!((&limits["totalBackupsUsed"], &limits["totalBackupGigabytesUsed"]), (&json!(0), &json!(0)));
    let first = back_up(&service, json!({ "volume_id": volume, "name": "b" })).await;
    wait_backup(&service, &first, "available").await;
    let second = back_up(&service, json!({ "volume_id": volume, "name": "a" })).await;
    wait_backup(&service, &second, "available").await;
    let third = ask("/backups", json!({ "backup": { "volume_id": volume } })).await;
    assert_eq!(third.status, StatusCode::PAYLOAD_TOO_LARGE);
    let text = "BackupLimitExceeded: Maximum number of backups allowed (2) exceeded for quota 'backups'.";
    assert_eq!(third.body["overLimit"]["message"], text);
    let limits = service.get("/limits").await.body["limits"]["absolute"].clone();
    assert_eq!((&limits["totalBackupsUsed"], &limits["totalBackupGigabytesUsed"]), (&json!(2), &json!(2)));

    for (body, status) in [
        (json!({ "volume_id": "x" }), 400),
        (json!({}), 400),
        (json!({ "volume_id": volume, "container": "../x" }), 400),
        (json!({ "volume_id": volume, "container": "a/b" }), 400),
        (json!({ "volume_id": volume, "incremental": "perhaps" }), 400),
        (json!({ "volume_id": uuid::Uuid::new_v4() }), 404),
        (json!({ "volume_id": volume, "snapshot_id": uuid::Uuid::new_v4() }), 404),
    ] {
        let answer = ask("/backups", json!({ "backup": body })).await;
        assert_eq!(answer.status.as_u16(), status, "{body}: {answer:?}");
    }
    let small = ask(&format!("/backups/{first}/restore"), json!({ "restore": { "volume_id": uuid::Uuid::new_v4() } })).await;
    assert_eq!(small.status, StatusCode::NOT_FOUND);
    let unknown = service.get("/backups/nothing").await;
    unknown.is_error(404, "itemNotFound", "Backup nothing could not be found.");

    let names = async |query: &str| {
        let answer = service.ask(Method::GET, &format!("/backups{query}"), "3.71", None).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let names = answer.body["backups"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned());
        (names.collect::<Vec<_>>().join(","), answer.body)
    };
    assert_eq!(names("").await.0, "a,b", "newest first");
    assert_eq!(names("?sort=name:desc").await.0, "b,a");
    assert_eq!(names("/detail?name=b").await.0, "b");
    assert_eq!(names("?name~=a&with_count=true").await.1["count"], 1);
    assert_eq!(names(&format!("?volume_id={large}")).await.0, "");
    let (page, body) = names("?limit=1").await;
    let next = body["backups_links"][0]["href"].as_str().unwrap();
    assert_eq!(page, "a");
    assert_eq!(names(next.split_once("/backups").unwrap().1).await.0, "b");
    let foreign = service.get("/backups?colour=red").await;
    foreign.is_error(400, "badRequest", "Invalid filters colour are found in query options.");

    let change = json!({ "backup": { "name": "c", "metadata": { "x": "y" } } });
    let path = format!("/backups/{first}");
    assert_eq!(service.ask(Method::PUT, &path, "3.8", Some(change.clone())).await.status, StatusCode::NOT_FOUND);
    assert_eq!(service.ask(Method::PUT, &path, "3.43", Some(change)).await.body["backup"]["name"], "c");
    let old = service.ask(Method::GET, &path, "3.0", None).await.body["backup"].clone();
    assert!(old.get("metadata").is_none() && old.get("user_id").is_none(), "{old}");

    let reset = json!({ "os-reset_status": { "status": "error" } });
    assert_eq!(service.post(&format!("{path}/action"), reset).await.status, StatusCode::ACCEPTED);
    let refused = service.post(&format!("{path}/restore"), json!({ "restore": {} })).await;
    refused.is_error(400, "badRequest", "Invalid backup: Backup status must be available");
    let refused = service.post("/backups", json!({ "backup": { "volume_id": volume, "incremental": true } })).await;
    assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE, "the parent is the newer one, and there is no room");

    let store = service.store().await;
    let token = token(&store, "another", "member").await;
    store.close().await;
    let headers = [("x-auth-token", token.as_str()), ("openstack-api-version", "volume 3.71")];
    let theirs =
        async |method: Method, path: &str, body: Option<&str>| -> Answer { service.bare(method, path, &headers, body).await };
    for (method, tail, body) in [
        (Method::GET, "", None),
        (Method::PUT, "", Some("{\"backup\":{\"name\":\"mine\"}}")),
        (Method::DELETE, "", None),
        (Method::POST, "/restore", Some("{\"restore\":{}}")),
        (Method::GET, "/export_record", None),
        (Method::POST, "/action", Some("{\"os-force_delete\":{}}")),
    ] {
        let answer = theirs(method.clone(), &format!("{path}{tail}"), body).await;
        answer.is_error(404, "itemNotFound", &format!("Backup {first} could not be found."));
    }
    assert_eq!(theirs(Method::GET, "/backups/detail?all_tenants=1", None).await.body["backups"], json!([]));
    let import = "{\"backup-record\":{\"backup_service\":\"bowline\",\"backup_url\":\"e30=\"}}";
    assert_eq!(theirs(Method::POST, "/backups/import_record", Some(import)).await.status, StatusCode::FORBIDDEN);
    let force = json!({ "os-force_delete": {} });
    assert_eq!(service.post(&format!("{path}/action"), force).await.status, StatusCode::ACCEPTED);
    wait_backup(&service, &first, "gone").await;
}
