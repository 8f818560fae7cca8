//! A request with an `Idempotency-Key` does what it asks for once: repeated, repeated at the same time, and when the service is
//! killed between what it did and its answer.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::common::apart::Apart;
use crate::common::rabbitmq::Broker;
use crate::common::{Answer, Service, log_in};
use reqwest::Method;
use serde_json::{Value, json};

const NODE: &str = "iqn.2016-04.com.open-iscsi:node-a";

async fn keyed(service: &Service, path: &str, key: &str, body: &Value) -> Answer {
    let token = service.token();
    let headers = [("x-auth-token", token.as_str()), ("openstack-api-version", "volume 3.54"), ("idempotency-key", key)];
    service.bare(Method::POST, path, &headers, Some(&body.to_string())).await
}

fn volume(name: &str) -> Value {
    json!({ "volume": { "size": 1, "name": name } })
}

async fn count(service: &Service, list: &str) -> usize {
    service.get(&format!("/{list}")).await.body[list].as_array().unwrap().len()
}

#[tokio::test]
async fn a_repeated_request_is_given_the_first_answer_and_makes_nothing_again() {
    let mut service = Service::start();
    let first = keyed(&service, "/volumes", "k-1", &volume("once")).await;
    assert_eq!(first.status, 202);
    assert_eq!(first.header("idempotency-replayed"), "");
    let id = first.body["volume"]["id"].as_str().unwrap().to_owned();
    service.wait_status(&id, "available").await;
    // Also after a restart, and the answer is the first and not what is now.
    for restarted in [false, true] {
        if restarted {
            service.stop();
            service.start_again();
        }
        let again = keyed(&service, "/volumes", "k-1", &volume("once")).await;
        assert_eq!((again.status, again.header("idempotency-replayed")), (first.status, "true"));
        assert_eq!(again.body, first.body);
        assert_eq!(again.header("content-type"), "application/json");
        assert_eq!(again.header("x-bowline-operation"), first.header("x-bowline-operation"));
    }
    assert_eq!(count(&service, "volumes").await, 1);

    let other = keyed(&service, "/volumes", "k-1", &volume("another")).await;
    other.is_error(
        422,
        "unprocessableEntity",
        "This Idempotency-Key was used for another request: another path or another body. Use a new one.",
    );
    assert_eq!(keyed(&service, "/snapshots", "k-1", &volume("once")).await.status, 422);
    assert_eq!(keyed(&service, "/volumes", &"k".repeat(256), &volume("x")).await.status, 400);

    // What was refused made nothing, so its key is free again.
    let wrong = json!({ "volume": { "size": -1 } });
    assert_eq!(keyed(&service, "/volumes", "k-2", &wrong).await.status, 400);
    assert_eq!(keyed(&service, "/volumes", "k-2", &volume("right")).await.status, 202);
    assert_eq!(count(&service, "volumes").await, 2);

    // The key of a transfer is told once, and kept nowhere: what it made is not made again.
    let offer = json!({ "transfer": { "volume_id": id } });
    assert_eq!(keyed(&service, "/volume-transfers", "k-3", &offer).await.status, 202);
    for _ in 0..2 {
        let again = keyed(&service, "/volume-transfers", "k-3", &offer).await;
        assert_eq!(again.status, 409);
        assert!(again.body["conflictingRequest"]["message"].as_str().unwrap().contains("was carried out"), "{again:?}");
    }

    // Another project's keys are its own.
    let store = service.store().await;
    let member = crate::common::token(&store, "0123456789abcdef0123456789abcdef", "member").await;
    store.close().await;
    let headers = [("x-auth-token", member.as_str()), ("idempotency-key", "k-1")];
    let theirs = service.bare(Method::POST, "/volumes", &headers, Some(&volume("once").to_string())).await;
    assert_eq!(theirs.status, 202);
    assert_ne!(theirs.body["volume"]["id"], first.body["volume"]["id"]);
}

#[tokio::test]
async fn of_many_at_once_with_one_key_one_is_carried_out() {
    let service = Service::start();
    let id = service.volume(json!({})).await;
    let body = json!({ "attachment": { "volume_uuid": id, "connector": { "initiator": NODE } } });
    let answers = futures_util::future::join_all((0..12).map(|_| keyed(&service, "/attachments", "k", &body))).await;
    let ids: BTreeSet<String> = answers
        .iter()
        .filter(|answer| answer.status == 200)
        .map(|answer| answer.body["attachment"]["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 1, "{answers:?}");
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (409, "1"), "{answer:?}");
    }
    assert_eq!(count(&service, "attachments").await, 1);
    let again = keyed(&service, "/attachments", "k", &body).await;
    assert_eq!(log_in(&again.body["attachment"], NODE).unwrap(), id.replace('-', ""));
}

