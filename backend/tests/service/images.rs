//! Images through HTTP: what they are said to be is what they are, or they are refused; a kill leaves nothing but a queued image.

use std::io::Write as _;
use std::net::TcpStream;
use std::process::Command;

use crate::common::{INSTANCE, Service, path_of};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

async fn image(service: &Service, format: &str) -> String {
    let token = service.token();
    let body = json!({ "name": "test", "disk_format": format, "container_format": "bare" }).to_string();
    let url = service.url.replace("/v3", "/image/v2/images");
    let made = reqwest::Client::new().post(url).header("x-auth-token", token).body(body).send().await.unwrap();
    assert_eq!(made.status(), StatusCode::CREATED);
    made.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
}

async fn ask(service: &Service, method: Method, path: &str, range: Option<&str>, body: Vec<u8>) -> (StatusCode, Vec<u8>) {
    let url = service.url.replace("/v3", &format!("/image/v2/images/{path}"));
    let request = reqwest::Client::new().request(method, url).header("x-auth-token", service.token());
    let request = request.header("content-type", "application/octet-stream").body(body);
    let answer = request.header("range", range.unwrap_or("bytes=0-")).send().await.unwrap();
    (answer.status(), answer.bytes().await.unwrap().to_vec())
}

async fn status(service: &Service, id: &str) -> String {
    let (_, body) = ask(service, Method::GET, id, None, Vec::new()).await;
    serde_json::from_slice::<Value>(&body).unwrap()["status"].as_str().unwrap().to_owned()
}

/// What qemu-img makes of these arguments.
fn qemu_img(arguments: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let made = Command::new("qemu-img").current_dir(dir.path()).args(arguments).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::read(dir.path().join("disk")).unwrap()
}

fn made(format: &str) -> Vec<u8> {
    qemu_img(&["create", "-q", "-f", format, "disk", "4M"])
}

fn patched(mut bytes: Vec<u8>, at: usize, new: &[u8]) -> Vec<u8> {
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}

#[tokio::test]
async fn hostile_and_lying_images_are_refused_and_leave_nothing() {
    let service = Service::start();
    let iso = patched(vec![0; 40_000], 0x8001, b"CD001");
    let text = |what: &str| format!("# Disk DescriptorFile\nRW 8 FLAT \"{what}\" 0\n").into_bytes();
    let vmdk = made("vmdk");
    let hostile: Vec<(&str, Vec<u8>)> = vec![
        ("raw", made("qcow2")),
        ("raw", vmdk.clone()),
        ("raw", made("vhdx")),
        ("raw", made("vdi")),
        ("raw", made("vpc")),
        ("raw", iso.clone()),
        ("raw", text("/etc/shadow")),
        ("vmdk", text("/etc/shadow")),
        ("qcow2", vec![0; 100_000]),
        ("qcow2", vmdk.clone()),
        ("iso", vec![0; 100_000]),
        ("qcow2", made("qcow2")[..60].to_vec()),
        ("qcow2", patched(made("qcow2"), 8, &[0, 0, 0, 0, 0, 0, 2, 0])),
        ("qcow2", patched(made("qcow2"), 79, &[4])),
        ("qcow2", patched(made("qcow2"), 79, &[2])),
        ("qcow2", patched(made("qcow2"), 72, &[0x80])),
        ("qcow2", patched(made("qcow2"), 35, &[1])),
        ("qcow2", patched(made("qcow2"), 23, &[60])),
        ("qcow2", patched(made("qcow2"), 24, &[0x7f])),
        ("qcow2", patched(made("qcow2"), 40, &[0x7f])),
        ("vmdk", patched(vmdk, 12, &[0; 8])),
        ("vmdk", qemu_img(&["create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", "disk", "4M"])),
        ("vhd", vec![0; 4096]),
        ("vhd", patched(made("vpc"), 63, &[4])),
        ("vhdx", patched(made("vhdx"), 0x3_0000, b"xxxx")),
        ("vdi", patched(made("vdi"), 0x4c, &[4])),
        ("qcow2", patched(iso, 0, b"QFI\xfb\0\0\0\x03")),
        ("raw", Vec::new()),
    ];
    for (number, (format, bytes)) in hostile.into_iter().enumerate() {
        let id = image(&service, format).await;
        let (code, said) = ask(&service, Method::PUT, &format!("{id}/file"), None, bytes).await;
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(matches!(code.as_u16(), 413 | 415) && said.contains("refused"), "{number} as {format}: {code} {said}");
        assert_eq!(status(&service, &id).await, "queued", "{number}");
    }
    assert_eq!(std::fs::read_dir(service.state.path().join("images")).unwrap().count(), 0, "nothing is left");
    for (format, name) in
        [("qcow2", "qcow2"), ("vmdk", "vmdk"), ("vhd", "vpc"), ("vhdx", "vhdx"), ("vdi", "vdi"), ("raw", "raw")]
    {
        let id = image(&service, format).await;
        let (code, said) = ask(&service, Method::PUT, &format!("{id}/file"), None, made(name)).await;
        assert_eq!(code, StatusCode::NO_CONTENT, "{format}: {}", String::from_utf8_lossy(&said));
        assert_eq!(status(&service, &id).await, "active");
    }
}

