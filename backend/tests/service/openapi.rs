//! docs/openapi.json against the service: every path and method it has, and no other; and on all of them nobody finds, changes or
//! hears of what is another project's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::common::odd::{Dice, oddities};
use crate::common::{Answer, Service, wait_snapshot};
use reqwest::Method;
use serde_json::{Value, json};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// Files that name paths.
const ROUTERS: [&str; 4] = ["router.rs", "images/mod.rs", "identity/mod.rs", "key_manager.rs"];

/// An id that nothing has.
const NOTHING: &str = "00000000-0000-4000-8000-00000000000f";

/// What another project's member may not find a trace of.
const NAME: &str = "a-name-nobody-else-may-read";

/// Path, and its methods.
fn document() -> BTreeMap<String, BTreeSet<String>> {
    operations(|_| true)
}

/// Path, and those of its methods whose description is such.
fn operations(such: impl Fn(&Value) -> bool) -> BTreeMap<String, BTreeSet<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let document: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let paths = document["paths"].as_object().unwrap().iter().map(|(path, methods)| {
        let methods = methods.as_object().unwrap().iter().filter(|(_, operation)| such(operation));
        (path.clone(), methods.map(|(method, _)| method.clone()).collect())
    });
    paths.collect()
}

/// A path with something in place of each of its names.
fn filled(path: &str, with: impl Fn(&str) -> String) -> String {
    path.split('/')
        .map(|part| part.strip_prefix('{').and_then(|part| part.strip_suffix('}')).map_or_else(|| part.to_owned(), &with))
        .collect::<Vec<_>>()
        .join("/")
}

/// A request to a path from the root, which `Service::ask` would put below /v3.
async fn ask(service: &Service, method: &str, path: &str, token: &str, body: &Value) -> Answer {
    let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
    let headers = [("x-auth-token", token), ("openstack-api-version", "volume 3.71")];
    // The one answer that has no end of its own.
    let brief = if path.ends_with("/operations/watch") { format!("{path}?timeout_s=1") } else { path.to_owned() };
    let path = brief.as_str();
    let body = (method != Method::GET && method != Method::DELETE).then(|| body.to_string());
    service.at_root(method, path, &headers, body.as_deref()).await
}

#[tokio::test]
async fn every_path_and_method_is_in_the_document_and_no_other() {
    let service = Service::start();
    let token = service.token();
    let document = document();
    for (path, methods) in &document {
        // Nothing is found, and nothing changed.
        let asked = filled(path, |_| NOTHING.into());
        for method in METHODS {
            // The one path that would take the token away.
            if path.ends_with("/auth/tokens") && method == "delete" {
                continue;
            }
            let answer = ask(&service, method, &asked, &token, &json!({})).await;
            // What has no such path answers 404 to all methods, and so as if it had all.
            let there = answer.status != 405;
            assert_eq!(there, methods.contains(method), "{method} {path}: {answer:?}");
        }
    }
    let known: BTreeSet<String> = document.keys().map(|path| filled(path, |_| "{}".into())).collect();
    for file in ROUTERS {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api").join(file)).unwrap();
        let literals = text.split('"').skip(1).step_by(2).filter(|text| text.starts_with('/'));
        for literal in literals {
            let path = filled(literal, |_| "{}".into());
            let nested = [path.clone(), format!("/identity/v3{path}")];
            assert!(nested.iter().any(|path| known.contains(path)), "{file} has {literal}, and docs/openapi.json does not");
        }
    }
}

