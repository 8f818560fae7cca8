//! Encrypted volumes: what is on the storage opens with the key that the key manager has, and with nothing else; who may read the key;
//! and where no trace of it is.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::common::backups::{back_up, restore, wait_backup};
use crate::common::{Answer, Service, mode_of, path_of, wait_snapshot};
use bowline_backend::domain::{Asker, NewKey, NewVolume, Source};
use bowline_backend::keys::{Vault, VolumeKey};
use bowline_backend::secret::Secret;
use bowline_backend::store::Limits;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const OTHER: &str = "fedcba9876543210fedcba9876543210";
const MARKER: &[u8] = b"marker-of-the-image-in-plain-text";
/// More than a chunk, and no whole number of sectors.
const IMAGE_BYTES: usize = (3 << 20) + 100;

async fn put(service: &Service, path: &str, body: Value) -> Answer {
    service.ask(Method::PUT, path, "3.71", Some(body)).await
}

/// A type whose volumes are encrypted.
async fn encrypted_type(service: &Service, name: &str, key_size: u64) -> String {
    let made = service.post("/types", json!({ "volume_type": { "name": name } })).await;
    let id = made.body["volume_type"]["id"].as_str().unwrap().to_owned();
    let how = json!({ "provider": "luks", "control_location": "front-end", "cipher": "aes-xts-plain64", "key_size": key_size });
    let made = service.post(&format!("/types/{id}/encryption"), json!({ "encryption": how })).await;
    assert_eq!(made.status, StatusCode::OK, "{made:?}");
    id
}

/// The id of a volume's key.
async fn key_of(service: &Service, volume: &str) -> String {
    let facts = service.get(&format!("/volumes/{volume}/encryption")).await.body;
    facts["encryption_key_id"].as_str().unwrap_or_else(|| panic!("{facts}")).to_owned()
}

/// What the key manager answers: a code and bytes.
async fn ask_for_key(service: &Service, key: &str, headers: &[(&str, &str)]) -> (u16, Vec<u8>) {
    let url = service.url.replace("/v3", &format!("/key-manager/v1/secrets/{key}/payload"));
    let mut request = reqwest::Client::new().get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.header("accept", "application/octet-stream").send().await.unwrap();
    (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
}

async fn bytes_of_key(service: &Service, key: &str) -> Vec<u8> {
    let (status, bytes) = ask_for_key(service, key, &[("x-auth-token", &service.token())]).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&bytes));
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The start of what QEMU reads of a volume, with a key; none where it does not open.
fn opened(path: &Path, key: &[u8], length: usize) -> Option<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let (passphrase, plain) = (dir.path().join("passphrase"), dir.path().join("plain"));
    std::fs::write(&passphrase, hex(key)).unwrap();
    let image = format!("driver=luks,key-secret=k,file.filename={}", path.display());
    let count = format!("count={}", length.div_ceil(512));
    let ran = Command::new("qemu-img")
        .args(["dd", "--object", &format!("secret,id=k,file={}", passphrase.display()), "--image-opts", "-O", "raw"])
        .args(["bs=512", &count, &format!("if={image}"), &format!("of={}", plain.display())])
        .output()
        .unwrap();
    ran.status.success().then(|| std::fs::read(plain).unwrap()[..length].to_vec())
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|found| found == word)
}

/// The first bytes of a file.
fn head(path: &Path, length: u64) -> Vec<u8> {
    head_if_any(path, length).unwrap()
}

/// The same of one that may be gone.
fn head_if_any(path: &Path, length: u64) -> Option<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    match std::fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        file => file.unwrap().take(length).read_to_end(&mut bytes).unwrap(),
    };
    Some(bytes)
}

/// The disk of the image: the marker here and there, a hole between.
fn disk() -> Vec<u8> {
    let mut disk = vec![0; IMAGE_BYTES];
    for at in [0, (1 << 20) - 7, IMAGE_BYTES - MARKER.len()] {
        disk[at..at + MARKER.len()].copy_from_slice(MARKER);
    }
    disk
}