#[tokio::test]
async fn a_kill_in_the_middle_of_an_upload_leaves_a_queued_image_that_can_be_uploaded_again() {
    let mut service = Service::start();
    let id = image(&service, "raw").await;
    let address = service.url.trim_start_matches("http://").trim_end_matches("/v3").to_owned();
    let mut stream = TcpStream::connect(&address).unwrap();
    let head = format!(
        "PUT /image/v2/images/{id}/file HTTP/1.1\r\nhost: x\r\nx-auth-token: {}\r\ncontent-type: application/octet-stream\r\n\
         content-length: 4000000\r\n\r\n",
        service.token()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&vec![7; 1_000_000]).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while status(&service, &id).await != "saving" {
        assert!(std::time::Instant::now() < deadline, "the upload has not begun");
    }
    service.kill();
    service.start_again();
    assert_eq!(status(&service, &id).await, "queued");
    assert_eq!(std::fs::read_dir(service.state.path().join("images")).unwrap().count(), 0);
    let data: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
    assert_eq!(ask(&service, Method::PUT, &format!("{id}/file"), None, data.clone()).await.0, StatusCode::NO_CONTENT);
    assert_eq!(ask(&service, Method::PUT, &format!("{id}/file"), None, data.clone()).await.0, StatusCode::CONFLICT);
    let path = format!("{id}/file");
    let part = ask(&service, Method::GET, &path, Some("bytes=1000000-1000009"), Vec::new()).await;
    assert_eq!((part.0, part.1.as_slice()), (StatusCode::PARTIAL_CONTENT, &data[1_000_000..1_000_010]));
    assert_eq!(
        ask(&service, Method::GET, &path, Some("bytes=3000000-"), Vec::new()).await.0,
        StatusCode::RANGE_NOT_SATISFIABLE
    );
    assert_eq!(ask(&service, Method::GET, &path, None, Vec::new()).await.1, data);
}

async fn with_bytes(service: &Service, format: &str, bytes: Vec<u8>) -> String {
    let id = image(service, format).await;
    assert_eq!(ask(service, Method::PUT, &format!("{id}/file"), None, bytes).await.0, StatusCode::NO_CONTENT);
    id
}

