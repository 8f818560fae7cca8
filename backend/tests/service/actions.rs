//! Volume actions over real HTTP: the older way of attaching to a real target, what is set, what is reverted, what is handed over.

use crate::common::{Answer, INSTANCE, Service, path_of, read_serial};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const INITIATOR: &str = "iqn.2026-01.test:a";

impl Service {
    async fn act(&self, volume: &str, action: Value) -> Answer {
        self.ask(Method::POST, &format!("/volumes/{volume}/action"), "3.71", Some(action)).await
    }

    async fn accepted(&self, volume: &str, action: Value) {
        let answer = self.act(volume, action.clone()).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{action}: {answer:?}\n{}", self.log());
    }

    async fn status(&self, volume: &str) -> String {
        self.get(&format!("/volumes/{volume}")).await.body["volume"]["status"].as_str().unwrap().to_owned()
    }
}

fn connector(initiator: &str) -> Value {
    json!({ "initiator": initiator, "host": "node-a", "ip": "127.0.0.1" })
}

#[tokio::test]
async fn the_older_way_of_attaching_from_reserve_to_detach() {
    let service = Service::start();
    let volume = service.volume(json!({})).await;
    service.accepted(&volume, json!({ "os-reserve": {} })).await;
    assert_eq!(service.status(&volume).await, "attaching");
    let taken = service.act(&volume, json!({ "os-reserve": null })).await;
    assert_eq!(taken.status, StatusCode::BAD_REQUEST, "one holder at a time");
    let initialize = json!({ "os-initialize_connection": { "connector": connector(INITIATOR) } });
    let told = service.act(&volume, initialize.clone()).await;
    assert_eq!(told.status, StatusCode::OK, "{told:?}");
    let info = &told.body["connection_info"];
    assert_eq!(info["driver_volume_type"], "iscsi");
    let data = info["data"].clone();
    assert_eq!((&data["volume_id"], &data["access_mode"], &data["encrypted"]), (&json!(volume), &json!("rw"), &json!(false)));
    let password = data["auth_password"].as_str().unwrap().to_owned();
    assert_eq!(read_serial(&data, INITIATOR, &password).unwrap(), volume.replace('-', ""));
    assert_eq!(service.act(&volume, initialize).await.body, told.body, "the same host is told the same again");

    let attach = json!({ "os-attach": { "instance_uuid": INSTANCE, "mountpoint": "/dev/vdb", "mode": "rw" } });
    service.accepted(&volume, attach.clone()).await;
    let shown = service.get(&format!("/volumes/{volume}")).await.body["volume"].clone();
    assert_eq!(shown["status"], "in-use");
    let attached = &shown["attachments"][0];
    assert_eq!(
        (&attached["server_id"], &attached["device"], &attached["host_name"]),
        (&json!(INSTANCE), &json!("/dev/vdb"), &json!("node-a"))
    );
    assert_eq!(service.act(&volume, attach).await.status, StatusCode::BAD_REQUEST, "nothing waits to be attached");

    service.accepted(&volume, json!({ "os-begin_detaching": {} })).await;
    assert_eq!(service.status(&volume).await, "detaching");
    service.accepted(&volume, json!({ "os-roll_detaching": {} })).await;
    assert_eq!(service.status(&volume).await, "in-use");
    service.accepted(&volume, json!({ "os-begin_detaching": {} })).await;
    service.accepted(&volume, json!({ "os-terminate_connection": { "connector": connector(INITIATOR) } })).await;
    read_serial(&data, INITIATOR, &password).unwrap_err();
    service.accepted(&volume, json!({ "os-detach": {} })).await;
    assert_eq!(service.status(&volume).await, "available");
    service.accepted(&volume, json!({ "os-detach": {} })).await;
    let idle = service.act(&volume, json!({ "os-begin_detaching": {} })).await;
    idle.is_error(
        400,
        "badRequest",
        "Invalid volume: Unable to detach volume. Volume status must be 'in-use' and attach_status must be 'attached' to detach.",
    );
}

