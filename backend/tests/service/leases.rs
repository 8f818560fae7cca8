//! What hosts leave behind that fall silent: attachments of theirs, where they said that they would be heard of, and work that waits
//! for a volume host.

use std::time::{Duration, Instant};

use crate::common::apart::Apart;
use crate::common::rabbitmq::Broker;
use crate::common::{Answer, Service, log_in, path_of};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const NODE: &str = "iqn.2016-04.com.open-iscsi:node-a";

async fn leased(service: &Service, volume: &str, connector: bool) -> Value {
    let token = service.token();
    let headers =
        [("x-auth-token", token.as_str()), ("openstack-api-version", "volume 3.54"), ("x-bowline-lease-host", "node-a")];
    let mut attachment = json!({ "volume_uuid": volume, "instance_uuid": crate::common::INSTANCE });
    if connector {
        attachment["connector"] = json!({ "initiator": NODE, "host": "node-a" });
    }
    let body = json!({ "attachment": attachment }).to_string();
    let made = service.bare(Method::POST, "/attachments", &headers, Some(&body)).await;
    assert_eq!(made.status, StatusCode::OK, "{made:?}");
    made.body["attachment"].clone()
}

async fn shown(service: &Service, attachment: &Value) -> Answer {
    service.get(&format!("/attachments/{}", attachment["id"].as_str().unwrap())).await
}

async fn renew(service: &Service, body: Value) -> Answer {
    service.ask(Method::PUT, "/hosts/node-a/lease", "3.54", Some(body)).await
}

/// All leases ran out long ago.
async fn silence(service: &Service) {
    let update = "UPDATE attachments SET lease_until_us = 1 WHERE lease_host IS NOT NULL";
    service.execute(update, update).await;
}