async fn image(service: &Service) -> String {
    let token = service.token();
    let client = reqwest::Client::new();
    let url = service.url.replace("/v3", "/image/v2/images");
    let body = json!({ "name": "i", "disk_format": "raw", "container_format": "bare" }).to_string();
    let made = client.post(&url).header("x-auth-token", &token).body(body).send().await.unwrap();
    let id = made.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
    let sent = client.put(format!("{url}/{id}/file")).header("x-auth-token", &token);
    let sent = sent.header("content-type", "application/octet-stream").body(disk()).send().await.unwrap();
    assert_eq!(sent.status(), 204);
    id
}

#[tokio::test]
async fn a_type_says_how_its_volumes_are_encrypted_and_changes_only_while_there_are_none() {
    let service = Service::start();
    let made = service.post("/types", json!({ "volume_type": { "name": "secret" } })).await;
    let id = made.body["volume_type"]["id"].as_str().unwrap().to_owned();
    let path = format!("/types/{id}/encryption");
    assert_eq!(service.get(&path).await.body, json!({}));
    let good = json!({ "provider": "luks", "control_location": "front-end" });
    for (field, value, word) in [
        ("provider", json!("luks2"), "luks2"),
        ("provider", json!("plain"), "luks"),
        ("provider", Value::Null, "provider"),
        ("control_location", json!("back-end"), "front-end"),
        ("control_location", Value::Null, "control_location"),
        ("cipher", json!("aes-cbc-essiv"), "aes-xts-plain64"),
        ("key_size", json!(128), "256 or 512"),
        ("key_size", json!("many"), "key_size"),
        ("more", json!(1), "more"),
    ] {
        let mut wrong = good.clone();
        wrong[field] = value;
        let refused = service.ask(Method::POST, &path, "3.71", Some(json!({ "encryption": wrong }))).await;
        let said = refused.body["badRequest"]["message"].as_str().unwrap_or_default();
        assert!(refused.status == 400 && said.contains(word), "{wrong}: {refused:?}");
    }
    let token = crate::common::token(&service.store().await, OTHER, "member").await;
    for method in [Method::GET, Method::POST] {
        let body = json!({ "encryption": good }).to_string();
        let theirs = service.bare(method, &path, &[("x-auth-token", &token)], Some(&body)).await;
        assert_eq!(theirs.status, StatusCode::FORBIDDEN, "{theirs:?}");
    }

    let made = service.post(&path, json!({ "encryption": good })).await;
    let shown = service.get(&path).await.body;
    assert_eq!((made.status, &made.body["encryption"]), (StatusCode::OK, &shown));
    for (key, value) in [
        ("provider", json!("luks")),
        ("cipher", json!("aes-xts-plain64")),
        ("key_size", json!(256)),
        ("control_location", json!("front-end")),
        ("volume_type_id", json!(id)),
    ] {
        assert_eq!(shown[key], value, "{key}");
        assert_eq!(service.get(&format!("{path}/{key}")).await.body, json!({ key: value }));
    }
    let absent = format!("Volume type encryption for type {id} does not exist.");
    service.get(&format!("{path}/nothing")).await.is_error(404, "itemNotFound", &absent);
    let twice = service.post(&path, json!({ "encryption": good })).await;
    twice.is_error(400, "badRequest", &format!("Volume type encryption for type {id} already exists."));
    // By the name that one client has for it, and by its id.
    let changed = put(&service, &format!("{path}/provider"), json!({ "encryption": { "key_size": "512" } })).await;
    assert_eq!((changed.status, &changed.body["encryption"]["key_size"]), (StatusCode::OK, &json!(512)));

    let volume = service.volume(json!({ "volume_type": "secret" })).await;
    let backup = back_up(&service, json!({ "volume_id": volume })).await;
    wait_backup(&service, &backup, "available").await;
    let by_id = format!("{path}/{}", shown["encryption_id"].as_str().unwrap());
    for (answer, verb) in [
        (service.post(&path, json!({ "encryption": good })).await, "create"),
        (put(&service, &by_id, json!({ "encryption": { "key_size": 256 } })).await, "update"),
        (service.delete(&by_id).await, "delete"),
    ] {
        answer.is_error(400, "badRequest", &format!("Cannot {verb} encryption specs. Volume type in use."));
    }
    service.delete(&format!("/volumes/{volume}")).await;
    service.wait_status(&volume, "gone").await;
    assert_eq!(service.delete(&by_id).await.status, StatusCode::ACCEPTED);
    assert_eq!(service.get(&path).await.body, json!({}));
    service.delete(&by_id).await.is_error(404, "itemNotFound", &absent);
    let plain = service.volume(json!({ "volume_type": "secret" })).await;
    assert_eq!(service.get(&format!("/volumes/{plain}")).await.body["volume"]["encrypted"], false);

    // A backup outlives the type of its volume; a restore says what is to be done then, and that works.
    service.delete(&format!("/volumes/{plain}")).await;
    service.wait_status(&plain, "gone").await;
    assert_eq!(service.delete(&format!("/types/{id}")).await.status, StatusCode::ACCEPTED);
    let refused = service.post(&format!("/backups/{backup}/restore"), json!({ "restore": {} })).await;
    let said = refused.body["badRequest"]["message"].as_str().unwrap_or_default();
    assert!(said.contains("is not there any more") && said.contains("'backup_id' and 'volume_type'"), "{refused:?}");
    encrypted_type(&service, "as-before", 512).await;
    let wanted = json!({ "volume": { "size": 1, "backup_id": backup, "volume_type": "as-before" } });
    let made = service.ask(Method::POST, "/volumes", "3.71", Some(wanted)).await;
    service.wait_status(made.body["volume"]["id"].as_str().unwrap(), "available").await;
}