#[tokio::test]
async fn an_image_is_written_over_what_a_volume_has_also_after_a_kill_and_nothing_else_stays() {
    use std::os::unix::fs::FileExt as _;
    let mut service = Service::start();
    let disk = patched(vec![0; 6 << 20], (4 << 20) - 3, b"across the end of a chunk");
    let image = with_bytes(&service, "raw", disk.clone()).await;
    let large = with_bytes(&service, "qcow2", qemu_img(&["create", "-q", "-f", "qcow2", "disk", "2G"])).await;
    let used = async || {
        let volume = service.volume(json!({})).await;
        let file = std::fs::OpenOptions::new().write(true).open(path_of(&service, &volume)).unwrap();
        for at in [0, (4 << 20) + 500, 700 << 20] {
            file.write_all_at(b"of the guest before", at).unwrap();
        }
        volume
    };
    let (volume, cut_off, lost) = (used().await, used().await, used().await);
    let act = async |service: &Service, volume: &str, version: &str, action: Value| {
        service.ask(Method::POST, &format!("/volumes/{volume}/action"), version, Some(action)).await
    };
    let reimage = |image: &str, reserved: bool| json!({ "os-reimage": { "image_id": image, "reimage_reserved": reserved } });
    let is_image = |service: &Service, volume: &str| {
        let file = std::fs::File::open(path_of(service, volume)).unwrap();
        let (mut head, mut beyond) = (vec![0; disk.len()], vec![0; 64]);
        file.read_exact_at(&mut head, 0).unwrap();
        file.read_exact_at(&mut beyond, 700 << 20).unwrap();
        assert!(head == disk && beyond == [0; 64], "what {volume} had shines through");
        assert_eq!(file.metadata().unwrap().len(), 1 << 30);
    };

    let none = "11111111-2222-4333-8444-555555555555";
    for (version, action, code) in [
        ("3.67", reimage(&image, false), 400),
        ("3.68", json!({ "os-reimage": {} }), 400),
        ("3.68", json!({ "os-reimage": { "image_id": "x" } }), 400),
        ("3.68", reimage(none, false), 404),
        ("3.68", reimage(&large, false), 400),
    ] {
        let refused = act(&service, &volume, version, action).await;
        assert_eq!(refused.status.as_u16(), code, "{refused:?}");
    }
    // One that a guest is being rebuilt on is reserved, and stays so.
    let reserve = async |service: &Service, volume: &str| {
        let held = json!({ "attachment": { "volume_uuid": volume, "instance_uuid": INSTANCE } });
        let attachment = service.post("/attachments", held).await.body["attachment"].clone();
        assert_eq!(attachment["status"], "reserved");
        format!("/attachments/{}", attachment["id"].as_str().unwrap())
    };
    reserve(&service, &volume).await;
    let refused = act(&service, &volume, "3.68", reimage(&image, false)).await;
    let text = format!(
        "Invalid volume: Volume {volume} status must be available or error, and it must have been made, but current status is: reserved."
    );
    refused.is_error(400, "badRequest", &text);
    assert_eq!(act(&service, &volume, "3.68", reimage(&image, true)).await.status, StatusCode::ACCEPTED);
    service.wait_status(&volume, "reserved").await;
    is_image(&service, &volume);
    let shown = service.get(&format!("/volumes/{volume}")).await.body["volume"].clone();
    assert_eq!((&shown["bootable"], &shown["volume_image_metadata"]["image_id"]), (&json!("true"), &json!(image)));

    // Accepted, and cut off before it was done; of one the image goes meanwhile, and one had only to be told of.
    let written = used().await;
    let attachment = reserve(&service, &lost).await;
    service.stop();
    let store = service.store().await;
    let identity = store.service_identity().await.unwrap();
    let by = bowline_backend::domain::Asker { project_id: identity.project_id, user_id: identity.user_id, request_id: None };
    for (volume, image, reserved) in [(&cut_off, image.as_str(), false), (&lost, none, true)] {
        let (volume, image) = (volume.parse().unwrap(), image.parse().unwrap());
        store.begin_reimage(volume, image, reserved, None, by.clone()).await.unwrap();
    }
    let untold = store.begin_reimage(written.parse().unwrap(), none.parse().unwrap(), false, None, by.clone()).await.unwrap();
    store.record_written(&untold).await.unwrap();
    drop(store);
    service.start_again();
    service.wait_status(&cut_off, "available").await;
    is_image(&service, &cut_off);
    service.wait_status(&lost, "error").await;
    let messages = service.get(&format!("/messages?resource_uuid={lost}")).await.body;
    assert!(messages["messages"][0]["user_message"].as_str().unwrap().contains("reimage volume:"), "{messages}");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let told = service.get(&format!("/operations/{}", untold.id)).await.body["operation"].clone();
        match told["state"].as_str().unwrap() {
            "done" => break,
            state => assert!(state != "failed" && std::time::Instant::now() < deadline, "{told}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    service.wait_status(&written, "available").await;
    // Nobody boots from what is left of it, and it is still reserved: whoever did that tries again.
    let connector = json!({ "attachment": { "connector": { "initiator": "iqn.2016-04.com.open-iscsi:node-a" } } });
    let connect = || service.ask(Method::PUT, &attachment, "3.54", Some(connector.clone()));
    let text = format!(
        "Invalid volume: Volume {lost} status must not be error or downloading to give it to a host, but current status is: error."
    );
    connect().await.is_error(400, "badRequest", &text);
    assert_eq!(act(&service, &lost, "3.68", reimage(&image, false)).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(act(&service, &lost, "3.68", reimage(&image, true)).await.status, StatusCode::ACCEPTED);
    service.wait_status(&lost, "reserved").await;
    is_image(&service, &lost);
    assert_eq!(connect().await.status, StatusCode::OK);
    // A host has it, whatever its status is made.
    let reset = json!({ "os-reset_status": { "status": "error" } });
    assert_eq!(act(&service, &lost, "3.54", reset).await.status, StatusCode::ACCEPTED);
    for reserved in [false, true] {
        let text = format!(
            "Invalid volume: Volume {lost} is attached to a host, or is just being attached or detached: an image cannot be written over it."
        );
        act(&service, &lost, "3.68", reimage(&image, reserved)).await.is_error(400, "badRequest", &text);
    }
    assert_eq!(connect().await.status, StatusCode::OK, "the same host asks again");

    // What is still to be copied would be the image.
    let snapshot = service.post("/snapshots", json!({ "snapshot": { "volume_id": cut_off } })).await;
    crate::common::wait_snapshot(&service, snapshot.body["snapshot"]["id"].as_str().unwrap(), "available").await;
    service.volume(json!({ "source_volid": cut_off })).await;
    for table in ["snapshots", "volumes"] {
        let set = |from: &str, to: &str| {
            let of = if table == "snapshots" { "volume_id" } else { "source_volume_id" };
            format!("UPDATE {table} SET status = '{to}' WHERE status = '{from}' AND {of} = '{cut_off}'")
        };
        service.execute(&set("available", "creating"), &set("available", "creating")).await;
        let refused = act(&service, &cut_off, "3.68", reimage(&image, false)).await;
        assert!(refused.status == 400 && refused.body.to_string().contains("still being made"), "{table}: {refused:?}");
        service.execute(&set("creating", "available"), &set("creating", "available")).await;
    }
    assert_eq!(act(&service, &cut_off, "3.68", reimage(&image, false)).await.status, StatusCode::ACCEPTED);
}
