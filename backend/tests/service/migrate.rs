//! Volumes that change their place: every byte goes along, counters stay true, and whatever is cut off is finished or undone by itself.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use crate::common::{Service, wait_snapshot};
use bowline_backend::domain::{Asker, TypeEncryption};
use bowline_backend::store::{Candidates, Limits};
use reqwest::Method;
use serde_json::{Value, json};

const NODE_A: &str = "iqn.2016-04.com.open-iscsi:node-a";
const BYTES: &[u8] = b"these go along";

/// A service with two backends, `here@one` and `here@two`, and a type for each.
async fn service_of_two() -> Service {
    let mut service = Service::prepare();
    let [one, two] = ["one", "two"].map(|name| service.state.path().join(name));
    fs::create_dir(&one).unwrap();
    fs::create_dir(&two).unwrap();
    service.settings = format!(
        "host = \"here\"\n[backends.one]\ndirectory = \"{}\"\n[backends.two]\ndirectory = \"{}\"",
        one.display(),
        two.display()
    );
    service.start_again();
    for name in ["one", "two"] {
        let specs = json!({ "name": name, "extra_specs": { "volume_backend_name": name } });
        assert_eq!(service.post("/types", json!({ "volume_type": specs })).await.status, 200);
    }
    service
}

/// What there is in a backend's directory.
fn files(service: &Service, backend: &str) -> Vec<PathBuf> {
    fs::read_dir(service.state.path().join(backend)).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// A volume in `one` with bytes in it.
async fn with_bytes(service: &Service) -> String {
    let volume = service.volume(json!({ "size": 1, "volume_type": "one" })).await;
    let path = service.state.path().join(format!("one/volume-{volume}"));
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(BYTES, 700 << 20).unwrap();
    volume
}

async fn shown(service: &Service, volume: &str) -> Value {
    service.get(&format!("/volumes/{volume}")).await.body["volume"].clone()
}

async fn act(service: &Service, volume: &str, action: Value) -> crate::common::Answer {
    service.post(&format!("/volumes/{volume}/action"), action).await
}

fn migrate(to: &str) -> Value {
    json!({ "os-migrate_volume": { "host": to, "force_host_copy": false, "lock_volume": true } })
}

fn retype(to: &str, policy: &str) -> Value {
    json!({ "os-retype": { "new_type": to, "migration_policy": policy } })
}

/// The volume is in `backend` alone, with its bytes, and what is counted is what there is.
async fn is_whole_in(service: &Service, volume: &str, backend: &str) {
    let there = files(service, backend);
    let other = if backend == "one" { "two" } else { "one" };
    assert_eq!((there.len(), files(service, other).len()), (1, 0), "{there:?}");
    let mut read = vec![0; BYTES.len()];
    let file = fs::File::open(&there[0]).unwrap();
    file.read_exact_at(&mut read, 700 << 20).unwrap();
    assert_eq!((read.as_slice(), file.metadata().unwrap().len()), (BYTES, 1 << 30));
    let shown = shown(service, volume).await;
    assert_eq!(shown["os-vol-host-attr:host"], format!("here@{backend}#{backend}"));
    let name_id = shown["os-vol-mig-status-attr:name_id"].as_str().unwrap_or(volume);
    assert!(there[0].ends_with(format!("volume-{name_id}")), "{there:?}");
    let store = service.store().await;
    assert_eq!(store.usage_drift().await.unwrap(), []);
    store.close().await;
}

/// The newest operation about a volume.
async fn operation(service: &Service, volume: &str) -> Value {
    let all = service.get("/operations").await.body["operations"].as_array().unwrap().clone();
    all.into_iter().find(|one| one["object_id"] == volume).unwrap()
}

#[tokio::test]
async fn a_volume_moves_with_its_bytes_and_is_attached_and_deleted_in_its_new_place() {
    let service = service_of_two().await;
    let volume = with_bytes(&service).await;
    let refused = act(&service, &volume, migrate("here@two#two")).await;
    let said = refused.body["badRequest"]["message"].as_str().unwrap();
    assert!(said.contains("No valid backend was found") && said.contains("CapabilitiesFilter"), "its type forbids it: {said}");
    assert_eq!(service.post("/types", json!({ "volume_type": { "name": "any" } })).await.status, 200);
    assert_eq!(act(&service, &volume, retype("any", "never")).await.status, 202);
    assert_eq!(act(&service, &volume, migrate("here@two#two")).await.status, 202);
    service.wait_status(&volume, "available").await;
    is_whole_in(&service, &volume, "two").await;
    assert_eq!(shown(&service, &volume).await["migration_status"], "success");
    let done = operation(&service, &volume).await;
    assert_eq!((&done["kind"], &done["state"], &done["progress"]), (&json!("volume:migrate"), &json!("done"), &json!(100)));

    // Back again by a type, whose counters follow.
    assert_eq!(act(&service, &volume, retype("two", "never")).await.status, 202, "there it is already");
    let refused = act(&service, &volume, retype("one", "never")).await;
    let said = refused.body["badRequest"]["message"].as_str().unwrap();
    assert!(said.contains("Retype requires migration but is not allowed"), "{said}");
    assert_eq!(act(&service, &volume, retype("one", "on-demand")).await.status, 202);
    service.wait_status(&volume, "available").await;
    is_whole_in(&service, &volume, "one").await;
    assert_eq!(shown(&service, &volume).await["volume_type"], "one");

    let attachment = service.attach(&volume, NODE_A).await;
    assert_eq!(
        crate::common::log_in(&attachment, NODE_A).unwrap(),
        volume.replace('-', ""),
        "it is still the same volume to hosts"
    );
    let refused = act(&service, &volume, migrate("here@two#two")).await;
    let said = refused.body["badRequest"]["message"].as_str().unwrap();
    assert!(refused.status == 400 && said.contains("must not be attached"), "{said}");
    service.delete(&format!("/attachments/{}", attachment["id"].as_str().unwrap())).await;
    assert_eq!(service.delete(&format!("/volumes/{volume}")).await.status, 202);
    service.wait_status(&volume, "gone").await;
    assert!(files(&service, "one").is_empty() && files(&service, "two").is_empty());
}

#[tokio::test]
async fn what_cannot_be_moved_is_refused_and_what_fails_stays_where_it_was() {
    let service = service_of_two().await;
    let volume = with_bytes(&service).await;
    for (to, why) in [
        ("here@three", "Invalid host: No available service named 'here@three'"),
        ("here@one", "different than the current one"),
    ] {
        let refused = act(&service, &volume, migrate(to)).await;
        let said = refused.body["badRequest"]["message"].as_str().unwrap();
        assert!(said.contains(why), "{said}");
    }
    let project = shown(&service, &volume).await["os-vol-tenant-attr:tenant_id"].as_str().unwrap().to_owned();
    let limit = async |volumes: i64| {
        let body = json!({ "quota_set": { "volumes_two": volumes } });
        service.ask(Method::PUT, &format!("/os-quota-sets/{project}"), "3.71", Some(body)).await
    };
    limit(0).await;
    assert_eq!(act(&service, &volume, retype("two", "on-demand")).await.status, 413, "its type's quota");
    limit(-1).await;

    // The other storage takes nothing.
    let (two, aside) = (service.state.path().join("two"), service.state.path().join("aside"));
    fs::rename(&two, &aside).unwrap();
    fs::write(&two, "no directory").unwrap();
    assert_eq!(act(&service, &volume, retype("two", "on-demand")).await.status, 202);
    service.wait_status(&volume, "available").await;
    fs::remove_file(&two).unwrap();
    fs::rename(&aside, &two).unwrap();
    is_whole_in(&service, &volume, "one").await;
    let shown = shown(&service, &volume).await;
    assert_eq!((&shown["volume_type"], &shown["migration_status"]), (&json!("one"), &json!("error")));
    let failed = operation(&service, &volume).await;
    assert_eq!(failed["state"], "failed", "{failed}");
    assert!(failed["cause"].as_str().unwrap().contains("two"), "{failed}");

    let made = service.post("/snapshots", json!({ "snapshot": { "volume_id": volume } })).await;
    let snapshot = made.body["snapshot"]["id"].as_str().unwrap().to_owned();
    wait_snapshot(&service, &snapshot, "available").await;
    let refused = act(&service, &volume, migrate("here@two")).await;
    let said = refused.body["badRequest"]["message"].as_str().unwrap();
    assert!(said.contains("1 snapshots"), "{said}");
}

#[tokio::test]
async fn killed_again_and_again_it_ends_in_one_place() {
    let mut service = service_of_two().await;
    let volume = with_bytes(&service).await;
    // Enough to be cut off in the middle.
    let path = service.state.path().join(format!("one/volume-{volume}"));
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(&vec![7; 256 << 20], 0).unwrap();
    for (round, to) in ["two", "one", "two"].into_iter().enumerate() {
        assert_eq!(act(&service, &volume, retype(to, "on-demand")).await.status, 202);
        for cut in 0..2 {
            tokio::time::sleep(std::time::Duration::from_millis(40 * (round as u64 + cut))).await;
            service.kill();
            service.start_again();
        }
        service.wait_status(&volume, "available").await;
        is_whole_in(&service, &volume, to).await;
    }
}

#[tokio::test]
async fn a_type_that_is_encrypted_meanwhile_gets_no_plain_volume_and_what_was_copied_is_undone() {
    let mut service = service_of_two().await;
    let volume = with_bytes(&service).await;
    service.stop();
    // The move is accepted; before it is carried out, the type that the volume is to have is encrypted.
    let store = service.store().await;
    let identity = store.service_identity().await.unwrap();
    let by = Asker { project_id: identity.project_id, user_id: identity.user_id, request_id: None };
    let two = store.volume_type("two", None).await.unwrap();
    let to = |_: &Candidates| Ok("here@two#two".to_owned());
    store.begin_migration(volume.parse().unwrap(), Some(&two), by, &Limits::new(), to).await.unwrap();
    let how = TypeEncryption {
        encryption_id: uuid::Uuid::new_v4(),
        provider: "luks".into(),
        cipher: "aes-xts-plain64".into(),
        key_size: 256,
        control_location: "front-end".into(),
    };
    store.change_type_encryption(&two.id, "create", |_| Ok(Some(how))).await.unwrap();
    drop(store);
    service.start_again();
    service.wait_status(&volume, "available").await;
    let after = shown(&service, &volume).await;
    assert_eq!((&after["volume_type"], &after["migration_status"]), (&json!("one"), &json!("error")), "{after}");
    let operations = service.get(&format!("/operations?object_id={volume}")).await.body;
    let moved = operations["operations"].as_array().unwrap().iter().find(|one| one["kind"] == "volume:retype").unwrap();
    assert!(moved["cause"].as_str().unwrap().contains("encrypted otherwise"), "{moved}");
    assert_eq!(files(&service, "two"), Vec::<PathBuf>::new(), "its copy stayed");
    assert_eq!(service.store().await.usage_drift().await.unwrap(), []);
}