#[tokio::test]
async fn what_is_stored_opens_with_its_key_and_so_do_its_copies() {
    let mut service = Service::start();
    for (name, key_size) in [("secret", 256), ("long", 512)] {
        encrypted_type(&service, name, key_size).await;
    }
    let image = image(&service).await;
    let empty = service.volume(json!({ "volume_type": "secret" })).await;
    let volume = service.volume(json!({ "volume_type": "long", "imageRef": image })).await;
    let shown = async |version: &str| {
        service.ask(Method::GET, &format!("/volumes/{volume}"), version, None).await.body["volume"].clone()
    };
    let key = key_of(&service, &volume).await;
    assert_eq!((&shown("3.64").await["encrypted"], &shown("3.64").await["encryption_key_id"]), (&json!(true), &json!(key)));
    assert_eq!(shown("3.63").await.get("encryption_key_id"), None);
    let facts = service.get(&format!("/volumes/{volume}/encryption")).await.body;
    assert_eq!(
        facts,
        json!({ "encryption_key_id": key, "provider": "luks", "cipher": "aes-xts-plain64", "key_size": 512, "control_location": "front-end" })
    );
    let one = service.get(&format!("/volumes/{volume}/encryption/cipher")).await;
    assert_eq!((one.status, one.body), (StatusCode::OK, json!("aes-xts-plain64")), "bare text");
    assert_eq!(service.get(&format!("/volumes/{volume}/encryption/more")).await.status, StatusCode::NOT_FOUND);

    let bytes = bytes_of_key(&service, &key).await;
    let path = path_of(&service, &volume);
    assert_eq!((bytes.len(), path.metadata().unwrap().len()), (64, 1 << 30), "the container takes its room from the volume");
    assert!(opened(&path, &bytes, IMAGE_BYTES).unwrap() == disk(), "it is not the image that QEMU reads");
    assert!(!contains(&head(&path, 8 << 20), MARKER), "plain text on the storage");
    let other = bytes_of_key(&service, &key_of(&service, &empty).await).await;
    assert_eq!(opened(&path, &other, 512), None, "another volume's key opens it");
    assert_eq!(opened(&path_of(&service, &empty), &other, 512).unwrap().len(), 512, "an empty one is a container, too");

    // Copies: bytes as they are, a key of their own, which is the same.
    let made = service.post("/snapshots", json!({ "snapshot": { "volume_id": volume } })).await;
    let snapshot = made.body["snapshot"]["id"].as_str().unwrap().to_owned();
    wait_snapshot(&service, &snapshot, "available").await;
    let clone = service.volume(json!({ "source_volid": volume })).await;
    let copy = service.volume(json!({ "snapshot_id": snapshot, "size": 2 })).await;
    let backup = back_up(&service, json!({ "volume_id": volume })).await;
    let backed_up = wait_backup(&service, &backup, "available").await;
    let restored = restore(&service, &backup, json!({})).await;
    service.wait_status(&restored, "available").await;
    let mut keys = vec![key.clone(), backed_up["encryption_key_id"].as_str().unwrap().to_owned()];
    for copy in [&clone, &copy, &restored] {
        let own = key_of(&service, copy).await;
        assert_eq!(bytes_of_key(&service, &own).await, bytes);
        assert!(opened(&path_of(&service, copy), &bytes, IMAGE_BYTES).unwrap() == disk());
        keys.push(own);
    }
    let count = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), count, "each has an id of its own");

    // It is told to hosts, it grows, and goes back.
    let attachment = service.attach(&clone, "iqn.2026-01.test:a").await;
    assert_eq!(attachment["connection_info"]["encrypted"], true);
    let plain = service.volume(json!({})).await;
    assert_eq!(service.attach(&plain, "iqn.2026-01.test:a").await["connection_info"]["encrypted"], false);
    let grown = service.post(&format!("/volumes/{copy}/action"), json!({ "os-extend": { "new_size": 3 } })).await;
    assert_eq!(grown.status, StatusCode::ACCEPTED);
    service.wait_status(&copy, "available").await;
    assert!(opened(&path_of(&service, &copy), &bytes, IMAGE_BYTES).unwrap() == disk());
    let reverted = json!({ "revert": { "snapshot_id": snapshot } });
    assert_eq!(service.ask(Method::POST, &format!("/volumes/{volume}/action"), "3.71", Some(reverted)).await.status, 202);
    service.wait_status(&volume, "available").await;
    assert!(opened(&path, &bytes, IMAGE_BYTES).unwrap() == disk());
    let again = service.post(&format!("/backups/{backup}/restore"), json!({ "restore": { "volume_id": volume } })).await;
    assert_eq!(again.status, StatusCode::ACCEPTED, "{again:?}");
    service.wait_status(&volume, "available").await;
    assert!(opened(&path, &bytes, IMAGE_BYTES).unwrap() == disk());

    // What would end in bytes that nobody can open, or in plain text.
    let act = async |volume: &str, action: Value| {
        service.ask(Method::POST, &format!("/volumes/{volume}/action"), "3.71", Some(action)).await
    };
    let make = async |fields: Value| service.post("/volumes", json!({ "volume": fields })).await;
    let onto = async |volume: &str| {
        service.post(&format!("/backups/{backup}/restore"), json!({ "restore": { "volume_id": volume } })).await
    };
    for (answer, word) in [
        (act(&copy, json!({ "os-volume_upload_image": { "image_name": "x" } })).await, "is encrypted"),
        (act(&copy, json!({ "os-retype": { "new_type": "files" } })).await, "encrypted otherwise"),
        (
            act(&copy, json!({ "os-retype": { "new_type": "secret", "migration_policy": "on-demand" } })).await,
            "encrypted otherwise",
        ),
        (act(&empty, json!({ "os-retype": { "new_type": "files" } })).await, "encrypted otherwise"),
        (make(json!({ "source_volid": volume, "volume_type": "files" })).await, "not compatible"),
        (make(json!({ "snapshot_id": snapshot, "volume_type": "secret" })).await, "not compatible"),
        (make(json!({ "source_volid": plain, "volume_type": "secret" })).await, "not compatible"),
        (onto(&service.volume(json!({})).await).await, "restored to the volume it is of"),
        (onto(&copy).await, "restored to the volume it is of"),
        (service.get(&format!("/backups/{backup}/export_record")).await, "its key is not told"),
        (
            service.ask(Method::POST, "/volume-transfers", "3.69", Some(json!({ "transfer": { "volume_id": copy } }))).await,
            "encrypted",
        ),
    ] {
        let said = answer.body["badRequest"]["message"].as_str().unwrap_or_default();
        assert!(answer.status == 400 && said.contains(word), "{word}: {answer:?}");
    }

    service.kill();
    // Another master key, as of a folder that was not restored: nothing is made that only it would open.
    let file = service.state.path().join("master_key");
    let right = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, "x".repeat(43)).unwrap();
    let mut command = tokio::process::Command::from(service.command());
    let ended = tokio::time::timeout(Duration::from_secs(120), command.kill_on_drop(true).output());
    let refused = ended.await.unwrap_or_else(|_| panic!("it serves with a master key that opens nothing")).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("does not open the keys") && said.contains("master_key"), "{said}");
    std::fs::write(&file, right).unwrap();
    service.start_again();
    assert_eq!(bytes_of_key(&service, &key).await, bytes, "the master key is kept");

    // Keys go with what they open, and no sooner.
    service.delete(&format!("/snapshots/{snapshot}")).await;
    wait_snapshot(&service, &snapshot, "gone").await;
    service.delete(&format!("/volumes/{volume}")).await;
    service.wait_status(&volume, "gone").await;
    let token = service.token();
    assert_eq!(ask_for_key(&service, &key, &[("x-auth-token", &token)]).await.0, 404, "it went with its volume");
    let kept = backed_up["encryption_key_id"].as_str().unwrap();
    assert_eq!(bytes_of_key(&service, kept).await, bytes, "the backup has its own");
    service.delete(&format!("/backups/{backup}")).await;
    wait_backup(&service, &backup, "gone").await;
    assert_eq!(ask_for_key(&service, kept, &[("x-auth-token", &token)]).await.0, 404);
    assert_eq!(service.store().await.usage_drift().await.unwrap(), []);
}

