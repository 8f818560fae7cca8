//! What a client of the image service does with what it is answered.

use super::*;
use crate::openstack::{
    AuthMethod, Interface,
    test_server::{Reply, Server},
};
use serde_json::json;

pub(in crate::openstack) const ID: &str = "94333fbd-2aab-4a5a-befd-e30c2f7377fd";

pub(in crate::openstack) fn client(server: &Server) -> ImageService {
    let auth = AuthMethod::NoToken { endpoint: String::new() };
    let config = CloudConfig {
        name: "c".into(),
        auth,
        region_name: None,
        interface: Interface::Public,
        cacert: None,
        volume_endpoint: None,
        image_endpoint: Some(format!("{}/image", server.url())),
        key_manager_endpoint: None,
    };
    ImageService::new(config, HttpOptions::default()).unwrap()
}

pub(in crate::openstack) fn record(more: Value) -> Value {
    let mut image = json!({
        "id": ID, "name": "debian", "status": "active", "disk_format": "qcow2", "container_format": "bare", "size": 7,
        "min_disk": 2, "checksum": "A".repeat(32), "os_hash_algo": "sha512", "os_hash_value": "b".repeat(128), "visibility": "public",
    });
    image.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    image
}

async fn read(more: Value) -> Image {
    let server = Server::start(move |_, _| Reply::Json(200, &[], record(more.clone()))).await;
    client(&server).find_image(ID).await.unwrap()
}

#[tokio::test]
async fn a_record_is_read_with_its_strongest_digest() {
    let image = read(json!({"hw_disk_bus": "scsi", "block_device_mapping": "[]", "bdm_v2": "True"})).await;
    assert_eq!((image.size_bytes, image.min_disk_gib, image.disk_bus), (7, 2, Some(DiskBus::Scsi)));
    assert_eq!((image.mapping.as_deref(), image.is_mapping_v2), (Some("[]"), true));
    assert_eq!(image.digest.as_ref().unwrap().algorithm, DigestAlgorithm::Sha512);
    assert_eq!((image.min_ram_mib, image.virtual_bytes), (0, None), "a qcow2's size is not its disk's");
    let root = r#"[{"virtual": "swap", "device": "sda3"}, {"virtual": "root", "device": "/dev/sda"}]"#;
    let told = read(json!({"min_ram": 64, "virtual_size": 9, "mappings": root})).await;
    assert_eq!((told.min_ram_mib, told.virtual_bytes, told.root_device_name.as_deref()), (64, Some(9), Some("/dev/sda")));
    let flat = read(json!({"disk_format": "raw", "mappings": "{", "root_device_name": "vdb"})).await;
    assert_eq!((flat.virtual_bytes, flat.root_device_name.as_deref()), (Some(7), Some("vdb")));
    let older = read(json!({"os_hash_algo": null, "os_hash_value": null})).await.digest.unwrap();
    assert_eq!((older.algorithm, older.hex), (DigestAlgorithm::Md5, "a".repeat(32)));
    for broken in [
        json!({"os_hash_value": "b".repeat(127)}),
        json!({"os_hash_value": "../../x"}),
        json!({"os_hash_value": null, "checksum": null}),
    ] {
        assert_eq!(read(broken).await.digest, None);
    }
}

#[tokio::test]
async fn a_name_must_be_one_images() {
    let server = Server::start(|request, _| {
        let images = match request.line.split("name=").nth(1) {
            Some("two") => vec![record(json!({"name": "two"})), record(json!({"name": "two"}))],
            // A service that knows no such filter.
            _ => vec![record(json!({})), record(json!({"name": "other"}))],
        };
        Reply::Json(200, &[], json!({"images": images}))
    })
    .await;
    let client = client(&server);
    assert_eq!(client.find_image("debian").await.unwrap().id.to_string(), ID);
    assert_eq!(client.find_image("nobody").await.unwrap_err().kind(), ErrorKind::NotFound);
    let error = client.find_image("two").await.unwrap_err();
    assert!(error.kind() == ErrorKind::Conflict && error.to_string().contains("2 images"), "{error}");
    assert!(server.requests()[0].line.starts_with("GET /image/v2/images?name=debian"), "{}", server.requests()[0].line);
}

async fn fetched(status: u16, from: u64) -> (Result<(), OpenstackError>, Vec<u8>, Option<u64>, Option<String>) {
    let server = Server::start(move |_, _| Reply::Text(status, "bytes".into())).await;
    let (mut all, mut begins) = (vec![], None);
    let result = client(&server)
        .fetch(ID.parse().unwrap(), from, |chunk| {
            match chunk {
                Chunk::From(offset) => begins = Some(offset),
                Chunk::Bytes(bytes) => all.extend(bytes),
            }
            std::future::ready(true)
        })
        .await;
    let range = server.requests().first().and_then(|request| request.header("range").map(str::to_owned));
    (result, all, begins, range)
}

#[tokio::test]
async fn bytes_come_from_where_they_are_asked_for_or_from_the_start() {
    let (result, bytes, begins, range) = fetched(200, 0).await;
    result.unwrap();
    assert_eq!((bytes.as_slice(), begins, range), (b"bytes".as_slice(), Some(0), None));
    let (_, _, begins, range) = fetched(206, 10).await;
    assert_eq!((begins, range.as_deref()), (Some(10), Some("bytes=10-")));
    let (_, _, begins, _) = fetched(200, 10).await;
    assert_eq!(begins, Some(0), "the service knows no ranges");
    let (result, bytes, ..) = fetched(416, 10).await;
    assert!(result.is_ok() && bytes.is_empty());
    let (result, bytes, ..) = fetched(403, 0).await;
    assert!(result.unwrap_err().kind() == ErrorKind::PermissionDenied && bytes.is_empty());
}