#[tokio::test]
async fn a_silent_host_holds_no_volume_but_those_its_guests_may_have() {
    let service = Service::start();
    let mut volumes = Vec::new();
    for _ in 0..6 {
        volumes.push(service.volume(json!({})).await);
    }
    let reserved = leased(&service, &volumes[0], false).await;
    let attaching = leased(&service, &volumes[1], true).await;
    let attached = leased(&service, &volumes[2], true).await;
    let complete = format!("/attachments/{}/action", attached["id"].as_str().unwrap());
    assert_eq!(service.post(&complete, json!({ "os-complete": {} })).await.status, 204);
    let unexported = leased(&service, &volumes[3], true).await;
    let detaching = leased(&service, &volumes[4], true).await;
    // As Nova makes them: nobody is ever heard of.
    let stock = service.post("/attachments", json!({ "attachment": { "volume_uuid": volumes[5] } })).await;
    let stock = stock.body["attachment"].clone();
    assert_eq!(stock.get("lease"), None);
    assert_eq!((&reserved["lease"]["host"], &reserved["lease"]["lost_since"]), (&json!("node-a"), &Value::Null));

    let renewed = renew(&service, json!({ "lease": { "ttl_s": 30 } })).await;
    assert_eq!((renewed.status, renewed.body["lease"]["attachments"].as_array().unwrap().len()), (StatusCode::OK, 5));
    for wrong in [json!({ "lease": { "ttl_s": 5 } }), json!({ "lease": { "ttl_s": 86_401 } }), json!({})] {
        assert_eq!(renew(&service, wrong).await.status, 400);
    }
    // What a crash leaves: never told to its host; and on its way out with nobody at it.
    for (change, one) in [("connection = NULL", &unexported), ("status = 'detaching'", &detaching)] {
        let update = format!("UPDATE attachments SET {change} WHERE id = '{}'", one["id"].as_str().unwrap());
        service.execute(&update, &update).await;
    }
    silence(&service).await;
    for (volume, gone) in [(&volumes[0], &reserved), (&volumes[3], &unexported), (&volumes[4], &detaching)] {
        let deadline = Instant::now() + Duration::from_secs(60);
        while shown(&service, gone).await.status != StatusCode::NOT_FOUND {
            assert!(Instant::now() < deadline, "{gone}\n{}", service.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        service.wait_status(volume, "available").await;
    }
    log_in(&unexported, NODE).unwrap_err();
    for (kept, serial) in [(&attaching, &volumes[1]), (&attached, &volumes[2])] {
        // Of those that one look finds, any may come first.
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let view = shown(&service, kept).await.body["attachment"].clone();
            if view["lease"]["lost_since"].is_string() {
                break;
            }
            assert!(Instant::now() < deadline, "{view}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(log_in(kept, NODE).unwrap(), serial.replace('-', ""), "its guest goes on");
    }
    assert_eq!(shown(&service, &stock).await.body["attachment"]["status"], "reserved");
    let messages = service.get("/messages").await.body["messages"].clone();
    let told = |volume: &str| {
        let about = |message: &&Value| message["resource_uuid"] == volume;
        messages.as_array().unwrap().iter().find(about).map(|one| one["user_message"].as_str().unwrap().to_owned())
    };
    assert!(told(&volumes[0]).unwrap().ends_with("The attachment was removed."), "{messages}");
    assert!(told(&volumes[2]).unwrap().ends_with("so it is left as it is."), "{messages}");

    // It was only slow.
    renew(&service, json!({ "lease": {} })).await;
    assert_eq!(shown(&service, &attached).await.body["attachment"]["lease"]["lost_since"], Value::Null);
}

async fn gone(api: &Service, host: &Value) -> StatusCode {
    api.ask(Method::PUT, "/os-services/gone", "3.54", Some(host.clone())).await.status
}

async fn operation(api: &Service, id: &str) -> Value {
    api.get(&format!("/operations/{id}")).await.body["operation"].clone()
}

#[tokio::test]
async fn what_waits_for_a_dead_volume_host_is_told_moved_or_truly_ended() {
    let broker = Broker::start();
    let mut apart = Apart::start(&broker);
    let mut on_b = Vec::new();
    for _ in 0..4 {
        let volume = apart.api.volume(json!({})).await;
        if path_of(&apart.hosts[1], &volume).exists() {
            on_b.push(volume);
        }
    }
    assert!(on_b.len() >= 2, "both hosts have volumes");
    apart.hosts[1].kill();
    // Nobody knows yet, so some are placed there.
    let mut made = Vec::new();
    for _ in 0..4 {
        let answer = apart.api.post("/volumes", json!({ "volume": { "size": 1 } })).await;
        made.push(answer.body["volume"]["id"].as_str().unwrap().to_owned());
    }
    let deleted = apart.api.delete(&format!("/volumes/{}", on_b[0])).await;
    let grown = apart.api.post(&format!("/volumes/{}/action", on_b[1]), json!({ "os-extend": { "new_size": 3 } })).await;
    let [deleting, growing] = [&deleted, &grown].map(|answer| answer.header("x-bowline-operation").to_owned());
    let lost = json!({ "host": "b@files", "binary": "cinder-volume" });
    assert_eq!(gone(&apart.api, &lost).await, 409, "it was heard of just now");

    let silence = "UPDATE services SET heartbeat_at_us = 1000000 WHERE host = 'b@files'";
    apart.api.database = Some(apart.database.clone());
    apart.api.execute(silence, silence).await;
    for volume in &made {
        apart.api.wait_status(volume, "available").await;
        assert!(path_of(&apart.hosts[0], volume).exists(), "none of them was begun on the other");
    }
    for id in [&deleting, &growing] {
        let waiting = operation(&apart.api, id).await;
        assert_eq!((&waiting["state"], &waiting["waits_for"]["host"]), (&json!("queued"), &json!("b@files")), "{waiting}");
    }
    assert_eq!(gone(&apart.api, &lost).await, 200);
    apart.api.wait_status(&on_b[0], "error_deleting").await;
    apart.api.wait_status(&on_b[1], "error_extending").await;
    let ended = operation(&apart.api, &deleting).await;
    assert_eq!((&ended["state"], &ended["waits_for"]), (&json!("failed"), &Value::Null));
    assert!(ended["cause"].as_str().unwrap().contains("b@files was declared gone"), "{ended}");
    let store = apart.store().await;
    assert_eq!(store.usage_drift().await.unwrap(), []);
    store.close().await;

    // It comes back after all, and does as it is told.
    apart.hosts[1].start_again();
    assert_eq!(apart.api.delete(&format!("/volumes/{}", on_b[0])).await.status, 202);
    apart.api.wait_status(&on_b[0], "gone").await;
    assert!(!path_of(&apart.hosts[1], &on_b[0]).exists());
}
