//! What tests of backups do: volumes with known bytes, backups made and restored, and what of them is in the store.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Service, path_of};

pub const MIB: u64 = 1 << 20;
const SETTLED_WITHIN: Duration = Duration::from_secs(120);

/// Bytes that cannot be compressed, the same for the same seed.
pub fn noise(seed: u64, length: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = vec![0; usize::try_from(length).unwrap()];
    for word in bytes.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    bytes
}

/// Off the runtime: it would keep connections from seeing that the service has closed them.
pub async fn write(path: &Path, offset: u64, bytes: impl FnOnce() -> Vec<u8> + Send + 'static) {
    let path = path.to_owned();
    let write = move || OpenOptions::new().write(true).open(path).unwrap().write_all_at(&bytes(), offset).unwrap();
    tokio::task::spawn_blocking(write).await.unwrap();
}

/// The SHA-256 of what is not zeros in a file's first GiB, and where that is; all that follows must be zeros.
pub async fn digest(path: &Path) -> String {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || digest_now(&path)).await.unwrap()
}

fn digest_now(path: &Path) -> String {
    use sha2::Digest as _;
    const BLOCK: u64 = 64 << 10;
    let file = File::open(path).unwrap();
    let length = file.metadata().unwrap().len();
    assert!(length >= 1024 * MIB, "{} is too short", path.display());
    let mut hash = sha2::Sha256::new();
    let mut block = vec![0; usize::try_from(BLOCK).unwrap()];
    let zeros = block.clone();
    let mut offset = 0;
    // What is a hole need not be read.
    while let Ok(data) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(offset)) {
        let start = data / BLOCK * BLOCK;
        file.read_exact_at(&mut block, start).unwrap();
        if block != zeros {
            assert!(start < 1024 * MIB, "{} has bytes beyond the backup", path.display());
            hash.update(start.to_le_bytes());
            hash.update(&block);
        }
        offset = start + BLOCK;
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub async fn back_up(service: &Service, body: Value) -> String {
    let made = service.post("/backups", json!({ "backup": body })).await;
    assert_eq!(made.status, StatusCode::ACCEPTED, "{made:?}");
    made.body["backup"]["id"].as_str().unwrap().to_owned()
}

pub async fn restore(service: &Service, backup: &str, body: Value) -> String {
    let made = service.post(&format!("/backups/{backup}/restore"), json!({ "restore": body })).await;
    assert_eq!(made.status, StatusCode::ACCEPTED, "{made:?}\n{}", service.log());
    assert_eq!(made.body["restore"]["backup_id"], json!(backup));
    made.body["restore"]["volume_id"].as_str().unwrap().to_owned()
}

/// Waits until a backup has a status; gives it.
pub async fn wait_backup(service: &Service, id: &str, status: &str) -> Value {
    let deadline = Instant::now() + SETTLED_WITHIN;
    loop {
        let shown = service.ask(Method::GET, &format!("/backups/{id}"), "3.71", None).await;
        let is = if shown.status == StatusCode::NOT_FOUND { "gone" } else { shown.body["backup"]["status"].as_str().unwrap() };
        if is == status {
            return shown.body["backup"].clone();
        }
        assert!(Instant::now() < deadline, "{id} is {is}, not {status}: {shown:?}\n{}", service.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The files of a backup in the store, by name, with their lengths. Whoever writes them may be at work: one that got its final name
/// since it was listed is left out.
pub fn objects(store: &Path, backup: &str) -> Vec<(String, u64)> {
    let Ok(entries) = std::fs::read_dir(store.join("backups").join(backup)) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .map(|entry| entry.unwrap())
        .filter_map(|entry| match entry.metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            about => Some((entry.file_name().into_string().unwrap(), about.unwrap().len())),
        })
        .collect();
    found.sort();
    found
}

pub fn store_of(service: &Service) -> PathBuf {
    service.state.path().join("backups")
}

/// Waits until it is so.
pub async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + SETTLED_WITHIN;
    while !condition() {
        assert!(Instant::now() < deadline, "it does not come to that");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A volume of 1 GiB with bytes here and there.
pub async fn volume_with_bytes(service: &Service, seed: u64) -> (String, PathBuf) {
    let volume = service.volume(json!({ "name": "kept" })).await;
    let path = path_of(service, &volume);
    write(&path, 0, move || noise(seed, 9 * MIB)).await;
    // The same again: it is stored once.
    write(&path, 64 * MIB, move || noise(seed, 4 * MIB)).await;
    write(&path, 700 * MIB + 12345, move || noise(seed + 1, MIB)).await;
    write(&path, 1024 * MIB - 3, move || b"end".to_vec()).await;
    (volume, path)
}