/// The database refuses to keep answers, which is what a kill between a request's effect and its answer leaves.
async fn forget_answers(service: &Service) {
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'cut off'; END$$";
    let event = "BEFORE UPDATE OF status ON idempotency_keys";
    service
        .execute(
            &format!("CREATE TRIGGER cut {event} BEGIN SELECT RAISE(ABORT, 'cut off'); END"),
            &format!("{refuse}; CREATE TRIGGER cut {event} FOR EACH ROW EXECUTE FUNCTION refuse()"),
        )
        .await;
}

async fn keep_answers(service: &Service) {
    service.execute("DROP TRIGGER cut", "DROP TRIGGER cut ON idempotency_keys").await;
}

#[tokio::test]
async fn killed_between_what_it_did_and_its_answer_it_tells_what_it_made() {
    let mut service = Service::start();
    let held = service.volume(json!({})).await;
    forget_answers(&service).await;
    let attachment = json!({ "attachment": { "volume_uuid": held, "connector": { "initiator": NODE } } });
    let requests = [
        ("/volumes".to_owned(), "v", volume("once")),
        ("/attachments".to_owned(), "a", attachment),
        (format!("/volumes/{held}/action"), "s", json!({ "os-set_bootable": { "bootable": true } })),
    ];
    let mut first = Vec::new();
    for (path, key, body) in &requests {
        first.push(keyed(&service, path, key, body).await);
    }
    service.kill();
    keep_answers(&service).await;
    service.start_again();
    let mut again = Vec::new();
    for (path, key, body) in &requests {
        again.push(keyed(&service, path, key, body).await);
    }
    for (kind, place) in [("volume", 0), ("attachment", 1)] {
        assert_eq!(again[place].status, first[place].status, "{:?}", again[place]);
        assert_eq!(again[place].header("idempotency-replayed"), "true");
        assert_eq!(again[place].body[kind]["id"], first[place].body[kind]["id"]);
    }
    assert_eq!(log_in(&again[1].body["attachment"], NODE).unwrap(), held.replace('-', ""));
    // It began no operation, so nothing is known of its answer but that it was given.
    assert_eq!(again[2].status, 409);
    assert!(again[2].body["conflictingRequest"]["message"].as_str().unwrap().contains("was carried out"), "{:?}", again[2]);
    assert_eq!((count(&service, "volumes").await, count(&service, "attachments").await), (2, 1));
}

#[tokio::test]
async fn killed_at_any_moment_twenty_keys_make_twenty_volumes() {
    let mut service = Service::start();
    let keys: Vec<String> = (0..20).map(|n| format!("key-{n}")).collect();
    for delay_ms in [1, 4, 12, 30] {
        let (url, token) = (service.url.clone(), service.token());
        let asked: Vec<_> = keys
            .iter()
            .map(|key| {
                let request = reqwest::Client::new()
                    .post(format!("{url}/volumes"))
                    .header("x-auth-token", &token)
                    .header("idempotency-key", key)
                    .json(&volume(key));
                tokio::spawn(request.send())
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        service.kill();
        for one in asked {
            // Most find that nobody answers.
            let _ = one.await.unwrap();
        }
        service.start_again();
    }
    let mut ids = BTreeSet::new();
    for key in &keys {
        let answer = keyed(&service, "/volumes", key, &volume(key)).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        let id = answer.body["volume"]["id"].as_str().unwrap().to_owned();
        service.wait_status(&id, "available").await;
        ids.insert(id);
    }
    assert_eq!((ids.len(), count(&service, "volumes").await), (20, 20));
    let store = service.store().await;
    assert_eq!(store.usage_drift().await.unwrap(), []);
    store.close().await;
}

#[tokio::test]
async fn with_the_roles_apart_a_key_holds_for_every_api() {
    let broker = Broker::start();
    let apart = Apart::start(&broker);
    let mut second = Apart::role(&apart.bus, &apart.database, "api", "c2");
    second.start_again();
    let token = apart.api.token();
    let headers = [("x-auth-token", token.as_str()), ("idempotency-key", "k")];
    std::fs::write(second.state.path().join("token"), &token).unwrap();
    second.stop();
    second.start_again();
    let body = volume("once").to_string();
    let at_once = [&apart.api, &second].map(|api| api.bare(Method::POST, "/volumes", &headers, Some(&body)));
    let answers = futures_util::future::join_all(at_once).await;
    assert!(answers.iter().all(|answer| [202, 409].contains(&answer.status.as_u16())), "{answers:?}");
    let (one, two) = (
        apart.api.bare(Method::POST, "/volumes", &headers, Some(&body)).await,
        second.bare(Method::POST, "/volumes", &headers, Some(&body)).await,
    );
    assert_eq!((one.status.as_u16(), &one.body), (202, &two.body));
    apart.is_whole().await;
    assert_eq!(count(&apart.api, "volumes").await, 1);
}