#[tokio::test]
async fn who_has_no_role_that_is_known_sees_and_does_nothing_even_of_its_own_project() {
    let service = Service::start();
    let volume = service.volume(json!({ "name": NAME })).await;
    service.attach(&volume, "iqn.2026-01.test:a").await;
    let shown = service.get(&format!("/volumes/{volume}")).await;
    let project = shown.body["volume"]["os-vol-tenant-attr:tenant_id"].as_str().unwrap().to_owned();
    let store = service.store().await;
    let nobody = crate::common::token(&store, &project, "cleaner").await;
    let answers = async |method: &str, path: &str| {
        let asked = filled(path, |_| volume.clone());
        ask(&service, method, &asked, &nobody, &likely(&volume)).await
    };
    for (path, methods) in document() {
        // What says nothing of anybody, and whose users are a matter of their own.
        let is_open = !path.starts_with("/v3/") || path == "/v3/" || path.starts_with("/v3/extensions");
        for method in methods.iter().filter(|_| !is_open) {
            let answer = answers(method, &path).await;
            assert!(answer.status.is_client_error(), "{method} {path}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn whatever_is_asked_nothing_of_another_project_is_found_or_changed() {
    let service = Service::start();
    let volume = service.volume(json!({ "name": NAME, "metadata": { "k": NAME } })).await;
    let made = service.post("/snapshots", json!({ "snapshot": { "volume_id": volume, "name": NAME } })).await;
    let snapshot = made.body["snapshot"]["id"].as_str().unwrap().to_owned();
    wait_snapshot(&service, &snapshot, "available").await;
    let attachment = service.attach(&volume, "iqn.2026-01.test:a").await["id"].as_str().unwrap().to_owned();
    let offered = service.volume(json!({ "name": NAME })).await;
    let made = service.post("/volume-transfers", json!({ "transfer": { "volume_id": offered, "name": NAME } })).await;
    let transfer = made.body["transfer"]["id"].as_str().unwrap().to_owned();
    let operation = service.get("/operations").await.body["operations"][0]["id"].as_str().unwrap().to_owned();
    let image = json!({ "name": NAME, "disk_format": "raw", "container_format": "bare" });
    let made = ask(&service, "post", "/image/v2/images", &service.token(), &image).await;
    let image = made.body["id"].as_str().unwrap().to_owned();
    let project = service.get(&format!("/volumes/{volume}")).await.body["volume"]["os-vol-tenant-attr:tenant_id"].clone();
    let project = project.as_str().unwrap();
    let before = everything(&service, &volume, &snapshot, &attachment, &transfer).await;

    let store = service.store().await;
    store.insert_project("0123456789abcdef0123456789abcdef", "others").await.unwrap();
    let other = crate::common::token(&store, "0123456789abcdef0123456789abcdef", "member").await;
    let bodies = [
        json!({ "volume": { "name": "x" }, "snapshot": { "name": "x" }, "metadata": { "k": "x" }, "meta": { "k": "x" },
            "attachment": { "connector": { "initiator": "iqn.2026-01.test:b", "host": "b" } }, "accept": { "auth_key": "x" },
            "os-complete": {}, "quota_set": { "volumes": 1 } }),
        json!({ "os-reset_status": { "status": "error" } }),
        json!({ "os-force_delete": {} }),
        json!({ "os-extend": { "new_size": 9 } }),
        json!([{ "op": "replace", "path": "/name", "value": "x" }]),
    ];
    for (path, methods) in document() {
        let id = match path.split('/').find(|part| !["", "v3", "v2", "image"].contains(part)) {
            Some("volumes") => &volume,
            Some("snapshots") => &snapshot,
            Some("attachments") => &attachment,
            Some("volume-transfers" | "os-volume-transfer") => &transfer,
            Some("operations") => &operation,
            Some("images") => &image,
            Some("os-quota-sets" | "default-types") => project,
            _ => NOTHING,
        };
        let asked = filled(&path, |name| if ["id", "project"].contains(&name) { id.to_owned() } else { "k".into() });
        let names_something = id != NOTHING && asked.contains(id);
        for method in methods {
            for body in &bodies {
                let answer = ask(&service, &method, &asked, &other, body).await;
                assert!(answer.status.as_u16() < 500, "{method} {path}: {answer:?}\n{}", service.log());
                assert!(!answer.body.to_string().contains(NAME), "{method} {path} tells: {answer:?}");
                if names_something {
                    let refused = answer.status.is_client_error();
                    assert!(refused, "{method} {path}: another project's was not refused: {answer:?}");
                }
                if method == "get" || method == "delete" {
                    break;
                }
            }
        }
    }
    // By a path with the other project's id as well.
    let answer = ask(&service, "get", &format!("/v3/{project}/volumes"), &other, &json!({})).await;
    assert_eq!(answer.status, 404, "{answer:?}");
    assert_eq!(everything(&service, &volume, &snapshot, &attachment, &transfer).await, before);
}

async fn everything(service: &Service, volume: &str, snapshot: &str, attachment: &str, transfer: &str) -> Vec<Value> {
    let mut all = Vec::new();
    for path in [
        format!("/volumes/{volume}"),
        format!("/snapshots/{snapshot}"),
        format!("/attachments/{attachment}"),
        format!("/volume-transfers/{transfer}"),
    ] {
        let shown = service.get(&path).await;
        assert_eq!(shown.status, 200, "{path}: {shown:?}");
        all.push(shown.body);
    }
    all
}

/// The keys that paths look for, each with something that would do.
fn likely(id: &str) -> Value {
    json!({
        "volume": { "size": 1, "name": "n", "metadata": { "a": "b" } },
        "snapshot": { "volume_id": id, "name": "n" }, "attachment": { "volume_uuid": id, "connector": { "initiator": "i", "host": "h" } },
        "metadata": { "a": "b" }, "meta": { "k": "b" }, "transfer": { "volume_id": id }, "accept": { "auth_key": "k" },
        "volume_type": { "name": "n", "extra_specs": {} }, "extra_specs": { "a": "b" }, "qos_specs": { "name": "n" }, "keys": ["a"],
        "quota_set": { "volumes": 1 }, "quota_class_set": { "volumes": 1 }, "default_type": { "volume_type": "files" },
        "auth": { "identity": { "methods": ["password"], "password": { "user": { "name": "n", "domain": { "id": "default" }, "password": "p" } } }, "scope": { "project": { "id": id } } },
        "project": { "name": "n" }, "user": { "name": "n", "password": "p", "original_password": "o" },
        "name": "n", "disk_format": "raw", "container_format": "bare", "visibility": "private", "tags": ["t"], "member": id, "status": "accepted",
        "host": "h", "binary": "cinder-volume", "os-reset_status": { "status": "available" }, "addProjectAccess": { "project": id },
    })
}

#[tokio::test]
async fn whatever_body_is_sent_no_path_fails_or_tells_of_its_inside() {
    let service = Service::start();
    let volume = service.volume(json!({})).await;
    let (token, oddities, mut dice) = (service.token(), oddities(), Dice(11));
    let inside =
        [service.state.path().to_str().unwrap().to_owned(), "SQL".into(), "sqlx".into(), "panicked".into(), token.clone()];
    for (path, methods) in operations(|operation| operation.get("requestBody").is_some()) {
        let asked = filled(&path, |_| volume.clone());
        for method in &methods {
            for _ in 0..10 {
                let mut body = likely(&volume);
                for value in body.as_object_mut().unwrap().values_mut() {
                    match (dice.roll(4), value) {
                        (0, value) => *value = oddities[dice.roll(oddities.len())].clone(),
                        (1, Value::Object(inner)) => {
                            let place = dice.roll(inner.len().max(1));
                            if let Some(inner) = inner.values_mut().nth(place) {
                                *inner = oddities[dice.roll(oddities.len())].clone();
                            }
                        }
                        _ => {}
                    }
                }
                let mut text =
                    if dice.roll(5) == 0 { oddities[dice.roll(oddities.len())].to_string() } else { body.to_string() };
                if dice.roll(5) == 0 {
                    text.truncate((0..=dice.roll(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap());
                }
                let headers = [("x-auth-token", token.as_str()), ("openstack-api-version", "volume 3.71")];
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                let answer = service.at_root(method.clone(), &asked, &headers, Some(&text)).await;
                assert!(answer.status.as_u16() < 500, "{method} {path} {text}: {answer:?}\n{}", service.log());
                let said = answer.body.to_string();
                assert!(!inside.iter().any(|part| said.contains(part)), "{method} {path} {text}: {answer:?}");
            }
        }
    }
    assert_eq!(service.get("/volumes").await.status, 200);
    assert_eq!(service.store().await.usage_drift().await.unwrap(), []);
}
