//! Operations watched: each change as it happens, to the end, with the roles together and apart; resumed by the last event; and what
//! a watcher that vanishes leaves.

use std::time::{Duration, Instant};

use crate::common::Service;
use crate::common::apart::Apart;
use crate::common::rabbitmq::Broker;
use serde_json::{Value, json};

/// One event of a stream.
#[derive(Debug)]
struct Event {
    kind: String,
    id: String,
    operation: Value,
}

/// A stream of events, read as it comes.
struct Watch {
    response: reqwest::Response,
    rest: String,
}

impl Watch {
    async fn open(service: &Service, id: &str, last: Option<&str>) -> Self {
        let response = Self::ask(service, id, last).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, rest: String::new() }
    }

    async fn ask(service: &Service, id: &str, last: Option<&str>) -> reqwest::Response {
        Self::ask_as(service, &service.token(), &format!("{id}/watch"), last).await
    }

    async fn all(service: &Service, token: &str, query: &str, last: Option<&str>) -> Self {
        let response = Self::ask_as(service, token, &format!("watch{query}"), last).await;
        assert_eq!(response.status(), 200);
        Self { response, rest: String::new() }
    }

    async fn ask_as(service: &Service, token: &str, path: &str, last: Option<&str>) -> reqwest::Response {
        let mut request = reqwest::Client::new().get(format!("{}/operations/{path}", service.url));
        request = request.header("x-auth-token", token);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        request.send().await.unwrap()
    }

    /// The next event; none where the stream has ended.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.rest.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let found = field("event: ").map(|kind| Event {
                    kind,
                    id: field("id: ").unwrap(),
                    operation: serde_json::from_str::<Value>(&field("data: ").unwrap()).unwrap()["operation"].clone(),
                });
                self.rest = rest.to_owned();
                match found {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            let chunk = tokio::time::timeout(Duration::from_secs(120), self.response.chunk()).await.unwrap().unwrap()?;
            self.rest.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn until_its_end(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

/// An image of some 80 MB, so that its copy takes its time.
async fn image(service: &Service) -> String {
    let asked = json!({ "name": "i", "disk_format": "raw", "container_format": "bare" });
    let url = service.url.replace("/v3", "/image/v2/images");
    let made = reqwest::Client::new().post(url).header("x-auth-token", service.token()).json(&asked).send().await.unwrap();
    made.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
}

async fn upload(service: &Service, image: &str) {
    let bytes: Vec<u8> = (0..80u32 << 20).map(|n| (n >> 9) as u8 | 1).collect();
    let url = format!("{}/images/{image}/file", service.url.replace("/v3", "/image/v2"));
    let sent = reqwest::Client::new().put(url).header("x-auth-token", service.token());
    let sent = sent.header("content-type", "application/octet-stream").body(bytes).send().await.unwrap();
    assert_eq!(sent.status(), 204);
}

#[tokio::test]
async fn a_long_action_is_watched_to_its_end_and_resumed_where_it_was() {
    let service = Service::start();
    let mut tries = 0;
    let (id, volume, events) = loop {
        let image = image(&service).await;
        upload(&service, &image).await;
        let made = service.post("/volumes", json!({ "volume": { "size": 1, "imageRef": image } })).await;
        let id = made.header("x-bowline-operation").to_owned();
        let volume = made.body["volume"]["id"].as_str().unwrap().to_owned();
        let events = Watch::open(&service, &id, None).await.until_its_end().await;
        // One that was done before it could be watched shows nothing.
        tries += 1;
        if tries == 10 || events.iter().any(|event| event.operation["step"] == "downloading" && event.kind != "end") {
            break (id, volume, events);
        }
    };
    let (last, before) = events.split_last().unwrap();
    assert_eq!(
        (last.kind.as_str(), &last.operation["state"], &last.operation["progress"]),
        ("end", &json!("done"), &json!(100))
    );
    assert_eq!(last.operation["object_id"], volume);
    assert!(before.iter().all(|event| event.kind == "operation" && event.operation["state"] != "done"), "{events:?}");
    let steps: Vec<_> = before.iter().map(|event| event.operation["step"].as_str().unwrap()).collect();
    assert!(steps.contains(&"downloading"), "{steps:?}");
    // The end is there when the volume is.
    assert_eq!(service.get(&format!("/volumes/{volume}")).await.body["volume"]["status"], "available");

    let again = Watch::open(&service, &id, Some(&before[0].id)).await.until_its_end().await;
    assert_eq!(again.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(), [last.id.as_str()], "only what is new");
    assert_eq!(Watch::ask(&service, &id, Some(&last.id)).await.status(), 204, "and nothing where there is nothing more");
    assert_eq!(Watch::ask(&service, "0".repeat(32).as_str(), None).await.status(), 404);

    // A failure tells its cause.
    service.execute("UPDATE services SET disabled = 1", "UPDATE services SET disabled = 1").await;
    let made = service.post("/volumes", json!({ "volume": { "size": 1 } })).await;
    let events = Watch::open(&service, made.header("x-bowline-operation"), None).await.until_its_end().await;
    let end = &events.last().unwrap().operation;
    assert_eq!(end["state"], "failed");
    assert!(end["cause"].as_str().unwrap().contains("the service is disabled"), "{end}");
}

#[tokio::test]
async fn all_actions_are_watched_at_once_each_project_s_own() {
    let service = Service::start();
    let store = service.store().await;
    let theirs = crate::common::token(&store, "another", "member").await;
    store.close().await;
    let mut admin = Watch::all(&service, &service.token(), "?all_projects=1", None).await;
    let mut failures = Watch::all(&service, &service.token(), "?state=failed&kind=volume:create,volume:extend", None).await;
    let mut other = Watch::all(&service, &theirs, "?all_projects=1", None).await;

    let first = service.volume(json!({})).await;
    let asked = json!({ "volume": { "size": 1, "name": "b" } }).to_string();
    let headers = [("x-auth-token", theirs.as_str())];
    let made = service.bare(reqwest::Method::POST, "/volumes", &headers, Some(&asked)).await;
    let second = made.body["volume"]["id"].as_str().unwrap().to_owned();
    service.wait_status(&second, "available").await;
    let mut ended = Vec::new();
    let mut last = String::new();
    while ended.len() < 2 {
        let event = admin.next().await.unwrap();
        if event.kind == "end" {
            assert_eq!((&event.operation["state"], &event.operation["kind"]), (&json!("done"), &json!("volume:create")));
            ended.push(event.operation["object_id"].as_str().unwrap().to_owned());
            last = event.id;
        }
    }
    assert_eq!(ended, [first.clone(), second.clone()], "of all projects");
    service.execute("UPDATE services SET disabled = 1", "UPDATE services SET disabled = 1").await;
    let failing = service.post("/volumes", json!({ "volume": { "size": 1 } })).await;
    let failed = failures.next().await.unwrap();
    assert_eq!((failed.kind.as_str(), &failed.operation["object_id"]), ("end", &failing.body["volume"]["id"]));
    assert!(failed.operation["cause"].as_str().unwrap().contains("disabled"), "{failed:?}");

    // Who comes again is told what it missed.
    drop(admin);
    let resumed =
        Watch::all(&service, &service.token(), "?all_projects=1&timeout_s=1", Some(&last)).await.until_its_end().await;
    let missed = resumed.last().unwrap();
    assert_eq!((&missed.operation["object_id"], &missed.kind), (&failing.body["volume"]["id"], &"end".to_owned()));
    // And a member, who may ask for all, only ever of its own.
    let mut told = Vec::new();
    while told.last().is_none_or(|event: &Event| event.kind != "end") {
        told.push(other.next().await.unwrap());
    }
    let since = Watch::all(&service, &theirs, "?all_projects=1&timeout_s=1", Some(&last)).await.until_its_end().await;
    assert!(told.iter().chain(&since).all(|event| event.operation["object_id"] == json!(second)), "{told:?} {since:?}");

    for query in ["?kind=volume:eat", "?state=lost", "?colour=red", "?object_id=x", "?timeout_s=-1"] {
        assert_eq!(Watch::ask_as(&service, &theirs, &format!("watch{query}"), None).await.status(), 400, "{query}");
    }
    let listed = |answer: crate::common::Answer| answer.body["operations"].as_array().unwrap().len();
    assert_eq!(listed(service.get("/operations?state=done,failed").await), 2);
    assert_eq!(listed(service.get("/operations?all_projects=1&kind=volume:create&state=done").await), 2);
    let page = service.get("/operations?all_projects=1&limit=2").await;
    let next = page.body["operations_links"][0]["href"].as_str().unwrap().split_once("/operations").unwrap().1.to_owned();
    assert_eq!((listed(page), listed(service.get(&format!("/operations{next}")).await)), (2, 1));
}

#[tokio::test]
async fn every_long_action_names_its_step() {
    let service = Service::start();
    let volume = service.volume(json!({})).await;
    let made = service.post("/snapshots", json!({ "snapshot": { "volume_id": volume } })).await;
    let mut told = vec![("creating", made)];
    let snapshot = told[0].1.body["snapshot"]["id"].as_str().unwrap().to_owned();
    crate::common::wait_snapshot(&service, &snapshot, "available").await;
    let action = format!("/volumes/{volume}/action");
    told.push(("extending", service.post(&action, json!({ "os-extend": { "new_size": 2 } })).await));
    service.wait_status(&volume, "available").await;
    told.push(("deleting", service.delete(&format!("/snapshots/{snapshot}")).await));
    for (step, answer) in told {
        let id = answer.header("x-bowline-operation");
        let end = Watch::open(&service, id, None).await.until_its_end().await.pop().unwrap().operation;
        assert_eq!((&end["step"], &end["state"], &end["progress"]), (&json!(step), &json!("done"), &json!(100)), "{end}");
    }
    // A request that begins nothing has no operation.
    assert_eq!(service.get("/volumes").await.header("x-bowline-operation"), "");
}

#[tokio::test]
async fn watchers_that_vanish_leave_room_and_hold_up_no_stop() {
    let mut service = Service::start();
    // Nobody works on this one, so it never ends.
    service.volume(json!({})).await;
    let operations = service.get("/operations").await.body;
    let id = operations["operations"][0]["id"].as_str().unwrap().to_owned();
    let update = "UPDATE operations SET state = 'queued', queue = 'volume.gone@files', updated_at_us = 9000000000000000";
    service.execute(update, update).await;
    let mut watching = Vec::new();
    loop {
        let response = Watch::ask(&service, &id, None).await;
        if response.status() == 503 {
            assert_eq!(response.headers()["retry-after"], "1");
            break;
        }
        watching.push(response);
        assert!(watching.len() < 200, "there must be a limit");
    }
    assert_eq!(service.get("/volumes").await.status, 200, "others are answered");
    watching.clear();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut watch = loop {
        let response = Watch::ask(&service, &id, None).await;
        if response.status() == 200 {
            break Watch { response, rest: String::new() };
        }
        assert!(Instant::now() < deadline, "no room again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(watch.next().await.unwrap().operation["state"], "queued");
    let asked = Instant::now();
    service.stop();
    assert!(asked.elapsed() < Duration::from_secs(9), "{:?}", asked.elapsed());
    assert!(watch.until_its_end().await.is_empty());
}

#[tokio::test]
async fn apart_changes_in_another_process_are_told_as_they_happen() {
    let broker = Broker::start();
    let mut apart = Apart::start(&broker);
    // A machine that has too much to do may take as long for one as the looks are apart.
    let mut took = Duration::MAX;
    for _ in 0..3 {
        // Nobody places volumes, so the operation waits.
        apart.scheduler.stop();
        let made = apart.api.post("/volumes", json!({ "volume": { "size": 1 } })).await;
        let mut watch = Watch::open(&apart.api, made.header("x-bowline-operation"), None).await;
        assert_eq!(watch.next().await.unwrap().operation["step"], "accepted");
        apart.scheduler.start_again();
        let asked = Instant::now();
        let events = watch.until_its_end().await;
        let states: Vec<_> = events.iter().map(|event| event.operation["state"].as_str().unwrap()).collect();
        assert_eq!(states.last(), Some(&"done"), "{events:?}");
        took = took.min(asked.elapsed());
        if took < Duration::from_secs(8) {
            break;
        }
    }
    assert!(took < Duration::from_secs(8), "told, not found by looking now and then: {took:?}");
}
