//! `os-extend` over real HTTP, with a real tgtd: at rest, in use, and what is refused.

use std::process::Command;

use crate::common::{Service, log_in, path_of};
use reqwest::{Method, StatusCode};
use serde_json::json;

const NODE: &str = "iqn.2016-04.com.open-iscsi:node-a";
const NOWHERE: &str = "00000000-0000-4000-8000-000000000000";

fn action(volume: &str) -> String {
    format!("/volumes/{volume}/action")
}

fn to(size: u64) -> serde_json::Value {
    json!({ "os-extend": { "new_size": size } })
}

#[tokio::test]
async fn a_volume_at_rest_grows_and_what_makes_no_sense_is_refused() {
    let service = Service::start();
    let volume = service.volume(json!({})).await;
    assert_eq!(service.post(&action(&volume), to(3)).await.status, StatusCode::ACCEPTED);
    service.wait_status(&volume, "available").await;
    let shown = service.get(&format!("/volumes/{volume}")).await.body;
    assert_eq!(shown["volume"]["size"], 3);
    assert_eq!(std::fs::metadata(path_of(&service, &volume)).unwrap().len(), 3 << 30);
    for size in [1, 3] {
        let words = format!(
            "Invalid input received: New size for extend must be greater than current size. (current: 3, extended: {size})."
        );
        service.post(&action(&volume), to(size)).await.is_error(400, "badRequest", &words);
    }
    let missing = "Invalid input for field/attribute new_size. 'new_size' is a required property";
    service.post(&action(&volume), json!({ "os-extend": {} })).await.is_error(400, "badRequest", missing);
    let unknown = service.post(&action(&volume), json!({ "os-migrate": {} })).await;
    unknown.is_error(400, "badRequest", "There is no such action: os-migrate");
    assert_eq!(service.post(&action(NOWHERE), to(9)).await.status, StatusCode::NOT_FOUND);
}

fn shown_size(service: &Service, volume: &str) -> String {
    let output = Command::new("tgtadm")
        .args(["--lld", "iscsi", "--op", "show", "--mode", "target"])
        .env("TGT_IPC_SOCKET", service.state.path().join("run/tgtd.sock"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let of_lun = text.split("LUN: 1").nth(1).unwrap_or_else(|| panic!("{volume} has no LUN: {text}"));
    of_lun.split("Size: ").nth(1).unwrap().split(',').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_volume_in_use_grows_for_clients_that_know_and_its_host_gets_in_again() {
    let service = Service::start();
    let volume = service.volume(json!({})).await;
    let attachment = service.attach(&volume, NODE).await;
    let wrong = |wanted: &str, status: &str| {
        format!("Invalid volume: Volume {volume} status must be '{wanted}' to extend, currently {status}.")
    };
    service.post(&action(&volume), to(2)).await.is_error(400, "badRequest", &wrong("available or in-use", "attaching"));
    let complete = format!("/attachments/{}/action", attachment["id"].as_str().unwrap());
    assert_eq!(service.post(&complete, json!({ "os-complete": {} })).await.status, StatusCode::NO_CONTENT);
    assert_eq!(log_in(&attachment, NODE).unwrap(), volume.replace('-', ""));
    let before = shown_size(&service, &volume);

    let old = service.ask(Method::POST, &action(&volume), "3.41", Some(to(2))).await;
    old.is_error(400, "badRequest", &wrong("available", "in-use"));
    assert_eq!(service.post(&action(&volume), to(2)).await.status, StatusCode::ACCEPTED);
    service.wait_status(&volume, "in-use").await;
    assert_eq!(service.get(&format!("/volumes/{volume}")).await.body["volume"]["size"], 2);
    let after = shown_size(&service, &volume);
    assert_ne!(after, before);
    assert!(after.starts_with("214"), "{before} -> {after}, in units of tgtd's own");
    assert_eq!(log_in(&attachment, NODE).unwrap(), volume.replace('-', ""), "identity outlives the growth");
}

/// The service dies right after it has accepted an extension, at whatever it was at then; the next start finishes it.
#[tokio::test]
async fn an_accepted_extension_outlives_a_kill() {
    let mut service = Service::start();
    let volume = service.volume(json!({})).await;
    for size in 2..8 {
        assert_eq!(service.post(&action(&volume), to(size)).await.status, StatusCode::ACCEPTED);
        service.kill();
        service.start_again();
        service.wait_status(&volume, "available").await;
        assert_eq!(service.get(&format!("/volumes/{volume}")).await.body["volume"]["size"], size);
        assert_eq!(std::fs::metadata(path_of(&service, &volume)).unwrap().len(), size << 30);
    }
}

#[tokio::test]
async fn a_disk_that_is_full_leaves_the_old_size_and_gives_the_quota_back() {
    let mut service = Service::prepare();
    service.settings = "quota = { gigabytes = 10 }".into();
    service.largest_file_bytes = Some(3 << 30);
    service.start_again();
    let volume = service.volume(json!({})).await;
    let refused = service.post(&action(&volume), to(11)).await;
    assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE, "{refused:?}");
    let words = "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. Requested 10G, \
                 quota is 10G and 1G has been consumed.";
    assert_eq!(refused.body["overLimit"]["message"], words);
    assert_eq!(service.post(&action(&volume), to(9)).await.status, StatusCode::ACCEPTED);
    service.wait_status(&volume, "error_extending").await;
    assert_eq!(service.get(&format!("/volumes/{volume}")).await.body["volume"]["size"], 1);
    assert_eq!(service.store().await.usage_drift().await.unwrap(), []);
    service.delete(&format!("/volumes/{volume}")).await;
    service.wait_status(&volume, "gone").await;
}