#[tokio::test]
async fn a_hold_that_comes_to_nothing_leaves_nothing() {
    let service = Service::start();
    let volume = service.volume(json!({})).await;
    service.accepted(&volume, json!({ "os-reserve": {} })).await;
    service.accepted(&volume, json!({ "os-unreserve": {} })).await;
    service.accepted(&volume, json!({ "os-unreserve": {} })).await;
    assert_eq!(service.status(&volume).await, "available");
    // Without reserving, as tools that attach to their own host do.
    let told = service.act(&volume, json!({ "os-initialize_connection": { "connector": connector(INITIATOR) } })).await;
    assert_eq!(told.status, StatusCode::OK);
    service.accepted(&volume, json!({ "os-terminate_connection": { "connector": connector(INITIATOR) } })).await;
    assert_eq!(service.status(&volume).await, "available");
    assert_eq!(service.get("/attachments").await.body, json!({ "attachments": [] }));
    assert_eq!(service.delete(&format!("/volumes/{volume}")).await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn only_a_service_may_take_a_volume_from_a_guest_s_host() {
    let service = Service::start();
    let store = service.store().await;
    let volume = service.volume(json!({})).await;
    let attachment = service.attach(&volume, INITIATOR).await["id"].as_str().unwrap().to_owned();
    let project = service.get(&format!("/volumes/{volume}")).await.body["volume"]["os-vol-tenant-attr:tenant_id"].clone();
    let member = crate::common::token(&store, project.as_str().unwrap(), "member").await;
    let helper = crate::common::token(&store, project.as_str().unwrap(), "service").await;
    let text = format!("ConflictNovaUsingAttachment: Detach volume from instance {INSTANCE} using the Compute API");
    let path = format!("/attachments/{attachment}");
    let actions = format!("/volumes/{volume}/action");
    let terminate = json!({ "os-terminate_connection": { "connector": connector(INITIATOR) } }).to_string();
    let detach = json!({ "os-detach": { "attachment_id": attachment } }).to_string();
    let complete = service.ask(Method::POST, &format!("{path}/action"), "3.71", Some(json!({ "os-complete": {} }))).await;
    assert_eq!(complete.status, StatusCode::NO_CONTENT);
    let own = [("x-auth-token", member.as_str()), ("openstack-api-version", "volume 3.71")];
    for (method, path, body) in [
        (Method::DELETE, &path, None),
        (Method::POST, &actions, Some(terminate.as_str())),
        (Method::POST, &actions, Some(detach.as_str())),
    ] {
        service.bare(method, path, &own, body).await.is_error(409, "conflictingRequest", &text);
    }
    let vouched = [own[0], own[1], ("x-service-token", helper.as_str())];
    assert_eq!(service.bare(Method::DELETE, &path, &vouched, None).await.status, StatusCode::OK);
    // Nobody is harmed where no host was let in.
    let body = json!({ "attachment": { "volume_uuid": volume, "instance_uuid": INSTANCE } });
    let reserved = service.post("/attachments", body).await.body["attachment"]["id"].as_str().unwrap().to_owned();
    let path = format!("/attachments/{reserved}");
    assert_eq!(service.bare(Method::DELETE, &path, &own, None).await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_is_set_is_shown_and_obeyed() {
    let service = Service::start();
    let volume = service.volume(json!({})).await;
    let path = format!("/volumes/{volume}");
    assert_eq!(service.act(&volume, json!({ "os-set_bootable": { "bootable": true } })).await.status, StatusCode::OK);
    assert_eq!(service.get(&path).await.body["volume"]["bootable"], "true");
    service.accepted(&volume, json!({ "os-update_readonly_flag": { "readonly": true } })).await;
    assert_eq!(service.get(&path).await.body["volume"]["metadata"], json!({ "readonly": "True" }));
    let attachment = service.attach(&volume, INITIATOR).await;
    assert_eq!((&attachment["attach_mode"], &attachment["connection_info"]["access_mode"]), (&json!("ro"), &json!("ro")));
    let held = service.act(&volume, json!({ "os-update_readonly_flag": { "readonly": false } })).await;
    assert_eq!(held.status, StatusCode::BAD_REQUEST);

    service.accepted(&volume, json!({ "os-reset_status": { "status": "error", "attach_status": "detached" } })).await;
    assert_eq!(service.status(&volume).await, "error");
    assert_eq!(service.get("/attachments").await.body, json!({ "attachments": [] }));
    service.accepted(&volume, json!({ "os-reset_status": { "status": "downloading" } })).await;
    assert_eq!(service.delete(&path).await.status, StatusCode::BAD_REQUEST);
    service.accepted(&volume, json!({ "os-force_delete": {} })).await;
    service.wait_status(&volume, "gone").await;
    assert!(!path_of(&service, &volume).exists());

    let volume = service.volume(json!({})).await;
    for wrong in [
        json!({}),
        json!({ "os-reserve": {}, "os-detach": {} }),
        json!({ "os-nothing": {} }),
        json!({ "os-reserve": [] }),
        json!({ "os-set_bootable": {} }),
        json!({ "os-set_bootable": { "bootable": "perhaps" } }),
        json!({ "os-reset_status": {} }),
        json!({ "os-reset_status": { "status": "sleeping" } }),
        json!({ "os-attach": { "instance_uuid": INSTANCE } }),
        json!({ "os-initialize_connection": { "connector": { "host": "a" } } }),
        json!({ "os-extend_volume_completion": { "error": false } }),
        json!({ "revert": { "snapshot_id": "x" } }),
    ] {
        let answer = service.act(&volume, wrong.clone()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}: {answer:?}");
    }
}

#[tokio::test]
async fn a_volume_goes_back_to_its_latest_snapshot_and_to_no_other() {
    use std::os::unix::fs::FileExt as _;
    let service = Service::start();
    let volume = service.volume(json!({})).await;
    let file = std::fs::OpenOptions::new().write(true).read(true).open(path_of(&service, &volume)).unwrap();
    file.write_all_at(b"before", 4096).unwrap();
    let snapshot = |name: &str| json!({ "snapshot": { "volume_id": volume, "name": name } });
    let mut ids = Vec::new();
    for name in ["first", "second"] {
        let made = service.post("/snapshots", snapshot(name)).await;
        assert_eq!(made.status, StatusCode::ACCEPTED, "{made:?}");
        ids.push(made.body["snapshot"]["id"].as_str().unwrap().to_owned());
        crate::common::wait_snapshot(&service, &ids[ids.len() - 1], "available").await;
    }
    file.write_all_at(b"after!", 4096).unwrap();
    let older = service.act(&volume, json!({ "revert": { "snapshot_id": ids[0] } })).await;
    assert_eq!(older.status, StatusCode::BAD_REQUEST, "{older:?}");
    let path = format!("/volumes/{volume}/action");
    let too_old = service.ask(Method::POST, &path, "3.39", Some(json!({ "revert": { "snapshot_id": ids[1] } }))).await;
    assert_eq!(too_old.status, StatusCode::BAD_REQUEST);
    service.accepted(&volume, json!({ "revert": { "snapshot_id": ids[1] } })).await;
    service.wait_status(&volume, "available").await;
    let mut bytes = [0; 6];
    std::fs::File::open(path_of(&service, &volume)).unwrap().read_exact_at(&mut bytes, 4096).unwrap();
    assert_eq!(&bytes, b"before");
    crate::common::wait_snapshot(&service, &ids[1], "available").await;
}

#[tokio::test]
async fn a_transfer_gives_a_volume_with_its_snapshots_to_who_has_the_key() {
    let service = Service::start();
    let store = service.store().await;
    let volume = service.volume(json!({})).await;
    let made = service.post("/snapshots", json!({ "snapshot": { "volume_id": volume } })).await;
    let snapshot = made.body["snapshot"]["id"].as_str().unwrap().to_owned();
    crate::common::wait_snapshot(&service, &snapshot, "available").await;
    let other = "fedcba9876543210fedcba9876543210";
    let token = crate::common::token(&store, other, "member").await;
    let theirs = [("x-auth-token", token.as_str()), ("openstack-api-version", "volume 3.71")];
    let offer = json!({ "transfer": { "volume_id": volume, "name": "t" } });
    let made = service.ask(Method::POST, "/volume-transfers", "3.71", Some(offer.clone())).await;
    assert_eq!(made.status, StatusCode::ACCEPTED, "{made:?}");
    let transfer = made.body["transfer"].clone();
    let (id, key) = (transfer["id"].as_str().unwrap(), transfer["auth_key"].as_str().unwrap());
    assert_eq!((&transfer["accepted"], &transfer["no_snapshots"]), (&json!(false), &json!(false)));
    assert_eq!(service.status(&volume).await, "awaiting-transfer");
    assert_eq!(service.ask(Method::POST, "/volume-transfers", "3.71", Some(offer)).await.status, StatusCode::BAD_REQUEST);
    assert!(service.get(&format!("/volume-transfers/{id}")).await.body["transfer"].get("auth_key").is_none());
    let path = format!("/volume-transfers/{id}");
    assert_eq!(service.bare(Method::GET, &path, &theirs, None).await.status, StatusCode::NOT_FOUND, "another project's");
    let accept = |key: &str| json!({ "accept": { "auth_key": key } }).to_string();
    let wrong = service.bare(Method::POST, &format!("{path}/accept"), &theirs, Some(&accept("0123456789abcdef"))).await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST, "{wrong:?}");
    let taken = service.bare(Method::POST, &format!("{path}/accept"), &theirs, Some(&accept(key))).await;
    assert_eq!(taken.status, StatusCode::ACCEPTED, "{taken:?}");
    for path in [format!("/volumes/{volume}"), format!("/snapshots/{snapshot}")] {
        assert_eq!(service.bare(Method::GET, &path, &theirs, None).await.status, StatusCode::OK, "{path}");
    }
    assert_eq!(service.get("/volumes").await.body["volumes"], json!([]));
    assert_eq!(store.usage_drift().await.unwrap(), []);
    // One that is taken back.
    let offer = json!({ "transfer": { "volume_id": volume } }).to_string();
    let made = service.bare(Method::POST, "/os-volume-transfer", &theirs, Some(&offer)).await;
    let path = format!("/os-volume-transfer/{}", made.body["transfer"]["id"].as_str().unwrap());
    assert_eq!(service.bare(Method::DELETE, &path, &theirs, None).await.status, StatusCode::ACCEPTED);
    assert_eq!(service.status(&volume).await, "available");
}
