//! Attachments over real HTTP, with a real tgtd and real logins: who gets in, who does not, and what is left.

use std::process::Command;

use crate::common::{INSTANCE, Service, log_in, read_serial};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const NODE_A: &str = "iqn.2016-04.com.open-iscsi:node-a";
const NODE_B: &str = "iqn.2016-04.com.open-iscsi:node-b";
const NOWHERE: &str = "00000000-0000-4000-8000-000000000000";

fn id(attachment: &Value) -> &str {
    attachment["id"].as_str().unwrap()
}

async fn status(service: &Service, volume: &str) -> String {
    service.get(&format!("/volumes/{volume}")).await.body["volume"]["status"].as_str().unwrap().to_owned()
}

pub fn targets(service: &Service) -> String {
    let output = Command::new("tgtadm")
        .args(["--lld", "iscsi", "--op", "show", "--mode", "target"])
        .env("TGT_IPC_SOCKET", service.state.path().join("run/tgtd.sock"))
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn reserve_update_complete_delete() {
    let service = Service::start();
    let volume = service.volume(json!({})).await;
    let reserved =
        service.post("/attachments", json!({ "attachment": { "volume_uuid": volume, "instance_uuid": INSTANCE } })).await;
    assert_eq!(reserved.status, StatusCode::OK);
    let attachment = &reserved.body["attachment"];
    assert_eq!((&attachment["status"], &attachment["connection_info"]), (&json!("reserved"), &json!({})));
    assert_eq!(
        (&attachment["attached_at"], &attachment["detached_at"], &attachment["instance"]),
        (&json!(""), &json!(""), &json!(INSTANCE))
    );
    assert_eq!(status(&service, &volume).await, "reserved");
    assert_eq!(targets(&service), "", "nothing is shown before a host is known");

    let path = format!("/attachments/{}", id(attachment));
    let refused = format!(
        "Invalid volume: Volume {volume} status must be available or downloading to reserve, but the current status is"
    );
    service.post("/attachments", json!({ "attachment": { "volume_uuid": volume } })).await.is_error(
        400,
        "badRequest",
        &format!("{refused} reserved."),
    );
    assert_eq!(
        service.post(&format!("{path}/action"), json!({ "os-complete": {} })).await.status,
        StatusCode::BAD_REQUEST,
        "no host yet"
    );

    let connector =
        json!({ "initiator": NODE_A, "host": "node-a", "mountpoint": "/dev/vdb", "system uuid": "x", "multipath": false });
    let update = json!({ "attachment": { "connector": connector } });
    let updated = service.ask(Method::PUT, &path, "3.54", Some(update.clone())).await;
    assert_eq!(updated.status, StatusCode::OK, "{updated:?}");
    let info = &updated.body["attachment"]["connection_info"];
    let plain = volume.replace('-', "");
    for (key, value) in [
        ("driver_volume_type", json!("iscsi")),
        ("target_discovered", json!(false)),
        ("target_iqn", json!(format!("iqn.2010-10.org.openstack:volume-{volume}"))),
        ("target_portal", json!(format!("127.0.0.1:{}", service.portal))),
        ("target_lun", json!(1)),
        ("auth_method", json!("CHAP")),
        ("access_mode", json!("rw")),
        ("encrypted", json!(false)),
        ("qos_specs", Value::Null),
        ("cacheable", json!(false)),
        ("discard", json!(true)),
        ("volume_id", json!(volume)),
        ("attachment_id", attachment["id"].clone()),
        ("scsi_serial", json!(plain)),
    ] {
        assert_eq!(info[key], value, "{key}");
    }
    assert_eq!((info["auth_username"].as_str().unwrap().len(), info["auth_password"].as_str().unwrap().len()), (20, 16));
    assert_eq!(status(&service, &volume).await, "attaching");
    let again = service.ask(Method::PUT, &path, "3.54", Some(update)).await;
    assert_eq!(again.body, updated.body, "the same host asks again and gets the same");

    assert_eq!(log_in(&updated.body["attachment"], NODE_A).unwrap(), plain, "the LUN says which volume it is");
    for _ in 0..2 {
        let completed = service.post(&format!("{path}/action"), json!({ "os-complete": null })).await;
        assert_eq!(completed.status, StatusCode::NO_CONTENT);
    }
    let shown = service.get(&format!("/volumes/{volume}")).await.body;
    assert_eq!(shown["volume"]["status"], json!("in-use"));
    let attached = &shown["volume"]["attachments"][0];
    assert_eq!(
        (&attached["server_id"], &attached["host_name"], &attached["device"]),
        (&json!(INSTANCE), &json!("node-a"), &json!("/dev/vdb"))
    );
    assert_eq!((&attached["attachment_id"], &attached["id"]), (&attachment["id"], &json!(volume)));
    assert_eq!(service.get(&path).await.body["attachment"]["status"], json!("attached"));

    // The guest itself may take hold of it again, as when its disk is made anew, and lets go of the first then.
    let again =
        service.post("/attachments", json!({ "attachment": { "volume_uuid": volume, "instance_uuid": INSTANCE } })).await;
    assert_eq!((again.status, &again.body["attachment"]["status"]), (StatusCode::OK, &json!("reserved")), "{again:?}");
    assert_eq!(status(&service, &volume).await, "in-use");
    let other = "22222222-2222-4222-8222-222222222222";
    service.post("/attachments", json!({ "attachment": { "volume_uuid": volume, "instance_uuid": other } })).await.is_error(
        400,
        "badRequest",
        &format!("{refused} in-use."),
    );
    let again = format!("/attachments/{}", id(&again.body["attachment"]));
    assert_eq!(service.ask(Method::DELETE, &again, "3.54", None).await.status, StatusCode::OK);
    assert_eq!(status(&service, &volume).await, "in-use");

    service.post("/attachments", json!({ "attachment": { "volume_uuid": volume } })).await.is_error(
        400,
        "badRequest",
        &format!("{refused} in-use."),
    );
    service.delete(&format!("/volumes/{volume}")).await.is_error(
        400,
        "badRequest",
        "Invalid volume: Volume status must be available or error or error_restoring or error_extending or error_managing and must not be migrating, attached, belong to a group, have snapshots, awaiting a transfer, or be disassociated from snapshots after volume transfer.",
    );
    let other = json!({ "attachment": { "connector": { "initiator": NODE_B } } });
    assert_eq!(service.ask(Method::PUT, &path, "3.54", Some(other)).await.status, StatusCode::BAD_REQUEST, "held by node a");

    let list = service.get(&format!("/attachments?volume_id={volume}")).await.body;
    assert_eq!(
        list,
        json!({ "attachments": [{ "id": attachment["id"], "instance": INSTANCE, "status": "attached", "volume_id": volume }] })
    );
    for (filter, count) in
        [("instance_id", INSTANCE), ("instance_id", NOWHERE), ("attach_status", "attached"), ("status", "reserved")]
            .iter()
            .zip([1, 0, 1, 0])
    {
        let list = service.get(&format!("/attachments/detail?{}={}", filter.0, filter.1)).await.body;
        assert_eq!(list["attachments"].as_array().unwrap().len(), count, "{filter:?}");
    }

    let deleted = service.delete(&path).await;
    assert_eq!((deleted.status, deleted.body), (StatusCode::OK, json!({ "attachments": [] })));
    assert_eq!(status(&service, &volume).await, "available");
    assert_eq!(targets(&service), "");
    log_in(&updated.body["attachment"], NODE_A).unwrap_err();
    let gone = format!("Volume attachment could not be found with filter: attachment_id = {}.", id(attachment));
    service.delete(&path).await.is_error(404, "itemNotFound", &gone);
    service.get(&path).await.is_error(404, "itemNotFound", &gone);
}

#[tokio::test]
async fn only_the_named_host_with_its_password_gets_in() {
    let service = Service::start();
    let volume = service.volume(json!({})).await;
    let attachment = service.attach(&volume, NODE_A).await;
    assert_eq!(attachment["status"], json!("attaching"));
    log_in(&attachment, NODE_A).unwrap();
    log_in(&attachment, NODE_B).unwrap_err();
    read_serial(&attachment["connection_info"], NODE_A, "wrongwrongwrong1").unwrap_err();
    let other = service.volume(json!({})).await;
    let elsewhere = service.attach(&other, NODE_A).await;
    let mut crossed = elsewhere["connection_info"].clone();
    for key in ["auth_username", "auth_password"] {
        crossed[key] = attachment["connection_info"][key].clone();
    }
    read_serial(&crossed, NODE_A, crossed["auth_password"].as_str().unwrap()).unwrap_err();
    assert_ne!(log_in(&attachment, NODE_A), log_in(&elsewhere, NODE_A), "each LUN has its own identity");
}

#[tokio::test]
async fn a_shared_volume_is_let_go_by_one_host_and_kept_by_the_other() {
    let service = Service::start();
    let volume = service.volume(json!({ "multiattach": true })).await;
    let a = service.attach(&volume, NODE_A).await;
    let a_too = service.attach(&volume, NODE_A).await;
    let b = service.attach(&volume, NODE_B).await;
    assert_eq!(a["connection_info"]["auth_username"], a_too["connection_info"]["auth_username"], "one session serves both");
    assert_ne!(a["connection_info"]["auth_username"], b["connection_info"]["auth_username"]);
    for one in [&a, &b] {
        service.post(&format!("/attachments/{}/action", id(one)), json!({ "os-complete": {} })).await;
    }
    log_in(&a, NODE_A).unwrap();
    log_in(&b, NODE_B).unwrap();

    let left = service.delete(&format!("/attachments/{}", id(&a))).await.body;
    assert_eq!(left["attachments"].as_array().unwrap().len(), 2);
    log_in(&a_too, NODE_A).unwrap();
    service.delete(&format!("/attachments/{}", id(&a_too))).await;
    log_in(&a_too, NODE_A).unwrap_err();
    log_in(&b, NODE_B).unwrap();
    assert_eq!(status(&service, &volume).await, "in-use");
    service.delete(&format!("/attachments/{}", id(&b))).await;
    assert_eq!(status(&service, &volume).await, "available");
    assert_eq!(targets(&service), "");
}

#[tokio::test]
async fn a_session_that_is_still_open_is_cut_when_its_attachment_goes() {
    let service = Service::start();
    let volume = service.volume(json!({})).await;
    let attachment = service.attach(&volume, NODE_A).await;
    let info = &attachment["connection_info"];
    let url = format!("iscsi://{}/{}/1", info["target_portal"].as_str().unwrap(), info["target_iqn"].as_str().unwrap());
    // Reads for as long as it is let: a host that has not let go.
    let mut reader = Command::new("iscsi-perf")
        .args(["-i", NODE_A, "-m", "4", "-b", "8", "-t", "60", &url])
        .env("LIBISCSI_CHAP_USERNAME", info["auth_username"].as_str().unwrap())
        .env("LIBISCSI_CHAP_PASSWORD", info["auth_password"].as_str().unwrap())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !targets(&service).contains(&format!("Initiator: {NODE_A}")) {
        assert!(std::time::Instant::now() < deadline, "never logged in:\n{}", targets(&service));
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let deleted = service.delete(&format!("/attachments/{}", id(&attachment))).await;
    reader.kill().unwrap();
    reader.wait().unwrap();
    assert_eq!(deleted.status, StatusCode::OK, "{deleted:?}\n{}", service.log());
    assert_eq!(targets(&service), "");
    assert_eq!(status(&service, &volume).await, "available");
    service.says("still logged in").await;
}

#[tokio::test]
async fn what_is_wrong_is_said_in_the_fields_words() {
    let service = Service::start();
    let volume = service.volume(json!({})).await;
    let create = async |attachment: Value| service.post("/attachments", json!({ "attachment": attachment })).await;
    create(json!({ "volume_uuid": NOWHERE })).await.is_error(
        404,
        "itemNotFound",
        &format!("Volume {NOWHERE} could not be found."),
    );
    service.get(&format!("/attachments/{NOWHERE}")).await.is_error(
        404,
        "itemNotFound",
        &format!("Volume attachment could not be found with filter: attachment_id = {NOWHERE}."),
    );
    for wrong in [
        json!({}),
        json!({ "volume_uuid": "x" }),
        json!({ "volume_uuid": volume, "instance_uuid": 5 }),
        json!({ "volume_uuid": volume, "connector": [] }),
        json!({ "volume_uuid": volume, "connector": { "host": "a" } }),
        json!({ "volume_uuid": volume, "connector": { "initiator": "iqn.x,y" } }),
        json!({ "volume_uuid": volume, "mode": "wx" }),
        json!({ "volume_uuid": volume, "surprise": 1 }),
    ] {
        let answer = create(wrong.clone()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}: {answer:?}");
    }
    assert_eq!(status(&service, &volume).await, "available", "nothing took hold of it");

    let older =
        |version| service.ask(Method::POST, "/attachments", version, Some(json!({ "attachment": { "volume_uuid": volume } })));
    older("3.26").await.is_error(404, "itemNotFound", "The resource could not be found.");
    let attachment = older("3.27").await.body["attachment"].clone();
    let action = format!("/attachments/{}/action", id(&attachment));
    assert_eq!(
        service.ask(Method::POST, &action, "3.43", Some(json!({ "os-complete": {} }))).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(service.post(&action, json!({ "os-explode": {} })).await.status, StatusCode::BAD_REQUEST);
    let read_only = service.ask(Method::DELETE, &format!("/attachments/{}", id(&attachment)), "3.27", None).await;
    assert_eq!(read_only.status, StatusCode::OK);
    let ro = create(json!({ "volume_uuid": volume, "mode": "ro", "connector": { "initiator": NODE_A } })).await.body;
    assert_eq!(
        (&ro["attachment"]["attach_mode"], &ro["attachment"]["connection_info"]["access_mode"]),
        (&json!("ro"), &json!("ro"))
    );
}

/// Several portals: told to hosts that want several paths, and a host gets in by each.
#[tokio::test]
async fn a_host_that_wants_several_paths_is_told_of_all() {
    let mut service = Service::prepare();
    let portals = [format!("127.0.0.1:{}", service.portal), format!("127.0.0.2:{}", service.portal)];
    service.tgt = format!("extra_portals = [\"{}\"]", portals[1]);
    service.start_again();
    let volume = service.volume(json!({ "multiattach": true })).await;
    let attach = async |multipath: bool| {
        let connector = json!({ "initiator": NODE_A, "host": "node-a", "multipath": multipath });
        let body = json!({ "attachment": { "volume_uuid": volume, "connector": connector } });
        service.post("/attachments", body).await.body["attachment"].clone()
    };
    let one = attach(false).await;
    assert_eq!(one["connection_info"]["target_portal"], portals[0]);
    assert_eq!(one["connection_info"].get("target_portals"), None);
    let several = attach(true).await;
    let info = &several["connection_info"];
    let iqn = &info["target_iqn"];
    assert_eq!((&info["target_portal"], &info["target_portals"]), (&json!(portals[0]), &json!(portals)));
    assert_eq!((&info["target_iqns"], &info["target_luns"]), (&json!([iqn, iqn]), &json!([1, 1])));
    for portal in &portals {
        let mut by = several.clone();
        by["connection_info"]["target_portal"] = json!(portal);
        assert_eq!(log_in(&by, NODE_A).unwrap(), volume.replace('-', ""), "{portal}");
    }
    service.stop();
    service.start_again();
    let shown = service.get(&format!("/attachments/{}", id(&several))).await;
    assert_eq!(&shown.body["attachment"]["connection_info"], info, "also after a restart");
}