#[tokio::test]
async fn a_key_is_read_by_its_project_services_and_administrators_and_stands_nowhere() {
    let service = Service::start();
    encrypted_type(&service, "secret", 256).await;
    let store = service.store().await;
    let project = service.store().await.service_identity().await.unwrap().project_id;
    let volume = service.volume(json!({ "volume_type": "secret" })).await;
    let key = key_of(&service, &volume).await;
    let bytes = bytes_of_key(&service, &key).await;

    store.insert_project(OTHER, "others").await.unwrap();
    for (owner, role, status) in [
        (project.as_str(), "member", 200),
        (&project, "reader", 403),
        (OTHER, "service", 200),
        (OTHER, "admin", 200),
        (OTHER, "member", 404),
    ] {
        let token = crate::common::token(&store, owner, role).await;
        let (found, said) = ask_for_key(&service, &key, &[("x-auth-token", &token)]).await;
        assert_eq!(found, status, "{role} of {owner}");
        assert_eq!(said == bytes, status == 200, "{role} of {owner}");
    }
    assert_eq!(ask_for_key(&service, &key, &[]).await.0, 401);
    let token = service.token();
    let headers = [("x-auth-token", token.as_str())];
    assert_eq!(ask_for_key(&service, "00000000-0000-4000-8000-000000000000", &headers).await.0, 404);
    // As the field's own client of the key manager goes about it.
    let versions = service.at_root(Method::GET, "/key-manager", &[], None).await;
    let v1 = versions.body["versions"][0]["links"][0]["href"].as_str().unwrap().to_owned();
    assert_eq!(v1, service.url.replace("/v3", "/key-manager/v1/"));
    let described = service.at_root(Method::GET, &format!("/key-manager/v1/secrets/{key}"), &headers, None).await.body;
    assert_eq!(
        (&described["status"], &described["bit_length"], &described["algorithm"]),
        (&json!("ACTIVE"), &json!(256), &json!("aes"))
    );
    assert_eq!(described["secret_ref"], json!(format!("{v1}secrets/{key}")));
    let as_text = [headers[0], ("accept", "text/plain")];
    assert_eq!(
        service.at_root(Method::GET, &format!("/key-manager/v1/secrets/{key}/payload"), &as_text, None).await.status,
        406
    );
    let told = std::fs::read_to_string(service.state.path().join("clouds.yaml")).unwrap();
    assert!(told.contains(&format!("key_manager_endpoint_override: {}", service.url.replace("/v3", "/key-manager"))), "{told}");

    // It changes hands with its volume.
    let offered = json!({ "transfer": { "volume_id": volume } });
    let offered = service.ask(Method::POST, "/volume-transfers", "3.70", Some(offered)).await.body["transfer"].clone();
    let theirs = crate::common::token(&store, OTHER, "manager").await;
    let accept = json!({ "accept": { "auth_key": offered["auth_key"] } }).to_string();
    let path = format!("/volume-transfers/{}/accept", offered["id"].as_str().unwrap());
    let taken = service.bare(Method::POST, &path, &[("x-auth-token", &theirs)], Some(&accept)).await;
    assert_eq!(taken.status, StatusCode::ACCEPTED, "{taken:?}");
    assert_eq!(ask_for_key(&service, &key, &[("x-auth-token", &theirs)]).await.0, 200);
    let before = format!("token-of-member-of-{project}");
    assert_eq!(ask_for_key(&service, &key, &[("x-auth-token", &before)]).await.0, 404);

    let master = service.state.path().join("master_key");
    assert_eq!(mode_of(&master), 0o600);
    let words = [bytes.clone(), hex(&bytes).into_bytes(), base64_of(&bytes)];
    let mut left: Vec<PathBuf> = vec![service.state.path().to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.is_file() {
            // The service goes on, and may remove what it has used.
            let Some(found) = head_if_any(&path, 64 << 20) else { continue };
            assert!(!words.iter().any(|word| contains(&found, word)), "the key stands in {}", path.display());
        }
    }
    let log = service.log();
    assert!(log.contains(&volume) && !words.iter().any(|word| contains(log.as_bytes(), word)), "the key stands in the log");
}

fn base64_of(bytes: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes).into_bytes()
}

#[tokio::test]
async fn what_a_kill_left_to_be_done_is_made_encrypted_and_never_plain() {
    let mut service = Service::start();
    let type_id = encrypted_type(&service, "secret", 256).await;
    service.kill();
    // Accepted and recorded; of one its file is there, without a header; of one the key was sealed under another master key.
    let store = service.store().await;
    let identity = store.service_identity().await.unwrap();
    let volume_type = store.volume_type(&type_id, None).await.unwrap();
    let by = Asker { project_id: identity.project_id.clone(), user_id: identity.user_id.clone(), request_id: None };
    let master = std::fs::read_to_string(service.state.path().join("master_key")).unwrap();
    let (own, foreign) = (Vault::new(&Secret::new(master.trim().to_owned())), Vault::new(&Secret::random(43)));
    // Those that are not kept are a Barbican's: they are here only while they are needed.
    let insert = async |vault: Option<&Vault>, is_kept: bool| {
        let key = VolumeKey::random(256).unwrap();
        let id = uuid::Uuid::new_v4();
        let sealed = vault.map(|vault| NewKey { id, sealed: vault.seal(id, &key).unwrap(), is_kept, bits: 256 });
        let new = NewVolume {
            id: uuid::Uuid::new_v4(),
            project_id: identity.project_id.clone(),
            user_id: identity.user_id.clone(),
            name: None,
            description: None,
            size_gib: 1,
            multiattach: false,
            availability_zone: "nova".into(),
            metadata: Default::default(),
            volume_type: volume_type.clone(),
            source: Source::Nothing,
            key: sealed,
        };
        let inserted = store.insert_volume(new, by.clone(), &Limits::new()).await;
        inserted.map(|(volume, _)| (volume.id.to_string(), key))
    };
    let (untouched, half, lost) = (
        insert(Some(&own), true).await.unwrap(),
        insert(Some(&own), false).await.unwrap(),
        insert(Some(&foreign), false).await.unwrap(),
    );
    std::fs::File::create(path_of(&service, &half.0)).unwrap().set_len(1 << 30).unwrap();
    let refused = insert(None, true).await.unwrap_err().to_string();
    assert!(refused.contains("encryption of secret"), "one without a key would be plain: {refused}");
    drop(store);
    service.start_again();
    let store = service.store().await;
    let is_here = async |volume: &str| {
        let id = store.volume(volume.parse().unwrap()).await.unwrap().encryption_key_id.unwrap();
        store.sealed_key(id.parse().unwrap()).await.unwrap().is_some()
    };
    for ((volume, key), is_kept) in [(untouched, true), (half, false)] {
        service.wait_status(&volume, "available").await;
        assert_eq!(opened(&path_of(&service, &volume), key.bytes(), 512).map(|plain| plain.len()), Some(512));
        assert_eq!(is_here(&volume).await, is_kept, "another's key stays when the volume is made");
    }
    service.wait_status(&lost.0, "error").await;
    assert!(!is_here(&lost.0).await, "another's key stays when no volume is made");
    assert!(!path_of(&service, &lost.0).exists(), "a volume that is not encrypted");
    // What is amiss.
    service.says("master_key_file").await;
}
